"""Unwrapping: charts found and tried out on a light proxy, then carried over to the full surface.

xatlas on 400k faces takes tens of minutes. Here all decisions (where to cut, whether a chart lies flat without folds)
are made on a proxy of some thousand faces, where a try takes milliseconds; the full surface takes over the charts and
their place in the plane from the closest points of the proxy and only relaxes from there.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from humannorm.checks import InputError, check_range
from humannorm.distance.signed_distance import SignedDistance
from humannorm.export.decimation import roughly_decimated
from humannorm.export.flattening import Flattening, conformal_map, rigid_map, untangle
from humannorm.export.packing import pack_charts, upright
from humannorm.export.segments import FaceTable, grow_segments, halve_segments
from humannorm.export.topology import Array, face_crosses, face_neighbours, face_patches, split_vertices, without_specks
from humannorm.mesh import Mesh
from humannorm.rendering import rasterize

__all__ = ["Atlas", "UnwrapSettings", "overlap", "unwrap"]


MOST_SPLITS = 10
"""A chart that still is not flat after so many halvings is a handful of faces."""


MOST_PIECES = 2000
"""Every separate piece is at least one chart, and packing takes its time with each."""


CHART_TEXELS, LARGEST_TEST = 200, 2048
"""Side in texels of the picture in which a chart's overlap with itself is looked for, and of all such pictures."""


@dataclass(frozen=True)
class UnwrapSettings:
    proxy_faces: int = 8000
    """Faces of the surface on which charts are made; enough to tell the fingers apart."""
    charts: int = 24
    """Charts to begin with; those that do not lie flat are split."""
    most_distortion: float = 1.12
    """Mean symmetric Dirichlet energy of a chart, divided by 4 so that 1 is an isometry (Smith and Schaefer 2015)."""
    rigid_rounds_proxy: int = 30
    rigid_rounds: int = 3
    """Rounds of as-rigid-as-possible mapping on the proxy and on the full surface."""
    border_rounds: int = 12
    """How often ragged borders between charts are smoothed on the full surface."""


@dataclass(frozen=True, eq=False)
class Atlas:
    """Texture coordinates of a surface whose vertices are split where charts meet."""

    vertex: Int64[Tensor, " W"]
    """Vertex of the surface that each split vertex stands for."""
    faces: Int64[Tensor, "F 3"]
    """The surface's faces, in the same order, in split vertices."""
    uvs: Float[Tensor, "W 2"]
    """In 0..1, v = 0 at the top."""
    chart: Int64[Tensor, " F"]


def unwrap(
    mesh: Mesh,
    texture_size: int = 2048,
    padding: float = 8.0,
    settings: UnwrapSettings = UnwrapSettings(),
) -> Atlas:
    """Atlas of a mesh whose seams are welded (as `decimate` leaves it).

    padding: least distance between charts in texels. Charts are all at one scale, seen from outside they are not
    mirrored, and no texel belongs to two charts.
    """
    check_range("texture_size", texture_size, 16, 8192)
    check_range("padding", padding, 0, texture_size / 16)
    vertices = mesh.vertices.detach().cpu().double().numpy()
    faces = mesh.faces.cpu().numpy()
    low, high = vertices.min(0), vertices.max(0)
    vertices = (vertices - (low + high) / 2) / float((high - low).max())
    pieces = int(face_patches(face_neighbours(faces), np.zeros(len(faces), np.int64)).max()) + 1
    if pieces > MOST_PIECES:
        raise InputError(f"mesh: expected at most {MOST_PIECES} separate pieces, got {pieces}: remove specks first")
    proxy = _chart_proxy(vertices, faces, settings)
    labels, charts, flat = _carry_over(vertices, faces, proxy, settings)
    origin, split, chart, flat, labels = _without_overlaps(vertices, faces, labels, charts, flat)
    flat = upright(flat, chart)
    a, b, c = (flat[split[:, k]] for k in range(3))
    areas = np.abs(((b - a).conj() * (c - a)).imag) / 2
    uvs = pack_charts(flat, split, chart, areas, texture_size, padding)
    device = mesh.device
    return Atlas(
        torch.from_numpy(origin).to(device),
        torch.from_numpy(split).to(device),
        torch.from_numpy(uvs).float().clamp(0, 1).to(device),
        torch.from_numpy(labels.astype(np.int64)).to(device),
    )


@dataclass(frozen=True, eq=False)
class _Proxy:
    vertices: Array  # [V, 3]
    faces: Array  # [F, 3] into vertices
    chart: Array  # [F]
    corners: Array  # [F, 3] complex, place of each corner in the plane


def _chart_proxy(vertices: Array, faces: Array, settings: UnwrapSettings) -> _Proxy:
    """Charts of a light version of the surface, split until each lies flat: no folds, no overlap, little distortion."""
    points, triangles = vertices, faces
    if len(faces) > settings.proxy_faces:
        points, triangles = roughly_decimated(vertices, faces, settings.proxy_faces)
    table = FaceTable.of(points, triangles)
    labels = grow_segments(table, settings.charts)
    corners = np.empty(triangles.shape, complex)
    anew = np.ones(len(triangles), bool)  # faces of charts that have not been flattened yet
    for attempt in itertools.count():
        names, own = np.unique(labels[anew], return_inverse=True)
        charts, flat = _flattened(points, triangles[anew], own, settings.rigid_rounds_proxy)
        corners[anew] = flat[charts.faces]
        poor = _poor_charts(charts, flat, own, settings.most_distortion)
        poor = names[poor[np.bincount(own)[poor] > 1]]
        if not len(poor) or attempt == MOST_SPLITS:
            return _Proxy(points, triangles, labels, corners)
        anew = np.isin(labels, poor)
        labels = halve_segments(table, labels, poor)
    raise AssertionError("unreachable")


def _flattened(vertices: Array, faces: Array, labels: Array, rounds: int) -> tuple[Flattening, Array]:
    """Charts from scratch: conformal, then as rigid as possible, without folds; their places in the plane."""
    charts, _ = _split(vertices, faces, labels)
    return charts, untangle(charts, rigid_map(charts, conformal_map(charts), rounds, direct=True))


def _poor_charts(charts: Flattening, flat: Array, labels: Array, most_distortion: float) -> Array:
    large, small = charts.stretch(flat)
    bounded_large, bounded_small = np.clip(large, 0.05, 20), np.clip(small, 0.05, 20)
    energy = (bounded_large**2 + bounded_small**2 + bounded_large**-2 + bounded_small**-2) / 4
    count = int(labels.max()) + 1
    total = np.maximum(np.bincount(labels, charts.areas, count), 1e-300)
    mean = np.bincount(labels, charts.areas * energy, count) / total
    folded = np.bincount(labels, charts.areas * (small <= 0), count) / total
    stretched = np.bincount(labels, charts.areas * ((large > 2) | (small < 0.5)), count) / total
    doubled = overlap_by_chart(flat[charts.faces], labels)
    return np.flatnonzero((mean > most_distortion) | (stretched > 0.06) | (folded > 2e-3) | (doubled > 5e-3))


def _carry_over(
    vertices: Array, faces: Array, proxy: _Proxy, settings: UnwrapSettings
) -> tuple[Array, Flattening, Array]:
    """Charts of the full surface: label of each face, the split charts and their place in the plane."""
    centres, areas = vertices[faces].mean(1), np.linalg.norm(face_crosses(vertices, faces), axis=1) / 2
    distance = SignedDistance(
        torch.from_numpy(proxy.vertices).float(), torch.from_numpy(proxy.faces), inside_out="flip"
    )
    near = distance.closest(torch.from_numpy(centres).float()).face.cpu().numpy()
    pairs = face_neighbours(faces)
    labels = _smooth_borders(faces, proxy.chart[near], areas, settings.border_rounds)
    shared = _shared_edge_lengths(vertices, faces, pairs)
    patches = without_specks(pairs, labels, areas, shared, share=0.02)
    # The proxy's chart that most of a patch lies on is the patch's; faces from elsewhere take a neighbour's place.
    count = int(patches.max()) + 1
    votes = np.zeros((count, int(proxy.chart.max()) + 1))
    np.add.at(votes, (patches, proxy.chart[near]), areas)
    home = votes.argmax(1)
    near = _spread(pairs, patches, near, proxy.chart[near] == home[patches])
    charts, origin = _split(vertices, faces, patches)
    flat = _extrapolated(vertices[origin], charts.faces, proxy, near)
    flat = rigid_map(charts, flat, settings.rigid_rounds, direct=False)
    return patches, charts, untangle(charts, flat)


def _smooth_borders(faces: Array, labels: Array, areas: Array, rounds: int) -> Array:
    """Every face takes the label that most of the area around its three vertices has, repeatedly."""
    from scipy.sparse import coo_array

    count = int(labels.max()) + 1
    vertices = int(faces.max()) + 1
    for _ in range(rounds):
        corner, corner_label = faces.ravel(), np.repeat(labels, 3)
        votes = coo_array((np.repeat(areas, 3), (corner, corner_label)), shape=(vertices, count)).tocsr()
        mixed = np.diff(votes.indptr) > 1
        border = np.flatnonzero(mixed[faces].any(1))
        if not len(border):
            break
        local = votes[faces[border, 0]] + votes[faces[border, 1]] + votes[faces[border, 2]]
        labels = labels.copy()
        labels[border] = np.asarray(local.argmax(axis=1)).ravel()
    return labels


def _spread(pairs: Array, patches: Array, near: Array, good: Array) -> Array:
    """`near` with the entries that are not good replaced by a neighbour's in the same patch."""
    inside = pairs[patches[pairs[:, 0]] == patches[pairs[:, 1]]]
    near, good = near.copy(), good.copy()
    both = np.concatenate([inside, inside[:, ::-1]])
    while not good.all():
        reach = both[good[both[:, 0]] & ~good[both[:, 1]]]
        if not len(reach):
            break
        near[reach[:, 1]] = near[reach[:, 0]]
        good[reach[:, 1]] = True
    return near


def _extrapolated(points: Array, faces: Array, proxy: _Proxy, near: Array) -> Array:
    """Start in the plane: every face laid out by the affine map of its proxy face, averaged at the vertices."""
    corner = proxy.vertices[proxy.faces[near]]  # [F, 3, 3]
    plane = proxy.corners[near]
    ab, ac = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    aa, bb, cc = (ab * ab).sum(1), (ac * ac).sum(1), (ab * ac).sum(1)
    determinant = np.maximum(aa * bb - cc**2, 1e-30)
    sums = np.zeros(len(points), complex)
    for k in range(3):
        away = points[faces[:, k]] - corner[:, 0]
        x, y = (away * ab).sum(1), (away * ac).sum(1)
        s, t = (bb * x - cc * y) / determinant, (aa * y - cc * x) / determinant
        place = plane[:, 0] + s * (plane[:, 1] - plane[:, 0]) + t * (plane[:, 2] - plane[:, 0])
        sums += np.bincount(faces[:, k], place.real, len(points)) + 1j * np.bincount(
            faces[:, k], place.imag, len(points)
        )
    return sums / np.bincount(faces.ravel(), minlength=len(points))


def _without_overlaps(
    vertices: Array, faces: Array, labels: Array, charts: Flattening, flat: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Split the charts that cover themselves (a fold that only the full surface has), and flatten those anew."""
    labels = labels.astype(np.int64).copy()
    corners = flat[charts.faces]
    again = np.ones(len(faces), bool)  # faces of charts whose overlap is not known yet
    table: FaceTable | None = None
    for _ in range(8):
        names, own = np.unique(labels[again], return_inverse=True)
        poor = names[(overlap_by_chart(corners[again], own) > 2e-3) & (np.bincount(own) > 1)]
        if not len(poor):
            break
        table = FaceTable.of(vertices, faces) if table is None else table
        again = np.isin(labels, poor)
        labels = halve_segments(table, labels, poor)
        own = np.unique(labels[again], return_inverse=True)[1]
        part, placed = _flattened(vertices, faces[again], own, rounds=20)
        corners[again] = placed[part.faces]
    charts, _ = _split(vertices, faces, labels)
    flat = np.zeros(len(charts.vertices), complex)
    flat[charts.faces] = corners
    origin, split = split_vertices(faces, labels)
    return origin, split, charts.chart, flat, labels


def _split(vertices: Array, faces: Array, labels: Array) -> tuple[Flattening, Array]:
    origin, split = split_vertices(faces, labels)
    chart = np.empty(len(origin), np.int64)
    chart[split] = labels[:, None]
    return Flattening(vertices[origin], split, chart), origin


def overlap_by_chart(corners: Array, labels: Array) -> Array:
    """Share of each chart's area in the plane that it covers more than once; charts side by side in a square grid.

    corners: places [F, 3] of the faces' corners, complex.
    """
    count = int(labels.max()) + 1
    across = math.ceil(math.sqrt(count))
    points = np.stack([corners.real, corners.imag])  # [2, F, 3]
    low, high = np.full((2, count), np.inf), np.full((2, count), -np.inf)
    for axis in range(2):
        np.minimum.at(low[axis], labels, points[axis].min(1))
        np.maximum.at(high[axis], labels, points[axis].max(1))
    span = np.maximum((high - low).max(0), 1e-30) * 1.02
    cell = np.array([np.arange(count) % across, np.arange(count) // across])
    uv = (cell[:, labels, None] + 0.01 + (points - low[:, labels, None]) / span[labels, None]) / across
    size = min(across * CHART_TEXELS, LARGEST_TEST)
    faces = torch.arange(3 * len(corners)).reshape(-1, 3)
    once, twice = _layers(torch.from_numpy(uv.reshape(2, -1).T), faces, size)
    single = np.bincount(labels[once[once >= 0].numpy()], minlength=count)
    double = np.bincount(labels[twice[twice >= 0].numpy()], minlength=count)
    return double / np.maximum(single, 1)


def overlap(atlas: Atlas, size: int) -> Float[Tensor, "H W"]:
    """1 at the texels (centres) that two different charts cover, else 0: nowhere, as it should be."""
    first, second = _layers(atlas.uvs, atlas.faces, size)
    both = (first >= 0) & (second >= 0)
    chart = torch.cat([atlas.chart, atlas.chart.new_full((1,), -1)])  # -1 for no face
    return (both & (chart[first.long()] != chart[second.long()])).float()


def _layers(uvs: Tensor, faces: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """First and last face that covers each texel [size, size], the second -1 where only one does."""
    depth = torch.linspace(-0.9, 0.9, len(faces), dtype=torch.float64).repeat_interleave(3)
    corners = uvs[faces].double().reshape(-1, 2).cpu()
    own = torch.arange(3 * len(faces)).reshape(-1, 3)

    def seen(order: float) -> Tensor:
        clip = torch.stack(
            [2 * corners[:, 0] - 1, 1 - 2 * corners[:, 1], order * depth, torch.ones_like(depth)], dim=-1
        )
        return rasterize(clip.float()[None], own, (size, size)).triangle[0]

    first, last = seen(1.0), seen(-1.0)
    return first, torch.where(first == last, -1, last)


def _shared_edge_lengths(vertices: Array, faces: Array, pairs: Array) -> Array:
    """Rough length of the edge that two faces share: the distance of their centres stands in for it."""
    centres = vertices[faces].mean(1)
    return np.linalg.norm(centres[pairs[:, 0]] - centres[pairs[:, 1]], axis=1)
