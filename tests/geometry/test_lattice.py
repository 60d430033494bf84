"""The lattice tiles space with congruent tetrahedra and is addressed by integers."""

from __future__ import annotations

import math

import pytest
import torch

from humannorm.checks import InputError
from humannorm.geometry.lattice import (
    CELL_TETRAHEDRA,
    CORNER_OFFSETS,
    Lattice,
    addresses_from_keys,
    addresses_in_box,
    key_offset,
    keys_from_addresses,
)

LATTICE = Lattice(64)


def tetrahedra() -> torch.Tensor:
    """World corners [6, 4, 3] of one cell's tetrahedra."""
    corners = LATTICE.positions(torch.tensor(CORNER_OFFSETS), torch.float64)
    return corners[torch.tensor(CELL_TETRAHEDRA)]


def test_tetrahedra_are_congruent_disphenoids_that_fill_the_cell() -> None:
    corners = tetrahedra()
    edges = torch.stack([(corners[:, a] - corners[:, b]).norm(dim=1) for a in range(4) for b in range(a)], 1)
    long, short = LATTICE.cell_size, LATTICE.cell_size * math.sqrt(3) / 2
    expected = torch.tensor([short] * 4 + [long] * 2, dtype=torch.float64).expand(6, 6)
    torch.testing.assert_close(edges.sort(1).values, expected)
    spans = corners[:, 1:] - corners[:, :1]
    volumes = torch.linalg.det(spans).abs() / 6
    torch.testing.assert_close(volumes.sum(), torch.tensor(LATTICE.cell_size**3 / 2, dtype=torch.float64))


def test_every_point_lies_in_one_tetrahedron_of_its_cell(generator: torch.Generator) -> None:
    points = torch.rand(500, 3, generator=generator, dtype=torch.float64) * 2 - 1
    base = LATTICE.positions(LATTICE.cells_at(points), torch.float64)
    spans = tetrahedra()[:, 1:] - tetrahedra()[:, :1]
    weights = torch.linalg.solve(spans.transpose(1, 2)[None], (points - base)[:, None, :, None])[..., 0]
    holds = (weights >= 0).all(2) & (weights.sum(2) <= 1)
    assert bool((holds.sum(1) == 1).all())


def test_the_lattice_is_its_own_mirror_image() -> None:
    positions = LATTICE.positions(addresses_in_box(LATTICE, 0.5), torch.float64)
    halves = (positions / (LATTICE.cell_size / 2)).round().long()
    mirrored = halves * torch.tensor([-1, 1, 1])
    assert set(map(tuple, halves.tolist())) == set(map(tuple, mirrored.tolist()))


def test_box_holds_as_many_tetrahedra_as_the_published_grid() -> None:
    """Quartet's grid of resolution 64 has 36562 vertices and 192492 tetrahedra; ours counts the same volume."""
    inside = addresses_in_box(LATTICE, 1.0)
    assert len(torch.unique(keys_from_addresses(inside))) == len(inside)
    assert 12 * (2.0 / LATTICE.cell_size) ** 3 == pytest.approx(192492)
    assert len(inside) == pytest.approx(36562, rel=0.1)


def test_keys_name_addresses_and_neighbours() -> None:
    addresses = torch.tensor([[0, 0, 0], [-5, 7, 1000], [-1000, -1, 3], [2**19, -(2**19), 0]])
    keys = keys_from_addresses(addresses)
    assert torch.equal(addresses_from_keys(keys), addresses)
    for corner, offset in enumerate(CORNER_OFFSETS):
        assert torch.equal(addresses_from_keys(keys + key_offset(corner)), addresses + torch.tensor(offset))


@pytest.mark.parametrize("resolution", [0, 7, 100000])
def test_resolution_out_of_range(resolution: int) -> None:
    with pytest.raises(InputError, match="resolution: expected 8 to 8192"):
        Lattice(resolution)
