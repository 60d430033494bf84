"""Training prompts: what is said of a picture beside what it shows."""

from collections import Counter

import numpy as np
import pytest

from humannorm.training.people import POSES
from humannorm.training.text import MOVING_POSES, OTHER_POSE, draw_prompt, with_any_pose

ATTRIBUTES = {
    "age": "young", "build": "slim", "sex": "man", "skin": "fair", "hair_style": "short hair", "hair_colour": "red",
    "top": "t-shirt", "top_colour": "red", "bottom": "jeans", "bottom_colour": "blue", "shoes": "sneakers",
    "shoes_colour": "white", "hat": None, "hat_colour": None, "pose": "standing",
}  # fmt: skip


def shot(part, attributes=ATTRIBUTES):
    return {"part": part, "view": "front", "caption": "a scan, standing", "attributes": attributes}


def test_heads_are_now_and_then_said_to_be_in_a_pose_that_moves_them():
    words = np.random.default_rng(0)
    said = Counter(with_any_pose(shot("head"), words)["attributes"]["pose"] for _ in range(2000))
    assert set(said) == {"standing", *MOVING_POSES}
    assert 1 - said["standing"] / 2000 == pytest.approx(OTHER_POSE, abs=0.03)
    assert set(MOVING_POSES) < {pose for _, pose, _ in POSES}
    assert ATTRIBUTES["pose"] == "standing"


@pytest.mark.parametrize("unchanged", [shot("full"), shot("upper"), shot("lower"), shot("head", None)])
def test_what_shows_its_pose_and_scans_keep_their_words(unchanged):
    words = np.random.default_rng(0)
    assert all(with_any_pose(unchanged, words) == unchanged for _ in range(100))


@pytest.mark.slow
def test_the_other_pose_reaches_the_prompt():
    words = np.random.default_rng(1)
    prompts = [draw_prompt(with_any_pose(shot("head"), words), "normal", words) for _ in range(200)]
    assert any("running" in prompt for prompt in prompts)
