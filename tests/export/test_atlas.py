"""The atlas: whole, without overlap, hardly stretched, well filled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from humannorm.checks import InputError
from humannorm.export import unwrap
from humannorm.export.atlas import overlap
from humannorm.export.flattening import Flattening, conformal_map, rigid_map
from humannorm.export.packing import covered_cells
from humannorm.export.topology import face_neighbours, face_patches, split_vertices
from humannorm.mesh import Mesh, connected_components
from humannorm.rendering.texels import find_texels


@pytest.fixture(scope="module", params=["sphere", "torus", pytest.param("body", marks=pytest.mark.slow)])
def unwrapped(request):
    mesh = request.getfixturevalue(request.param)
    return mesh, unwrap(mesh, 512, 2.0)


@pytest.mark.slow
def test_the_surface_is_the_same_with_vertices_split_at_seams_only(unwrapped):
    mesh, atlas = unwrapped
    assert torch.equal(atlas.vertex[atlas.faces], mesh.faces)
    pairs = torch.stack([atlas.vertex.repeat_interleave(1), _chart_of_vertex(atlas)], dim=1)
    assert len(torch.unique(pairs, dim=0)) == len(atlas.vertex)  # one for each vertex and chart


def _chart_of_vertex(atlas) -> torch.Tensor:
    chart = torch.empty(len(atlas.vertex), dtype=torch.int64)
    chart[atlas.faces] = atlas.chart[:, None].expand(-1, 3)
    return chart


@pytest.mark.few(1)
def test_no_texel_belongs_to_two_charts(unwrapped):
    _, atlas = unwrapped
    assert float(overlap(atlas, 2048).sum()) == 0
    assert float(atlas.uvs.min()) >= 0 and float(atlas.uvs.max()) <= 1


def test_every_chart_is_one_piece(unwrapped):
    _, atlas = unwrapped
    pieces = connected_components(atlas.faces, len(atlas.vertex))
    assert int(pieces.max()) + 1 >= int(atlas.chart.max()) + 1
    patches = face_patches(face_neighbours(atlas.faces.numpy()), atlas.chart.numpy())
    assert len(np.unique(patches)) == int(atlas.chart.max()) + 1


def test_stretch_is_small_and_nothing_is_mirrored(unwrapped):
    mesh, atlas = unwrapped
    charts = Flattening(
        mesh.vertices[atlas.vertex].double().numpy(), atlas.faces.numpy(), _chart_of_vertex(atlas).numpy()
    )
    flat = atlas.uvs[:, 0].double().numpy() - 1j * atlas.uvs[:, 1].double().numpy()
    scale = np.sqrt(charts.areas.sum() / charts.signed_areas(flat).sum())
    large, small = charts.stretch(flat * scale)
    share = charts.areas / charts.areas.sum()
    assert share[small <= 0].sum() < 1e-3
    assert share[(large > 2) | (small < 0.5)].sum() < 0.03
    assert (share * large * np.maximum(small, 0)).sum() == pytest.approx(1, abs=0.02)
    assert (share * large).sum() < 1.2 and (share * small).sum() > 0.85


def test_charts_keep_their_distance_and_fill_the_square(unwrapped):
    mesh, atlas = unwrapped
    size, padding = 512, 2.0
    whole = Mesh(mesh.vertices[atlas.vertex], atlas.faces, uvs=atlas.uvs)
    texels = find_texels(whole, size)
    assert float(texels.covered.float().mean()) > 0.5
    chart = torch.full((size, size), -1)
    chart[texels.covered] = atlas.chart[texels.face]
    for step in ((0, 1), (1, 0), (1, 1)):  # covered texels of two charts never touch
        a, b = chart[step[0] :, step[1] :], chart[: size - step[0], : size - step[1]]
        assert not bool(((a != b) & (a >= 0) & (b >= 0)).any())
    assert padding > 0


@pytest.mark.slow
def test_pieces_open_sheets_and_needles_are_unwrapped_too():
    rng = np.random.default_rng(0)
    sheet = trimesh.creation.box(extents=(1, 1, 1)).subdivide()
    sheet.update_faces(sheet.triangles_center[:, 1] < 0.4)  # an open box
    needle = trimesh.Trimesh([[3, 0, 0], [4, 0, 0], [3.5, 1e-6, 0]], [[0, 1, 2]], process=False)
    noisy = trimesh.creation.icosphere(subdivisions=2).apply_translation((0, 4, 0))
    noisy.vertices += rng.normal(scale=0.1, size=noisy.vertices.shape)
    shape = trimesh.util.concatenate([sheet, needle, noisy])
    mesh = Mesh(torch.tensor(shape.vertices).float(), torch.tensor(shape.faces).long())
    atlas = unwrap(mesh, 256, 2.0)
    assert torch.equal(atlas.vertex[atlas.faces], mesh.faces)
    assert bool(torch.isfinite(atlas.uvs).all()) and float(overlap(atlas, 1024).sum()) == 0


def test_one_triangle():
    mesh = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
    atlas = unwrap(mesh, 64, 1.0)
    (u0, v0), (u1, v1), (u2, v2) = atlas.uvs[atlas.faces[0]].tolist()
    assert (u1 - u0) * (v2 - v0) - (v1 - v0) * (u2 - u0) < -0.2  # v down: seen from outside it is not mirrored


@pytest.mark.slow
def test_the_same_bytes_again(ball):
    first, second = unwrap(ball, 128, 1.0), unwrap(ball, 128, 1.0)
    assert torch.equal(first.uvs, second.uvs) and torch.equal(first.faces, second.faces)


def test_a_half_cylinder_is_flattened_without_stretch():
    angle, height = np.meshgrid(np.linspace(0, np.pi, 41), np.linspace(0, 2, 31))
    points = np.stack([np.cos(angle), height, np.sin(angle)], axis=-1).reshape(-1, 3)
    corner = (np.arange(30)[:, None] * 41 + np.arange(40)).ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + 41, corner + 1], 1), np.stack([corner + 1, corner + 41, corner + 42], 1)]
    )
    charts = Flattening(points, faces, np.zeros(len(points), np.int64))
    for flat in (conformal_map(charts), rigid_map(charts, conformal_map(charts), 5, direct=True)):
        large, small = charts.stretch(flat)
        # LSCM keeps the two held vertices' straight distance, so only its ratio tells.
        np.testing.assert_allclose(large / small, 1, atol=0.01)
    np.testing.assert_allclose(large, 1, atol=0.01)


def test_stretch_of_known_maps():
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], float)
    charts = Flattening(points, np.array([[0, 1, 2]]), np.zeros(3, np.int64))
    flat = points[:, 0] * 3 + 0.5j * points[:, 1]
    assert [float(s[0]) for s in charts.stretch(flat * np.exp(0.7j))] == pytest.approx([3, 0.5])
    assert [float(s[0]) for s in charts.stretch(flat.conj())] == pytest.approx([3, -0.5])


def test_splitting_where_labels_meet():
    origin, faces = split_vertices(np.array([[0, 1, 2], [2, 1, 3]]), np.array([0, 1]))
    assert sorted(origin.tolist()) == [0, 1, 1, 2, 2, 3]
    assert origin[faces].tolist() == [[0, 1, 2], [2, 1, 3]]


def test_dust_is_refused():
    corners = torch.rand(3 * 2001, 3, generator=torch.Generator().manual_seed(0))
    dust = Mesh(corners, torch.arange(3 * 2001).reshape(-1, 3))
    with pytest.raises(InputError, match="at most 2000 separate pieces, got 2001"):
        unwrap(dust)


@pytest.mark.usefixtures("as_user")
def test_bad_sizes_are_refused(ball):
    with pytest.raises(InputError, match="texture_size: expected 16 to 8192, got 9000"):
        unwrap(ball, 9000)
    with pytest.raises(InputError, match="padding: expected 0 to 4, got 30"):
        unwrap(ball, 64, 30)


def test_a_chart_without_border_and_smaller_than_a_cell_takes_one():
    flat = np.array([0j, 0.001 + 0j, 0.001j])
    faces = np.array([[0, 1, 2], [0, 2, 1]])  # two sides of one triangle: every edge has two faces
    (mask,) = covered_cells(flat, faces, np.zeros(3, int), np.empty((0, 2), int), 1.0)
    assert mask.sum() == 1
