"""Node schemas that every host since 0.3.64 understands, the pack's own socket types, and inputs that recur."""

from __future__ import annotations

import inspect
from typing import Any

from comfy_api.latest import io

from humannorm.cameras import PARTS

CATEGORY = "HumanNorm"

Prompts = io.Custom("HUMANNORM_PROMPTS")
Guidance = io.Custom("HUMANNORM_GUIDANCE")
Body = io.Custom("HUMANNORM_BODY")
Geometry = io.Custom("HUMANNORM_GEOMETRY")
Texture = io.Custom("HUMANNORM_TEXTURE")
Trimesh = io.Custom("TRIMESH")

PRESETS = ["quick", "standard", "paper"]
LARGEST_SEED = 0xFFFFFFFFFFFFFFFF  # the host's own limit


def known_arguments(target: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments that this host's version of a class knows; newer ones would kill the pack's import."""
    names = inspect.signature(target).parameters
    return {name: value for name, value in arguments.items() if name in names}


def schema(**arguments: Any) -> io.Schema:
    """`io.Schema` without the fields (search_aliases, ...) that this host does not know yet."""
    return io.Schema(**known_arguments(io.Schema, arguments))


def advanced(kind: Any, name: str, **arguments: Any) -> io.Input:
    """An input that newer hosts fold away, and that a graph in API format may leave out."""
    return kind.Input(name, **known_arguments(kind.Input, {**arguments, "optional": True, "advanced": True}))


def seed_input() -> io.Input:
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=LARGEST_SEED,
        control_after_generate=True,
        tooltip="Source of every random draw of this node. On a CPU the same seed gives the same result to the bit.",
    )


def part_input() -> io.Input:
    return io.Combo.Input(
        "part",
        options=list(PARTS),
        default="full",
        tooltip="Body part that is framed and, where the prompts say so, named in the text.",
    )


def views_input(default: str = "front,left,back,right") -> io.Input:
    return io.String.Input(
        "views",
        default=default,
        tooltip="Sides of the person, parted by commas: front, left, back, right (the person's own left and right) or"
        " degrees, 0 at the front and growing toward the person's left.",
    )


def preset_input() -> io.Input:
    return io.Combo.Input(
        "preset",
        options=PRESETS,
        default="quick",
        tooltip="All numbers of the stage at once. quick: the bundled small model on a CPU. standard: SD1.5-class"
        " weights on a graphics card. paper: the published configuration.",
    )


def steps_input() -> io.Input:
    return io.Int.Input(
        "steps",
        default=0,
        min=0,
        max=100_000,
        tooltip="Length of the whole course in optimiser steps; schedules are stretched with it. 0 takes the preset's.",
    )
