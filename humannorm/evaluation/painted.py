"""Judging finished humans: a person from every side, one face, and the garments in the colours that were requested.

The judges see the colours as they are in the file, without light, on white.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from humannorm.body import outfit_of_words
from humannorm.body.outfit import CUTS
from humannorm.cameras import Cameras
from humannorm.checks import InputError
from humannorm.colours import COLOURS
from humannorm.evaluation.gallery import Gallery, Judgements
from humannorm.evaluation.pictures import garment_pixels, nearest_colour
from humannorm.evaluation.sculpted import AZIMUTHS, ENOUGH, SIZE, add_views, seen_views
from humannorm.evaluation.worn import asked_colour
from humannorm.mesh import Mesh, connected_components, face_areas, is_watertight, weld
from humannorm.rendering import render

__all__ = [
    "HumanFigures",
    "add_human",
    "human_figures",
    "human_table",
    "painting_figures",
    "painting_table",
    "requested_colours",
]

_ON_TRUNK = ("top", "dress", "outer")  # labels


@dataclass(frozen=True)
class HumanFigures:
    """What a finished human is, and what the judges said of it."""

    name: str
    prompt: str
    found: int  # azimuths of `AZIMUTHS` at which the pose judge sees a person
    turned_right: int  # those of them whose azimuth the judge gives within 45 degrees
    face_front: bool
    face_back: bool
    requested: Mapping[str, str]  # named colour of "top" and "bottom", where the prompt says one
    worn: Mapping[str, str | None]  # the named colour nearest to what is seen there
    closed: bool
    stray: float  # share of the area that is not of the largest piece

    @property
    def is_human(self) -> bool:
        return self.found >= ENOUGH and self.face_front and not self.face_back

    @property
    def right_colours(self) -> int:
        return sum(self.worn[garment] == colour for garment, colour in self.requested.items())


def requested_colours(prompt: str) -> dict[str, str]:
    """Named colours that a prompt gives what is seen of the trunk ("top") and of the thighs ("bottom")."""
    found: dict[str, str] = {}
    for piece in outfit_of_words(prompt).pieces:  # inner ones before outer ones, which hide them
        tube = CUTS[piece.cut].tube
        is_long = tube is not None and not tube.legs  # a dress, or a coat over whatever is below it
        value = piece.colour()
        for place, covered in (
            ("top", piece.label in _ON_TRUNK),
            ("bottom", piece.label == "bottom" or (piece.label in _ON_TRUNK and is_long)),
        ):
            if covered:
                found.pop(place, None)
            if covered and value is not None:
                found[place] = asked_colour(value, piece.label)
    return found


def add_human(gallery: Gallery, name: str, mesh: Mesh) -> None:
    """The human's colours for the judges, see `add_views`. mesh: with a texture or colours."""
    if mesh.texture is None and mesh.colors is None:
        raise InputError(f"{name}: expected a painted mesh, got one without texture or colours")
    add_views(gallery, name, mesh, "color", _unlit)


def _unlit(mesh: Mesh, camera: Cameras) -> Tensor:
    image = render(mesh, camera, (SIZE, SIZE), ("color",)).color
    assert image is not None
    return image[0]


def human_figures(gallery: Gallery, judged: Judgements, name: str, mesh: Mesh, prompt: str) -> HumanFigures:
    """The figures of a human that `add_human` put into the judged gallery."""
    views = seen_views(gallery, judged, name)
    requested, worn = requested_colours(prompt), {}
    for garment in requested:
        pixels = [garment_pixels(gallery.image(id), views.poses[id]["landmarks"], garment) for id in views.right]
        worn[garment] = nearest_colour(torch.cat(pixels), COLOURS) if pixels else None
    faces = weld(mesh.vertices)[mesh.faces]
    piece = connected_components(faces, mesh.num_vertices)[faces[:, 0]]
    area = torch.zeros(mesh.num_vertices).index_add(0, piece.cpu(), face_areas(mesh.vertices, mesh.faces).float().cpu())
    return HumanFigures(
        name=name,
        prompt=prompt,
        found=len(views.poses),
        turned_right=len(views.right),
        face_front=views.face["front"],
        face_back=views.face["back"],
        requested=requested,
        worn=worn,
        closed=is_watertight(faces),
        stray=1 - float(area.max() / area.sum()),
    )


def human_table(figures: list[HumanFigures]) -> str:
    """Markdown, a row for a human, and the sums."""
    lines = [
        f"| human | person found, of {len(AZIMUTHS)} | azimuth within 45 degrees, of those | face in front "
        "| face behind | top: requested, worn | bottom: requested, worn | closed | stray pieces, of the area |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    words = {True: "yes", False: "no"}
    for row in figures:
        cells = [row.name, row.found, row.turned_right, words[row.face_front], words[row.face_back]]
        cells += [
            f"{row.requested[garment]}, {row.worn[garment] or 'not seen'}" if garment in row.requested else "-"
            for garment in ("top", "bottom")
        ]
        cells += [words[row.closed], f"{100 * row.stray:.2f} %"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    requested, right = sum(len(row.requested) for row in figures), sum(row.right_colours for row in figures)
    human = sum(row.is_human for row in figures)
    return "\n".join(lines) + (
        f"\n\n{human} of {len(figures)} are seen as a person from at least {ENOUGH} sides with a face in front alone. "
        f"{right} of {requested} garments are worn in the colour that was requested."
    )


def painting_figures(folder: Path) -> dict[str, float]:
    """What a run's record says of a painting by all views at once: `disagreement_last` and, with labels, `leak`."""
    try:
        stages = json.loads((folder / "run.json").read_text(encoding="utf-8"))["stages"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: expected a finished run of `generate`, got another folder ({error})") from error
    said = stages.get("paint", {})
    return {name: float(said[name]) for name in ("disagreement_last", "leak") if name in said}


def painting_table(painted: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown, a row for a human that was painted so; empty where none was."""
    rows = {name: figures for name, figures in painted.items() if figures}
    if not rows:
        return ""
    lines = ["", "", "| human | disagreement of the last views, CIELAB | leak between labels |", "|---|---|---|"]
    for name, figures in rows.items():
        leak = f"{100 * figures['leak']:.1f} %" if "leak" in figures else "-"
        lines.append(f"| {name} | {figures['disagreement_last']:.1f} | {leak} |")
    return "\n".join(lines)
