"""Which vertices the cameras of a plan ever see, by rasterisation."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool
from torch import Tensor

from humannorm.cameras import CameraPlan, Cameras, orbit
from humannorm.checks import check_range
from humannorm.mesh import Mesh, welded_vertex_normals
from humannorm.rendering import rasterize

__all__ = ["plan_cameras", "visible_vertices"]

LEAST_COSINE = 0.15  # between normal and direction to the camera: flatter views give no colour worth keeping
SLACK = 2e-3  # world units that a surface may curve between two pixels


def plan_cameras(plan: CameraPlan, azimuths: int = 16) -> Cameras:
    """Cameras all around at the plan's lowest, middle and highest elevation, in its widest crop.

    The crops of a plan share their positions, so what hides what is the same in all of them.
    """
    widest = plan.widest
    low, high = plan.elevation
    return Cameras.concatenate(
        [
            orbit(
                [360.0 * (i + offset) / azimuths for i in range(azimuths)],
                elevation=elevation,
                distance=sum(plan.distance) / 2,
                fov_y=sum(plan.fov_y) / 2,
                part=widest.part,
                zoom=widest.zoom,
                target_y=widest.target_y,
            )
            for elevation, offset in ((low, 0.0), ((low + high) / 2, 0.5), (high, 0.0))
        ]
    )


@torch.no_grad()
def visible_vertices(
    mesh: Mesh, cameras: Cameras, size: int = 512, least_cosine: float = LEAST_COSINE, engine: str = "auto"
) -> Bool[Tensor, " V"]:
    """Vertices that at least one camera sees: in its frame, turned toward it, and no surface before them.

    A vertex is hidden where the depth of the pixel it falls on is nearer than the vertex by more than the surface can
    fall off within that pixel. The test is per vertex, since on a fine mesh most triangles cover no pixel's centre.
    """
    check_range("size", size, 16, 8192)
    normals = welded_vertex_normals(mesh.vertices, mesh.faces)
    seen = torch.zeros(mesh.num_vertices, dtype=torch.bool, device=mesh.device)
    cameras = cameras.to(mesh.device)
    for number in range(len(cameras)):
        camera = cameras.select([number])
        clip = camera.clip_from_world(mesh.vertices)
        surface = _view_distance(rasterize(clip, mesh.faces, (size, size), engine=engine).depth[0], camera)
        place = clip[0, :, :2] / clip[0, :, 3:]
        column = ((place[:, 0] + 1) / 2 * size).floor().long()
        row = ((1 - place[:, 1]) / 2 * size).floor().long()
        framed = (column >= 0) & (column < size) & (row >= 0) & (row < size) & (clip[0, :, 3] > camera.near)
        distance = clip[0, :, 3]  # along the view axis
        toward = torch.nn.functional.normalize(camera.position() - mesh.vertices, dim=1)
        cosine = (normals * toward).sum(1)
        pixel = distance * 2 * math.tan(math.radians(float(camera.fov_y) / 2)) / float(camera.zoom) / size
        slope = (1 - cosine.square()).clamp_min(0).sqrt() / cosine.clamp_min(least_cosine)
        front = surface[row.clamp(0, size - 1), column.clamp(0, size - 1)]
        seen |= framed & (cosine >= least_cosine) & (distance <= front + pixel * slope + SLACK)
    return seen


def _view_distance(depth: Tensor, camera: Cameras) -> Tensor:
    """World units along the view axis of NDC depths in -1..1; the background is as far as the far plane."""
    near, far = camera.near, camera.far
    return 2 * far * near / (far + near - depth.double() * (far - near))
