"""Welding by a hash of the positions against comparing all pairs."""

from __future__ import annotations

import pytest
import torch

from humannorm import mesh
from humannorm.mesh import weld


def weld_by_loop(vertices: torch.Tensor) -> list[int]:
    rows = [tuple(row) for row in vertices.tolist()]
    return [rows.index(row) for row in rows]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_first_vertex_at_each_position(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(-3, 4, (200, 3), generator=generator).to(dtype) / 7
    assert weld(places).tolist() == weld_by_loop(places)


def test_swapped_and_signed_coordinates_stay_apart_and_zero_has_no_sign() -> None:
    vertices = torch.tensor([[1.0, 2, 3], [3, 2, 1], [-1, 2, 3], [1, -2, 3], [0.0, 0, 0], [-0.0, 0, -0.0], [1, 2, 3]])
    assert weld(vertices).tolist() == [0, 1, 2, 3, 4, 4, 0]


def test_a_shared_hash_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "_MULTIPLIERS", (0, 0, 0))  # all positions get one hash
    vertices = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))[torch.arange(40) % 20]
    assert weld(vertices).tolist() == weld_by_loop(vertices)


def test_no_vertices() -> None:
    assert weld(torch.zeros(0, 3)).shape == (0,)
