"""The colours that a finished human wears, read off its surface by the labels of the start that it grew from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from humannorm.body import Outfit, outfit_of_words
from humannorm.checks import InputError
from humannorm.colours import COLOURS, HAIR_COLOURS
from humannorm.evaluation.pictures import nearest_colour
from humannorm.labels import label_number

__all__ = ["WornPiece", "asked_colour", "surface_by_label", "worn_of_run", "worn_pieces", "worn_table"]

KINDS = ("hair", "top", "bottom", "shoes", "hat", "outer", "dress")


@dataclass(frozen=True)
class WornPiece:
    """One piece of an outfit that was asked for in a colour."""

    label: str
    asked: str  # named colour
    worn: str | None  # the named colour next to the median of its surface; None where nothing of it is seen

    @property
    def is_right(self) -> bool:
        return self.asked == self.worn


def worn_pieces(outfit: Outfit, labels: Int64[Tensor, " N"], colors: Float[Tensor, "N 3"]) -> tuple[WornPiece, ...]:
    """Of each label that the outfit names in a colour, what points of a surface show. colors: sRGB 0..1."""
    pieces = []
    for label, value in outfit.colours().items():
        seen = colors[labels == label_number(label)]
        pieces.append(WornPiece(label, asked_colour(value, label), nearest_colour(seen, _named(label))))
    return tuple(pieces)


def asked_colour(value: tuple[float, float, float], label: str) -> str:
    """The named colour (of hair: of `HAIR_COLOURS`) next to an sRGB colour 0..1."""
    name = nearest_colour(torch.tensor([value]), _named(label))
    assert name is not None
    return name


def surface_by_label(run: Path) -> tuple[Int64[Tensor, " N"], Float[Tensor, "N 3"]] | None:
    """Label and colour of the vertices of a run's painting; None where its start was not dressed."""
    from humannorm.geometry.state import load_state
    from humannorm.texture.state import load_state as load_painting

    sculpture, painting = (run / "work" / f"{name}.safetensors" for name in ("sculpt", "paint"))
    for path in (sculpture, painting):
        if not path.is_file():
            raise InputError(f"{run}: expected a finished run of `generate` with its {path.name}, got none")
    labelled = load_state(sculpture).labelled
    if labelled is None:
        return None
    painted = load_painting(painting)
    places = painted.placement.to_user(painted.mesh.vertices)  # the sculpture's own frame
    return labelled.labels_at(places), painted.field.at(painted.mesh.vertices)


def worn_of_run(run: Path, prompt: str) -> tuple[WornPiece, ...]:
    """What the prompt names in a colour, and what the human of a run wears; nothing where its start was not dressed."""
    surface = surface_by_label(run)
    return () if surface is None else worn_pieces(outfit_of_words(prompt), *surface)


def worn_table(rows: Mapping[str, Sequence[WornPiece]]) -> str:
    """Markdown, a row for a human, and the sums by kind; empty where no human was dressed."""
    if not any(rows.values()):
        return ""
    lines = ["", "", "| human | pieces on the surface: requested, worn |", "|---|---|"]
    for name, pieces in rows.items():
        said = "; ".join(f"{piece.label}: {piece.asked}, {piece.worn or 'not seen'}" for piece in pieces)
        lines.append(f"| {name} | {said} |")
    sums = []
    for kind in KINDS:
        of_kind = [piece for pieces in rows.values() for piece in pieces if piece.label == kind]
        if of_kind:
            sums.append(f"{kind} {sum(piece.is_right for piece in of_kind)} of {len(of_kind)}")
    return "\n".join([*lines, "", f"In the colour that was requested: {', '.join(sums)}."])


def _named(label: str) -> Mapping[str, tuple[int, int, int]]:
    return HAIR_COLOURS if label == "hair" else COLOURS
