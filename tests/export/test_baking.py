"""Baked textures: the field where it is, normals as the full surface has them, no seam to be seen."""

from __future__ import annotations

import math

import pytest
import torch
import trimesh

from humannorm.cameras import turntable
from humannorm.checks import InputError
from humannorm.distance.signed_distance import SignedDistance
from humannorm.export import ExportSettings, bake, color_vertices, decimate, to_metres, vertex_tangents
from humannorm.export.tangents import from_tangent_space, to_tangent_space
from humannorm.mesh import Mesh, vertex_normals
from humannorm.rendering import render
from humannorm.rendering.texels import fill_outside, find_texels


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


@pytest.fixture(scope="module")
def baked_body(body, colorful):
    return bake(body, ExportSettings(texture_size=1024), colorful)


@pytest.mark.slow
def test_no_seam_shows_from_twelve_sides_at_512(body, colorful, baked_body):
    for azimuths in range(3):
        cameras = turntable(12).select(torch.arange(4 * azimuths, 4 * azimuths + 4))
        field = render(body, cameras, (512, 512), ("color", "mask"), field=colorful)
        seen = render(baked_body.mesh, cameras, (512, 512), ("color",))
        assert field.color is not None and field.mask is not None and seen.color is not None
        for k in range(4):
            inside = field.mask[k] > 0
            assert psnr(field.color[k][inside], seen.color[k][inside]) > 32  # of the person alone, a harder measure


@pytest.mark.slow
def test_a_detailed_sphere_lives_on_in_the_normal_map_of_a_coarse_one(sphere):
    dented = sphere.replace(vertices=sphere.vertices * (1 + 0.02 * torch.sin(8 * sphere.vertices[:, 1:2])))
    baked = bake(dented, ExportSettings(faces=1000, texture_size=512))
    low = baked.mesh
    assert low.num_faces <= 1000 and baked.normal_map is not None and baked.tangents is not None
    texels = find_texels(low, 512)
    normals, tangents = texels.interpolate(low, low.normals), texels.interpolate(low, baked.tangents)
    mapped = from_tangent_space(baked.normal_map[texels.covered] * 2 - 1, normals, tangents)
    _, face, weights = SignedDistance(dented.vertices, dented.faces).closest(texels.interpolate(low, low.vertices))
    corners = vertex_normals(dented.vertices, dented.faces)[dented.faces[face]]
    truth = torch.nn.functional.normalize((corners * weights[:, :, None]).sum(1), dim=1)
    own = torch.nn.functional.normalize(normals, dim=1)
    with_map, without = ((n * truth).sum(1).clamp(-1, 1).arccos().rad2deg().mean() for n in (mapped, own))
    assert float(with_map) < 0.2 < 0.6 < float(without)


def test_the_normal_map_of_the_same_surface_is_flat(ball):
    baked = bake(ball, ExportSettings(texture_size=256))
    assert baked.normal_map is not None
    torch.testing.assert_close(
        baked.normal_map, torch.tensor([0.5, 0.5, 1.0]).expand_as(baked.normal_map), atol=2e-3, rtol=0
    )


def test_tangents_point_along_u_and_the_bitangent_up_the_picture():
    square = Mesh(
        torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]),
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
    )
    normals = torch.tensor([[0.0, 0, 1]]).repeat(4, 1)
    uvs = torch.tensor([[0.0, 1], [1, 1], [1, 0], [0, 0]])
    tangents = vertex_tangents(square.vertices, square.faces, normals, uvs)
    torch.testing.assert_close(tangents, torch.tensor([[1.0, 0, 0, 1]]).repeat(4, 1))
    mirrored = vertex_tangents(
        square.vertices, square.faces, normals, uvs * torch.tensor([-1.0, 1]) + torch.tensor([1.0, 0])
    )
    torch.testing.assert_close(mirrored, torch.tensor([[-1.0, 0, 0, -1]]).repeat(4, 1))
    lost = vertex_tangents(square.vertices, square.faces, normals, torch.zeros(4, 2))
    torch.testing.assert_close(lost[:, :3].norm(dim=1), torch.ones(4))


def test_tangent_space_and_back(generator):
    normals, tangents = (torch.randn(50, n, generator=generator) for n in (3, 4))
    directions = torch.nn.functional.normalize(torch.randn(50, 3, generator=generator), dim=1)
    there = to_tangent_space(directions, normals, tangents)
    back = from_tangent_space(there, normals, tangents)
    agree = (back * directions).sum(1)
    # The bitangent is across both by construction; a left-handed frame turns nothing over.
    torch.testing.assert_close(agree, torch.ones(50), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_texture_and_vertex_colours_are_baked_as_the_field_is(sphere, colorful):
    by_field = bake(sphere, ExportSettings(texture_size=256), colorful)
    by_vertex = bake(sphere.replace(colors=colorful(sphere.vertices)), ExportSettings(texture_size=256))
    again = bake(by_field.mesh, ExportSettings(texture_size=256))
    assert by_field.mesh.texture is not None and by_vertex.mesh.texture is not None and again.mesh.texture is not None
    assert psnr(by_field.mesh.texture, by_vertex.mesh.texture) > 35
    assert psnr(by_field.mesh.texture, again.mesh.texture) > 30


def test_vertex_colours_for_ply(sphere, colorful):
    baked = color_vertices(sphere, ExportSettings(faces=1000), colorful)
    assert baked.mesh.colors is not None and baked.mesh.texture is None and baked.mesh.num_faces <= 1000
    assert float((baked.mesh.colors - colorful(baked.mesh.vertices)).abs().max()) < 0.1


def test_a_mesh_without_colours_is_grey(ball):
    baked = color_vertices(ball)
    torch.testing.assert_close(baked.mesh.colors, torch.full_like(baked.mesh.vertices, 0.7))


def test_outside_the_charts_the_nearest_colour_goes_on():
    covered = torch.zeros(8, 8, dtype=torch.bool)
    covered[2, 2] = covered[5, 6] = True
    image = torch.zeros(8, 8, 3)
    image[2, 2, 0] = image[5, 6, 1] = 1
    filled = fill_outside(image, covered)
    assert filled[0, 0].tolist() == [1, 0, 0] and filled[7, 7].tolist() == [0, 1, 0]
    assert bool((filled.sum(-1) == 1).all())


def test_occlusion_of_a_floor_under_a_lid():
    floor = trimesh.creation.box(extents=(4, 0.2, 4)).subdivide().subdivide().subdivide()
    lid = trimesh.creation.box(extents=(4, 0.2, 4)).apply_translation((0, 0.6, 0))
    shape = trimesh.util.concatenate([floor, lid])
    mesh = Mesh(torch.tensor(shape.vertices).float(), torch.tensor(shape.faces).long())
    settings = ExportSettings(texture_size=128, occlusion=True, occlusion_reach=10.0, normal_map=False)
    baked = bake(mesh, settings)
    assert baked.occlusion is not None and baked.normal_map is None
    texels = find_texels(baked.mesh, 128)
    points = texels.interpolate(baked.mesh, baked.mesh.vertices)
    open_share = baked.occlusion[texels.covered][:, 0]
    beneath = (points[:, 1] - 0.1).abs() < 1e-3
    inner = beneath & (points[:, [0, 2]].abs() < 1).all(1)
    underside = ((points[:, 1] + 0.1).abs() < 1e-3) & (points[:, [0, 2]].abs() < 1).all(1)
    assert float(open_share[inner].mean()) < 0.2
    assert float(open_share[underside].min()) == 1


def test_metres(ball):
    tall = to_metres(ball.replace(vertices=ball.vertices * 3 + 7), 1.75)
    low, high = tall.vertices.amin(0), tall.vertices.amax(0)
    torch.testing.assert_close(high[1] - low[1], torch.tensor(1.75))
    torch.testing.assert_close(low, torch.tensor([-0.875, 0.0, -0.875]), atol=1e-5, rtol=0)
    for height in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="height_m: expected a height in metres above 0"):
            to_metres(ball, height)


def test_fields_that_fail_say_so(ball):
    with pytest.raises(InputError, match="field: expected finite colours, got NaN"):
        bake(ball, ExportSettings(texture_size=64), lambda points: points * math.nan)
    with pytest.raises(InputError, match="field: expected colours"):
        bake(ball, ExportSettings(texture_size=64), lambda points: points[:, :2])


def test_the_inputs_are_left_alone(ball, colorful):
    before = ball.vertices.clone()
    bake(ball, ExportSettings(texture_size=64, faces=200), colorful)
    decimate(ball, 100)
    assert torch.equal(before, ball.vertices)
