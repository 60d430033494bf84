"""The part of the tetrahedral lattice that is evaluated: all of a box, or a narrow band around a surface.

A band is a set of lattice vertices; the cells whose eight corners are all present carry tetrahedra. A surface is whole
in a band when every cell around every sign-changing edge is present: then no triangle ends at the band's border.
`settle_band` adds cells until that holds, so a band of any shape cuts the same triangles out of the same field as the
dense grid would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from humannorm.checks import InputError, check_tensor
from humannorm.geometry.lattice import (
    DIRECTIONS,
    Lattice,
    addresses_from_keys,
    addresses_in_box,
    key_offset,
    keys_from_addresses,
)
from humannorm.working_box import BOX

__all__ = [
    "Band",
    "SignedField",
    "band_at_points",
    "band_from_keys",
    "box_field",
    "crossing_points",
    "cut_to_box",
    "dense_band",
    "evaluate",
    "is_torn",
    "settle_band",
]

SignedField = Callable[[Tensor], Tensor]  # world points [N, 3] -> signed distance [N], negative inside

_POINTS_PER_BATCH = 1 << 18


@dataclass(frozen=True, eq=False)
class Band:
    """Vertices of a lattice with their neighbours.

    keys: vertex keys, ascending.
    neighbours: index of the vertex in directions 1..7 of each vertex, -1 where the band does not hold it.
    """

    lattice: Lattice
    keys: Int[Tensor, " V"]
    neighbours: Int[Tensor, "V 7"]

    @property
    def num_vertices(self) -> int:
        return len(self.keys)

    @cached_property
    def positions(self) -> Float[Tensor, "V 3"]:
        """World positions of the vertices."""
        return self.lattice.positions(addresses_from_keys(self.keys))

    @cached_property
    def cells(self) -> Int[Tensor, "C 8"]:
        """Corner vertices of every whole cell, corner c standing at bits (0, 1, 2) of c."""
        base = (self.neighbours >= 0).all(1).nonzero()
        return torch.cat((base.to(self.neighbours.dtype), self.neighbours[base[:, 0]]), 1)

    @cached_property
    def border_edges(self) -> Int[Tensor, "E 2"]:
        """Edges with a missing cell around them: a surface crossing one of these is torn there."""
        border = []
        for direction in DIRECTIONS:
            around = [corner for corner in range(8) if corner & direction == 0]  # where the edge starts in its cells
            count = torch.zeros(self.num_vertices, dtype=torch.uint8, device=self.keys.device)
            for corner in around:
                count[self.cells[:, corner].long()] += 1  # a vertex is the same corner of one cell only: no collisions
            edge = self.neighbours[:, direction - 1]
            start = ((edge >= 0) & (count < len(around))).nonzero()[:, 0]
            border.append(torch.stack((start.to(edge.dtype), edge[start]), 1))
        return torch.cat(border)


def band_from_keys(lattice: Lattice, keys: Int[Tensor, " N"]) -> Band:
    """The band that holds the vertices with these keys (any order, repeats allowed)."""
    keys = torch.unique(keys)
    if not len(keys):
        raise InputError("keys: expected at least one lattice vertex for a band, got none")
    neighbours = torch.empty(len(keys), len(DIRECTIONS), dtype=torch.int32, device=keys.device)
    for direction in DIRECTIONS:
        wanted = keys + key_offset(direction)
        index = torch.searchsorted(keys, wanted, out_int32=True).clamp_(max=len(keys) - 1)
        neighbours[:, direction - 1] = torch.where(keys[index] == wanted, index, -1)
    return Band(lattice, keys, neighbours)


def dense_band(lattice: Lattice, device: torch.device | str = "cpu") -> Band:
    """All lattice vertices of the working box, and beyond its walls what the cells that reach out need."""
    addresses = addresses_in_box(lattice, BOX + 2 * lattice.cell_size)
    return band_from_keys(lattice, keys_from_addresses(addresses.to(device)))


def box_field(field: SignedField) -> SignedField:
    """The field cut off at the working box, so that no surface leaves it and none is open there."""

    def inside_box(points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        return cut_to_box(field(points), points)

    return inside_box


def cut_to_box(values: Float[Tensor, " N"], points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
    """A field's values at points, cut off at the working box."""
    return torch.maximum(values, points.abs().amax(1) - BOX)


def crossing_edges(band: Band, sdf: Float[Tensor, " V"]) -> list[Int[Tensor, "N 2"]]:
    """Sign-changing edges of the band, per direction 1..7: their start and end vertices."""
    inside = sdf < 0
    edges = []
    for direction in DIRECTIONS:
        end = band.neighbours[:, direction - 1]
        start = ((end >= 0) & (inside != inside[end.clamp(min=0)])).nonzero()[:, 0]
        edges.append(torch.stack((start, end[start].long()), 1))
    return edges


def crossed_cells(band: Band, sdf: Float[Tensor, " V"]) -> Int[Tensor, " N"]:
    """Base keys of all lattice cells around the sign-changing edges, whether the band holds them or not."""
    bases = []
    for direction, edges in zip(DIRECTIONS, crossing_edges(band, sdf), strict=True):
        start = band.keys[edges[:, 0]]
        bases += [start - key_offset(corner) for corner in range(8) if corner & direction == 0]
    return torch.unique(torch.cat(bases))


def crossing_points(band: Band, sdf: Float[Tensor, " V"]) -> Float[Tensor, "N 3"]:
    """Where the surface crosses the band's edges, by linear interpolation."""
    first, second = torch.cat(crossing_edges(band, sdf)).unbind(1)
    fraction = sdf[first] / (sdf[first] - sdf[second])
    return torch.lerp(band.positions[first], band.positions[second], fraction[:, None])


def band_around_cells(lattice: Lattice, base_keys: Int[Tensor, " N"], rings: int = 1) -> Band:
    """The band of these cells and `rings` rings of neighbours (14 to a vertex) for the surface to move in."""
    keys = torch.unique(base_keys)
    keys = torch.unique(torch.cat([keys + key_offset(corner) for corner in range(8)]))
    steps = [0] + [sign * key_offset(direction) for direction in DIRECTIONS for sign in (1, -1)]
    for _ in range(rings):
        keys = torch.unique(torch.cat([keys + step for step in steps]))
    return band_from_keys(lattice, keys)


def is_torn(band: Band, sdf: Float[Tensor, " V"]) -> bool:
    """Whether the surface crosses an edge at the band's border, where cells around it are missing."""
    first, second = band.border_edges.unbind(1)
    inside = sdf < 0
    return bool((inside[first] != inside[second]).any())


@torch.no_grad()
def evaluate(field: SignedField, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
    """Field values without gradients, in batches that bound the memory."""
    return torch.cat([field(batch) for batch in points.split(_POINTS_PER_BATCH)])


def settle_band(band: Band, field: SignedField, rings: int = 1) -> tuple[Band, Float[Tensor, " V"]]:
    """The band with `rings` spare rings around the whole surface that touches `band`, and the field's values on it.

    The field is only evaluated, never changed. Every round follows the surface at least one cell further; inside the
    box (`box_field`) a surface is finite, so the rounds end. A surface that does not touch `band` is not seen.
    """
    sdf = evaluate(field, band.positions)
    while True:
        torn = is_torn(band, sdf)
        cells = crossed_cells(band, sdf)
        if not len(cells):
            raise InputError("field: expected a surface (a change of sign) in the band, got one sign only")
        band = band_around_cells(band.lattice, cells, rings)
        sdf = evaluate(field, band.positions)
        if not torn and not is_torn(band, sdf):
            return band, sdf


def band_at_points(
    lattice: Lattice, points: Float[Tensor, "N 3"], field: SignedField, rings: int = 1
) -> tuple[Band, Float[Tensor, " V"]]:
    """A band that holds the whole of every surface piece that passes within about a cell of one of the points."""
    check_tensor("points", points, "N 3", finite=True)
    band = band_around_cells(lattice, keys_from_addresses(lattice.cells_at(points)), rings)
    return settle_band(band, field, rings)
