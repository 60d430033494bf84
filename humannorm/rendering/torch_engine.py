"""The reference engine: rasterise, interpolate and antialias in plain torch, slow and obvious, in any float type.

Every fast engine is tested against this one. Gradients come from autograd; what is discrete (which triangle a pixel
sees, which edges are silhouettes) is computed without gradient.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, Int32, Int64
from torch import Tensor

from humannorm.rendering.antialias_reference import antialias
from humannorm.rendering.clipping import (
    SUBPIXELS,
    ScreenTriangles,
    clipped_triangles,
    inside_clip_volume,
    pixel_centres,
    project_and_snap,
)
from humannorm.rendering.fragments import Fragments

__all__ = ["antialias", "interpolate", "rasterize"]

NO_FRAGMENT = torch.iinfo(torch.int64).max
TESTS_PER_CHUNK = 2**22
"""Pixel-triangle tests done at once, which bounds the memory."""


def rasterize(
    clip: Float[Tensor, "B V 4"],
    faces: Int[Tensor, "F 3"],
    resolution: tuple[int, int],
    behind: Float[Tensor, "B H W"] | None = None,
) -> Fragments:
    """Visible triangle, barycentrics and depth of every pixel; see `humannorm.rendering.rasterize`."""
    faces = faces.long()
    with torch.no_grad():
        keys = torch.stack(
            [
                nearest_keys(
                    screen_triangles(view, faces, resolution), resolution, None if behind is None else behind[i]
                )
                for i, view in enumerate(clip.detach())
            ]
        )
        triangle, depth = decode_keys(keys)
    view, row, column = torch.nonzero(triangle >= 0, as_tuple=True)
    corners = clip[view[:, None], faces[triangle[view, row, column].long()]]  # [N, 3, 4]
    weights = barycentric(corners, pixel_centres(row, column, resolution).to(corners.device))
    image = torch.zeros(*triangle.shape, 2, dtype=clip.dtype, device=clip.device)
    image = image.index_put((view, row, column), weights.to(clip.dtype))
    return Fragments(triangle, image, depth.to(clip.dtype), engine="torch")


def screen_triangles(
    clip: Float[Tensor, "V 4"], faces: Int64[Tensor, "F 3"], resolution: tuple[int, int]
) -> ScreenTriangles:
    """All triangles of one view on the fixed-point screen; those that leave the clip volume are cut."""
    safe = inside_clip_volume(clip.double(), resolution)
    whole = torch.nonzero(safe[faces].all(1))[:, 0]
    cut = torch.nonzero(~safe[faces].all(1))[:, 0]
    screen, depth = project_and_snap(clip[faces[whole]], resolution)
    parts = clipped_triangles(clip, faces, cut, resolution)
    return ScreenTriangles(
        torch.cat((screen, parts.corners)), torch.cat((depth, parts.depth)), torch.cat((whole, parts.triangle))
    )


def edge_functions(
    corners: Int64[Tensor, "N 3 2"], points: Int64[Tensor, "P 2"]
) -> tuple[Int64[Tensor, "N P 3"], Bool[Tensor, "N P"]]:
    """Exact edge functions (Pineda 1988) and coverage under the top-left rule; both windings are drawn.

    Function i belongs to the edge opposite to corner i; on covered points the three are >= 0 and sum to twice the area.
    """
    area = _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # [N], sign = winding
    winding = torch.sign(area)[:, None, None]
    start, end = corners[:, [1, 2, 0]], corners[:, [2, 0, 1]]  # [N, 3, 2]
    direction = (end - start) * winding
    value = _cross(direction[:, None], points[None, :, None] - start[:, None])  # [N, P, 3]
    # With y down and positive area the inside is to the right of travel: left edges go up, top edges go right.
    top_left = (direction[..., 1] < 0) | ((direction[..., 1] == 0) & (direction[..., 0] > 0))  # [N, 3]
    covered = ((value > 0) | ((value == 0) & top_left[:, None])).all(-1) & (area != 0)[:, None]
    return value, covered


def nearest_keys(
    triangles: ScreenTriangles, resolution: tuple[int, int], behind: Float[Tensor, "H W"] | None
) -> Int64[Tensor, "H W"]:
    """Smallest (depth, triangle) key of every pixel over all triangles that cover its centre: an exact depth test."""
    height, width = resolution
    device = triangles.corners.device
    row, column = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    points = (torch.stack((column, row), dim=-1) * SUBPIXELS + SUBPIXELS // 2).reshape(-1, 2)
    nearest = torch.full((height * width,), NO_FRAGMENT, device=device)
    chunk = max(1, TESTS_PER_CHUNK // len(points))
    for corners, depth, triangle in zip(*(part.split(chunk) for part in triangles), strict=True):
        value, covered = edge_functions(corners, points)
        pixel_depth = screen_depth(value, depth)
        if behind is not None:
            covered = covered & (pixel_depth > behind.reshape(-1))
        keys = torch.where(covered, depth_keys(pixel_depth, triangle[:, None]), NO_FRAGMENT)
        nearest = torch.minimum(nearest, keys.amin(0)) if len(keys) else nearest
    return nearest.reshape(height, width)


def screen_depth(value: Int64[Tensor, "N P 3"], depth: Float[Tensor, "N 3"]) -> Float[Tensor, "N P"]:
    """z/w at points of a triangle: linear on the screen, weighted by the exact edge functions, in single precision."""
    z = depth.double()
    scale = 1.0 / value.sum(-1).clamp(min=1).double()
    slope1, slope2 = z[:, 1] - z[:, 0], z[:, 2] - z[:, 0]
    offset = value[..., 1].double() * slope1[:, None] + value[..., 2].double() * slope2[:, None]
    return (z[:, :1] + offset * scale).float().clamp(-1, 1) + 0.0  # + 0.0 turns -0 into 0


def depth_keys(depth: Float[Tensor, "N P"], triangle: Int64[Tensor, "N 1"]) -> Int64[Tensor, "N P"]:
    """64-bit keys that sort by depth, then by triangle: the float's bits made monotone, above the index."""
    bits = depth.view(torch.int32)
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (ordered.long() << 32) | triangle


def decode_keys(keys: Int64[Tensor, "B H W"]) -> tuple[Int32[Tensor, "B H W"], Float[Tensor, "B H W"]]:
    """Triangle (-1 on the background) and depth (1 on the background) of `depth_keys`."""
    background = keys == NO_FRAGMENT
    ordered = (keys >> 32).int()
    depth = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).view(torch.float32)
    return torch.where(background, -1, keys & 0xFFFFFFFF).int(), torch.where(background, 1.0, depth)


def barycentric(corners: Float[Tensor, "N 3 4"], centre: Float[Tensor, "N 2"]) -> Float[Tensor, "N 2"]:
    """Perspective-correct weights of corners 0 and 1 by homogeneous edge functions (Olano & Greer 1997), in double
    precision.

    Weights outside the triangle (a centre can lie up to half a fixed-point step outside) are cut to its border.
    """
    position = corners.double()
    relative = position[..., :2] - centre[:, None] * position[..., 3:]  # pixel centre moved to the origin
    value = _cross(relative[:, [1, 2, 0]], relative[:, [2, 0, 1]])  # [N, 3]
    facing = torch.where(value.detach().sum(1, keepdim=True) < 0, -1.0, 1.0)
    inside = (value * facing).clamp(min=0)
    total = inside.sum(1, keepdim=True)
    degenerate = total == 0  # edge-on triangles have no defined weights
    return torch.where(degenerate, 1 / 3, inside / torch.where(degenerate, 1.0, total))[:, :2]


def interpolate(
    attributes: Float[Tensor, "V C"] | Float[Tensor, "B V C"], fragments: Fragments, faces: Int[Tensor, "F 3"]
) -> Float[Tensor, "B H W C"]:
    """Vertex attributes at the visible points, 0 on the background; see `humannorm.rendering.interpolate`."""
    view, row, column = torch.nonzero(fragments.covered, as_tuple=True)
    corner = faces.long()[fragments.triangle[view, row, column].long()]  # [N, 3]
    values = attributes[corner] if attributes.ndim == 2 else attributes[view[:, None], corner]  # [N, 3, C]
    first_two = fragments.barycentric[view, row, column]
    weights = torch.cat((first_two, 1 - first_two.sum(1, keepdim=True)), dim=1).to(values.dtype)
    image = torch.zeros(*fragments.triangle.shape, attributes.shape[-1], dtype=values.dtype, device=values.device)
    return image.index_put((view, row, column), (weights[..., None] * values).sum(1))


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
