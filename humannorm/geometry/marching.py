"""Marching tetrahedra over a band of the lattice, differentiable to signed distances and vertex positions.

A cell's eight signs pick its triangles out of one table, made below by going through its six tetrahedra. A triangle's
corners are edges, named by start vertex and direction, so equal corners have equal names and nothing is ever sorted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from humannorm.checks import check_tensor
from humannorm.geometry.band import Band
from humannorm.geometry.lattice import CELL_TETRAHEDRA, CORNER_OFFSETS, DIRECTIONS

__all__ = ["interpolate_crossings", "marching_tetrahedra", "marching_topology"]


@dataclass(frozen=True, eq=False)
class Topology:
    """Where the surface runs: its vertices, each on a sign-changing edge, and its triangles, wound outward."""

    edges: Int[Tensor, "M 2"]  # the two band vertices around each surface vertex
    faces: Int[Tensor, "F 3"]


@cache
def _triangle_table() -> tuple[np.ndarray, np.ndarray]:
    """For each of the 256 sign patterns of a cell (bit c: corner c is inside), its triangles.

    Returns the number of triangles [256] and their corners [256, 12, 3] as edge names `corner * 7 + direction - 1`.
    """
    counts = np.zeros(256, np.int64)
    triangles = np.zeros((256, 12, 3), np.int64)
    for pattern in range(256):
        for tetrahedron in CELL_TETRAHEDRA:
            inside = [c for c in tetrahedron if pattern >> c & 1]
            outside = [c for c in tetrahedron if not pattern >> c & 1]
            for triangle in _tetrahedron_triangles(inside, outside):
                triangles[pattern, counts[pattern]] = [min(a, b) * 7 + (max(a, b) ^ min(a, b)) - 1 for a, b in triangle]
                counts[pattern] += 1
    return counts, triangles


def _tetrahedron_triangles(inside: list[int], outside: list[int]) -> list[list[tuple[int, int]]]:
    """Triangles between the inside and outside corners of one tetrahedron, facing the outside ones."""
    if len(inside) == 2 and len(outside) == 2:
        (a, b), (p, q) = inside, outside
        polygon = [(a, p), (a, q), (b, q), (b, p)]
    else:
        polygon = [(a, p) for a in inside for p in outside]
    points = np.array([np.add(CORNER_OFFSETS[a], CORNER_OFFSETS[p]) for a, p in polygon], float)
    if len(points) >= 3:
        outward = np.mean([CORNER_OFFSETS[c] for c in outside], 0) - np.mean([CORNER_OFFSETS[c] for c in inside], 0)
        # Address space has the handedness of the world (its basis has a positive determinant).
        if np.dot(np.cross(points[1] - points[0], points[2] - points[0]), outward) < 0:
            polygon.reverse()
    return [[polygon[0], polygon[i], polygon[i + 1]] for i in range(1, len(polygon) - 1)]


def marching_topology(band: Band, sdf: Float[Tensor, " V"]) -> Topology:
    """Marching tetrahedra (Doi and Koide 1991), the discrete half: edges and triangles. Zero counts as outside."""
    check_tensor("sdf", sdf, f"{band.num_vertices}")
    counts, table = (torch.from_numpy(part).to(sdf.device) for part in _triangle_table())

    # 1. Sign pattern of every cell; all-outside and all-inside cells drop out.
    inside = (sdf < 0).to(torch.uint8)
    pattern = torch.zeros(len(band.cells), dtype=torch.uint8, device=sdf.device)
    for corner in range(8):
        pattern |= inside[band.cells[:, corner]] << corner
    mixed = ((pattern > 0) & (pattern < 255)).nonzero()[:, 0]
    cells, pattern = band.cells[mixed], pattern[mixed].long()

    # 2. Triangles as triples of edge names, `start vertex * 7 + direction - 1`.
    triangles = counts[pattern]
    cell = torch.repeat_interleave(triangles)
    rank = torch.arange(len(cell), device=sdf.device) - (triangles.cumsum(0) - triangles)[cell]
    corner_edges = table[pattern[cell], rank]
    names = cells[cell[:, None], corner_edges // 7].long() * 7 + corner_edges % 7

    # 3. Each name in use becomes a vertex.
    used = torch.zeros(band.num_vertices * len(DIRECTIONS), dtype=torch.bool, device=sdf.device)
    used[names] = True
    name_of_vertex = used.nonzero()[:, 0]
    vertex_of_name = used.cumsum(0, dtype=torch.int32) - 1
    start = name_of_vertex // 7
    end = band.neighbours.flatten()[name_of_vertex].long()
    return Topology(torch.stack((start, end), 1), vertex_of_name[names].long())


def interpolate_crossings(
    edges: Int[Tensor, "M 2"], sdf: Float[Tensor, " V"], positions: Float[Tensor, "V 3"], margin: float = 0.0
) -> Float[Tensor, "M 3"]:
    """Marching tetrahedra, the differentiable half: the zero of the linear interpolant on each edge.

    p = (p_a s_b - p_b s_a) / (s_b - s_a), DMTet (Shen et al. 2021) section 3.1. Gradients to sdf and positions. Written
    as a fraction kept in [0, 1], so that values that were recomputed with other rounding than the topology's stay on
    their edge; where both values are equal the crossing is the edge's start. With a margin crossings keep this share
    of the edge away from its ends, without gradient there: no triangle is degenerate then, and no normal's gradient
    without bounds. The surface stays closed.
    """
    first, second = edges.unbind(1)
    sdf_first, sdf_second = sdf[first], sdf[second]
    difference = sdf_first - sdf_second
    fraction = (sdf_first / torch.where(difference == 0, 1.0, difference)).clamp(margin, 1.0 - margin)
    return torch.lerp(positions[first], positions[second], fraction[:, None])


def marching_tetrahedra(
    band: Band, sdf: Float[Tensor, " V"], positions: Float[Tensor, "V 3"] | None = None
) -> tuple[Float[Tensor, "M 3"], Int[Tensor, "F 3"]]:
    """Surface vertices and faces of `sdf` on the band; closed and wound outward wherever `is_torn` is false.

    positions: moved band vertices, their lattice positions by default.
    """
    topology = marching_topology(band, sdf.detach())
    vertices = interpolate_crossings(topology.edges, sdf, band.positions if positions is None else positions)
    return vertices, topology.faces
