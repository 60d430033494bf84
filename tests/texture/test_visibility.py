"""What cameras see of a sphere in closed form, what hides what, and the filling of the rest."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import trimesh

from humannorm.cameras import TEXTURE_CAMERA_PLANS, orbit
from humannorm.checks import InputError
from humannorm.fields.hash_grid import GridLayout
from humannorm.mesh import Mesh
from humannorm.texture.fields import HashColorField, HashColorSettings
from humannorm.texture.state import start_state
from humannorm.texture.surface import SurfaceColors, fill_unseen, painted_mesh, surface_colors, user_field
from humannorm.texture.visibility import plan_cameras, visible_vertices


def joined(*meshes: Mesh) -> Mesh:
    faces, offset = [], 0
    for mesh in meshes:
        faces.append(mesh.faces + offset)
        offset += mesh.num_vertices
    return Mesh(torch.cat([mesh.vertices for mesh in meshes]), torch.cat(faces))


def test_of_a_sphere_one_camera_sees_the_cap_in_front(ball):
    """From distance d a point of a sphere of radius r is seen under cos = (d z/r - r) / |p - c|."""
    seen = visible_vertices(ball, orbit([0.0]), 256, least_cosine=0.2)
    position = torch.tensor([0.0, 0.0, 3.0])
    toward = torch.nn.functional.normalize(position - ball.vertices, dim=1)
    cosine = (toward * ball.vertices).sum(1) / 0.8
    sure = (cosine - 0.2).abs() > 0.02  # vertex normals of the polyhedron are not quite radial
    assert torch.equal(seen[sure], (cosine > 0.2)[sure])
    area_share = float(seen.float().mean())
    assert area_share == pytest.approx((1 - 0.8 / 3) / 2, abs=0.12)


def test_the_plan_misses_the_poles_only(ball):
    seen = visible_vertices(ball, plan_cameras(TEXTURE_CAMERA_PLANS["full_body"]), 256)
    height = ball.vertices[:, 1] / 0.8
    assert bool(seen[height.abs() < 0.8].all())
    assert not bool(seen[height < -0.99].any())


def test_what_stands_before_hides():
    back = trimesh.creation.icosphere(3, 0.3)
    behind = Mesh(torch.tensor(back.vertices, dtype=torch.float32), torch.tensor(back.faces))
    wall = Mesh(
        torch.tensor([[-0.5, -0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, 0.5], [-0.5, 0.5, 0.5]]),
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
    )
    both = joined(behind, wall)
    assert int(visible_vertices(both, orbit([0.0]), 128).sum()) == 4
    assert bool(visible_vertices(both, orbit([180.0]), 128)[: behind.num_vertices].any())
    outside = dataclasses.replace(orbit([0.0]), target=torch.tensor([[3.0, 0.0, 0.0]]))
    assert not bool(visible_vertices(both, outside, 128).any())


def test_engines_agree():
    shape = trimesh.creation.icosphere(2, 0.8)
    ball = Mesh(torch.tensor(shape.vertices, dtype=torch.float32), torch.tensor(shape.faces))
    fast, slow = (visible_vertices(ball, orbit([0.0, 100.0]), 32, engine=engine) for engine in ("warp", "torch"))
    assert torch.equal(fast, slow)


def strip(count: int) -> Mesh:
    """A ladder of squares along x, one unit each."""
    x = torch.arange(count).float()
    low, high = torch.stack([x, 0 * x, 0 * x], 1), torch.stack([x, 0 * x + 1, 0 * x], 1)
    i = torch.arange(count - 1)
    faces = torch.cat([torch.stack([i, i + 1, count + i + 1], 1), torch.stack([i, count + i + 1, count + i], 1)])
    return Mesh(torch.cat([low, high]), faces)


def test_filling_solves_laplaces_equation():
    mesh, count = strip(6), 6
    seen = torch.zeros(12, dtype=torch.bool)
    seen[[0, 5, 6, 11]] = True
    colors = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
    colors[[0, 6]], colors[[5, 11]] = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 0, 1])
    filled = fill_unseen(mesh, colors, seen)
    assert torch.equal(filled[seen], colors[seen])
    edges = {(min(a, b), max(a, b)) for f in mesh.faces.tolist() for a, b in zip(f, f[1:] + f[:1], strict=True)}
    for at in range(2 * count):
        if seen[at]:
            continue
        residual = torch.zeros(3)
        for a, b in edges:
            if at in (a, b):
                other = b if at == a else a
                weight = 1 / float((mesh.vertices[at] - mesh.vertices[other]).norm())
                residual += weight * (filled[at] - filled[other])
        assert float(residual.abs().max()) < 1e-5
    assert bool((filled >= 0).all() and (filled <= 1).all())  # maximum principle
    assert bool((filled[:5, 0] > filled[1:6, 0]).all())


def test_seams_do_not_stop_the_filling_and_far_pieces_take_the_nearest():
    a, b = strip(3), strip(3)
    shifted = Mesh(b.vertices + torch.tensor([2.0, 0, 0]), b.faces)  # its left end stands on the first one's right end
    lonely = Mesh(strip(2).vertices + torch.tensor([9.0, 0, 0]), strip(2).faces)
    mesh = joined(a, shifted, lonely)
    seen = torch.zeros(mesh.num_vertices, dtype=torch.bool)
    seen[[0, 3]] = True
    colors = torch.zeros(mesh.num_vertices, 3)
    colors[[0, 3]] = torch.tensor([0.2, 0.6, 0.4])
    filled = fill_unseen(mesh, colors, seen)
    torch.testing.assert_close(filled, torch.tensor([0.2, 0.6, 0.4]).expand_as(filled))


def test_nothing_to_fill_or_nothing_to_fill_from(ball):
    colors = torch.rand(ball.num_vertices, 3)
    every = torch.ones(ball.num_vertices, dtype=torch.bool)
    assert torch.equal(fill_unseen(ball, colors, every), colors)
    assert torch.equal(fill_unseen(ball, colors, ~every), colors)
    with pytest.raises(InputError, match="colors: expected finite values"):
        fill_unseen(ball, colors * math.nan, every)


def test_surface_colors_are_the_fields_where_seen(ball, generator):
    field = HashColorField(HashColorSettings(GridLayout(levels=4, log2_table=10)), generator)
    with torch.no_grad():
        torch._foreach_mul_(list(field.encoding.tables), 1e4)
    seen = ball.vertices[:, 1] > -0.3
    vertex_colors = fill_unseen(ball, field(ball.vertices).detach(), seen)
    colors = SurfaceColors(ball, field, seen, vertex_colors)
    above = ball.vertices[ball.vertices[:, 1] > 0]
    torch.testing.assert_close(colors(above), field(above).detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(colors(ball.vertices), vertex_colors, rtol=0, atol=2e-3)
    middle = ball.vertices[ball.faces].mean(1)
    third = torch.full((ball.num_faces, 3), 1 / 3)
    torch.testing.assert_close(
        colors(middle), colors.at(middle, torch.arange(ball.num_faces), third), atol=5e-3, rtol=0
    )


def test_a_users_mesh_comes_back_in_its_own_frame(ball, small_settings, generator):
    mesh = Mesh(ball.vertices * 120 + torch.tensor([5.0, 90.0, 0.0]), ball.faces)  # centimetres, standing on the floor
    state = start_state(mesh, small_settings, generator)
    assert float(state.mesh.vertices.abs().max()) == pytest.approx(0.9, abs=1e-3)
    painted = painted_mesh(state, surface_colors(state, 64))
    torch.testing.assert_close(painted.vertices, mesh.vertices, rtol=1e-4, atol=1e-3)
    asked = user_field(state, surface_colors(state, 64))(mesh.vertices)
    assert painted.colors is not None
    torch.testing.assert_close(asked, painted.colors, rtol=0, atol=1e-3)
    assert float((painted.colors - 0.5).abs().max()) < 0.01
