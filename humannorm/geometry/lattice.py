"""The tetrahedral lattice: body-centred cubic vertices, all tetrahedra congruent, addressed by integers.

Freudenthal's division of a cube into six tetrahedra (one per order of the three axes) fits its own translates face to
face. Pressed along its main diagonal until the cube's edges are half the body diagonals of a cubic cell, it becomes the
tetragonal disphenoid honeycomb of the body-centred cubic lattice: the well-shaped grid that isosurface stuffing
(Labelle and Shewchuk 2007) and the Quartet grids of DMTet use, symmetric under x -> -x, with addresses as simple as a
cube's. Everything here follows from those addresses, so nothing is stored or downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from humannorm.checks import check_range

__all__ = [
    "CELL_TETRAHEDRA",
    "CORNER_OFFSETS",
    "DIRECTIONS",
    "Lattice",
    "addresses_from_keys",
    "addresses_in_box",
    "key_offset",
    "keys_from_addresses",
]

# Corner c of a cell stands at the offset (bit 0, bit 1, bit 2) of c from the cell's base vertex. An edge leaves a
# vertex in one of the seven directions 1..7, which is the corner it leads to in the cell of that vertex.
CORNER_OFFSETS = tuple((c & 1, c >> 1 & 1, c >> 2 & 1) for c in range(8))
DIRECTIONS = range(1, 8)

# The six tetrahedra of a cell: walks from corner 0 to corner 7 along one axis after the other.
CELL_TETRAHEDRA = tuple((0, 1 << a, 1 << a | 1 << b, 7) for a, b, _ in permutations(range(3)))

# The address axes step by (-1, 1, 1), (1, -1, 1) and (1, 1, -1) half cubic cells; this leads back from the world.
_INVERSE_BASIS = ((0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0))

# A Quartet grid of resolution 64 holds 192,492 tetrahedra in the box of volume 8; twelve of ours fill a cubic cell.
_CELLS_PER_RESOLUTION = (192492 / 12) ** (1 / 3) / 64

_KEY_BITS = 21
_KEY_CENTRE = 1 << (_KEY_BITS - 1)


@dataclass(frozen=True)
class Lattice:
    """A tetrahedral lattice over all space with the world's origin as a vertex.

    resolution: fineness as the published grids count it: the tetrahedra of the lattice are as large as those of the
    Quartet grid of the same resolution in the box [-1, 1]^3 (128, 256 and 512 are the paper's).
    """

    resolution: int

    def __post_init__(self) -> None:
        check_range("resolution", self.resolution, 8, 8192)

    @property
    def cell_size(self) -> float:
        """Side of the cubic cell in world units, which is also the longest edge; the other edges are 0.866 of it."""
        return 2.0 / (self.resolution * _CELLS_PER_RESOLUTION)

    def positions(self, addresses: Int[Tensor, "V 3"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "V 3"]:
        """World positions of lattice vertices (halves of the cell size, so exact before the last product)."""
        a, b, c = addresses.to(dtype).unbind(1)
        return torch.stack((b + c - a, a + c - b, a + b - c), 1) * (self.cell_size / 2)

    def cells_at(self, points: Float[Tensor, "N 3"]) -> Int[Tensor, "N 3"]:
        """Address of the base vertex of the cell around each world point."""
        basis = torch.tensor(_INVERSE_BASIS, dtype=points.dtype, device=points.device)
        return torch.floor(points @ basis / self.cell_size).long()


def keys_from_addresses(addresses: Int[Tensor, "V 3"]) -> Int[Tensor, "V"]:
    """One integer per lattice vertex; the key of a neighbour is the key plus a constant (`key_offset`)."""
    a, b, c = (addresses + _KEY_CENTRE).unbind(1)
    return a << 2 * _KEY_BITS | b << _KEY_BITS | c


def addresses_from_keys(keys: Int[Tensor, "V"]) -> Int[Tensor, "V 3"]:
    mask = (1 << _KEY_BITS) - 1
    return torch.stack((keys >> 2 * _KEY_BITS, keys >> _KEY_BITS & mask, keys & mask), 1) - _KEY_CENTRE


def key_offset(corner: int) -> int:
    """What to add to a vertex's key to reach a corner of its cell."""
    a, b, c = CORNER_OFFSETS[corner]
    return (a << 2 * _KEY_BITS) + (b << _KEY_BITS) + c


def addresses_in_box(lattice: Lattice, half_side: float) -> Int[Tensor, "V 3"]:
    """Addresses of all lattice vertices with world coordinates in [-half_side, half_side]^3, sorted by key."""
    halves = int(half_side / (lattice.cell_size / 2) + 1e-9)  # the box in half cells
    line = torch.arange(-halves, halves + 1)
    even, odd = line[line % 2 == 0], line[line % 2 != 0]
    # World coordinates of a vertex, counted in half cells, are all even or all odd.
    doubled = torch.cat([torch.cartesian_prod(axis, axis, axis) for axis in (even, odd) if len(axis)])
    x, y, z = doubled.unbind(1)
    addresses = torch.stack((y + z, x + z, x + y), 1) // 2
    return addresses_from_keys(keys_from_addresses(addresses).sort().values)
