"""Marching tetrahedra: equal to a loop over tetrahedra, closed, outward, the same on every band, differentiable."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from humannorm.checks import InputError
from humannorm.geometry.band import (
    Band,
    band_at_points,
    band_from_keys,
    box_field,
    crossing_points,
    dense_band,
    evaluate,
    is_torn,
    settle_band,
)
from humannorm.geometry.lattice import CELL_TETRAHEDRA, Lattice
from humannorm.geometry.marching import interpolate_crossings, marching_tetrahedra, marching_topology
from humannorm.mesh import connected_components, face_areas, is_watertight, mesh_volume, normal_consistency

Triangle = tuple[tuple[int, int], ...]


def sphere(radius: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Callable[[Tensor], Tensor]:
    return lambda points: (points - points.new_tensor(centre)).norm(dim=1) - radius


def whole_band(
    lattice: Lattice, field: Callable[[Tensor], Tensor], device: torch.device | str = "cpu"
) -> tuple[Band, Tensor]:
    """The band around all of a surface, found without a hint: from a coarse dense grid on."""
    coarse, sdf = settle_band(dense_band(Lattice(min(48, lattice.resolution)), device), field)
    return band_at_points(lattice, crossing_points(coarse, sdf), field)


def canonical(triangle: list[tuple[int, int]]) -> Triangle:
    """The same triangle whichever corner comes first; its winding stays."""
    first = triangle.index(min(triangle))
    return tuple(triangle[first:] + triangle[:first])


def oriented(triangle: list[tuple[int, int]], positions: Tensor, inside: list[int], outside: list[int]) -> Triangle:
    a, b, c = ((positions[p] + positions[q]) / 2 for p, q in triangle)
    outward = positions[outside].mean(0) - positions[inside].mean(0)
    return canonical(triangle if torch.linalg.cross(b - a, c - a) @ outward > 0 else triangle[::-1])


def naive_triangulations(band: Band, sdf: Tensor) -> list[list[set[Triangle]]]:
    """Per crossed tetrahedron, the triangle sets that would be right: one, or for a quad one per diagonal."""
    answers = []
    positions = band.positions.double()
    for cell in band.cells.tolist():
        for tetrahedron in CELL_TETRAHEDRA:
            corners = [cell[c] for c in tetrahedron]
            inside = [v for v in corners if sdf[v] < 0]
            outside = [v for v in corners if sdf[v] >= 0]
            edges = {(a, p): (min(a, p), max(a, p)) for a in inside for p in outside}
            if len(edges) == 3:
                answers.append([{oriented(list(edges.values()), positions, inside, outside)}])
            elif len(edges) == 4:
                (a, b), (p, q) = inside, outside
                ring = [edges[a, p], edges[a, q], edges[b, q], edges[b, p]]
                splits = ([ring[0:3], [ring[0], ring[2], ring[3]]], [ring[1:4], [ring[1], ring[3], ring[0]]])
                answers.append([{oriented(t, positions, inside, outside) for t in split} for split in splits])
    return answers


@pytest.mark.slow
def test_equals_a_loop_over_tetrahedra_on_random_fields(generator: torch.Generator) -> None:
    band = dense_band(Lattice(10))
    for _ in range(4):
        sdf = torch.randn(band.num_vertices, generator=generator)
        topology = marching_topology(band, sdf)
        named = [tuple(sorted(edge)) for edge in topology.edges.tolist()]
        found = Counter(canonical([named[v] for v in face]) for face in topology.faces.tolist())
        answers = naive_triangulations(band, sdf)
        chosen = [next(option for option in options if option <= found.keys()) for options in answers]
        assert found == Counter(triangle for option in chosen for triangle in option)
        vertices = interpolate_crossings(topology.edges, sdf, band.positions)
        for vertex, (a, b) in zip(vertices[::50], topology.edges[::50], strict=True):
            at = (band.positions[a] * sdf[b] - band.positions[b] * sdf[a]) / (sdf[b] - sdf[a])
            torch.testing.assert_close(vertex, at, atol=1e-5, rtol=1e-4)


def test_random_fields_give_closed_surfaces_inside_the_box(generator: torch.Generator) -> None:
    band = dense_band(Lattice(16))
    noise = torch.randn(band.num_vertices, generator=generator)
    sdf = torch.maximum(noise, band.positions.abs().amax(1) - 1.0)
    vertices, faces = marching_tetrahedra(band, sdf)
    assert not is_torn(band, sdf)
    assert is_watertight(faces)
    assert float(vertices.abs().max()) <= 1.0 + 1e-5
    assert float(mesh_volume(vertices, faces)) > 0


def test_sphere_converges_to_its_closed_form(device: torch.device) -> None:
    errors = []
    for resolution in (32, 64, 128):
        band, sdf = whole_band(Lattice(resolution), sphere(0.7), device)
        vertices, faces = marching_tetrahedra(band, sdf)
        assert is_watertight(faces)
        assert float((vertices.norm(dim=1) - 0.7).abs().max()) < band.lattice.cell_size**2 / 0.7
        errors.append(abs(float(mesh_volume(vertices, faces)) - 4 / 3 * math.pi * 0.7**3))
    assert errors[0] > 3 * errors[1] > 9 * errors[2]  # second order


def triangles_in_space(band: Band, sdf: Tensor) -> Tensor:
    """The surface as sorted rows of nine coordinates, free of any numbering."""
    vertices, faces = marching_tetrahedra(band, sdf)
    corners = vertices[faces]
    first = (corners * corners.new_tensor([1e4, 1e2, 1.0])).sum(2).argmin(1)
    order = (first[:, None] + torch.arange(3)) % 3
    rows = corners.gather(1, order[:, :, None].expand(-1, -1, 3)).flatten(1)
    return torch.unique(rows, dim=0)


def bumpy(points: Tensor) -> Tensor:
    return points.norm(dim=1) - 0.6 + 0.15 * torch.sin(9 * points[:, 0]) * torch.sin(7 * points[:, 1] + points[:, 2])


def test_narrow_band_cuts_the_same_triangles_as_the_dense_grid() -> None:
    lattice = Lattice(48)
    dense = dense_band(lattice)
    narrow, sdf = whole_band(lattice, bumpy)
    assert narrow.num_vertices < dense.num_vertices / 2
    assert torch.equal(triangles_in_space(narrow, sdf), triangles_in_space(dense, evaluate(bumpy, dense.positions)))


def test_band_grows_from_one_point_around_the_whole_surface() -> None:
    lattice = Lattice(48)
    band, sdf = band_at_points(lattice, torch.tensor([[0.0, 0.0, 0.55]]), sphere(0.55))
    assert is_watertight(marching_topology(band, sdf).faces)
    whole, whole_sdf = whole_band(lattice, sphere(0.55))
    assert torch.equal(triangles_in_space(band, sdf), triangles_in_space(whole, whole_sdf))


def test_band_follows_a_moving_surface() -> None:
    band, _ = whole_band(Lattice(32), sphere(0.4))
    for shift in (0.02, 0.1, 0.3):
        field = sphere(0.4, (shift, -shift / 2, 0.0))
        moved, sdf = settle_band(band, field)
        assert is_watertight(marching_topology(moved, sdf).faces)
        fresh, fresh_sdf = whole_band(Lattice(32), field)
        assert torch.equal(triangles_in_space(moved, sdf), triangles_in_space(fresh, fresh_sdf))
        band = moved


def test_torn_surface_is_noticed() -> None:
    band, sdf = whole_band(Lattice(32), sphere(0.5))
    assert not is_torn(band, sdf)
    half = band_from_keys(band.lattice, band.keys[: band.num_vertices // 2])
    values = evaluate(sphere(0.5), half.positions)
    assert is_torn(half, values)
    assert not is_watertight(marching_topology(half, values).faces)


def test_every_piece_is_found_and_counted() -> None:
    def two(points: Tensor) -> Tensor:
        return torch.minimum(sphere(0.2, (0.5, 0.0, 0.0))(points), sphere(0.1, (-0.6, 0.3, 0.2))(points))

    band, sdf = whole_band(Lattice(128), two)
    vertices, faces = marching_tetrahedra(band, sdf)
    assert is_watertight(faces)
    assert int(connected_components(faces, len(vertices)).max()) == 1


def test_surface_beyond_the_box_is_closed_at_its_walls() -> None:
    band, sdf = whole_band(Lattice(40), box_field(sphere(0.4, (0.9, 0.0, 0.0))))
    vertices, faces = marching_tetrahedra(band, sdf)
    assert is_watertight(faces)
    assert float(vertices.abs().max()) <= 1.0 + 1e-5


def test_crossing_points_lie_on_the_surface() -> None:
    band, sdf = whole_band(Lattice(64), sphere(0.5))
    assert float((crossing_points(band, sdf).norm(dim=1) - 0.5).abs().max()) < 0.01


def test_gradients_reach_distances_and_positions(generator: torch.Generator) -> None:
    band = dense_band(Lattice(8))
    sdf = torch.randn(band.num_vertices, generator=generator, dtype=torch.float64)
    sdf = (sdf.abs() + 0.1) * sdf.sign()
    topology = marching_topology(band, sdf)
    edges = topology.edges[::40]
    used, edges = torch.unique(edges, return_inverse=True)
    inputs = (sdf[used].requires_grad_(), band.positions[used].double().requires_grad_())
    assert torch.autograd.gradcheck(lambda s, p: interpolate_crossings(edges, s, p), inputs)


def test_a_margin_bounds_the_gradients_of_normals() -> None:
    """A surface just beside a plane of the lattice's vertices: around each some crossings fall together, and have no
    normal. Kept from the edges' ends they have."""
    band = dense_band(Lattice(8))
    plane = band.positions[:, 0] - band.positions[int(band.positions.square().sum(1).argmin()), 0]
    finite, smallest = [], []
    for margin in (0.0, 0.01):
        sdf = (plane - 1e-9).requires_grad_()
        topology = marching_topology(band, sdf.detach())
        vertices = interpolate_crossings(topology.edges, sdf, band.positions, margin)
        normal_consistency(vertices, topology.faces).backward()
        assert sdf.grad is not None
        finite.append(bool(sdf.grad.norm() < 1e3))
        smallest.append(float(face_areas(vertices.detach(), topology.faces).min()))
    assert finite == [False, True]
    assert smallest[0] < 1e-12 < smallest[1]


def test_moved_positions_move_the_surface() -> None:
    band, sdf = whole_band(Lattice(32), sphere(0.5))
    still, faces = marching_tetrahedra(band, sdf)
    moved, same_faces = marching_tetrahedra(band, sdf, band.positions + torch.tensor([0.1, 0.0, -0.2]))
    torch.testing.assert_close(moved, still + torch.tensor([0.1, 0.0, -0.2]))
    assert torch.equal(faces, same_faces)


def test_hostile_inputs(as_user: None) -> None:
    with pytest.raises(InputError, match="field: expected a surface"):
        whole_band(Lattice(16), lambda points: points.norm(dim=1) + 1.0)
    band = dense_band(Lattice(8))
    with pytest.raises(InputError, match=r"sdf: expected float tensor \[\d+\], got float32 \[3\]"):
        marching_topology(band, torch.zeros(3))
    with pytest.raises(InputError, match="points: expected finite values"):
        band_at_points(Lattice(16), torch.tensor([[float("nan"), 0.0, 0.0]]), sphere(0.5))
