"""Distances to a triangle mesh in plain torch: brute force over every triangle, what the fast engine must equal."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["ClosestPoints", "closest_points", "winding_number"]

ZERO_AREA = 1e-6
"""A face with |cross product| / (sum of squared edges) up to this counts as having none, as in Warp's queries."""
_NUMBERS_AT_ONCE = 1 << 21  # per intermediate tensor: 16 MB in float64


class ClosestPoints(NamedTuple):
    """The point of the surface that is closest to each query point, and where on the mesh it lies."""

    point: Float[Tensor, "N 3"]
    face: Int64[Tensor, " N"]
    barycentric: Float[Tensor, "N 3"]
    """weights of the face's three vertices, summing to one"""


def winding_number(
    points: Float[Tensor, "N 3"], vertices: Float[Tensor, "V 3"], faces: Int64[Tensor, "F 3"]
) -> Float[Tensor, " N"]:
    """Generalised winding number of each point: 1 inside a closed mesh, 0 outside, between the two near a hole.

    The sum of the signed solid angles of all triangles over 4 pi (Jacobson et al. 2013, eq. 5, 6); one solid angle by
    van Oosterom and Strackee 1983, eq. 8: tan(angle / 2) = a . (b x c) / (|a||b||c| + (a.b)|c| + (b.c)|a| + (c.a)|b|).
    """

    def of_block(block: Tensor) -> Tensor:  # [n, 3] -> [n]
        a, b, c = (vertices[faces[:, k]] - block[:, None] for k in range(3))  # [n, F, 3]
        length_a, length_b, length_c = a.norm(dim=-1), b.norm(dim=-1), c.norm(dim=-1)
        numerator = (a * torch.linalg.cross(b, c)).sum(-1)
        denominator = (
            length_a * length_b * length_c
            + (a * b).sum(-1) * length_c
            + (b * c).sum(-1) * length_a
            + (c * a).sum(-1) * length_b
        )
        return torch.atan2(numerator, denominator).sum(-1) / (2 * math.pi)

    return torch.cat(_in_blocks(of_block, points, len(faces)))


def closest_points(
    points: Float[Tensor, "N 3"], vertices: Float[Tensor, "V 3"], faces: Int64[Tensor, "F 3"]
) -> ClosestPoints:
    """Closest point of the surface: on each triangle, the perpendicular's foot if inside, else a point on an edge.

    Faces of zero area are no part of the surface.
    """
    edges = vertices[faces[:, [1, 2, 0]]] - vertices[faces]  # [F, 3, 3]
    area = torch.linalg.cross(edges[:, 0], edges[:, 1]).norm(dim=1)
    collapsed = area <= ZERO_AREA * edges.square().sum((1, 2))

    def of_block(block: Tensor) -> ClosestPoints:  # [n, 3]
        corners = vertices[faces]  # [F, 3, 3]
        candidates = torch.stack(
            [_foot_on_plane(block, corners)] + [_foot_on_edge(block, corners, k) for k in range(3)], dim=2
        )  # barycentric [n, F, 4, 3]
        feet = torch.einsum("nfck,fkx->nfcx", candidates, corners)
        distance = (feet - block[:, None, None]).norm(dim=-1)  # [n, F, 4]
        distance = distance.nan_to_num(nan=math.inf).masked_fill(collapsed[:, None], math.inf)  # NaN: no such candidate
        best = distance.flatten(1).argmin(1)
        row = torch.arange(len(block), device=block.device)
        return ClosestPoints(feet.flatten(1, 2)[row, best], best // 4, candidates.flatten(1, 2)[row, best])

    parts = _in_blocks(of_block, points, 16 * len(faces))
    return ClosestPoints(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _foot_on_plane(points: Tensor, corners: Tensor) -> Tensor:
    """Barycentric coordinates [n, F, 3] of the perpendicular's foot on each triangle's plane, NaN if outside of it."""
    edge_1, edge_2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = torch.linalg.cross(edge_1, edge_2)
    toward = points[:, None] - corners[:, 0]  # [n, F, 3]
    area = (normal * normal).sum(-1)
    weight_1 = (torch.linalg.cross(toward, edge_2.expand_as(toward)) * normal).sum(-1) / area
    weight_2 = (torch.linalg.cross(edge_1.expand_as(toward), toward) * normal).sum(-1) / area
    weights = torch.stack([1 - weight_1 - weight_2, weight_1, weight_2], dim=-1)
    return weights.where((weights >= 0).all(-1, keepdim=True), math.nan)


def _foot_on_edge(points: Tensor, corners: Tensor, k: int) -> Tensor:
    """Barycentric coordinates [n, F, 3] of the closest point of each triangle's edge from corner k to corner k + 1."""
    start, edge = corners[:, k], corners[:, (k + 1) % 3] - corners[:, k]
    along = ((points[:, None] - start) * edge).sum(-1) / (edge * edge).sum(-1).clamp_min(torch.finfo(edge.dtype).tiny)
    along = along.clamp(0, 1)
    weights = torch.zeros(*along.shape, 3, dtype=along.dtype, device=along.device)
    weights[..., k], weights[..., (k + 1) % 3] = 1 - along, along
    return weights


def _in_blocks(function: Callable[[Tensor], object], points: Tensor, cost: int) -> list:
    """Results of ``function`` over blocks of points, few enough at a time for ``cost`` numbers held for each."""
    return [function(block) for block in points.split(max(1, _NUMBERS_AT_ONCE // max(cost, 1)))]
