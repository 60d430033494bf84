"""Views written as text, cameras for them, and pictures checked on entry."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from humannorm.cameras import (
    VIEW_AZIMUTHS,
    CameraPlan,
    Cameras,
    View,
    crop_cameras,
    orbit,
    parse_views,
    view_label,
)
from humannorm.checks import InputError
from humannorm.mesh import Mesh
from humannorm.rendering.passes import RenderedPasses, render

MOST_VIEWS = 64
PLAIN_GREY = 0.7  # sRGB of a mesh that brings no colours
PREVIEW_SIZE = 512  # pixels a side of the pictures that show a result


@dataclass(frozen=True)
class Views:
    azimuths: tuple[float, ...]  # degrees

    @property
    def sides(self) -> list[View]:
        """The side of the person that each view shows, as the prompts name it."""
        return [view_label(azimuth) for azimuth in self.azimuths]


def chosen_views(text: str) -> Views:
    """'front,left,30' as azimuths: names or degrees, parted by commas."""
    azimuths = parse_views(text)
    if len(azimuths) > MOST_VIEWS:
        raise InputError(f"views: expected at most {MOST_VIEWS}, got {len(azimuths)}")
    return Views(azimuths)


def framed_cameras(plan: CameraPlan | None, part: str, azimuths: tuple[float, ...], elevation: float) -> Cameras:
    """Views of a body part as a model was trained to see it; without a plan, as the published test set does."""
    if plan is not None:
        return crop_cameras(plan, plan.crop(part), azimuths, elevation=elevation)
    return orbit(azimuths, elevation=elevation, part=part)  # type: ignore[arg-type]


def rendered(mesh: Mesh, cameras: Cameras, size: int, field: object | None = None) -> RenderedPasses:
    """All passes of a mesh, without gradients; plain grey where it has no colours."""
    if field is None and mesh.colors is None and (mesh.texture is None or mesh.uvs is None):
        mesh = mesh.replace(colors=torch.full_like(mesh.vertices, PLAIN_GREY))
    with torch.no_grad():
        return render(mesh, cameras.to(mesh.device), (size, size), field=field)  # type: ignore[arg-type]


def four_sides(mesh: Mesh, plan: CameraPlan | None = None, field: object | None = None) -> RenderedPasses:
    """The whole body from front, left, back and right, as a node shows its result."""
    return rendered(mesh, framed_cameras(plan, "full", tuple(VIEW_AZIMUTHS.values()), 0.0), PREVIEW_SIZE, field)


def pictures_from(value: Tensor, name: str) -> Tensor:
    """An IMAGE as float [B, H, W, 3] in 0..1. Four channels are refused: what is behind them is not ours to guess."""
    if not isinstance(value, Tensor) or value.dim() != 4:
        got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"{name}: expected IMAGE [B, H, W, 3], got {got}")
    if value.shape[-1] != 3:
        raise InputError(
            f"{name}: expected 3 channels (red, green, blue), got {value.shape[-1]}; split the alpha off with Split"
            " Image with Alpha"
        )
    if not len(value):
        raise InputError(f"{name}: expected at least one picture, got an empty batch")
    if not bool(torch.isfinite(value).all()):
        raise InputError(f"{name}: expected finite values, got some that are NaN or infinite")
    return value.float()
