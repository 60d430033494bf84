"""Pictures of a surface for people: normals and shading on a light ground, and a sheet."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.cameras import Cameras, orbit
from humannorm.images import contact_sheet, save_png
from humannorm.mesh import Mesh
from humannorm.rendering.passes import PassEncoding, render

__all__ = ["save_sheet", "shaded_views"]

GROUND = 0.93  # grey behind the surface
LIGHT = (-0.35, 0.5, 0.8)  # toward the light, camera axes: over the viewer's left shoulder
AMBIENT = 0.25
SIDES = tuple(range(0, 360, 45))  # degrees


@torch.no_grad()
def shaded_views(
    mesh: Mesh, cameras: Cameras, size: int, slopes: Float[Tensor, "S S 3"] | None = None
) -> tuple[Float[Tensor, "B H W 3"], Float[Tensor, "B H W 3"]]:
    """Camera-space normals, and a matt grey surface under one light that moves with the camera; on a light ground.

    slopes: of folds, as `render` takes them.
    """
    middle = (0.5, 0.5, 0.5)  # decodes to a zero normal, so that coverage and normal come apart cleanly
    encoding = PassEncoding(normal_background=middle)
    passes = render(mesh, cameras, (size, size), ("normal", "mask"), encoding=encoding, slopes=slopes)
    assert passes.normal is not None and passes.mask is not None
    cover = passes.mask[..., None]
    normal = torch.nn.functional.normalize(passes.normal * 2 - 1, dim=-1)
    light = torch.nn.functional.normalize(normal.new_tensor(LIGHT), dim=0)
    shade = AMBIENT + (1 - AMBIENT) * (normal @ light).clamp_min(0)[..., None]
    ground = torch.full_like(passes.normal, GROUND)
    return torch.lerp(ground, normal / 2 + 0.5, cover), torch.lerp(ground, shade.expand_as(ground), cover)


def save_sheet(path: Path, before: Mesh, after: Mesh, size: int = 256) -> None:
    """Normals and shading from eight sides, before over after."""
    cameras = orbit(SIDES, elevation=5.0).to(before.device)
    tiles: list[Tensor] = []
    labels: list[str] = []
    for name, mesh in (("before", before), ("after", after)):
        for kind, views in zip(("normals", "shading"), shaded_views(mesh, cameras, size), strict=True):
            tiles += list(views.cpu())
            labels += [f"{name}, {kind}, {azimuth}" for azimuth in SIDES]
    save_png(path, contact_sheet(tiles, labels, columns=len(SIDES)))
