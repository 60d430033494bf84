"""Analytic antialiasing of silhouettes in plain torch, after Laine et al. 2020, "Modular Primitives for
High-Performance Differentiable Rendering" (arXiv 2011.03277), section 3.6.

Where a silhouette edge crosses the line between the centres of two neighbouring pixels, the pixel in which the crossing
lies gets a share of the other pixel's colour. The crossing moves with the vertices, so coverage becomes differentiable.

The paper looks for that edge among the edges of the nearer pixel's triangle. On dense meshes the outline then goes
unseen: triangles are thin where a surface turns away, and the line leaves the visible one through an edge inside the
surface (a sphere of 20,000 faces at 512 pixels keeps 3 of 100 crossings). Here all silhouette edges of the mesh are
drawn instead, and of those that cross between two centres the nearest to the eye counts. On triangles larger than
pixels both are the same.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from humannorm.rendering.clipping import pixel_centres
from humannorm.rendering.fragments import Fragments

__all__ = [
    "CENTRE_TOLERANCE",
    "DEPTH_ROUNDING",
    "DEPTH_SLACK",
    "antialias",
    "blend",
    "crossings_of_lines",
    "meeting_point",
    "plane_depth",
    "seen_from",
]

CENTRE_TOLERANCE = 1 / 128
"""Distance in pixels within which snapping may put a silhouette on the other side of a pixel's centre."""
DEPTH_ROUNDING = 1e-5
"""Depth (of -1 to 1) that rounding and snapping may add where a surface has no slope."""
DEPTH_SLACK = 2.0
"""How much deeper than an edge its surface may be seen one pixel inside, against the slope of the edge's triangle."""


class SilhouetteEdges(NamedTuple):
    """Edges of a mesh with triangles on one side only, as seen on the screen."""

    low: Int64[Tensor, "E"]
    """The lower of the edge's two vertices."""
    high: Int64[Tensor, "E"]
    left: Bool[Tensor, "E"]
    """Whether the triangles lie to the left of the way from low to high (y up)."""
    triangle: Int64[Tensor, "E"]
    """The lowest triangle at the edge, not counting those that are themselves seen from the edge."""


class Crossings(NamedTuple):
    """Silhouette edges that cross the line between the centres of two neighbouring pixels."""

    near: Int64[Tensor, "N"]
    """Flat index in [0, H*W) of the pixel on the side of the edge's triangles."""
    far: Int64[Tensor, "N"]
    low: Int64[Tensor, "N"]
    high: Int64[Tensor, "N"]


def antialias(
    color: Float[Tensor, "B H W C"],
    fragments: Fragments,
    clip: Float[Tensor, "B V 4"],
    faces: Int[Tensor, "F 3"],
) -> Float[Tensor, "B H W C"]:
    """Blends colours across silhouettes; see `humannorm.rendering.antialias`."""
    return torch.stack(
        [
            blend(color[i], clip[i], visible_crossings(clip[i].detach(), faces.long(), fragments, i))
            for i in range(len(color))
        ]
    )


def blend(color: Float[Tensor, "H W C"], clip: Float[Tensor, "V 4"], crossings: Crossings) -> Float[Tensor, "H W C"]:
    """With the crossing at d pixels from the near to the far centre: beyond the middle (d > 1/2) the far pixel gets d -
    1/2 of the near colour, else the near pixel gets 1/2 - d of the far colour.

    A pixel with a speck inside would give away more than its whole: h along its row and v along its column. It then
    keeps (1 - h)(1 - v), the area of a rectangle. That limit counts as constant in the gradient.
    """
    near, far, low, high = crossings
    height, width = color.shape[:2]
    horizontal = near // width == far // width
    a = seen_from(clip[low], near // width, near % width, horizontal, (height, width))
    b = seen_from(clip[high], near // width, near % width, horizontal, (height, width))
    distance = torch.where(far > near, 1.0, -1.0) * meeting_point(a, b, 0)
    share = (distance - 0.5).to(color.dtype)
    flat, target = color.flatten(0, 1), torch.where(share > 0, far, near)
    taken = torch.zeros_like(flat[:, 0]).repeat(2).index_add(0, 2 * target + ~horizontal, share.detach().abs())
    by_row, by_column = taken.view(-1, 2)[target].unbind(1)
    both = by_row + by_column
    share = torch.where(both > 1, share * (both - by_row * by_column) / both, share)
    return flat.index_add(0, target, share[:, None] * (flat[near] - flat[far])).reshape(color.shape)


def seen_from(
    position: Float[Tensor, "N 4"],
    row: Int64[Tensor, "N"],
    column: Int64[Tensor, "N"],
    horizontal: Bool[Tensor, "N"],
    resolution: tuple[int, int],
) -> Float[Tensor, "N 4"]:
    """Clip positions from a pixel's centre, in pixels times w: (along, across) the line of pixels, then z and w."""
    height, width = resolution
    x, y, z, w = position.double().unbind(-1)
    centre = pixel_centres(row, column, resolution)
    right = (x - centre[:, 0] * w) * (width / 2)
    down = (centre[:, 1] * w - y) * (height / 2)
    return torch.stack((torch.where(horizontal, right, down), torch.where(horizontal, down, right), z, w), dim=1)


def meeting_point(a: Float[Tensor, "N 4"], b: Float[Tensor, "N 4"], axis: int) -> Float[Tensor, "N"]:
    """Coordinate (0 along, 2 depth) at which the edge from a to b meets the line across = 0; exact under
    perspective."""
    value = b[:, 1] * a[:, axis] - a[:, 1] * b[:, axis]
    return value / (b[:, 1] * a[:, 3] - a[:, 1] * b[:, 3])


def silhouette_edges(clip: Float[Tensor, "V 4"], faces: Int64[Tensor, "F 3"]) -> SilhouetteEdges:
    """Edges whose triangles all lie on one side on the screen: borders, and folds between front and back.

    A triangle's side is the sign of its homogeneous determinant, also right for corners behind the eye; triangles seen
    from the edge have none.
    """
    corners = clip[faces].double()[..., [0, 1, 3]]  # [F, 3, (x, y, w)]
    side = torch.sign((torch.linalg.cross(corners[:, 0], corners[:, 1]) * corners[:, 2]).sum(-1))
    start, end = faces[:, [1, 2, 0]], faces[:, [2, 0, 1]]
    low, high = torch.minimum(start, end).flatten(), torch.maximum(start, end).flatten()
    side = torch.where(start < end, side[:, None], -side[:, None]).flatten()
    owner = torch.arange(len(faces), device=faces.device).repeat_interleave(3)

    unique, index = torch.unique(low * len(clip) + high, return_inverse=True)
    left, right = torch.zeros(2, len(unique), dtype=torch.bool, device=clip.device)
    left[index[side > 0]] = True
    right[index[side < 0]] = True
    lowest = torch.full_like(unique, len(faces)).scatter_reduce(0, index[side != 0], owner[side != 0], "amin")
    low, high = unique // len(clip), unique % len(clip)
    wanted = (left != right) & (clip[low, 3] > 0) & (clip[high, 3] > 0)
    return SilhouetteEdges(low[wanted], high[wanted], left[wanted], lowest[wanted])


def visible_crossings(
    clip: Float[Tensor, "V 4"], faces: Int64[Tensor, "F 3"], fragments: Fragments, view: int
) -> Crossings:
    """For every pair of neighbouring pixels the nearest silhouette edge between their centres, if it can be seen.

    Edges that run more along the line than across it compete too, since they may hide others, but do not count
    themselves: they cross lines of the other direction.
    """
    edges = silhouette_edges(clip, faces)
    found = [crossings_of_lines(edges, clip, faces, fragments, view, horizontal) for horizontal in (True, False)]
    near, far, low, high, depth, steep = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = torch.argsort(depth, stable=True)
    pair = torch.minimum(near, far) * 2 + ((near - far).abs() > 1)
    order = order[torch.argsort(pair[order], stable=True)]
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = pair[order][1:] != pair[order][:-1]
    chosen = order[first & steep[order]]
    return Crossings(near[chosen], far[chosen], low[chosen], high[chosen])


def crossings_of_lines(
    edges: SilhouetteEdges,
    clip: Float[Tensor, "V 4"],
    faces: Int64[Tensor, "F 3"],
    fragments: Fragments,
    view: int,
    horizontal: bool,
) -> tuple[Tensor, ...]:
    """All crossings of silhouette edges with rows (or columns) of pixel centres that pass the test of visibility:
    near pixel, far pixel, edge's vertices, depth, and whether the edge runs more across the line than along it."""
    height, width = resolution = fragments.resolution
    lines, places = (height, width) if horizontal else (width, height)
    a, b = (on_screen(clip[end], resolution, horizontal) for end in (edges.low, edges.high))
    first = torch.ceil(torch.minimum(a[:, 1], b[:, 1]) - 0.5).clamp(0, lines).long()
    stop = torch.ceil(torch.maximum(a[:, 1], b[:, 1]) - 0.5).clamp(0, lines).long()
    edge = torch.arange(len(first), device=clip.device).repeat_interleave(stop - first)
    line = torch.arange(len(edge), device=clip.device) - (torch.cumsum(stop - first, 0) - stop)[edge]

    zero = torch.zeros_like(line)
    row, column = (line, zero) if horizontal else (zero, line)
    all_horizontal = torch.full(line.shape, horizontal, device=clip.device)
    low = seen_from(clip[edges.low[edge]], row, column, all_horizontal, resolution)
    high = seen_from(clip[edges.high[edge]], row, column, all_horizontal, resolution)
    place, depth = meeting_point(low, high, 0), meeting_point(low, high, 2)
    # Left of an edge that goes up are smaller columns; left of one that goes right are smaller rows (the upper ones).
    ahead = (b[:, 1] < a[:, 1]) if horizontal else (b[:, 1] > a[:, 1])
    near_first = (edges.left == ahead)[edge]
    corners = clip[faces[edges.triangle[edge]]]

    def pair(before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The pixels around a crossing, given the smaller of their places, and whether the crossing can be seen
        there."""
        exists = (before >= 0) & (before < places - 1)
        before = before.clamp(0, max(places - 2, 0)).long()
        index = line * width + before if horizontal else before * width + line
        after = index + (1 if horizontal else width) * (places > 1)
        near, far = torch.where(near_first, index, after), torch.where(near_first, after, index)
        triangle, seen = fragments.triangle[view].flatten(), fragments.depth[view].flatten().double()
        slope = (plane_depth(corners, near, resolution) - depth).abs()
        hidden = (depth < -1) | (depth > seen[far]) | (seen[near] > depth + DEPTH_ROUNDING + DEPTH_SLACK * slope)
        return near, far, exists & (triangle[near] >= 0) & (triangle[near] != triangle[far]) & ~hidden

    before = torch.floor(place)
    near, far, visible = pair(before)
    # Close to a centre snapping can have moved the silhouette to its other side: then the other pair sees it.
    closest = torch.round(place)
    near_2, far_2, visible_2 = pair(torch.where(closest == before, before - 1, closest))
    second = visible_2 & ~visible & ((place - closest).abs() < CENTRE_TOLERANCE)
    near, far = torch.where(second, near_2, near), torch.where(second, far_2, far)
    across, along = (b - a)[edge, 1].abs(), (b - a)[edge, 0].abs()
    steep = (across >= along) if horizontal else (across > along)
    parts = (near, far, edges.low[edge], edges.high[edge], depth.float(), steep)
    return tuple(part[visible | second] for part in parts)


def on_screen(position: Float[Tensor, "N 4"], resolution: tuple[int, int], horizontal: bool) -> Float[Tensor, "N 2"]:
    """Pixel coordinates (along, across) the lines, from the image's top left corner."""
    height, width = resolution
    x, y, _, w = position.double().unbind(-1)
    column, row = x / w * (width / 2) + width / 2, height / 2 - y / w * (height / 2)
    return torch.stack((column, row) if horizontal else (row, column), dim=1)


def plane_depth(
    corners: Float[Tensor, "N 3 4"], pixel: Int64[Tensor, "N"], resolution: tuple[int, int]
) -> Float[Tensor, "N"]:
    """z/w at a pixel's centre of the planes through triangles, also beyond their borders (Olano & Greer 1997)."""
    width = resolution[1]
    x, y, z, w = corners.double().unbind(-1)
    centre = pixel_centres(pixel // width, pixel % width, resolution)
    x, y = x - centre[:, :1] * w, y - centre[:, 1:] * w
    weight = x[:, [1, 2, 0]] * y[:, [2, 0, 1]] - y[:, [1, 2, 0]] * x[:, [2, 0, 1]]
    return (weight * z).sum(1) / (weight * w).sum(1)
