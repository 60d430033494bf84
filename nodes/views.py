"""Views written as text, cameras for them, and pictures checked on entry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from humannorm.body.skeleton import quaternion_to_matrix
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
from humannorm.checks import InputError, check_range, reading
from humannorm.mesh import Mesh
from humannorm.rendering.passes import RenderedPasses, render

__all__ = [
    "PLAIN_GREY",
    "Views",
    "as_in_viewer",
    "chosen_views",
    "four_sides",
    "framed_cameras",
    "pictures_from",
    "rendered",
    "viewer_camera",
]

MOST_VIEWS = 64
PLAIN_GREY = 0.7  # sRGB of a mesh that brings no colours
VIEWER_FOV = 40.0  # degrees, where a viewer does not say
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


def viewer_camera(info: Mapping[str, Any]) -> Cameras:
    """The camera of one of the host's 3D viewers: three.js, +Y up, lengths in the mesh's own units, degrees."""
    with reading("camera_info", "the camera of a 3D viewer"):
        return _viewer_camera(info)


def _viewer_camera(info: Mapping[str, Any]) -> Cameras:
    if info.get("cameraType", "perspective") != "perspective":
        raise InputError(f"camera_info: expected a perspective camera, got {info['cameraType']!r}; switch the viewer")
    eye, target = _vector(info, "position", 0.0), _vector(info, "target", 0.0)
    distance = float(eye.norm())
    if not bool((eye - target).norm() > 0) or distance == 0:
        raise InputError("camera_info: expected a camera away from its target and from the origin, got one on it")
    fov, zoom = float(info.get("fov") or VIEWER_FOV), float(info.get("zoom") or 1.0)
    check_range("camera_info fov", fov, 0.1, 179.0)
    check_range("camera_info zoom", zoom, 1e-3, 1e3)
    across = math.hypot(float(eye[0]), float(eye[2]))
    return Cameras(
        azimuth=torch.rad2deg(torch.atan2(eye[0], eye[2]))[None],
        elevation=torch.tensor([math.degrees(math.atan2(float(eye[1]), across))]).clamp(-89.9, 89.9),
        distance=torch.tensor([distance]),
        fov_y=torch.tensor([fov]),
        zoom=torch.tensor([zoom]),
        target=target[None],
        part=("full",),
        near=max(1e-3 * distance, 1e-4),
        far=100 * distance,
    )


def as_in_viewer(mesh: Mesh, models: Sequence[Mapping[str, Any]] | None) -> Mesh:
    """A mesh where a viewer has put it: scaled, turned, moved."""
    if not models:
        return mesh
    with reading("model_3d_info", "where a 3D viewer has put a mesh"):
        return _as_in_viewer(mesh, models)


def _as_in_viewer(mesh: Mesh, models: Sequence[Mapping[str, Any]]) -> Mesh:
    turn = models[0].get("quaternion") or {}
    quaternion = torch.tensor([float(turn.get(axis, axis == "w")) for axis in "wxyz"])
    rotation = quaternion_to_matrix(F.normalize(quaternion, dim=0))
    scale, offset = _vector(models[0], "scale", 1.0), _vector(models[0], "position", 0.0)
    normals = mesh.normals
    if normals is not None:
        normals = F.normalize((normals / scale) @ rotation.T, dim=1)
    return mesh.replace(vertices=(mesh.vertices * scale) @ rotation.T + offset, normals=normals)


def _vector(info: Mapping[str, Any], name: str, default: float) -> Tensor:
    given = info.get(name) or {}
    found = torch.tensor([float(given.get(axis, default)) for axis in "xyz"])
    if not bool(torch.isfinite(found).all()):
        raise InputError(f"expected a finite {name}, got {dict(given)}")
    return found


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
