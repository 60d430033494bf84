"""From clip space to the fixed-point screen: snapping, and clipping of the few triangles that leave the safe region.

Both engines share this module, therefore they agree on every covered pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int64, Shaped
from torch import Tensor

__all__ = [
    "GUARD_BAND",
    "MAX_RESOLUTION",
    "SUBPIXELS",
    "ScreenTriangles",
    "clipped_triangles",
    "half_size",
    "inside_clip_volume",
    "pixel_centres",
    "project_and_snap",
]

SUBPIXELS = 256
"""Fixed-point steps per pixel (8 fractional bits, as in graphics hardware)."""
GUARD_BAND = 2**29
"""Largest distance of a snapped coordinate from the screen's centre, in steps. Edge functions are sums of two products
of differences of such coordinates: below 2^62, they cannot overflow 64 bits."""
MAX_RESOLUTION = 8192
"""Largest image side in pixels; the screen is then a small part of the guard band."""


class ScreenTriangles(NamedTuple):
    """Triangles on the fixed-point screen, ready for coverage tests."""

    corners: Int64[Tensor, "N 3 2"]
    """x right, y down, in steps of 1/256 pixel from the top left corner."""
    depth: Float[Tensor, "N 3"]
    """z/w per corner, in [-1, 1]."""
    triangle: Int64[Tensor, "N"]
    """The triangle of the mesh each of them belongs to."""


def half_size(resolution: tuple[int, int]) -> tuple[float, float]:
    """Half the screen's width and height in fixed-point steps."""
    height, width = resolution
    return width * SUBPIXELS / 2, height * SUBPIXELS / 2


def pixel_centres(row: Int[Tensor, "N"], column: Int[Tensor, "N"], resolution: tuple[int, int]) -> Float[Tensor, "N 2"]:
    """Normalised device coordinates of pixel centres, float64; row 0 is the top, y = +1."""
    height, width = resolution
    return torch.stack(((column.double() + 0.5) * (2 / width) - 1, 1 - (row.double() + 0.5) * (2 / height)), dim=-1)


def clip_plane_distances(clip: Float[Tensor, "*N 4"], resolution: tuple[int, int]) -> Float[Tensor, "*N 6"]:
    """Signed distances (inside >= 0) to near, far and the four planes of the guard band."""
    x, y, z, w = clip.unbind(-1)
    half_width, half_height = half_size(resolution)
    limit_x, limit_y = GUARD_BAND / half_width, GUARD_BAND / half_height
    return torch.stack((w + z, w - z, limit_x * w + x, limit_x * w - x, limit_y * w + y, limit_y * w - y), dim=-1)


def inside_clip_volume(clip: Float[Tensor, "*N 4"], resolution: tuple[int, int]) -> Bool[Tensor, "*N"]:
    """Whether points can be projected as they are: before the eye, between near and far, within the guard band."""
    return (clip_plane_distances(clip, resolution) >= 0).all(-1) & (clip[..., 3] > 0)


def project_and_snap(
    clip: Float[Tensor, "*N 4"], resolution: tuple[int, int]
) -> tuple[Int64[Tensor, "*N 2"], Float[Tensor, "*N"]]:
    """Nearest fixed-point screen position, and z/w in single precision; the points lie inside the clip volume.

    The arithmetic is double precision in this order of operations in every engine.
    """
    x, y, z, w = clip.double().unbind(-1)
    half_width, half_height = half_size(resolution)
    screen_x = torch.floor(x / w * half_width + half_width + 0.5)
    screen_y = torch.floor(half_height - y / w * half_height + 0.5)
    depth = (z / w).float().clamp(-1, 1)
    return torch.stack((screen_x, screen_y), dim=-1).long(), depth


def clip_polygons(
    corners: Float[Tensor, "N 3 4"], resolution: tuple[int, int]
) -> tuple[Float[Tensor, "N K 4"], Int64[Tensor, "N"]]:
    """Sutherland & Hodgman 1974: cuts triangles by near, far and guard band; returns polygons and their corner counts.

    A cut is computed from its inside end, so two triangles that share an edge get the same point, bit for bit.
    """
    polygon = corners.double()
    count = torch.full((len(polygon),), 3, device=corners.device)
    for plane in range(6):
        slots = torch.arange(polygon.shape[1], device=polygon.device)
        exists = slots < count[:, None]
        following = torch.where(slots + 1 < count[:, None], slots + 1, 0)
        distance = clip_plane_distances(polygon, resolution)[..., plane]
        next_point = polygon.gather(1, following[..., None].expand_as(polygon))
        next_distance = distance.gather(1, following)
        inside, next_inside = distance >= 0, next_distance >= 0

        start, end = _where(inside, polygon, next_point), _where(inside, next_point, polygon)
        start_distance = torch.where(inside, distance, next_distance)
        end_distance = torch.where(inside, next_distance, distance)
        crosses = exists & (inside != next_inside)
        fraction = torch.where(crosses, start_distance / (start_distance - end_distance), 0.0)
        cut = start + fraction[..., None] * (end - start)

        # Each corner leaves itself if inside, then the cut of the edge that starts there; a stable sort closes gaps.
        emitted = torch.stack((exists & inside, crosses), dim=2).flatten(1)
        points = torch.stack((polygon, cut), dim=2).flatten(1, 2)
        count = emitted.sum(1)
        order = torch.argsort((~emitted).byte(), dim=1, stable=True)[:, : polygon.shape[1] + 1]
        polygon = points.gather(1, order[..., None].expand(-1, -1, 4))
    return polygon, count


def _where(condition: Bool[Tensor, "N K"], a: Shaped[Tensor, "N K 4"], b: Shaped[Tensor, "N K 4"]) -> Tensor:
    return torch.where(condition[..., None], a, b)


def clipped_triangles(
    clip: Float[Tensor, "V 4"], faces: Int64[Tensor, "F 3"], triangle: Int64[Tensor, "N"], resolution: tuple[int, int]
) -> ScreenTriangles:
    """Cuts the given triangles of the mesh and splits what remains of each into a fan of screen triangles."""
    corners = clip[faces[triangle]].double()
    # A triangle wholly behind one plane leaves nothing; most of what comes here ends at this line.
    reachable = (clip_plane_distances(corners, resolution) >= 0).any(1).all(1)
    corners, triangle = corners[reachable], triangle[reachable]
    polygon, count = clip_polygons(corners, resolution)
    exists = torch.arange(polygon.shape[1], device=clip.device) < count[:, None]
    # The eye point itself (w = 0 survives only as the point 0) has no place on the screen.
    projectable = (count >= 3) & ((polygon[..., 3] > 0) | ~exists).all(1)
    polygon, count, triangle = polygon[projectable], count[projectable], triangle[projectable]

    safe = polygon.new_tensor([0.0, 0.0, 0.0, 1.0])
    exists = torch.arange(polygon.shape[1], device=clip.device) < count[:, None]
    screen, depth = project_and_snap(torch.where(exists[..., None], polygon, safe), resolution)
    fan = torch.arange(1, polygon.shape[1] - 1, device=clip.device)
    index = torch.stack((torch.zeros_like(fan), fan, fan + 1), dim=1)  # [K-2, 3]
    used = fan + 1 < count[:, None]  # [N, K-2]
    return ScreenTriangles(
        corners=screen[:, index][used],
        depth=depth[:, index][used],
        triangle=triangle[:, None].expand(-1, len(fan))[used],
    )
