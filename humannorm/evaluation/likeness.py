"""How far renders of finished humans are from renders of the people maker's, seen through the same cameras.

Judges that say whether a person is seen are full marks for a lumpy bodysuit with stains; a distance between sets of
pictures is not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from humannorm.cameras import Cameras
from humannorm.checks import InputError
from humannorm.evaluation.frechet import fid64
from humannorm.evaluation.gallery import Gallery, Judgements, Picture
from humannorm.export import BakedMesh, slopes_on
from humannorm.rendering import render
from humannorm.training.shards import Shards
from humannorm.working_box import place

__all__ = ["KINDS", "add_likeness", "likeness", "likeness_table"]

KINDS = ("normal", "color")
REFERENCE, OTHERS, HUMANS = "likeness_reference", "likeness_others", "likeness_humans"
PICTURES = 240  # of each set: fid64 has 64 dimensions, and 60 pictures say nothing of their covariance


def add_likeness(
    gallery: Gallery,
    humans: Mapping[str, BakedMesh],
    people: Shards,
    seed: int = 0,
    poses: Collection[str] = (),
) -> None:
    """Whole bodies of held-out people in two halves, and the humans from the cameras of the first half, in turn.

    poses: as captions say them, of the people that are taken; empty: all. Raised arms alone are a large distance.
    Normals in camera space on black and colours on white, as the people maker draws them; normal maps show, as its own.
    """
    halves = _halves(people, seed, poses)
    for source, rows in halves.items():
        for at, row in enumerate(rows):
            for kind in KINDS:
                _add(gallery, source, kind, at, people.shot(row)["azimuth"], people.image(row, kind))
    names, shots = sorted(humans), [people.shot(row) for row in halves[REFERENCE]]
    size = people.image(halves[REFERENCE][0], "color").shape[0]
    for number, name in enumerate(names):
        mesh, _ = place(humans[name].mesh)
        slopes = slopes_on(humans[name])
        for at in range(number, len(shots), len(names)):
            camera = _camera(shots[at]).to(mesh.device)
            passes = render(mesh, camera, (size, size), ("normal", "color"), slopes=slopes)
            for kind, picture in (("normal", passes.normal), ("color", passes.color)):
                assert picture is not None
                _add(gallery, HUMANS, kind, at, shots[at]["azimuth"], picture[0].cpu())


def likeness(gallery: Gallery, judged: Judgements) -> dict[str, tuple[float, float]]:
    """By kind the fid64 of the humans and of the other half of the people, both against the first half."""
    found = {}
    for kind in KINDS:
        sets = [
            torch.stack([judged.features[picture.id] for picture in gallery.select(source=source, kind=kind)])
            for source in (REFERENCE, HUMANS, OTHERS)
        ]
        found[kind] = (max(fid64(sets[0], sets[1]), 0.0), max(fid64(sets[0], sets[2]), 0.0))  # rounding may go below
    return found


def likeness_table(found: Mapping[str, tuple[float, float]]) -> str:
    """Markdown."""
    lines = ["| fid64 against the people maker's renders | humans | other people of the maker |", "|---|---|---|"]
    words = {"normal": "normals", "color": "colours"}
    lines += [f"| {words[kind]} | {ours:.1f} | {floor:.1f} |" for kind, (ours, floor) in found.items()]
    return "\n".join(lines)


def _halves(people: Shards, seed: int, poses: Collection[str]) -> dict[str, Sequence[int]]:
    """Rows of whole bodies, of different people in the two halves."""
    generator = np.random.default_rng(seed)
    whole = [row for row in people.rows_of("full") if not poses or people.shot(row)["attributes"]["pose"] in poses]
    persons = sorted({people.shot(row)["person"] for row in whole})
    first = set(generator.permutation(persons)[::2].tolist())
    rows = generator.permutation(whole).tolist()
    found: dict[str, Sequence[int]] = {
        REFERENCE: [row for row in rows if people.shot(row)["person"] in first][:PICTURES],
        OTHERS: [row for row in rows if people.shot(row)["person"] not in first][:PICTURES],
    }
    if min(map(len, found.values())) < 2:
        asked = f" ({', '.join(sorted(poses))})" if poses else ""
        raise InputError(
            f"--data: expected whole bodies of at least 4 held-out people{asked}, got {len(persons)} people"
        )
    return found


def _camera(shot: Mapping[str, Any]) -> Cameras:
    """The camera that took a shot."""

    def one(name: str) -> torch.Tensor:
        return torch.tensor([float(shot[name])])

    return Cameras(
        azimuth=one("azimuth"),
        elevation=one("elevation"),
        distance=one("distance"),
        fov_y=one("fov"),
        zoom=one("zoom"),
        target=torch.tensor([shot["target"]], dtype=torch.float32),
        part=(shot["part"],),
    )


def _add(gallery: Gallery, source: str, kind: str, at: int, azimuth: float, image: torch.Tensor) -> None:
    picture = Picture(
        id=f"{source}_{kind}_{at:03d}", source=source, kind=kind, part="full", azimuth=azimuth, judges=("features",)
    )
    gallery.add(picture, image)
