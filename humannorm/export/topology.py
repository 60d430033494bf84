"""How faces hang together: neighbours across edges, patches of one label, and vertices split where labels meet.

Letters: V vertices, F faces, E pairs of neighbouring faces.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

__all__ = [
    "Array",
    "border_edges",
    "face_crosses",
    "face_neighbours",
    "face_patches",
    "neighbour_graph",
    "split_vertices",
    "without_specks",
]


def face_crosses(vertices: Array, faces: Array) -> Array:
    """Per face (b - a) x (c - a): along the normal, twice the area long."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def face_neighbours(faces: Array) -> Array:
    """Pairs of faces [E, 2] that share an edge; at an edge with more than two faces, those that follow each other."""
    start, end = faces.ravel().astype(np.int64), faces[:, [1, 2, 0]].ravel().astype(np.int64)
    stride = int(faces.max()) + 1
    key = np.minimum(start, end) * stride + np.maximum(start, end)
    order = np.argsort(key, kind="stable")
    same = key[order[1:]] == key[order[:-1]]
    return np.stack([order[:-1][same] // 3, order[1:][same] // 3], axis=1)


def border_edges(faces: Array) -> Array:
    """Edges [N, 2] that belong to one face only."""
    start, end = faces.ravel().astype(np.int64), faces[:, [1, 2, 0]].ravel().astype(np.int64)
    stride = int(faces.max()) + 1
    key = np.minimum(start, end) * stride + np.maximum(start, end)
    _, first, counts = np.unique(key, return_index=True, return_counts=True)
    alone = first[counts == 1]
    return np.stack([start[alone], end[alone]], axis=1)


def neighbour_graph(pairs: Array, count: int, weights: Array | None = None) -> csr_array:
    """Symmetric sparse matrix over `count` faces from pairs."""
    values = np.ones(len(pairs)) if weights is None else weights
    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    return coo_array((np.concatenate([values, values]), (rows, columns)), shape=(count, count)).tocsr()


def face_patches(pairs: Array, labels: Array) -> Array:
    """Patch of each face: faces of one label that hang together across edges, numbered from 0."""
    inside = pairs[labels[pairs[:, 0]] == labels[pairs[:, 1]]]
    return connected_components(neighbour_graph(inside, len(labels)), directed=False)[1]


def without_specks(pairs: Array, labels: Array, areas: Array, lengths: Array, share: float) -> Array:
    """Labels made patches, those below `share` of the mean patch area merged into the neighbour with most border.

    lengths: of the edge of each pair. A patch without neighbours (a piece of its own) stays.
    """
    patches = face_patches(pairs, labels)
    for _ in range(20):
        count = int(patches.max()) + 1
        size = np.bincount(patches, weights=areas, minlength=count)
        a, b = patches[pairs[:, 0]], patches[pairs[:, 1]]
        border = a != b
        if not border.any():
            break
        shared = coo_array((lengths[border], (a[border], b[border])), shape=(count, count)).tocsr()
        shared = (shared + shared.T).tocsr()
        target = np.arange(count)
        small = np.flatnonzero((size < share * areas.sum() / count) & (np.diff(shared.indptr) > 0))
        for patch in small[np.argsort(size[small], kind="stable")]:
            row = slice(shared.indptr[patch], shared.indptr[patch + 1])
            neighbour = shared.indices[row][np.argmax(shared.data[row])]
            if target[neighbour] == neighbour:  # one that is itself merged away waits for the next round
                target[patch] = neighbour
        if (target == np.arange(count)).all():
            break
        patches = np.unique(target[patches], return_inverse=True)[1].ravel()
    return patches


def split_vertices(faces: Array, labels: Array) -> tuple[Array, Array]:
    """Vertices of every label their own: (original vertex of each new one [V'], faces in new vertices [F, 3])."""
    key = faces.astype(np.int64) * (int(labels.max()) + 1) + labels[:, None]
    unique, inverse = np.unique(key, return_inverse=True)
    return unique // (int(labels.max()) + 1), inverse.reshape(-1, 3)
