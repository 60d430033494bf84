"""What a ControlNet of six channels is told: the start's normal map, and flat colours by label as the prompt asks.

In use the start is a dressed body (its surface without folds and seams) or one in underclothes; in training it is the
same person without the garments' normal textures, or in a short top and shorts. `dataset people --hints` renders both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from humannorm.colours import COLOURS, HAIR_COLOURS
from humannorm.training.shards import Shards

__all__ = ["HINT_KINDS", "LABELS", "SKIN_COLOURS", "draw_hint", "flat_colours", "hints_of"]

LABELS = ("nothing", "skin", "eyes", "top", "bottom", "shoes", "hair", "hat")
"""What a pixel of a label map shows; brows and lashes are hair."""

HINT_KINDS = ("start", "label", "body")
"""Maps beside a dataset's pictures: normals without normal textures, labels, normals of the body in underclothes."""

SKIN_COLOURS: dict[str, tuple[int, int, int]] = {
    "dark": (100, 51, 33),
    "light": (202, 162, 136),
    "fair": (200, 158, 134),
}
"""sRGB of the words for skin: means over the skin pixels of 60 renders of 10 people."""
EYE_COLOUR = (235, 235, 235)

SOURCES = {"color": (("normal", 0.5), ("start", 0.25), ("body", 0.25)), "normal": (("start", 2 / 3), ("body", 1 / 3))}
"""Whose normals the hint shows, and how often. Colours also follow finished normal maps, as in the paper; no network
is to copy its answer, so normals never do."""
LABELS_ABSENT = 0.2
"""How often the colours are left out, all six channels being there to be read. A body's are always there: nothing else
says what it is to wear."""


def palette(attributes: Mapping[str, Any] | None) -> Float[Tensor, "8 3"]:
    """The flat colour 0..1 of each label as a person's description names it; what it does not name is 0, as is all of
    a person nobody described."""
    colours = torch.zeros(len(LABELS), 3)
    if attributes is None:
        return colours
    named = {
        "skin": SKIN_COLOURS.get(attributes["skin"]),
        "eyes": EYE_COLOUR,
        "hair": HAIR_COLOURS.get(attributes["hair_colour"]),
        **{slot: COLOURS.get(attributes[f"{slot}_colour"]) for slot in ("top", "bottom", "shoes", "hat")},
    }
    for slot, colour in named.items():
        if colour is not None:
            colours[LABELS.index(slot)] = torch.tensor(colour) / 255.0
    return colours


def flat_colours(
    labels: UInt8[Tensor, "B R R"], attributes: Sequence[Mapping[str, Any] | None]
) -> Float[Tensor, "B 3 R R"]:
    """Each pixel in its label's colour; black where there is nobody."""
    painted = [palette(facts)[rows.long()] for rows, facts in zip(labels, attributes, strict=True)]
    return torch.stack(painted).permute(0, 3, 1, 2)


def draw_hint(kind: str, generator: np.random.Generator) -> tuple[str, bool]:
    """For a sample of a kind: the map whose normals are shown, and whether the colours are there."""
    names, shares = zip(*SOURCES[kind], strict=True)
    source = str(generator.choice(names, p=shares))
    return source, source == "body" or bool(generator.random() >= LABELS_ABSENT)


def hints_of(
    people: Shards, rows: Sequence[int], sources: Sequence[str], coloured: Sequence[bool]
) -> Float[Tensor, "B R R 6"]:
    """Of these rows of a dataset: normal maps 0..1, each of its own source, and flat colours, black where a row is to
    go without."""
    normals = torch.stack([people.image(row, source) for row, source in zip(rows, sources, strict=True)])
    labels = torch.stack([people.labels(row) for row in rows])
    flat = flat_colours(labels, [people.shot(row)["attributes"] for row in rows]).permute(0, 2, 3, 1)
    return torch.cat([normals, flat * torch.tensor(coloured)[:, None, None, None]], -1)
