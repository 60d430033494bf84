"""View-dependent and body-aware text (paper section 3.2; strings and order as in the published code).

A prompt becomes ``<prompt>[, black background, normal map|depth map][, <body part>], <view>``. View words follow
`humannorm.cameras.view_label`: left and right are the subject's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from humannorm.cameras import CAMERA_PLANS, PARTS, VIEWS, Cameras, Part, View
from humannorm.checks import InputError, check_choice

__all__ = [
    "MODALITIES",
    "PART_SUFFIXES",
    "TEXT_RULES",
    "VIEW_SUFFIXES",
    "Modality",
    "Prompts",
    "TextRule",
    "read_prompts",
]

Modality = Literal["normal", "depth", "color"]
TextRule = Literal["paper", "published"]
MODALITIES: tuple[Modality, ...] = ("normal", "depth", "color")
TEXT_RULES: tuple[TextRule, ...] = ("paper", "published")

MODALITY_SUFFIXES: Mapping[Modality, str] = {
    "normal": ", black background, normal map",
    "depth": ", black background, depth map",
    "color": "",
}
PART_SUFFIXES: Mapping[Part, str] = {
    "full": ", full body",
    "head": ", only head",
    "upper": ", upper body",
    "lower": ", lower body",
}
VIEW_SUFFIXES: Mapping[View, str] = {
    "front": ", front view",
    "back": ", back view",
    "left": ", left side view",
    "right": ", right side view",
}

# The shipped scripts of the published code switch the body-part text per camera plan and modality.
_PUBLISHED_PART_TEXT: Mapping[str, tuple[Modality, ...]] = {
    "full_body": ("depth",),
    "half_body": ("depth",),
    "head_only": ("normal", "depth", "color"),
}


@dataclass(frozen=True)
class Prompts:
    """The texts of one subject in one modality, for every body part and view.

    `rule` says where the body part is named: "paper" in every modality, as the paper describes and as the weights were
    trained; "published" as the authors' scripts do (full and half body: in depth only; head: everywhere).

    >>> Prompts("an old man", "normal").text("head", "left")
    'an old man, black background, normal map, only head, left side view'
    """

    prompt: str  # the subject, used as it is
    modality: Modality
    plan: str = "full_body"  # name in `CAMERA_PLANS`; matters to the published rule
    rule: TextRule = "paper"
    negative: str = ""  # for every view, as published

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise InputError("prompt: expected a description of the person, got nothing")
        check_choice("modality", self.modality, MODALITIES)
        check_choice("plan", self.plan, CAMERA_PLANS)
        check_choice("rule", self.rule, TEXT_RULES)

    @property
    def names_part(self) -> bool:
        """Whether the body part stands in the text."""
        return self.rule == "paper" or self.modality in _PUBLISHED_PART_TEXT[self.plan]

    def text(self, part: Part, view: View) -> str:
        """The positive text for a body part seen from one side."""
        check_choice("part", part, PARTS)
        check_choice("view", view, VIEWS)
        part_suffix = PART_SUFFIXES[part] if self.names_part else ""
        return self.prompt + MODALITY_SUFFIXES[self.modality] + part_suffix + VIEW_SUFFIXES[view]

    def table(self) -> dict[tuple[Part, View], str]:
        """The texts for all parts and views."""
        return {(part, view): self.text(part, view) for part in PARTS for view in VIEWS}

    def for_cameras(self, cameras: Cameras) -> tuple[str, ...]:
        """One text for each camera, after what it frames and from where it looks."""
        return tuple(self.text(part, view) for part, view in zip(cameras.part, cameras.view_labels(), strict=True))


def read_prompts(path: Path) -> list[str]:
    """The people of a text file in UTF-8, one a line; empty lines and those that begin with # are left out."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected text in UTF-8, got other bytes ({error})") from error
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise InputError(f"{path}: expected a prompt on each line, got none")
    return prompts
