"""Pictures of a painted surface for people: a sheet from eight sides with close-ups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from humannorm.cameras import CameraPlan, Crop, crop_cameras
from humannorm.images import contact_sheet, save_png
from humannorm.mesh import Mesh
from humannorm.rendering.passes import render
from humannorm.rendering.shaded import GROUND, SIDES

__all__ = ["save_sheet"]


@torch.no_grad()
def save_sheet(
    path: Path,
    mesh: Mesh,
    fields: Mapping[str, Callable[[Tensor], Tensor]],
    plan: CameraPlan,
    size: int = 256,
    *,
    close_ups: bool = True,
) -> None:
    """The mesh in the working box from eight sides in each of these colours, row by row; of the last one also the crops
    of the plan (`close_ups`: of a person's parts), and its normals below."""
    tiles: list[Tensor] = []
    labels: list[str] = []
    names = list(fields)
    rows: list[tuple[str, Crop]] = [(name, plan.widest) for name in names]
    if close_ups:
        rows += [(names[-1], crop) for crop in plan.crops if crop != plan.widest]
    for name, crop in rows:
        cameras = crop_cameras(plan, crop, SIDES, elevation=5.0)
        for at, azimuth in enumerate(SIDES):
            view = cameras.select([at]).to(mesh.device)
            passes = render(mesh, view, (size, size), ("color",), field=fields[name], background=(GROUND,) * 3)
            assert passes.color is not None
            tiles.append(passes.color[0].cpu())
            labels.append(f"{name}, {crop.part}, {azimuth}")
    cameras = crop_cameras(plan, plan.widest, SIDES, elevation=5.0)
    passes = render(mesh, cameras.to(mesh.device), (size, size), ("normal",))
    assert passes.normal is not None
    tiles += list(passes.normal.cpu())
    labels += [f"normals, {azimuth}" for azimuth in SIDES]
    save_png(path, contact_sheet(tiles, labels, columns=len(SIDES)))
