"""Normals that agree on a surface, and the surface drawn to them: closed forms, noise, bounds, fixed points."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
import trimesh
from torch import Tensor

from humannorm.cameras import Cameras, orbit
from humannorm.checks import InputError
from humannorm.geometry.normal_agreement import (
    NormalAgreement,
    NormalFusingSettings,
    coverage_of,
    world_normals,
)
from humannorm.geometry.normal_fitting import NormalFitSettings, fit_to_normals, outline_pull
from humannorm.mesh import Mesh, is_watertight, vertex_normals
from humannorm.rendering.passes import render

SIZE = 64


def ball(radius: float = 0.6, subdivisions: int = 4) -> Mesh:
    shape = trimesh.creation.icosphere(subdivisions, radius)
    return Mesh(torch.tensor(shape.vertices, dtype=torch.float32), torch.tensor(shape.faces, dtype=torch.int64))


def bumpy(mesh: Mesh, height: float = 0.006, waves: float = 40.0) -> Mesh:
    """A ball with ripples over its height."""
    normals = F.normalize(mesh.vertices, dim=1)
    return Mesh(mesh.vertices + height * (waves * mesh.vertices[:, 1:2]).sin() * normals, mesh.faces)


@pytest.fixture(scope="module")
def cameras() -> Cameras:
    rings = [orbit([0.0, 60.0, 120.0, 180.0, 240.0, 300.0], elevation=elevation) for elevation in (-30.0, 0.0, 30.0)]
    return Cameras.concatenate(rings)


@pytest.fixture(scope="module")
def agreement(cameras: Cameras) -> NormalAgreement:
    return NormalAgreement.of(ball(), cameras, SIZE, NormalFusingSettings())


def drawn(mesh: Mesh, cameras: Cameras, size: int = SIZE) -> Tensor:
    picture = render(mesh, cameras, (size, size), ("normal",)).normal
    assert picture is not None
    return picture


def angles(one: Tensor, two: Tensor) -> Tensor:
    """Degrees."""
    return torch.rad2deg(torch.atan2(torch.linalg.cross(one, two).norm(dim=-1), (one * two).sum(-1)))


def fresh(agreement: NormalAgreement, **changes: object) -> NormalAgreement:
    return dataclasses.replace(agreement, disagreement=[], **changes)


def test_a_balls_normal_maps_are_its_places_in_the_world(cameras: Cameras) -> None:
    pictures = drawn(ball(), cameras)
    centre = world_normals(pictures, cameras)[:, SIZE // 2 - 1 : SIZE // 2 + 1, SIZE // 2 - 1 : SIZE // 2 + 1]
    toward = F.normalize(cameras.position(), dim=1)  # the middle of the ball faces the camera
    assert angles(F.normalize(centre.mean((1, 2)), dim=1), toward).max() < 0.5
    covered = pictures[..., 2] > 0.75
    turned = torch.einsum("bij,bhwj->bhwi", cameras.world_to_camera()[:, :3, :3], world_normals(pictures, cameras))
    assert torch.allclose((turned / 2 + 0.5)[covered], pictures[covered], atol=2e-3)


def test_the_surfaces_own_views_are_a_fixed_point(agreement: NormalAgreement, cameras: Cameras) -> None:
    pictures = drawn(agreement.mesh, cameras)
    agreement = fresh(agreement)
    shown = agreement(pictures, 0.0)
    assert agreement.disagreement[0] < 0.5
    assert (shown - pictures).abs().mean() < 2e-3
    assert torch.equal(shown[:, 0, 0], torch.zeros(len(cameras), 3))  # background stays background
    assert angles(agreement.fused(pictures, 4.0), agreement.own).mean() < 0.5


def test_noise_of_single_views_is_averaged_down(agreement: NormalAgreement, cameras: Cameras) -> None:
    noise = 0.1 * torch.randn(len(cameras), SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0))
    pictures = drawn(agreement.mesh, cameras)
    noisy = pictures + noise * (pictures[..., 2:] > 0.3)
    agreement = fresh(agreement)
    shown = agreement(noisy, 0.0)
    inside = agreement.views.pixel_weight > 0.9
    before, after = ((each - pictures)[inside].square().mean().sqrt() for each in (noisy, shown))
    assert after < 0.5 * before
    assert agreement.disagreement[0] > 5
    assert agreement.disagreement_of(shown) < 1


def test_what_a_view_leaves_black_does_not_count_and_what_is_held_stays(
    agreement: NormalAgreement, cameras: Cameras
) -> None:
    pictures = drawn(agreement.mesh, cameras)
    pictures[3] = 0
    assert angles(agreement.fused(pictures, 1.0), agreement.own).mean() < 0.5
    flat = torch.tensor([0.5, 0.5, 1.0]).expand_as(pictures)
    held = (agreement.mesh.vertices[:, 1] > 0).float()
    fused = fresh(agreement, held=held).fused(flat, 1.0)
    assert angles(fused, agreement.own)[held > 0].max() < 0.1
    assert angles(fused, agreement.own)[held == 0].max() > 5
    with pytest.raises(InputError, match="held"):
        fresh(agreement, held=held[1:])


def test_kernels_and_their_twin_agree(agreement: NormalAgreement, cameras: Cameras) -> None:
    pictures = drawn(bumpy(agreement.mesh), cameras)
    twin = fresh(agreement, views=dataclasses.replace(agreement.views, engine="torch"))
    assert torch.allclose(agreement.fused(pictures, 2.0), twin.fused(pictures, 2.0), atol=1e-4)


def test_own_normals_and_outlines_move_nothing(agreement: NormalAgreement, cameras: Cameras) -> None:
    mesh = agreement.mesh
    own = coverage_of(drawn(mesh, cameras))
    pull = outline_pull(agreement.views, cameras, own, own, 0.03)
    assert bool((pull.height == 0).all())
    fitted = fit_to_normals(mesh, vertex_normals(mesh.vertices, mesh.faces), NormalFitSettings(), pull=pull)
    assert torch.allclose(fitted.vertices, mesh.vertices, atol=1e-6)


def test_the_surface_gets_the_relief_that_its_views_show(cameras: Cameras) -> None:
    smooth = ball(subdivisions=5)
    truth = bumpy(smooth)
    agreement = NormalAgreement.of(smooth, cameras, 128, NormalFusingSettings())
    fused = agreement.fused(drawn(truth, cameras, 128), 4.0)
    fitted = fit_to_normals(smooth, fused, NormalFitSettings())
    wanted = vertex_normals(truth.vertices, truth.faces)
    before = angles(vertex_normals(smooth.vertices, smooth.faces), wanted).mean()
    after = angles(vertex_normals(fitted.vertices, fitted.faces), wanted).mean()
    assert after < 0.4 * before
    away, left = ((each.vertices - truth.vertices).norm(dim=1).mean() for each in (smooth, fitted))
    assert left < 0.5 * away
    assert is_watertight(fitted.faces)


def test_outlines_pull_where_the_normals_say_nothing(agreement: NormalAgreement, cameras: Cameras) -> None:
    mesh, wider = agreement.mesh, ball(0.66)
    asked, own = (coverage_of(drawn(each, cameras)) for each in (wider, mesh))
    pull = outline_pull(agreement.views, cameras, asked, own, 0.05)
    normals = vertex_normals(mesh.vertices, mesh.faces)
    fitted = fit_to_normals(mesh, normals, NormalFitSettings(outline=20.0), pull=pull)
    middle = mesh.vertices[:, 1].abs() < 0.3
    assert fitted.vertices[middle].norm(dim=1).mean() > 0.61


def test_no_vertex_leaves_its_bound_and_sheets_never_meet() -> None:
    mesh = ball(subdivisions=3)
    away = F.normalize(vertex_normals(mesh.vertices, mesh.faces) + torch.tensor([1.0, 0.0, 0.0]), dim=1, eps=1e-6)
    settings = NormalFitSettings(bound=0.01, reach=10.0)
    held = (mesh.vertices[:, 0] < 0).float()
    fitted = fit_to_normals(mesh, away, settings, held=held)
    way = (fitted.vertices - mesh.vertices).norm(dim=1)
    assert 0.004 < way.max() <= 0.0101
    assert way[held == 1].max() == 0
    plate = trimesh.creation.box((1.0, 1.0, 0.012)).subdivide().subdivide().subdivide()
    thin = Mesh(torch.tensor(plate.vertices, dtype=torch.float32), torch.tensor(plate.faces, dtype=torch.int64))
    tilted = F.normalize(vertex_normals(thin.vertices, thin.faces) + 0.3 * thin.vertices, dim=1, eps=1e-6)
    pressed = fit_to_normals(thin, tilted, NormalFitSettings(bound=0.01, reach=1.0))
    front, back = (pressed.vertices[thin.vertices[:, 2] * side > 0, 2] * side for side in (1, -1))
    assert front.min() > 0 and back.min() > 0


@pytest.mark.parametrize(("name", "value"), [("reach", 0.0), ("bound", math.inf), ("outline", -1.0), ("rounds", 0)])
def test_settings_are_refused_at_the_border(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        NormalFitSettings(**{name: value})
