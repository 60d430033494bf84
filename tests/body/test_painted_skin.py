"""The painted faces and hands: whose they are, where they are worn, and that they look like skin."""

from __future__ import annotations

import pytest
import torch

from humannorm.body import BodyShape, load_body
from humannorm.body.painted_skin import SKIN_SIZE, SKIN_TONES, skin_opacity, skin_picture, tone_of_words
from humannorm.body.regions import region_vertices
from humannorm.checks import InputError


@pytest.mark.parametrize(
    ("prompt", "tone"),
    [
        ("a young Black-skinned woman in a red dress", "dark"),
        ("an African man", "dark"),
        ("a muscular black man in a white shirt", "dark"),
        ("a white woman in a black dress", "fair"),
        ("a Korean woman with black hair", "light"),
        ("a man with pale skin and black shoes", "fair"),
        ("a fair-skinned man beside an african mask", "fair"),  # the first that is named
    ],
)
def test_the_prompt_names_the_tone(prompt: str, tone: str) -> None:
    assert {tone_of_words(prompt, seed) for seed in range(3)} == {tone}


def test_where_it_names_none_prompt_and_seed_draw_one() -> None:
    prompt = "a woman with dark brown hair, wearing a black skirt"
    assert {tone_of_words(prompt, seed) for seed in range(3)} == set(SKIN_TONES)
    assert {tone_of_words(f"{prompt} and {number} rings") for number in range(20)} == set(SKIN_TONES)


def at_vertices(picture: torch.Tensor, body: object) -> torch.Tensor:
    """A picture's texels at the body's vertices (of the seams' two sides the last one)."""
    texels = (body.uvs * SKIN_SIZE).long().clamp(0, SKIN_SIZE - 1)  # type: ignore[attr-defined]
    found = torch.zeros(len(body.vertices), *picture.shape[2:])  # type: ignore[attr-defined]
    found[body.uv_vertices] = picture[texels[:, 1], texels[:, 0]]  # type: ignore[attr-defined]
    return found


def test_it_is_worn_on_face_and_hands_and_nowhere_below_the_throat() -> None:
    body = load_body()
    worn = at_vertices(skin_opacity(), body)
    rest = region_vertices(body, ["top", "bottom", "shoes"]) & ~region_vertices(body, ["head", "hands"])
    fingers = torch.tensor([name.startswith("finger") for name in body.joint_names])[body.weight_joints[:, 0]]
    far = rest & (torch.cdist(body.vertices, body.vertices[~rest]).amin(1) > 0.03)
    assert float(worn[far].max()) < 0.02
    assert float(worn[fingers].min()) > 0.9
    assert float(worn[region_vertices(body, ["face"])].median()) == 1.0
    crown = body.rest_vertices[:, 1] > body.rest_vertices[:, 1].max() - 0.04
    assert float(worn[crown].max()) == 0.0  # hair grows there


def test_tones_are_told_apart_and_age_and_sex_have_pictures_of_their_own() -> None:
    hands = region_vertices(load_body(), ["hands"])

    def brightness(tone: str) -> float:
        return float(at_vertices(skin_picture(BodyShape(), tone), load_body())[hands].mean())

    assert brightness("dark") < 0.6 * min(brightness("fair"), brightness("light"))
    pictures = [skin_picture(BodyShape(sex=sex, age=age), "fair") for sex in (0.05, 0.95) for age in (0.67, 0.81, 0.96)]
    for number, one in enumerate(pictures):
        assert one.shape == (SKIN_SIZE, SKIN_SIZE, 3) and float(one.min()) >= 0 and float(one.max()) <= 1
        assert all(float((one - other).abs().mean()) > 1e-3 for other in pictures[:number])


def test_an_unknown_tone_is_refused() -> None:
    with pytest.raises(InputError, match="tone: expected one of"):
        skin_picture(BodyShape(), "green")
