"""Fewer triangles for the same shape: quadric edge collapse down to a face budget, closed surfaces staying closed."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch

from humannorm.checks import InputError
from humannorm.mesh import Mesh, check_mesh, is_watertight, weld

__all__ = ["decimate", "roughly_decimated"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

FEWEST_FACES = 4
# How fast fast-simplification raises its error threshold (its own default is 7). Slower pinches less, but may stop
# short of the budget.
AGGRESSIVENESS = (5, 4, 6, 7, 3)
PARTED = 100  # faces kept for parting what touches itself
APART = 0.05  # of the way to the middle of its faces that a vertex is moved away from one at the same place
PARTING_ROUNDS = 4


def decimate(mesh: Mesh, faces: int, whole: bool = True) -> Mesh:
    """The mesh's bare surface (vertices and faces) in at most `faces` faces; as it is, welded, where it has no more.

    Quadric edge collapse (Garland and Heckbert 1997) by fast-simplification. Vertices that seams have split are welded
    first. Edge collapse alone can pinch a thin part so that an edge gets four faces; those are parted again, so that a
    closed surface stays closed. A budget too small for that raises `InputError`. Where the surface need not be `whole`,
    some edges keep more or fewer faces than two, and faces may be up to half as many again.
    """
    if faces < FEWEST_FACES:
        raise InputError(f"faces: expected at least {FEWEST_FACES}, got {faces}")
    check_mesh(mesh)
    vertices, welded = _welded(mesh)
    closed = is_watertight(welded)
    points, triangles = vertices.numpy(), welded.numpy()
    if len(triangles) > faces:
        collapse = _collapse if whole else _collapse_roughly
        points, triangles = collapse(points, triangles, faces, closed)
    return Mesh(
        torch.from_numpy(np.ascontiguousarray(points, dtype=np.float32)).to(mesh.device),
        torch.from_numpy(np.ascontiguousarray(triangles, dtype=np.int64)).to(mesh.device),
    )


def roughly_decimated(points: Array, triangles: Array, budget: int) -> tuple[Array, Array]:
    """About `budget` faces, or as few as can be reached, without a promise that edges keep two faces: to plan on."""
    import fast_simplification

    indices = np.ascontiguousarray(triangles, dtype=np.int32)
    fewer, kept = fast_simplification.simplify(
        np.ascontiguousarray(points, dtype=np.float32), indices, target_count=budget, agg=AGGRESSIVENESS[0]
    )
    return fewer.astype(np.float64), kept.astype(np.int64)


def _welded(mesh: Mesh) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices that are used, one per position, and the faces that keep three different ones."""
    vertices = mesh.vertices.detach().cpu().float()
    faces = weld(vertices)[mesh.faces.cpu()]
    a, b, c = faces.unbind(1)
    faces = faces[(a != b) & (b != c) & (c != a)]
    used, faces = torch.unique(faces, return_inverse=True)
    return vertices[used], faces.reshape(-1, 3)


def _collapse(points: Array, triangles: Array, budget: int, closed: bool) -> tuple[Array, Array]:
    import fast_simplification

    # The library works in float32 with absolute thresholds: give it a mesh of unit size around the origin.
    low, high = points.min(0), points.max(0)
    centre, size = (low + high) / 2, float((high - low).max())
    unit = np.ascontiguousarray((points - centre) / size, dtype=np.float32)
    indices = np.ascontiguousarray(triangles, dtype=np.int32)
    spare = min(budget // 100, PARTED) if closed else 0
    for aggressiveness in AGGRESSIVENESS:
        fewer, kept = fast_simplification.simplify(unit, indices, target_count=budget - spare, agg=aggressiveness)
        kept = kept.astype(np.int64)
        if closed:
            fewer, kept = _parted(fewer, kept)
        if 0 < len(kept) <= budget:
            return fewer * size + centre, kept
    raise InputError(f"faces: expected a larger budget, got {budget}: this surface cannot be kept whole with so few")


def _parted(points: Array, triangles: Array) -> tuple[Array, Array]:
    """A surface whose every edge has two faces, see `part_pinched_edges`; without any face where that fails."""
    for _ in range(PARTING_ROUNDS if len(triangles) else 0):
        points, triangles = part_pinched_edges(points, triangles)
        if is_watertight(torch.from_numpy(triangles)):
            return moved_apart(points, triangles), triangles
    return points, triangles[:0]


def moved_apart(points: Array, triangles: Array) -> Array:
    """Vertices at one place each a little toward its own faces: programs that weld by place keep the surface closed."""
    points = points.copy()
    for _ in range(PARTING_ROUNDS):
        _, group, counts = np.unique(points, axis=0, return_inverse=True, return_counts=True)
        shared = counts[group.ravel()] > 1
        if not shared.any():
            break
        touching = triangles[shared[triangles].any(1)]
        total, number = np.zeros_like(points), np.zeros(len(points), dtype=np.int64)
        np.add.at(total, touching.ravel(), points[touching].mean(1).repeat(3, axis=0))
        np.add.at(number, touching.ravel(), 1)
        middle = total[shared] / number[shared, None]
        points[shared] += APART * (middle - points[shared])
    return points


def _collapse_roughly(points: Array, triangles: Array, budget: int, closed: bool) -> tuple[Array, Array]:
    """Collapsed anew while that takes faces away: one pass stops where a surface of many parts leaves no good edge."""
    size, count = float(np.ptp(points, axis=0).max()), len(triangles) + 1
    while budget < len(triangles) < count:
        count = len(triangles)
        points, triangles = roughly_decimated(points / size, triangles, budget)
        points = points * size
    if not 0 < len(triangles) <= 1.5 * budget:
        raise InputError(f"faces: expected a larger budget, got {budget}: this surface cannot be made of so few")
    return points, triangles


def part_pinched_edges(points: Array, triangles: Array) -> tuple[Array, Array]:
    """Turn a closed surface that touches itself along edges or at vertices into one whose every edge has two faces.

    Around an edge with more faces, those that follow each other in angle (one from each side) belong together; the
    corners that then no longer hang together get vertices of their own, at the same place, and edges that still have
    both ends in common one in their middle. What collapses to two faces lying on each other is dropped.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    distinct = np.sort(triangles, axis=1)
    _, group, counts = np.unique(distinct, axis=0, return_inverse=True, return_counts=True)
    group = group.ravel()
    if (counts > 1).any():  # two equal faces with opposite winding enclose nothing
        winding = _parity(triangles)
        balance = np.bincount(group, weights=winding, minlength=len(counts))
        keep = np.ones(len(triangles), bool)
        for repeated in np.flatnonzero(counts > 1):
            members = np.flatnonzero(group == repeated)
            surplus = int(abs(balance[repeated]))
            sign = np.sign(balance[repeated])
            keep[members] = False
            keep[members[winding[members] == sign][:surplus]] = True
        triangles = triangles[keep]

    start, end = triangles.ravel(), triangles[:, [1, 2, 0]].ravel()  # half-edge 3f + k runs from corner k to k + 1
    stride = int(triangles.max()) + 1 if len(triangles) else 1
    key = np.minimum(start, end) * stride + np.maximum(start, end)
    order = np.argsort(key, kind="stable")
    _, first, sizes = np.unique(key[order], return_index=True, return_counts=True)
    pairs = [order[first[sizes == 2]], order[first[sizes == 2] + 1]]
    twins = [np.stack(pairs, axis=1)]
    for begin, size in zip(first[sizes > 2], sizes[sizes > 2], strict=True):
        twins.append(_pair_around_edge(points, triangles, order[begin : begin + size], start, end))
    twin = np.concatenate([pair for pair in twins if len(pair)])
    forward, backward = twin.T
    # The start of one half-edge is the end of its twin: corners that share both are one vertex.
    same = np.concatenate([np.stack([forward, _next(backward)], 1), np.stack([_next(forward), backward], 1)])
    corners = 3 * len(triangles)
    graph = coo_array((np.ones(len(same), bool), (same[:, 0], same[:, 1])), shape=(corners, corners))
    count, label = connected_components(graph.tocsr(), directed=False)
    place = np.empty((count, 3), points.dtype)
    place[label] = points[triangles.ravel()]
    return _part_parallel_edges(place, label.reshape(-1, 3).astype(np.int64), twin)


def _part_parallel_edges(points: Array, triangles: Array, twin: Array) -> tuple[Array, Array]:
    """Give each but one of the edges that join the same two vertices a vertex in its middle.

    Sheets that meet in an edge and hang together around both of its ends keep its vertices in common: their edges are
    different ones, but no list of triangles could tell. twin: pairs of half-edges [E, 2]. A face is cut once; edges of
    it that need it again are left, for another round.
    """
    start, end = triangles.ravel()[twin[:, 0]], triangles.ravel()[_next(twin[:, 0])]
    ends = np.stack([np.minimum(start, end), np.maximum(start, end)], axis=1)
    _, first = np.unique(ends, axis=0, return_index=True)
    again = np.setdiff1d(np.arange(len(twin)), first)
    added: list[Array] = []
    middles: list[Array] = []
    cut: set[int] = set()
    for pair in twin[again]:
        faces = {int(half_edge) // 3 for half_edge in pair}
        if len(faces) < 2 or faces & cut:
            continue
        cut |= faces
        middle = len(points) + len(middles)
        middles.append(points[triangles.ravel()[[pair[0], _next(pair)[0]]]].mean(0))
        for half_edge in pair:
            face, corner = divmod(int(half_edge), 3)
            beyond = (corner + 1) % 3
            added.append(triangles[face].copy())
            added[-1][corner] = middle
            triangles[face, beyond] = middle
    if not middles:
        return points, triangles
    return np.concatenate([points, np.stack(middles)]), np.concatenate([triangles, np.stack(added)])


def _next(half_edge: Array) -> Array:
    return half_edge - half_edge % 3 + (half_edge + 1) % 3


def _parity(triangles: Array) -> Array:
    """+1 where the corners are an even permutation of their sorted order, else -1."""
    a, b, c = triangles.T
    return np.sign((b - a).astype(float)) * np.sign((c - b).astype(float)) * np.sign((c - a).astype(float))


def _pair_around_edge(points: Array, triangles: Array, half_edges: Array, start: Array, end: Array) -> Array:
    """Half-edges of one edge in pairs of opposite direction, neighbours in angle around the edge."""
    low = min(start[half_edges[0]], end[half_edges[0]])
    high = max(start[half_edges[0]], end[half_edges[0]])
    axis = (points[high] - points[low]).astype(np.float64)
    axis /= max(float(np.linalg.norm(axis)), np.finfo(np.float64).tiny)
    apex = points[triangles[half_edges // 3, (half_edges + 2) % 3]].astype(np.float64) - points[low]
    across = apex - (apex @ axis)[:, None] * axis
    helper = np.eye(3)[np.argmin(np.abs(axis))]
    x = np.cross(axis, helper)
    y = np.cross(axis, x)
    waiting: list[int] = []
    pairs = []
    for half_edge in half_edges[np.argsort(np.arctan2(across @ y, across @ x), kind="stable")]:
        if waiting and (start[half_edge] == low) != (start[waiting[-1]] == low):
            pairs.append((waiting.pop(), half_edge))
        else:
            waiting.append(half_edge)
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
