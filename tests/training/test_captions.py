"""What is said about a person: the base caption word by word, other wordings that stay true, colours well apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from humannorm.checks import InputError
from humannorm.training.captions import COLOURS, SYNONYMS, Attributes, describe, rephrase, training_caption

WOMAN = Attributes(
    age="young",
    build="slim",
    sex="woman",
    skin="fair",
    hair_style="long hair",
    hair_colour="black",
    top="t-shirt",
    top_colour="red",
    bottom="jeans",
    bottom_colour="blue",
    shoes="sneakers",
    shoes_colour="white",
    hat=None,
    hat_colour=None,
    pose="standing",
)
MAN = replace(
    WOMAN,
    age="old",
    build="average",
    sex="man",
    hair_style="bald head",
    hair_colour=None,
    top="jacket",
    top_colour="olive",
    bottom="trousers",
    bottom_colour="grey",
    hat="hat",
    hat_colour="black",
)


def test_caption_is_worded_as_promised():
    assert describe(WOMAN) == (
        "a young slim woman with black long hair, wearing a red t-shirt, blue jeans and white sneakers, standing"
    )


def test_caption_leaves_out_an_average_build_and_lists_the_hat():
    assert describe(MAN) == (
        "an old man with a bald head, wearing an olive jacket, grey trousers, white sneakers and a black hat, standing"
    )


def test_a_hairdo_that_is_not_hair_gets_an_article():
    assert " with a brown ponytail, " in describe(replace(WOMAN, hair_style="ponytail", hair_colour="brown"))


def test_seventeen_colours_lie_well_apart_in_lab():
    assert len(COLOURS) == 17
    lab = _lab(np.array(list(COLOURS.values())))
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1000.0 * np.eye(17)
    assert distance.min() > 25.0  # a just noticeable difference is about 2.3


@pytest.mark.slow
def test_rephrasing_is_drawn_from_its_generator_alone():
    first = [rephrase(WOMAN, np.random.default_rng(seed)) for seed in range(50)]
    again = [rephrase(WOMAN, np.random.default_rng(seed)) for seed in range(50)]
    assert first == again
    assert len(set(first)) > 40
    assert describe(WOMAN) in first


@pytest.mark.slow
@pytest.mark.parametrize("attributes", [WOMAN, MAN], ids=["woman", "man"])
def test_rephrasing_stays_true(attributes: Attributes):
    """No word of a wrong sex, age, build or colour: each such word must come from one of the person's own facts."""
    facts = [attributes.age, attributes.build, attributes.sex, attributes.top, attributes.bottom, attributes.shoes]
    facts += [attributes.top_colour, attributes.bottom_colour, attributes.shoes_colour, attributes.pose]
    facts += [attributes.hair_style, attributes.hair_colour, attributes.hat, attributes.hat_colour, attributes.skin]
    known = {word for fact in facts if fact for said in (fact, *SYNONYMS.get(fact, ())) for word in said.split()}
    telling = {
        word
        for key in (*COLOURS, "man", "woman", "young", "middle-aged", "old", "slim", "heavy", "muscular")
        for said in (key, *SYNONYMS.get(key, ()))
        for word in said.split()
    }
    generator = np.random.default_rng(0)
    for _ in range(200):
        text = rephrase(attributes, generator)
        words = set(text.lower().replace(",", " ").replace(".", " ").split())
        assert words & telling <= known | {"a", "person"}, text
        assert "  " not in text and ", ," not in text and text.strip() == text


@pytest.mark.slow
def test_most_rewordings_name_all_that_is_worn_and_the_skin():
    def names(text: str, fact: str) -> bool:
        return any(said and said.lower() in text.lower() for said in (fact, *SYNONYMS.get(fact, ())))

    worn = (WOMAN.skin, WOMAN.top_colour, WOMAN.top, WOMAN.bottom_colour, WOMAN.bottom, WOMAN.shoes_colour, WOMAN.shoes)
    generator = np.random.default_rng(0)
    texts = [rephrase(WOMAN, generator) for _ in range(400)]
    full = sum(all(names(text, fact) for fact in worn) for text in texts)
    assert 0.45 < full / len(texts) < 0.75  # 0.75 * 0.7, and some of the others by chance


def test_scans_keep_their_own_caption():
    record = {"attributes": None, "caption": "my friend Anna in a coat"}
    assert training_caption(record, np.random.default_rng(0)) == "my friend Anna in a coat"
    own = {"attributes": WOMAN.to_dict(), "caption": describe(WOMAN)}
    assert training_caption(own, np.random.default_rng(3)) == rephrase(WOMAN, np.random.default_rng(3))


def test_attributes_round_trip_and_refuse_unknown_words():
    assert Attributes.from_dict(MAN.to_dict()) == MAN
    with pytest.raises(InputError, match=r"top_colour: expected one of black, .* got 'mauve'"):
        replace(MAN, top_colour="mauve")
    with pytest.raises(InputError, match="age: expected one of young, middle-aged, old, got 'child'"):
        replace(MAN, age="child")
    with pytest.raises(InputError, match="attributes"):
        Attributes.from_dict({"age": "old"})


def _lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of sRGB bytes."""
    encoded = rgb / 255.0
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    relative = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    root = np.where(relative > 0.008856, np.cbrt(relative), 7.787 * relative + 16 / 116)
    return np.stack([116 * root[:, 1] - 16, 500 * (root[:, 0] - root[:, 1]), 200 * (root[:, 1] - root[:, 2])], axis=1)
