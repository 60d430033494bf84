"""Flattening charts: conformal start (LSCM), then as rigid as possible (ARAP), all charts in one sparse system.

Levy, Petitjean, Ray, Maillot 2002, "Least squares conformal maps"; Liu, Zhang, Xu, Gotsman, Gortler 2008, "A
local/global approach to mesh parameterization". Plane points are complex numbers x + iy, y up, so that a rotation is a
product. Faces seen from outside wind counter-clockwise in the plane too. Vertices are split between charts.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array, csc_array, csr_array, diags_array
from scipy.sparse.linalg import cg, splu

from humannorm.export.topology import Array

__all__ = ["Flattening", "conformal_map", "rigid_map", "untangle"]

SMALLEST_COTANGENT, LARGEST_COTANGENT = 0.05, 20.0
"""For rigid maps cotangents are held in this range: obtuse and needle triangles keep a positive, finite weight."""
STEEPEST_COTANGENT = 1e3
"""For conformal maps they are only kept finite."""


@dataclass(frozen=True, eq=False)
class Flattening:
    """The charts' triangles as they are on the surface."""

    vertices: Array  # [V, 3] float64, split between charts
    faces: Array  # [F, 3]
    chart: Array  # [V] chart of each vertex

    @cached_property
    def edges(self) -> Array:
        """Per face its three edges (from corner k to k + 1) laid isometrically into the plane, complex [F, 3]."""
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        ab, ac = b - a, c - a
        length = np.linalg.norm(ab, axis=1)
        x = (ab * ac).sum(1) / np.maximum(length, 1e-30)
        y = np.linalg.norm(np.cross(ab, ac), axis=1) / np.maximum(length, 1e-30)
        corner = x + 1j * y
        return np.stack([length + 0j, corner - length, -corner], axis=1)

    @cached_property
    def areas(self) -> Array:
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2

    @cached_property
    def cotangents(self) -> Array:
        """Of the angle opposite to each edge [F, 3]; negative where it is obtuse."""
        e = self.edges
        opposite = -e[:, [1, 2, 0]] * e[:, [2, 0, 1]].conj()  # of edge k: between the edges k + 1 and k + 2
        return opposite.real / np.maximum(np.abs(opposite.imag), 1e-30)

    @cached_property
    def weights(self) -> Array:
        """Half the cotangents [F, 3], positive and bounded."""
        return 0.5 * np.clip(self.cotangents, SMALLEST_COTANGENT, LARGEST_COTANGENT)

    def laplacian(self, weights: Array) -> csr_array:
        """The matrix [V, V] of the sum over faces and their edges of w |u_i - u_j|^2."""
        start, end = self.faces.ravel(), self.faces[:, [1, 2, 0]].ravel()
        w, count = weights.ravel(), len(self.vertices)
        off = coo_array((np.r_[w, w], (np.r_[start, end], np.r_[end, start])), shape=(count, count)).tocsr()
        return (diags_array(off.sum(axis=1)) - off).tocsr()

    @cached_property
    def anchors(self) -> Array:
        """The first vertex of each chart."""
        return np.unique(self.chart, return_index=True)[1]

    def signed_areas(self, flat: Array) -> Array:
        """Of the faces in the plane [F]; negative where a face is turned over."""
        a, b, c = (flat[self.faces[:, k]] for k in range(3))
        return ((b - a).conj() * (c - a)).imag / 2

    def stretch(self, flat: Array) -> tuple[Array, Array]:
        """Largest and smallest singular value [F] of the map from the surface to the plane; the smallest is negative
        for a face that is turned over."""
        corners = flat[self.faces]
        e, u = self.edges, corners[:, [1, 2, 0]] - corners
        # The map is z -> p z + q conj(z): singular values |p| + |q| and |p| - |q|.
        determinant = e[:, 0] * e[:, 1].conj() - e[:, 0].conj() * e[:, 1]
        determinant = np.where(np.abs(determinant) < 1e-300, 1e-300, determinant)
        p = (u[:, 0] * e[:, 1].conj() - e[:, 0].conj() * u[:, 1]) / determinant
        q = (e[:, 0] * u[:, 1] - u[:, 0] * e[:, 1]) / determinant
        return np.abs(p) + np.abs(q), np.abs(p) - np.abs(q)


def conformal_map(charts: Flattening) -> Array:
    """Least squares conformal map of every chart, complex [V]: z^H (L + iB) z least, two far vertices held.

    L is the cotangent Laplacian and B the signed area of the boundary, so the energy is that of the Cauchy-Riemann
    equations.
    """
    start, end = charts.faces.ravel(), charts.faces[:, [1, 2, 0]].ravel()
    count = len(charts.vertices)
    turn = coo_array((np.full(len(start), 0.5j), (start, end)), shape=(count, count)).tocsr()
    cotangents = np.clip(charts.cotangents, -STEEPEST_COTANGENT, STEEPEST_COTANGENT)
    system = (charts.laplacian(0.5 * cotangents) + turn - turn.T).tocsc()
    held, places = _far_pairs(charts)
    flat = np.zeros(count, complex)
    flat[held] = places
    free = np.ones(count, bool)
    free[held] = False
    inner = csc_array(system[free][:, free])
    inner = inner + diags_array(np.full(inner.shape[0], 1e-9 * charts.weights.mean()), format="csc")
    flat[free] = splu(inner, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(
        -(system[free][:, held] @ places)
    )
    return flat


def _far_pairs(charts: Flattening) -> tuple[Array, Array]:
    """For every chart its two ends along its longest direction, and their places in the plane at that distance."""
    order = np.argsort(charts.chart, kind="stable")
    bounds = np.searchsorted(charts.chart[order], np.arange(int(charts.chart.max()) + 2))
    held, places = [], []
    for begin, end in itertools.pairwise(bounds):
        members = order[begin:end]
        points = charts.vertices[members] - charts.vertices[members].mean(0)
        axis = np.linalg.svd(points[:: max(1, len(points) // 500)], full_matrices=False)[2][0]
        along = points @ axis
        first, last = int(np.argmin(along)), int(np.argmax(along))
        if first == last:
            last = (first + 1) % len(members)
        length = float(np.linalg.norm(points[first] - points[last]))
        held += [members[first], members[last]]
        places += [0.0, length]
    return np.array(held), np.array(places, dtype=complex)


def rigid_map(charts: Flattening, flat: Array, rounds: int, direct: bool) -> Array:
    """As-rigid-as-possible map from a start: turn every face to fit (local), then place all vertices (global).

    direct: by a sparse factorisation, for few vertices; else by conjugate gradients from the start at hand.
    """
    count = len(charts.vertices)
    hold = np.zeros(count)
    hold[charts.anchors] = charts.weights.mean()
    system = (charts.laplacian(charts.weights) + diags_array(hold)).tocsr()
    start, end = charts.faces.ravel(), charts.faces[:, [1, 2, 0]].ravel()
    if direct:
        solve = splu(system.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve
    else:
        scaling = diags_array(1 / system.diagonal())
    for _ in range(rounds):
        turns = _best_turns(charts, flat)
        pulls = (charts.weights * turns[:, None] * charts.edges).ravel()
        right = _scatter(end, pulls, count) - _scatter(start, pulls, count)
        # The held vertices are pulled to where they are, which moves a chart but bends nothing.
        right = right + hold * flat
        if direct:
            flat = (solve(np.stack([right.real, right.imag], axis=1)) * (1, 1j)).sum(1)
        else:
            real = cg(system, right.real, flat.real, rtol=1e-6, maxiter=60, M=scaling)[0]
            flat = real + 1j * cg(system, right.imag, flat.imag, rtol=1e-6, maxiter=60, M=scaling)[0]
    return flat


def _best_turns(charts: Flattening, flat: Array) -> Array:
    """Unit complex number of each face [F]: the rotation that best takes its edges to where they lie now."""
    corners = flat[charts.faces]
    fit = (charts.weights * charts.edges.conj() * (corners[:, [1, 2, 0]] - corners)).sum(1)
    size = np.abs(fit)
    return np.where(size > 1e-30, fit / np.maximum(size, 1e-30), 1.0)


def _scatter(index: Array, values: Array, count: int) -> Array:
    return np.bincount(index, values.real, count) + 1j * np.bincount(index, values.imag, count)


def untangle(charts: Flattening, flat: Array, rounds: int = 30) -> Array:
    """Turn faces over that lie upside down: the vertices around them go to the mean of their neighbours (Tutte 1963).

    Vertices on a chart's border stay.
    """
    start, end = charts.faces.ravel(), charts.faces[:, [1, 2, 0]].ravel()
    count = len(charts.vertices)
    directed = coo_array((np.ones(len(start)), (start, end)), shape=(count, count)).tocsr()
    border = np.zeros(count, bool)
    open_edges = (directed - directed.T).tocoo()
    open_edges.eliminate_zeros()
    border[open_edges.row] = True
    graph = ((directed + directed.T) > 0).astype(float)
    degree = np.maximum(graph.sum(axis=1), 1)
    for _ in range(rounds):
        tiny = 1e-3 * charts.areas
        turned = charts.signed_areas(flat) <= tiny
        if not turned.any():
            break
        loose = np.zeros(count, bool)
        loose[charts.faces[turned].ravel()] = True
        loose |= (graph @ loose.astype(float)) > 0
        loose &= ~border
        for _ in range(5):
            flat = np.where(loose, (graph @ flat) / degree, flat)
    return flat
