"""Analytic antialiasing of silhouette edges in plain torch: Laine et al. 2020, "Modular Primitives for High-Performance
Differentiable Rendering" (arXiv 2011.03277), section 3.6.

For every pair of neighbouring pixels that see different triangles, the edge through which the line between the two centres leaves
the nearer triangle is examined. If that edge is a silhouette, the pixel in which the crossing lies gets a share of the other
pixel's colour. The crossing moves with the vertices, so an image's coverage becomes differentiable.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from humannorm.rendering.fragments import Fragments

CROSSING_TOLERANCE = 1 / 128
"""How far beyond the two centres a crossing may lie, in pixels: snapping moves coverage against geometry by less."""


class PixelPairs(NamedTuple):
    """Neighbouring pixels with different triangles; the near one sees the nearer triangle."""

    near: Int64[Tensor, "P"]
    """Flat pixel index in [0, B*H*W)."""
    far: Int64[Tensor, "P"]
    horizontal: Bool[Tensor, "P"]


def antialias(
    color: Float[Tensor, "B H W C"],
    fragments: Fragments,
    clip: Float[Tensor, "B V 4"],
    faces: Int[Tensor, "F 3"],
) -> Float[Tensor, "B H W C"]:
    """Blends colours across silhouettes; see `humannorm.rendering.antialias`."""
    faces = faces.long()
    pairs = discontinuous_pairs(fragments)
    height, width = fragments.resolution
    view = pairs.near // (height * width)
    triangle = fragments.triangle.flatten()[pairs.near].long()
    corners = clip[view[:, None], faces[triangle]].double()  # [P, 3, 4]
    distance, edge, crosses = exit_crossing(corners, pairs, (height, width))

    first, second = faces[triangle].gather(1, _edge_corners(edge)).unbind(1)
    silhouette = torch.zeros_like(crosses)
    for i in range(len(clip)):
        here = crosses & (view == i)
        silhouette[here] = is_silhouette(first[here], second[here], clip[i], faces)

    near, far = pairs.near[silhouette], pairs.far[silhouette]
    share = (distance[silhouette] - 0.5).to(color.dtype)
    flat = color.flatten(0, 2)
    blended = torch.where(share > 0, far, near)
    change = share[:, None] * (flat[near] - flat[far])
    return flat.index_add(0, blended, change).reshape(color.shape)


def discontinuous_pairs(fragments: Fragments) -> PixelPairs:
    """All horizontal and vertical neighbours with different triangles; ties in depth go to the left or upper pixel."""
    index = torch.arange(fragments.triangle.numel(), device=fragments.triangle.device).reshape(fragments.triangle.shape)
    first = torch.cat((index[:, :, :-1].flatten(), index[:, :-1].flatten()))
    second = torch.cat((index[:, :, 1:].flatten(), index[:, 1:].flatten()))
    horizontal = torch.arange(len(first), device=first.device) < index[:, :, :-1].numel()
    triangle, depth = fragments.triangle.flatten(), fragments.depth.flatten()
    different = triangle[first] != triangle[second]
    first, second, horizontal = first[different], second[different], horizontal[different]
    first_nearer = (triangle[second] < 0) | ((triangle[first] >= 0) & (depth[first] <= depth[second]))
    return PixelPairs(torch.where(first_nearer, first, second), torch.where(first_nearer, second, first), horizontal)


def exit_crossing(
    corners: Float[Tensor, "P 3 4"], pairs: PixelPairs, resolution: tuple[int, int]
) -> tuple[Float[Tensor, "P"], Int64[Tensor, "P"], Bool[Tensor, "P"]]:
    """Where the line from the near to the far centre leaves the near triangle: distance in pixels, edge, and whether it counts.

    Edge i lies opposite to corner i. It counts between the centres only (0..1), for edges more across the line than along it, and
    for triangles wholly before the eye. Homogeneous coordinates make the crossing exact under perspective.
    """
    height, width = resolution
    row, column = (pairs.near // width) % height, pairs.near % width
    centre_x, centre_y = (column + 0.5) * (2.0 / width) - 1, 1 - (row + 0.5) * (2.0 / height)
    x, y, _, w = corners.unbind(-1)
    right = (x - centre_x[:, None] * w) * (width / 2)  # pixels times w, from the near centre
    down = (centre_y[:, None] * w - y) * (height / 2)
    horizontal = pairs.horizontal[:, None]
    along, across = torch.where(horizontal, right, down), torch.where(horizontal, down, right)
    direction = torch.where(pairs.far > pairs.near, 1.0, -1.0)[:, None]

    start, end = [1, 2, 0], [2, 0, 1]
    crossing = (across[:, start] < 0) != (across[:, end] < 0)
    rise = across[:, end] * w[:, start] - across[:, start] * w[:, end]
    run = along[:, end] * w[:, start] - along[:, start] * w[:, end]
    offset = across[:, end] * along[:, start] - across[:, start] * along[:, end]
    distance = direction * offset / torch.where(crossing, rise, 1.0)

    distance, edge = torch.where(crossing, distance, -torch.inf).max(1)
    steep = torch.where(horizontal, rise.abs() >= run.abs(), rise.abs() > run.abs()).gather(1, edge[:, None])[:, 0]
    between = (distance >= -CROSSING_TOLERANCE) & (distance <= 1 + CROSSING_TOLERANCE)
    return distance, edge, between & steep & (w > 0).all(1)


def is_silhouette(
    first: Int64[Tensor, "N"], second: Int64[Tensor, "N"], clip: Float[Tensor, "V 4"], faces: Int64[Tensor, "F 3"]
) -> Bool[Tensor, "N"]:
    """Whether all triangles at the edges (first, second) lie on one side of them on the screen; border edges always do.

    The side of a triangle is the sign of its homogeneous determinant, which also holds for corners behind the eye.
    """
    with torch.no_grad():
        corners = clip[faces].double()[..., [0, 1, 3]]  # [F, 3, (x, y, w)]
        side = torch.sign((torch.linalg.cross(corners[:, 0], corners[:, 1]) * corners[:, 2]).sum(-1))
        start, end = faces[:, [1, 2, 0]], faces[:, [2, 0, 1]]
        key = torch.minimum(start, end) * len(clip) + torch.maximum(start, end)
        side = torch.where(start < end, side[:, None], -side[:, None]).flatten()

        unique, index = torch.unique(key.flatten(), return_inverse=True)
        left, right = torch.zeros(2, len(unique), dtype=torch.bool, device=clip.device)
        left[index[side > 0]] = True
        right[index[side < 0]] = True
        wanted = torch.searchsorted(unique, torch.minimum(first, second) * len(clip) + torch.maximum(first, second))
        return ~(left[wanted] & right[wanted])


def _edge_corners(edge: Int64[Tensor, "P"]) -> Int64[Tensor, "P 2"]:
    return torch.stack(((edge + 1) % 3, (edge + 2) % 3), dim=1)
