"""The texts, letter for letter."""

from __future__ import annotations

import pytest

from humannorm.cameras import orbit
from humannorm.checks import InputError
from humannorm.prompts import MODALITIES, Prompts, read_prompts

SUBJECT = "a DSLR photo of Stephen Curry"


@pytest.mark.parametrize(
    ("modality", "plan", "part", "view", "expected"),
    [
        ("normal", "full_body", "full", "front", ", black background, normal map, front view"),
        ("normal", "half_body", "upper", "left", ", black background, normal map, left side view"),
        ("normal", "head_only", "head", "back", ", black background, normal map, only head, back view"),
        ("depth", "full_body", "lower", "right", ", black background, depth map, lower body, right side view"),
        ("depth", "half_body", "upper", "front", ", black background, depth map, upper body, front view"),
        ("depth", "head_only", "head", "left", ", black background, depth map, only head, left side view"),
        ("color", "full_body", "full", "back", ", back view"),
        ("color", "half_body", "head", "right", ", right side view"),
        ("color", "head_only", "head", "front", ", only head, front view"),
    ],
)
def test_published_rule(modality, plan, part, view, expected):
    assert Prompts(SUBJECT, modality, plan, rule="published").text(part, view) == SUBJECT + expected


def test_paper_rule_names_the_part_everywhere():
    names = {"full": "full body", "head": "only head", "upper": "upper body", "lower": "lower body"}
    for modality in MODALITIES:
        for (part, _), text in Prompts(SUBJECT, modality).table().items():
            assert f", {names[part]}, " in text
    assert Prompts(SUBJECT, "color").text("full", "front") == SUBJECT + ", full body, front view"


def test_texts_follow_the_cameras():
    prompts = Prompts("a chef", "color")
    assert prompts.for_cameras(orbit([0, 90, 180, 270], part="head")) == (
        "a chef, only head, front view",
        "a chef, only head, left side view",
        "a chef, only head, back view",
        "a chef, only head, right side view",
    )
    assert len(prompts.table()) == 16 and prompts.negative == ""


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("  ", "normal"), "prompt: expected a description"),
        (("a chef", "albedo"), "modality: expected one of normal, depth, color, got 'albedo'"),
        (("a chef", "normal", "feet"), "plan: expected one of full_body, half_body, head_only, got 'feet'"),
        (("a chef", "normal", "full_body", "mine"), "rule: expected one of paper, published, got 'mine'"),
    ],
)
def test_unknown_choices_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Prompts(*arguments)


def test_a_file_of_prompts(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeff# mine\n a man \n\n caf\u00e9 owner\r\n".encode())
    assert read_prompts(file) == ["a man", "caf\u00e9 owner"]
    file.write_bytes(b"\n # none \n")
    with pytest.raises(InputError, match="expected a prompt on each line, got none"):
        read_prompts(file)
    file.write_bytes(b"a man\xff")
    with pytest.raises(InputError, match="expected text in UTF-8"):
        read_prompts(file)
