"""What is said of meshes, against closed forms, invariants and naive loops."""

from __future__ import annotations

import math

import pytest
import torch
import trimesh

from humannorm.checks import InputError
from humannorm.mesh import (
    Mesh,
    check_mesh,
    connected_components,
    face_areas,
    face_normals,
    is_watertight,
    laplacian_smoothness,
    mesh_volume,
    normal_consistency,
    uniform_laplacian,
    unique_edges,
    vertex_normals,
    welded_vertex_normals,
)


@pytest.fixture
def sphere() -> tuple[torch.Tensor, torch.Tensor]:
    ball = trimesh.creation.icosphere(subdivisions=3)
    return torch.tensor(ball.vertices), torch.tensor(ball.faces).long()


TETRAHEDRON = (
    torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64),
    torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
)


def test_faces_wind_counter_clockwise_seen_from_outside(sphere):
    vertices, faces = sphere
    centres = vertices[faces].mean(1)
    assert float((face_normals(vertices, faces) * centres).sum(1).min()) > 0.9
    assert float(mesh_volume(vertices, faces)) > 0 > float(mesh_volume(vertices, faces.flip(1)))


def test_sphere_normals_area_and_volume_match_closed_forms(sphere):
    vertices, faces = sphere
    assert float((vertex_normals(vertices, faces) * vertices).sum(1).min()) > 0.9999
    assert float(face_areas(vertices, faces).sum()) == pytest.approx(4 * math.pi, rel=0.01)
    assert float(mesh_volume(vertices, faces)) == pytest.approx(4 * math.pi / 3, rel=0.02)


def test_volume_ignores_where_the_mesh_stands():
    vertices, faces = TETRAHEDRON
    assert float(mesh_volume(vertices + 5.0, faces)) == pytest.approx(1 / 6, abs=1e-12)


def test_vertex_normals_are_weighted_by_area():
    vertices, faces = TETRAHEDRON
    # At the origin three faces of area 1/2 meet; at (1,0,0) two of them and the slanted one of area sqrt(3)/2.
    torch.testing.assert_close(vertex_normals(vertices, faces)[0], -torch.ones(3, dtype=torch.float64) / math.sqrt(3))
    expected = torch.tensor([0.0, 0, -0.5]) + torch.tensor([0.0, -0.5, 0]) + torch.full((3,), 0.5)
    torch.testing.assert_close(vertex_normals(vertices, faces)[1], (expected / expected.norm()).double())


def test_normals_of_tiny_and_degenerate_faces():
    vertices, faces = TETRAHEDRON
    torch.testing.assert_close(face_normals(vertices * 1e-9, faces), face_normals(vertices, faces))
    flat = torch.tensor([[0, 0, 1]])
    assert torch.equal(face_normals(vertices, flat), torch.zeros(1, 3, dtype=torch.float64))
    assert torch.equal(vertex_normals(vertices, flat), torch.zeros(4, 3, dtype=torch.float64))


def test_welded_normals_do_not_see_seams(sphere):
    vertices, faces = sphere
    soup = vertices[faces].reshape(-1, 3)
    split = torch.arange(len(soup)).reshape(-1, 3)
    torch.testing.assert_close(welded_vertex_normals(soup, split), vertex_normals(vertices, faces)[faces.flatten()])


def test_unique_edges_obey_euler(sphere):
    vertices, faces = sphere
    edges = unique_edges(faces)
    assert len(vertices) - len(edges) + len(faces) == 2
    assert bool((edges[:, 0] < edges[:, 1]).all())
    naive = {tuple(sorted((int(f[i]), int(f[(i + 1) % 3])))) for f in faces for i in range(3)}
    assert [tuple(edge) for edge in edges.tolist()] == sorted(naive)


def test_uniform_laplacian_is_degree_minus_adjacency(sphere):
    vertices, faces = sphere
    neighbours: list[set[int]] = [set() for _ in vertices]
    for a, b, c in faces.tolist():
        for i, j in ((a, b), (b, c), (c, a)):
            neighbours[i].add(j)
            neighbours[j].add(i)
    naive = torch.stack(
        [sum((vertices[i] - vertices[j] for j in near), torch.zeros(3).double()) for i, near in enumerate(neighbours)]
    )
    torch.testing.assert_close(uniform_laplacian(vertices, faces), naive)
    torch.testing.assert_close(laplacian_smoothness(vertices, faces), naive.norm(dim=1).mean())
    assert float(naive.sum(0).norm()) < 1e-10  # every edge counts once in each direction


def test_laplacian_vanishes_in_the_middle_of_a_flat_fan():
    angles = torch.arange(6) * (math.pi / 3)
    rim = torch.stack([angles.cos(), angles.sin(), torch.zeros(6)], dim=1)
    faces = torch.tensor([[6, i, (i + 1) % 6] for i in range(6)])
    torch.testing.assert_close(uniform_laplacian(torch.cat([rim, torch.zeros(1, 3)]), faces)[6], torch.zeros(3))


def test_normal_consistency_is_zero_when_flat_and_grows_with_roughness(sphere):
    vertices, faces = sphere
    square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    assert float(normal_consistency(square, torch.tensor([[0, 1, 2], [0, 2, 3]]))) == pytest.approx(0.0, abs=1e-6)
    rough = vertices + 0.05 * torch.randn(vertices.shape, generator=torch.Generator().manual_seed(0))
    assert float(normal_consistency(rough, faces)) > 3 * float(normal_consistency(vertices, faces)) > 0


@pytest.mark.parametrize(
    "function", [face_normals, face_areas, vertex_normals, laplacian_smoothness, normal_consistency, mesh_volume]
)
def test_gradients(function):
    vertices, faces = TETRAHEDRON
    noisy = (
        vertices + 0.1 * torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: function(v, faces), noisy)


def test_gradient_of_smoothness_is_finite_where_the_laplacian_is_zero():
    vertices = torch.zeros(4, 3, requires_grad=True)
    laplacian_smoothness(vertices, TETRAHEDRON[1]).backward()
    assert vertices.grad is not None and bool(torch.isfinite(vertices.grad).all())


def test_watertight(sphere):
    _, faces = sphere
    assert is_watertight(faces)
    assert not is_watertight(faces[1:])
    assert not is_watertight(torch.cat([faces[:1].flip(1), faces[1:]]))  # one face turned over
    assert not is_watertight(faces[:0])


def test_connected_components(sphere):
    _, faces = sphere
    count = int(faces.max()) + 1
    labels = connected_components(torch.cat([faces, faces + count]), 2 * count + 1)
    assert torch.equal(labels, torch.tensor([0] * count + [1] * count + [2]))


def test_mesh_moves_replaces_and_stays_as_it_was():
    vertices, faces = TETRAHEDRON
    mesh = Mesh(vertices, faces, colors=torch.rand(4, 3).double())
    single = mesh.to(dtype=torch.float32)
    assert single.vertices.dtype == torch.float32 and single.faces.dtype == torch.int64
    assert single.colors is not None and single.colors.dtype == torch.float32 and mesh.vertices.dtype == torch.float64
    assert mesh.replace(colors=None).colors is None and mesh.colors is not None
    assert mesh.device == torch.device("cpu") and (mesh.num_vertices, mesh.num_faces) == (4, 4)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vertices": torch.zeros(4, 2)}, r"vertices: expected float tensor \[V, 3\], got float32 \[4, 2\]"),
        ({"vertices": torch.zeros(4, 3).int()}, r"vertices: expected float tensor"),
        ({"faces": torch.zeros(4, 3)}, r"faces: expected int tensor \[F, 3\], got float32 \[4, 3\]"),
        ({"faces": torch.zeros(4, 3).int()}, r"faces: expected int64"),
        ({"colors": torch.zeros(5, 3)}, r"colors: expected float tensor \[4, 3\], got float32 \[5, 3\]"),
        ({"uvs": torch.zeros(4, 3)}, r"uvs: expected float tensor \[4, 2\]"),
        ({"texture": torch.zeros(4, 4)}, r"texture: expected float tensor \[H, W, 3\]"),
        ({"vertices": torch.zeros(4, 3, device="meta")}, "expected all on one device"),
    ],
)
def test_a_mesh_of_the_wrong_shape_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Mesh(**{"vertices": torch.zeros(4, 3), "faces": TETRAHEDRON[1], **changes})


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (torch.zeros(0, 3), TETRAHEDRON[1][:0], "mesh: expected vertices and faces, got 0 and 0"),
        (TETRAHEDRON[0], TETRAHEDRON[1][:0], "got 4 and 0"),
        (TETRAHEDRON[0] * math.nan, TETRAHEDRON[1], "vertices: expected finite values, got"),
        (TETRAHEDRON[0], TETRAHEDRON[1] + 1, "faces: expected vertex indices 0 to 3, got 1 to 4"),
        (TETRAHEDRON[0], TETRAHEDRON[1] - 1, "faces: expected vertex indices 0 to 3, got -1 to 2"),
        (TETRAHEDRON[0] * 0, TETRAHEDRON[1], "got 4 of zero area"),
    ],
)
def test_a_mesh_with_nothing_to_show_is_refused(vertices, faces, message):
    with pytest.raises(InputError, match=message):
        check_mesh(Mesh(vertices, faces))
