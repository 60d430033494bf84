"""What a point of a human's surface is: the fixed table of labels that all rooms share.

Labels are integers; pictures of them are nearest, never blended. The numbers stand in files: the table only ever grows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from humannorm.checks import InputError, check_choice, check_tensor

__all__ = [
    "BACKGROUND",
    "LABELS",
    "LABELS_OF_PARTS",
    "SKIN",
    "label_number",
    "label_picture",
    "labels_named",
]

LABELS = ("background", "skin", "hair", "top", "bottom", "shoes", "hat", "outer", "dress", "legwear")
"""Names by number. "outer" is what is worn over a top (a jacket, a coat), "dress" what is top and bottom in one,
"legwear" what shows below a skirt, shorts or a dress (tights, leggings)."""
BACKGROUND, SKIN = 0, 1

_PREVIEW = torch.tensor(
    [
        (0, 0, 0),
        (233, 190, 160),
        (120, 78, 42),
        (214, 60, 60),
        (58, 96, 200),
        (240, 240, 240),
        (150, 70, 170),
        (60, 150, 90),
        (240, 170, 50),
        (90, 200, 210),
    ],
    dtype=torch.uint8,
)

LABELS_OF_PARTS: Mapping[str, tuple[str, ...]] = {
    "top": ("top", "outer", "dress"),
    "bottom": ("bottom", "dress", "legwear"),
    "shoes": ("shoes",),
    "hair": ("hair",),
    "hat": ("hat",),
    "skin": ("skin",),
}
"""Labels that an edit of a part may change."""


def label_number(name: str) -> int:
    """The number of a label."""
    check_choice("label", name, LABELS)
    return LABELS.index(name)


def labels_named(names: Collection[str]) -> Int64[Tensor, " K"]:
    """The numbers of some labels, ascending."""
    return torch.tensor(sorted(label_number(name) for name in names), dtype=torch.int64)


def label_picture(labels: Int[Tensor, "..."]) -> Float[Tensor, "... 3"]:
    """Labels in their preview colours, sRGB 0..1."""
    check_tensor("labels", labels, "*", dtype="int")
    if labels.numel() and not (int(labels.min()) >= 0 and int(labels.max()) < len(LABELS)):
        raise InputError(f"labels: expected 0 to {len(LABELS) - 1}, got {int(labels.min())} to {int(labels.max())}")
    return _PREVIEW.to(labels.device)[labels.long()].float() / 255
