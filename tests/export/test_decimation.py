"""Decimation: within the budget, close to the shape, closed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from humannorm.checks import InputError
from humannorm.export import decimate
from humannorm.export.decimation import moved_apart, part_pinched_edges
from humannorm.mesh import Mesh, is_watertight, mesh_volume, weld


@pytest.mark.parametrize("budget", [2000, 500])
def test_a_sphere_keeps_its_volume_and_stays_closed(sphere, budget):
    light = decimate(sphere, budget)
    assert budget * 0.95 <= light.num_faces <= budget
    assert is_watertight(light.faces)
    assert float(mesh_volume(light.vertices, light.faces)) == pytest.approx(4 / 3 * math.pi, rel=10 / budget)


@pytest.mark.parametrize("budget", [10_000, 2500])
def test_a_body_with_fingers_stays_closed(body, budget):
    light = decimate(body, budget)
    assert light.num_faces <= budget and is_watertight(light.faces)
    volume = float(mesh_volume(body.vertices, body.faces))
    assert float(mesh_volume(light.vertices, light.faces)) == pytest.approx(volume, rel=0.03)


def test_far_from_the_origin_and_tiny_is_the_same_work(sphere):
    away = sphere.replace(vertices=sphere.vertices * 0.001 + 5)
    light = decimate(away, 500)
    assert is_watertight(light.faces) and light.num_faces <= 500
    radius = (light.vertices - 5).norm(dim=1) * 1000
    assert float((radius - 1).abs().max()) < 0.05


def test_within_the_budget_nothing_changes_but_seams_are_welded(sphere):
    split = Mesh(sphere.vertices[sphere.faces].reshape(-1, 3), torch.arange(3 * sphere.num_faces).reshape(-1, 3))
    whole = decimate(split, 10_000)
    assert whole.num_vertices == sphere.num_vertices
    assert torch.equal(whole.vertices[whole.faces], sphere.vertices[sphere.faces])


def two_tetrahedra_on_one_edge() -> tuple[np.ndarray, np.ndarray]:
    points = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0.5], [1, 1, 0.5], [-1, 0, 0.5], [-1, -1, 0.5]], np.float32)

    def solid(a, b, c, d):
        faces = np.array([[a, b, c], [a, d, b], [b, d, c], [a, c, d]])
        volume = np.linalg.det(np.stack([points[k] - points[a] for k in (b, c, d)]).astype(float))
        return faces if volume < 0 else faces[:, ::-1]

    return points, np.concatenate([solid(0, 1, 2, 3), solid(0, 1, 4, 5)])


def test_solids_that_touch_along_an_edge_are_parted():
    points, faces = two_tetrahedra_on_one_edge()
    assert not is_watertight(torch.from_numpy(faces.copy()))
    apart, parted = part_pinched_edges(points, faces)
    assert is_watertight(torch.from_numpy(parted)) and len(apart) == 8
    before, after = (mesh_volume(torch.from_numpy(p), torch.from_numpy(f.copy())) for p, f in
                     ((points, faces), (apart, parted)))  # fmt: skip
    torch.testing.assert_close(before, after)


def test_parted_vertices_stand_apart_by_place_too():
    apart, parted = part_pinched_edges(*two_tetrahedra_on_one_edge())
    moved = torch.from_numpy(moved_apart(apart, parted)).float()
    faces = torch.from_numpy(parted)
    assert not is_watertight(weld(torch.from_numpy(apart).float())[faces])
    assert is_watertight(weld(moved)[faces])
    assert float((moved - torch.from_numpy(apart)).norm(dim=1).max()) < 0.1


def test_two_faces_lying_on_each_other_are_dropped():
    points, faces = two_tetrahedra_on_one_edge()
    flat = np.concatenate([faces, [[2, 3, 4], [4, 3, 2]]])
    _, parted = part_pinched_edges(points, flat)
    assert is_watertight(torch.from_numpy(parted)) and len(parted) == 8


def test_hopeless_budgets_are_refused(sphere):
    with pytest.raises(InputError, match="faces: expected at least 4, got 3"):
        decimate(sphere, 3)
    with pytest.raises(InputError, match="mesh: expected vertices and faces"):
        decimate(Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)), 100)


def voxel_surface(filled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The boundary of cells, two triangles a side, outward; cells that meet in an edge share its vertices."""
    filled = np.pad(filled, 1)
    corners: list[np.ndarray] = []
    for axis in range(3):
        for step in (-1, 1):
            open_sides = filled & ~np.roll(filled, -step, axis)
            u, v = np.eye(3, dtype=int)[[(axis + 1) % 3, (axis + 2) % 3]]
            origin = np.argwhere(open_sides) + (step > 0) * np.eye(3, dtype=int)[axis]
            ring = [origin, origin + u, origin + u + v, origin + v]
            ring = ring if step > 0 else ring[::-1]
            corners += [np.stack([ring[0], ring[1], ring[2]], 1), np.stack([ring[0], ring[2], ring[3]], 1)]
    points, faces = np.unique(np.concatenate(corners).reshape(-1, 3), axis=0, return_inverse=True)
    return points.astype(float), faces.reshape(-1, 3)


@pytest.mark.parametrize("hollow", [False, True])
def test_sheets_that_meet_in_an_edge_and_around_its_ends_are_parted(hollow: bool) -> None:
    """Two columns that touch in an edge between a floor and a ceiling, and the same as a cavity: either way of parting
    joins the sheets around both ends of the edge, so that new vertices at its ends cannot tell its sides apart."""
    cells = np.ones((2, 2, 3), bool)
    cells[0, 1, 1] = cells[1, 0, 1] = False
    if hollow:
        outer = np.ones((4, 4, 5), bool)
        outer[1:3, 1:3, 1:4] = ~cells
        cells = outer
    points, faces = voxel_surface(cells)
    assert not is_watertight(torch.from_numpy(faces))
    parted, kept = part_pinched_edges(points, faces)
    assert is_watertight(torch.from_numpy(kept))
    volume = mesh_volume(torch.from_numpy(parted), torch.from_numpy(kept))
    assert float(volume) == pytest.approx(cells.sum(), abs=1e-4)
