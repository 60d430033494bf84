"""Charts on a light proxy: compact patches of similar normals (variational shape approximation).

Cohen-Steiner, Alliez, Desbrun 2004, "Variational shape approximation": regions grow from seeds in the order of how
badly a face fits its region, then every region moves its seed to its best face; repeated.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import dijkstra

from humannorm.export.topology import Array, face_crosses, face_neighbours, face_patches, neighbour_graph

__all__ = ["FaceTable", "grow_segments", "halve_segments"]

ROUNDS = 8
COMPACTNESS = 0.35
"""Weight of the squared distance to the segment's centre, in mean segment radii, beside that of the normals: what
parts a segment should be round for, so that seams are short and charts pack well."""


@dataclass(frozen=True, eq=False)
class FaceTable:
    """What segments are made of."""

    pairs: Array  # [E, 2] neighbouring faces
    centres: Array  # [F, 3]
    normals: Array  # [F, 3] unit, smoothed
    areas: Array  # [F]

    @classmethod
    def of(cls, vertices: Array, faces: Array) -> FaceTable:
        crosses, pairs = face_crosses(vertices, faces), face_neighbours(faces)
        normals = smoothed_normals(crosses, pairs)
        return cls(pairs, vertices[faces].mean(1), normals, np.linalg.norm(crosses, axis=1) / 2)


def smoothed_normals(crosses: Array, pairs: Array, rounds: int = 4) -> Array:
    """Unit face normals averaged `rounds` times over neighbours, weighted by area: folds do not part segments."""
    graph = neighbour_graph(pairs, len(crosses))
    sums = crosses
    for _ in range(rounds):
        unit = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-30)
        weight = np.linalg.norm(crosses, axis=1, keepdims=True)
        sums = unit * weight + graph @ (unit * weight)
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-30)


def grow_segments(table: FaceTable, count: int, rounds: int = ROUNDS) -> Array:
    """Segment [F] of each face, 0 upwards: about `count` of them, at least one for each separate piece."""
    pairs, centres, normals, areas = table.pairs, table.centres, table.normals, table.areas
    graph = neighbour_graph(pairs, len(areas), np.linalg.norm(centres[pairs[:, 0]] - centres[pairs[:, 1]], axis=1))
    pieces = face_patches(pairs, np.zeros(len(areas), np.int64))
    seeds = np.unique(pieces, return_index=True)[1].tolist()
    distance = dijkstra(graph, directed=False, indices=seeds, min_only=True)
    # Farthest points first; the first seed of a piece was arbitrary, but Lloyd's rounds move it.
    while len(seeds) < min(count, len(areas)):
        seeds.append(int(np.argmax(distance)))
        distance = np.minimum(distance, dijkstra(graph, directed=False, indices=seeds[-1]))
    radius_squared = areas.sum() / (np.pi * len(seeds))
    labels = _flood(graph, centres, normals, np.array(seeds), normals[seeds], centres[seeds], radius_squared)
    for _ in range(rounds - 1):
        seeds_, fit, middle = _refit(labels, centres, normals, areas, radius_squared)
        labels = _flood(graph, centres, normals, seeds_, fit, middle, radius_squared)
    return labels


def halve_segments(table: FaceTable, labels: Array, which: Array) -> Array:
    """Labels with each of the segments `which` parted in two (or in its pieces), grown from far seeds."""
    labels = labels.astype(np.int64)
    for label in which:
        members = np.flatnonzero(labels == label)
        position = np.full(len(labels), -1)
        position[members] = np.arange(len(members))
        inside = position[table.pairs]
        inside = inside[(inside >= 0).all(axis=1)]
        part = FaceTable(inside, table.centres[members], table.normals[members], table.areas[members])
        halves = grow_segments(part, 2, rounds=5)
        labels[members] = np.where(halves == 0, label, labels.max() + halves)
    return face_patches(table.pairs, labels).astype(np.int64)


def _cost(normal: Array, fit: Array, centre: Array, middle: Array, radius_squared: float) -> Array:
    away = ((normal - fit) ** 2).sum(-1)
    return away + COMPACTNESS * ((centre - middle) ** 2).sum(-1) / radius_squared


def _flood(
    graph: object, centres: Array, normals: Array, seeds: Array, fit: Array, middle: Array, radius_squared: float
) -> Array:
    """Every face to the segment that reaches it first, the best fitting faces first (section 3.1 of the paper)."""
    labels = np.full(len(normals), -1, np.int64)
    starts, neighbours = graph.indptr.tolist(), graph.indices.tolist()  # type: ignore[attr-defined]
    heap: list[tuple[float, int, int]] = [(-1.0, int(face), segment) for segment, face in enumerate(seeds)]
    heapq.heapify(heap)
    # Costs of all faces for one segment at a time would be F x S; faces are looked up as they are met, in plain floats.
    n, c, f, m = normals.tolist(), centres.tolist(), fit.tolist(), middle.tolist()
    pull = COMPACTNESS / radius_squared
    taken = labels.tolist()
    while heap:
        _, face, segment = heapq.heappop(heap)
        if taken[face] >= 0:
            continue
        taken[face] = segment
        f0, f1, f2 = f[segment]
        m0, m1, m2 = m[segment]
        for other in neighbours[starts[face] : starts[face + 1]]:
            if taken[other] < 0:
                n0, n1, n2 = n[other]
                c0, c1, c2 = c[other]
                away = (n0 - f0) ** 2 + (n1 - f1) ** 2 + (n2 - f2) ** 2
                far = (c0 - m0) ** 2 + (c1 - m1) ** 2 + (c2 - m2) ** 2
                heapq.heappush(heap, (away + pull * far, other, segment))
    return np.array(taken, dtype=np.int64)


def _refit(
    labels: Array, centres: Array, normals: Array, areas: Array, radius_squared: float
) -> tuple[Array, Array, Array]:
    """New seed, mean normal and middle of every segment (section 3.2)."""
    count = int(labels.max()) + 1

    def mean(values: Array) -> Array:
        sums = np.stack([np.bincount(labels, weights=areas * v, minlength=count) for v in values.T], axis=1)
        return sums / np.maximum(np.bincount(labels, weights=areas, minlength=count), 1e-300)[:, None]

    fit, middle = mean(normals), mean(centres)
    fit /= np.maximum(np.linalg.norm(fit, axis=1, keepdims=True), 1e-30)
    cost = _cost(normals, fit[labels], centres, middle[labels], radius_squared)
    order = np.lexsort((cost, labels))
    return order[np.searchsorted(labels[order], np.arange(count))], fit, middle
