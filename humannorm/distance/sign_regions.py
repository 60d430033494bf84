"""Where on a mesh its normals give the sign of the distance: the part of the winding-number sign that is nearly free.

The generalised winding number w decides inside (w > 1/2) from outside. Of a closed mesh it is an integer that changes
only across the surface, so it is known on both sides of a whole *region* of faces once it is known in front of one of
them: faces joined by clean edges (two faces, opposite directions) and cut by no other part of the surface. A point
whose closest face lies in a region has the winding number of the side that the angle-weighted pseudo-normal shows it to
be on (Baerentzen and Aanaes 2005). What remains (faces that intersect others, bad edges, slivers) is *doubtful*: there
the winding number itself must be evaluated.

A mesh with holes is closed in thought by a cone over each boundary curve. Then w = (integer of the closed mesh) -
(share of the cones), and that share is below area / (4 pi gap^2) at a gap from the ball that holds the cone. So faces
that touch such a ball are doubtful, and so are points close enough for the shares to matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Holes",
    "Topology",
    "caps_of_holes",
    "face_regions",
    "is_inside_out",
    "region_seeds",
    "topology_of",
    "vertex_regions",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

MAX_HOLES = 64
"""With more boundary curves than this, every face is doubtful: checking a point against all cones would cost more."""
MAX_REGIONS = 16
"""Only the largest regions are kept: each one costs a pass over the whole mesh to learn its winding number."""
FLAT = 1e-6
"""Volume over area^1.5 below which a mesh counts as enclosing nothing."""
SLIVER = 1e-5
"""A face with |cross product| / (sum of squared edges) below this is doubtful: its normal is mostly rounding."""


@dataclass(frozen=True)
class Topology:
    """How the faces of a mesh hang together once vertices at one position are one vertex."""

    positions: Floats
    """[V, 3] welded vertices"""
    faces: Ints
    """[F, 3] faces of welded vertices"""
    twin: Ints
    """[F, 3] half-edge 3 f + k runs from corner k to k + 1 of face f; this is its partner in the neighbouring face,
    or -1 if there is not exactly one that runs the other way"""
    boundary: Ints
    """[E, 2] directed edges that remain when opposite half-edges cancel, repeated by multiplicity: empty if closed"""

    @cached_property
    def corners(self) -> Floats:
        """[F, 3, 3] corner positions of each face"""
        return self.positions[self.faces]

    @cached_property
    def normals(self) -> Floats:
        """[F, 3] normals of length twice the face's area"""
        return _cross(self.corners)

    @cached_property
    def unit_normals(self) -> Floats:
        """[F, 3] unit normals, zero for collapsed faces"""
        return self.normals / np.maximum(np.linalg.norm(self.normals, axis=1, keepdims=True), np.finfo(float).tiny)


@dataclass(frozen=True)
class Holes:
    """Cones that close a mesh, one for each connected piece of its boundary, and the balls that hold them."""

    triangles: Floats
    """[C, 3, 3] corners of the cones' triangles"""
    centres: Floats
    """[H, 3]"""
    radii: Floats
    """[H] world units"""
    areas: Floats
    """[H] area of each cone"""


def topology_of(vertices: Floats, faces: Ints) -> Topology:
    """Weld vertices by exact position ([V, 3], [F, 3]) and pair the half-edges."""
    order = np.lexsort(vertices.T)
    first = np.append(True, (np.diff(vertices[order], axis=0) != 0).any(1))
    welded = np.empty(len(vertices), np.int64)
    welded[order] = np.cumsum(first) - 1
    faces = welded[faces]
    positions = vertices[order[first]]
    num_vertices = len(positions)

    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()  # [3F]
    counted = np.repeat(~_repeats_a_vertex(faces), 3)  # the half-edges of a collapsed face cancel among themselves
    half_edge = np.flatnonzero(counted)
    start, end = start[counted], end[counted]
    key = np.minimum(start, end) * num_vertices + np.maximum(start, end)
    order = np.argsort(key, kind="stable")
    opens = np.flatnonzero(np.append(True, np.diff(key[order]) != 0)) if len(order) else np.empty(0, np.int64)
    size = np.diff(np.append(opens, len(order)))
    direction = np.where(start < end, 1, -1)[order]
    surplus = np.add.reduceat(direction, opens) if len(opens) else np.empty(0, np.int64)

    twin = np.full(faces.size, -1, np.int64)
    pair = opens[(size == 2) & (surplus == 0)]
    one, other = half_edge[order[pair]], half_edge[order[pair + 1]]
    twin[one], twin[other] = other, one

    loose = surplus != 0
    low, high = np.divmod(key[order[opens[loose]]], num_vertices)
    edges = np.stack([low, high], axis=1)
    backward = surplus[loose] < 0
    edges[backward] = edges[backward, ::-1]
    boundary = np.repeat(edges, np.abs(surplus[loose]), axis=0)
    return Topology(positions, faces, twin.reshape(faces.shape), boundary)


def caps_of_holes(topology: Topology) -> Holes:
    """Cone every connected piece of the boundary to the mean of its vertices.

    A boundary is a cycle, so cones of reversed edges close the mesh whatever the curve looks like (also several loops
    in one piece, or the doubled edges between faces of opposite orientation).
    """
    used, edges = np.unique(topology.boundary, return_inverse=True)
    edges = edges.reshape(-1, 2)
    if not len(edges):
        return Holes(np.empty((0, 3, 3)), np.empty((0, 3)), np.empty(0), np.empty(0))
    count, piece = _components(edges, len(used))
    rim = topology.positions[used]
    members = np.bincount(piece, minlength=count)
    centres = np.stack([np.bincount(piece, rim[:, k], count) for k in range(3)], axis=1) / members[:, None]
    radii = np.zeros(count)
    np.maximum.at(radii, piece, np.linalg.norm(rim - centres[piece], axis=1))
    of_edge = piece[edges[:, 0]]
    triangles = np.stack([centres[of_edge], rim[edges[:, 1]], rim[edges[:, 0]]], axis=1)
    areas = np.zeros(count)
    np.add.at(areas, of_edge, np.linalg.norm(_cross(triangles), axis=1) / 2)
    return Holes(triangles, centres, radii, areas)


def is_inside_out(topology: Topology, holes: Holes) -> bool:
    """Whether the closed mesh encloses a negative volume; one of zero volume (a sheet) has no inside and is not."""
    caps = _cross(holes.triangles)
    volume = ((topology.corners[:, 0] * topology.normals).sum() + (holes.triangles[:, 0] * caps).sum()) / 6
    area = np.linalg.norm(topology.normals, axis=1).sum() / 2
    return bool(volume < -FLAT * area**1.5)


def face_regions(topology: Topology, crossed: Flags, holes: Holes) -> Ints:
    """Region of each face [F], -1 where doubtful; ``crossed`` [F] marks faces that other parts of the surface meet."""
    corners = topology.corners
    squared_edges = ((np.roll(corners, -1, axis=1) - corners) ** 2).sum((1, 2))
    doubtful = crossed | _repeats_a_vertex(topology.faces)
    doubtful |= np.linalg.norm(topology.normals, axis=1) <= SLIVER * squared_edges
    if len(holes.centres) > MAX_HOLES:
        doubtful[:] = True
    else:
        low, high = corners.min(1), corners.max(1)
        for centre, radius in zip(holes.centres, holes.radii, strict=True):
            gap = np.linalg.norm(np.clip(centre, low, high) - centre, axis=1)
            doubtful |= gap <= radius * 1.001

    face = np.arange(len(corners)).repeat(3)
    neighbour = topology.twin.ravel() // 3
    joined = (topology.twin.ravel() >= 0) & ~doubtful[face] & ~doubtful[neighbour]
    _, label = _components(np.stack([face[joined], neighbour[joined]], axis=1), len(corners))
    label = label.astype(np.int64)
    size = np.bincount(label[~doubtful], minlength=label.max() + 1)
    kept = np.argsort(-size, kind="stable")[:MAX_REGIONS]
    number = np.full(len(size), -1, np.int64)
    number[kept[size[kept] > 0]] = np.arange((size[kept] > 0).sum())
    return np.where(doubtful, -1, number[label])


def region_seeds(topology: Topology, region: Ints) -> Ints:
    """The largest face of each region: the winding number is evaluated in front of these."""
    area = np.linalg.norm(topology.normals, axis=1)
    order = np.lexsort((-area, region))
    numbers, first = np.unique(region[order], return_index=True)
    return order[first[numbers >= 0]]


def vertex_regions(topology: Topology, region: Ints) -> tuple[Floats, Ints]:
    """Angle-weighted pseudo-normals [V, 3], and the region of each vertex [V], -1 where its faces are no clean fan."""
    faces, twin, corners = topology.faces, topology.twin.ravel(), topology.corners
    num_vertices = len(topology.positions)
    after = np.roll(corners, -1, axis=1) - corners  # [F, 3, 3] edge that leaves each corner
    before = np.roll(corners, 1, axis=1) - corners
    with np.errstate(invalid="ignore", divide="ignore"):
        lengths = np.linalg.norm(after, axis=2) * np.linalg.norm(before, axis=2)
        angle = np.nan_to_num(np.arccos(np.clip((after * before).sum(2) / lengths, -1, 1)))
    weighted = (angle[..., None] * topology.unit_normals[:, None]).reshape(-1, 3)
    at = faces.ravel()
    total = np.stack([np.bincount(at, weighted[:, k], num_vertices) for k in range(3)], axis=1).astype(np.float64)
    normals = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), np.finfo(float).tiny)

    # The corners around a vertex, joined across clean edges, form one closed fan: one component, every edge clean.
    half_edge = np.flatnonzero(twin >= 0)
    following = 3 * (twin // 3) + (twin + 1) % 3  # half-edge a->b: corner b's counterpart is twin, corner a's this one
    next_corner = 3 * (half_edge // 3) + (half_edge + 1) % 3
    links = np.concatenate(
        [np.stack([half_edge, following[half_edge]], 1), np.stack([next_corner, twin[half_edge]], 1)]
    )
    _, fan = _components(links, len(at))
    vertex_of_fan = np.empty(fan.max() + 1, np.int64)
    vertex_of_fan[fan] = at
    fans = np.bincount(vertex_of_fan, minlength=num_vertices)
    low = np.full(num_vertices, np.iinfo(np.int64).max)
    high = np.full(num_vertices, -1)
    open_edge = twin.reshape(-1, 3) < 0
    clean = np.where((open_edge | np.roll(open_edge, 1, axis=1)).ravel(), -1, region.repeat(3))
    np.minimum.at(low, at, clean)
    np.maximum.at(high, at, clean)
    return normals, np.where((fans == 1) & (low == high), high, np.int64(-1))


def _cross(corners: Floats) -> Floats:
    """Normals [F, 3] of length twice the area; written out, three times as fast as ``numpy.cross``."""
    (ax, ay, az), (bx, by, bz) = ((corners[:, k] - corners[:, 0]).T for k in (1, 2))
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)


def _repeats_a_vertex(faces: Ints) -> Flags:
    return (faces[:, 0] == faces[:, 1]) | (faces[:, 1] == faces[:, 2]) | (faces[:, 2] == faces[:, 0])


def _components(links: Ints, count: int) -> tuple[int, NDArray[np.int32]]:
    """Number of connected components and the component of each of ``count`` nodes, joined by ``links`` [E, 2]."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)
