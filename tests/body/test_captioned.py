"""People's own words, in the words of the captions that the small model learnt from."""

from __future__ import annotations

import pytest

from humannorm.body import captioned
from humannorm.colours import COLOURS, HAIR_COLOURS
from humannorm.training.captions import SYNONYMS, Attributes, describe

PERSON = Attributes(
    age="young", build="average", sex="man", skin="fair", hair_style="short hair", hair_colour="black", top="t-shirt",
    top_colour="red", bottom="jeans", bottom_colour="blue", shoes="sneakers", shoes_colour="white", hat=None,
    hat_colour=None, pose="standing",
)  # fmt: skip
CHANGES = [
    *({"age": value} for value in ("middle-aged", "old")),
    *({"build": value} for value in ("slim", "heavy", "muscular")),
    {"sex": "woman", "hair_style": "long hair", "hair_colour": "blond"},
    {"hair_style": "bald head", "hair_colour": None},
    *({"hair_style": value} for value in ("ponytail", "braided hair", "afro hair", "bob hair")),
    *({"hair_colour": value} for value in HAIR_COLOURS),
    *({"top": value} for value in ("blouse", "shirt", "sweater", "crop top", "jacket", "suit jacket")),
    *({"bottom": value, "bottom_colour": "teal"} for value in ("trousers", "shorts", "skirt", "leggings")),
    *({"top_colour": value, "bottom_colour": value} for value in COLOURS),
    {"shoes": "shoes", "shoes_colour": "brown"},
    {"hat": "hat", "hat_colour": "navy"},
    *({"pose": value} for value in ("in T-pose", "running", "sitting", "fighting", "standing casually")),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_caption_stays_as_it_is(change):
    caption = describe(Attributes(**{**PERSON.to_dict(), **change}))
    assert captioned(caption) == caption


@pytest.mark.parametrize(
    ("said", "caption"),
    [
        (
            "Blue jeans, grey hoodie, white trainers: a typical student, female, with a long blonde ponytail",
            "a young woman with a blond ponytail, wearing a grey sweater, blue jeans and white sneakers, standing",
        ),
        (
            "Her hair is red and curly, her dress is green",
            "a young woman with red short hair, wearing a green t-shirt, a green skirt and black shoes, standing",
        ),
        (
            "Librarian, grey bun, lilac blouse, long black skirt, seated",
            "a young woman with grey short hair, wearing a light blue blouse, a black skirt and black shoes, sitting",
        ),
        (
            "Bodyguard, shaved head, all in black, in running shoes",
            "a young man with a bald head, wearing a black t-shirt, black jeans and black sneakers, standing",
        ),
    ],
)
def test_own_words(said, caption):
    assert captioned(said) == caption


def test_all_it_says_are_words_of_the_captions():
    for colour in ("beige", "charcoal", "lilac", "mustard", "cream"):
        words = captioned(f"a man in a {colour} sweater").split("wearing ")[1].split()
        assert words[1] in {name.split()[-1] for name in COLOURS} | {"light"} and "sweater," in words
    assert set(SYNONYMS) >= {"sweater", "jeans", "sneakers"}
