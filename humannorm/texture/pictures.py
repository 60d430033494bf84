"""Pictures of a painted surface for people: a sheet from eight sides with close-ups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from humannorm.cameras import CameraPlan, Cameras, Part, orbit
from humannorm.images import contact_sheet, save_png
from humannorm.mesh import Mesh
from humannorm.rendering.passes import render

__all__ = ["part_cameras", "save_sheet"]

GROUND = (0.93, 0.93, 0.93)  # behind the surface
SIDES = tuple(range(0, 360, 45))  # degrees


def part_cameras(plan: CameraPlan, part: Part, azimuths: tuple[int, ...] = SIDES) -> Cameras | None:
    """Views of a body part as the plan frames it; None where the plan has no such crop."""
    crop = next((crop for crop in plan.crops if crop.part == part), None)
    if crop is None:
        return None
    middle = sum(plan.fov_y) / 2
    return orbit(list(azimuths), elevation=5.0, fov_y=middle, part=part, zoom=crop.zoom, target_y=crop.target_y)


@torch.no_grad()
def save_sheet(
    path: Path, mesh: Mesh, fields: Mapping[str, Callable[[Tensor], Tensor]], plan: CameraPlan, size: int = 256
) -> None:
    """The mesh in the working box from eight sides in each of these colours, row by row; of the last one also the crops
    of the plan, and its normals below."""
    tiles: list[Tensor] = []
    labels: list[str] = []
    widest = min(plan.crops, key=lambda crop: crop.zoom).part
    names = list(fields)
    rows = [(name, widest) for name in names]
    rows += [(names[-1], crop.part) for crop in plan.crops if crop.part != widest]
    for name, part in rows:
        cameras = part_cameras(plan, part)
        assert cameras is not None
        for at, azimuth in enumerate(SIDES):
            view = cameras.select([at]).to(mesh.device)
            passes = render(mesh, view, (size, size), ("color",), field=fields[name], background=GROUND)
            assert passes.color is not None
            tiles.append(passes.color[0].cpu())
            labels.append(f"{name}, {part}, {azimuth}")
    cameras = part_cameras(plan, widest)
    assert cameras is not None
    passes = render(mesh, cameras.to(mesh.device), (size, size), ("normal",))
    assert passes.normal is not None
    tiles += list(passes.normal.cpu())
    labels += [f"normals, {azimuth}" for azimuth in SIDES]
    save_png(path, contact_sheet(tiles, labels, columns=len(SIDES)))
