"""Packing charts into a square: large ones first, each by its outline to where the square grows least.

Charts are complex plane coordinates, y up; the atlas has v = 0 at the top.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_dilation

from humannorm.export.topology import Array, border_edges
from humannorm.rendering import rasterize

__all__ = ["covered_cells", "pack_charts", "upright"]

GRID = 512
"""Cells along a side of the packing grid at most. Twice as many fill the square no better, for four times the work."""
ATTEMPTS = 3
"""How well charts interlock is much a matter of luck, some 2 % of the square: the best of so many scales is taken."""
EXPECTED_FILL = 0.64
"""Share of the square that charts usually fill: where the search for the scale begins."""
SQUARE_AT_FIRST = 0.94
"""Side of the square in which places are sought first, as a share of the grid; it grows where that does not suffice."""
ROOM = 2
"""The grid is this many times as wide as the square aimed at, so that there is always a place."""


@dataclass(frozen=True)
class _Place:
    turns: int  # quarter turns counter-clockwise
    row: int
    column: int


def upright(flat: Array, chart: Array) -> Array:
    """Every chart turned so that its bounding box is smallest, its lower left corner at the origin."""
    flat = flat.copy()
    angles = np.exp(-1j * np.linspace(0, math.pi / 2, 24, endpoint=False))
    for members in _members(chart):
        points = flat[members]
        turned = points[None, :: max(1, len(points) // 2000)] * angles[:, None]
        box = np.ptp(turned.real, axis=1) * np.ptp(turned.imag, axis=1)
        points = points * angles[np.argmin(box)]
        flat[members] = points - (points.real.min() + 1j * points.imag.min())
    return flat


def covered_cells(flat: Array, faces: Array, chart: Array, border: Array, scale: float) -> list[Array]:
    """Of every chart (as `upright` leaves it) the cells of side 1 / scale that it touches, row 0 at the top.

    border: vertices [N, 2] of the edges around the charts; the cells along them, and those of the vertices, are taken
    where no centre is covered: a chart much smaller than a cell takes one, whether or not it has a border.
    """
    points = flat * scale
    boxes = np.array([[points[m].imag.max(), points[m].real.max()] for m in _members(chart)])
    sizes = np.ceil(boxes + 1e-6).astype(int) + 1
    corners, height, width = _shelves(sizes)
    mask = _raster(points, faces, chart, corners, sizes, height, width)
    along, whose = _along(points, border, chart)
    outline, outlined = np.concatenate([along, points]), np.concatenate([whose, chart])
    rows = np.clip((sizes[outlined, 0] - outline.imag).astype(int), 0, sizes[outlined, 0] - 1)
    columns = np.clip(outline.real.astype(int), 0, sizes[outlined, 1] - 1)
    mask[corners[outlined, 0] + rows, corners[outlined, 1] + columns] = True
    return [mask[r : r + h, c : c + w] for (r, c), (h, w) in zip(corners, sizes, strict=True)]


def _along(points: Array, edges: Array, chart: Array) -> tuple[Array, Array]:
    """Points at most half a cell apart along the edges, and the chart of each."""
    start, end = points[edges[:, 0]], points[edges[:, 1]]
    steps = np.ceil(2 * np.abs(end - start)).astype(int) + 1
    edge = np.repeat(np.arange(len(edges)), steps)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(steps) - steps, steps)
    share = step / steps[edge]
    return start[edge] + share * (end - start)[edge], chart[edges[edge, 0]]


def _shelves(sizes: Array) -> tuple[Array, int, int]:
    """Boxes (height, width) in rows under each other, with one empty cell between: corners (row, column) and extent."""
    width = max(int(math.sqrt(float((sizes + 1).prod(1).sum()))), int(sizes[:, 1].max()) + 1)
    corners = np.zeros_like(sizes)
    row = column = tallest = 0
    for index in np.argsort(-sizes[:, 0], kind="stable"):
        h, w = sizes[index] + 1
        if column + w > width:
            row, column, tallest = row + tallest, 0, 0
        corners[index] = row, column
        column, tallest = column + w, max(tallest, int(h))
    return corners, row + tallest, width


def _raster(points: Array, faces: Array, chart: Array, corners: Array, sizes: Array, height: int, width: int) -> Array:
    x = corners[chart, 1] + points.real
    y = corners[chart, 0] + sizes[chart, 0] - points.imag
    mask = np.zeros((height, width), bool)
    tile = 4096
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            h, w = min(tile, height - top), min(tile, width - left)
            clip = np.stack([2 * (x - left) / w - 1, 1 - 2 * (y - top) / h, 0 * x, 0 * x + 1], axis=-1)
            seen = rasterize(torch.from_numpy(clip).float()[None], torch.from_numpy(faces), (h, w))
            mask[top : top + h, left : left + w] = seen.covered[0].numpy()
    return mask


def pack_charts(flat: Array, faces: Array, chart: Array, areas: Array, texture_size: int, padding: float) -> Array:
    """Texture coordinates [V, 2] of charts that `upright` has set, all at one scale, at least `padding` texels apart.

    areas: of the faces in the plane.
    """
    border = border_edges(faces)
    grid = min(GRID, texture_size)
    cells_apart = padding * grid / texture_size
    scale = grid * math.sqrt(EXPECTED_FILL / float(areas.sum()))
    best: tuple[float, float, list[Array], list[_Place], int] | None = None
    for _ in range(ATTEMPTS):
        masks = covered_cells(flat, faces, chart, border, scale)
        places, side = _place_all(masks, math.ceil(cells_apart), grid)
        # In a larger square than the grid the padding is less than was requested.
        badness = max(side / grid, 1.02) * side / scale
        if best is None or badness < best[0]:
            best = badness, scale, masks, places, side
        scale *= grid / side
    assert best is not None
    _, scale, masks, places, side = best
    uv = np.empty((len(flat), 2))
    margin = cells_apart / 2
    for members, mask, place in zip(_members(chart), masks, places, strict=True):
        points = flat[members] * scale
        height, width = mask.shape
        for _ in range(place.turns):  # a quarter turn takes (x, y) to (-y, x)
            points = 1j * points + height
            height, width = width, height
        uv[members, 0] = place.column + points.real
        uv[members, 1] = place.row + height - points.imag
    return (uv + margin) / (side + 2 * margin)


def _place_all(masks: list[Array], apart: int, grid: int) -> tuple[list[_Place], int]:
    """Where each chart goes, and the side of the square that holds all. Occupied cells are marked as they are, a chart
    is tried with `apart` cells around it."""
    from humannorm.export.warp_packing import first_fits

    largest = max(max(mask.shape) for mask in masks)
    extent = max(ROOM * grid, grid + largest) + 2 * apart
    occupied = np.zeros((extent + largest + 2 * apart, extent + largest + 2 * apart), bool)
    free = torch.from_numpy(_free_runs(occupied))
    places: list[_Place | None] = [None] * len(masks)
    side = int(SQUARE_AT_FIRST * grid)
    disc = _disc(apart)
    for index in sorted(range(len(masks)), key=lambda i: -int(masks[i].sum())):
        turned = [np.rot90(masks[index], turns) for turns in range(4)]
        spans = [_spans(binary_dilation(np.pad(mask, apart), disc)) for mask in turned]
        best: tuple[int, int] | None = None
        # Where the chart may lie so that the square does not grow is tried first; it is nearly always enough.
        for reach in (side, extent):
            nearest = torch.full((1,), 2 * extent, dtype=torch.int32) if reach == side else None
            for turns in range(4):
                height, width = turned[turns].shape
                if max(height, width) > reach:
                    continue
                first = first_fits(free, spans[turns], reach - height + 1, reach - width + 1, nearest).numpy()
                rows = np.flatnonzero(first >= 0)
                if not len(rows):
                    continue
                right, bottom = first[rows] + width, rows + height
                far, near = np.maximum(right, bottom), np.minimum(right, bottom)
                k = int(np.lexsort((far + near, np.maximum(far, side)))[0])
                cost = (int(max(far[k], side)), int(far[k] + near[k]))
                if best is None or cost < best:
                    best = cost
                    places[index] = _Place(turns, int(rows[k]), int(first[rows[k]]))
            if best is not None:
                break
        place = places[index]
        assert place is not None
        mask = turned[place.turns]
        height, width = mask.shape
        side = max(side, place.row + height, place.column + width)
        top, left = place.row + apart, place.column + apart  # the grid begins `apart` cells outside the square
        occupied[top : top + height, left : left + width] |= mask
        free[top : top + height] = torch.from_numpy(_free_runs(occupied[top : top + height]))
    placed = [place for place in places if place is not None]
    ends = [
        max(p.row + m.shape[p.turns % 2], p.column + m.shape[1 - p.turns % 2])
        for p, m in zip(placed, masks, strict=True)
    ]
    return placed, max(ends)


def _free_runs(occupied: Array) -> Array:
    """How many free cells follow from each cell to the right, itself included."""
    width = occupied.shape[1]
    blocked = np.where(occupied, np.arange(width, dtype=np.int32), np.int32(width))
    return np.minimum.accumulate(blocked[:, ::-1], axis=1)[:, ::-1] - np.arange(width, dtype=np.int32)


def _spans(mask: Array) -> torch.Tensor:
    """Runs of true cells, as (row, start, length)."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    return torch.from_numpy(np.stack([rows, starts, ends - starts], axis=1).astype(np.int32))


def _disc(radius: int) -> Array:
    offset = np.arange(-radius, radius + 1)
    return offset[:, None] ** 2 + offset**2 <= radius**2


def _members(chart: Array) -> list[Array]:
    order = np.argsort(chart, kind="stable")
    return np.split(order, np.searchsorted(chart[order], np.arange(1, int(chart.max()) + 1)))
