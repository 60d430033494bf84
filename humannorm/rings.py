"""Rings of cameras around a person, its parts or a thing: the views that are sampled together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from humannorm.cameras import CameraPlan, Cameras, Crop, Part, crop_cameras
from humannorm.checks import InputError, check_range

__all__ = ["Ring", "body_rings", "cameras_of_rings", "plain_rings"]


@dataclass(frozen=True)
class Ring:
    """Evenly spaced views of one body part, or of the whole of something else."""

    views: int
    part: Part = "full"
    elevation: float = 0.0  # degrees
    first: float = 0.0  # azimuth of the first view, degrees
    crop: Crop | None = None  # None: the plan's crop of the part

    def __post_init__(self) -> None:
        check_range("views", self.views, 1, 360)
        check_range("elevation", self.elevation, -89.0, 89.0)


def body_rings(full: int = 8, upper: int = 8, lower: int = 8, head: int = 8) -> tuple[Ring, ...]:
    """Rings around a person and around its parts; a count of 0 leaves one out."""
    counts: tuple[tuple[Part, int], ...] = (("full", full), ("upper", upper), ("lower", lower), ("head", head))
    return tuple(Ring(count, part) for part, count in counts if count)


def plain_rings(views: int = 8, elevations: Sequence[float] = (-20.0, 0.0, 30.0)) -> tuple[Ring, ...]:
    """Rings of elevation around a thing that is no person; each is turned by half a step against the one before."""
    return tuple(
        Ring(views, "full", elevation, first=(number % 2) * 180.0 / views)
        for number, elevation in enumerate(elevations)
    )


def cameras_of_rings(rings: Sequence[Ring], plan: CameraPlan) -> Cameras:
    """All views, ring after ring, at the middle of the plan's distances and fields of view."""
    turns = []
    for ring in rings:
        crop = ring.crop or next((crop for crop in plan.crops if crop.part == ring.part), None)
        if crop is None:
            raise InputError(f"rings: expected parts of the plan {plan.name}, got {ring.part}")
        azimuths = [ring.first + 360.0 * number / ring.views for number in range(ring.views)]
        framed = dataclasses.replace(crop, part=ring.part)
        turns.append(crop_cameras(plan, framed, azimuths, elevation=ring.elevation))
    return Cameras.concatenate(turns)
