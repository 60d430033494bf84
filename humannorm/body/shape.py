"""The sliders of the baked body and their table of shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import check_range

__all__ = ["ANCHORS", "NEUTRAL", "BodyShape", "interpolate_table", "to_anny"]

ADULT = 2 / 3  # anny's age anchors: newborn -1/3, baby 0, child 1/3, young adult 2/3, old 1

# Slider values at which the table holds a shape; between two of them every vertex moves linearly. Height 0.625 is where
# anny has its own middle anchor (see `to_anny`).
ANCHORS: dict[str, tuple[float, ...]] = {
    "sex": (0.0, 1.0),
    "age": (ADULT, 1.0),
    "weight": (0.0, 0.5, 1.0),
    "muscle": (0.0, 0.5, 1.0),
    "height": (0.0, 0.625, 1.0),
    "proportions": (0.0, 0.5, 1.0),
}


@dataclass(frozen=True)
class BodyShape:
    """An adult. All sliders are 0..1 but `age`; the default is the neutral adult of middle build."""

    sex: float = 0.5  # 0 male, 1 female
    age: float = ADULT  # 2/3 young adult .. 1 old (anny's scale); lower is refused: the library knows adults only
    weight: float = 0.5  # 0 thin, 1 heavy
    muscle: float = 0.5  # 0 slack, 1 muscular
    height: float = 0.5  # 0 short (women 1.5 m, men 1.6 m) .. 1 tall (1.9 m, 2.1 m)
    proportions: float = 0.5  # 0 uncommon .. 1 ideal, MakeHuman's words

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            anchors = ANCHORS[field.name]
            check_range(field.name, getattr(self, field.name), anchors[0], anchors[-1])


NEUTRAL = dataclasses.asdict(BodyShape())


def to_anny(sliders: Mapping[str, float]) -> dict[str, float]:
    """Our sliders in anny's words. Height 0..1 is its 0.25..0.65: outside, adults stop being plausible."""
    named = dict(sliders)
    sex, height = named.pop("sex"), named.pop("height")
    return {**named, "gender": sex, "height": 0.25 + 0.4 * height}


def interpolate_table(table: Float[Tensor, "..."], shape: BodyShape | Sequence[float | Tensor]) -> Float[Tensor, " K"]:
    """Multilinear interpolation of `table` [grid of ANCHORS..., K] at the sliders of `shape`.

    Sliders may be given in the order of ANCHORS instead, then also as tensors, which get a gradient.
    """
    sliders = [getattr(shape, name) for name in ANCHORS] if isinstance(shape, BodyShape) else shape
    for anchors, value in zip(ANCHORS.values(), sliders, strict=True):
        upper = next(k for k in range(1, len(anchors)) if value <= anchors[k] or k == len(anchors) - 1)
        low, high = anchors[upper - 1], anchors[upper]
        table = torch.lerp(table[upper - 1], table[upper], (value - low) / (high - low))
    return table
