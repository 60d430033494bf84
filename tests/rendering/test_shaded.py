"""Light on materials: energy, the known value of a matt wall, highlights where they belong."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
import trimesh

from humannorm.cameras import orbit
from humannorm.mesh import Mesh
from humannorm.rendering.shaded import AMBIENT, KEY, SKY, light_from, lit_views, reflected

TOWARD = torch.tensor([0.0, 0.0, 1.0])


def answers(roughness: float, metal: float, opened: float = 1.0) -> torch.Tensor:
    return torch.tensor([opened, roughness, metal])


@pytest.mark.parametrize(("roughness", "least"), [(0.2, 0.97), (0.5, 0.8), (1.0, 0.3)])
@pytest.mark.parametrize("tilt", [0.0, 40.0])
def test_a_white_mirror_gives_back_no_more_than_it_gets(roughness: float, least: float, tilt: float) -> None:
    """Over all directions of the lamp (Fibonacci points); smooth ones give back nearly all."""
    count = 200_000
    z = (torch.arange(count) + 0.5) / count * 2 - 1
    turn = (math.pi * (1 + math.sqrt(5)) * torch.arange(count, dtype=torch.float64) % (2 * math.pi)).float()
    around = torch.stack([(1 - z * z).sqrt() * turn.cos(), (1 - z * z).sqrt() * turn.sin(), z], 1)
    normal = torch.tensor([math.sin(math.radians(tilt)), 0.0, math.cos(math.radians(tilt))]).expand(count, 3)
    of = answers(roughness, 1.0, 0.0).expand(count, 3)
    given = float(reflected(normal, torch.ones(count, 3), of, around)[:, 0].mean()) * 4 / KEY
    assert least < given < 1.01


def test_a_matt_wall_in_the_dark_is_lit_by_lamberts_law() -> None:
    for degrees in (0.0, 45.0, 80.0):
        light = torch.tensor(light_from(degrees, 0.0))
        one, two = (reflected(TOWARD, torch.full((3,), a), answers(1.0, 0.0, 0.0), light)[0] for a in (0.2, 0.6))
        assert float(two - one) == pytest.approx(0.4 * KEY * math.cos(math.radians(degrees)), abs=1e-5)


def test_occlusion_takes_the_sky_away_and_leaves_the_lamp() -> None:
    behind = torch.tensor([0.0, 0.0, -1.0]) + 1e-3
    dark = F.normalize(behind, dim=0)
    open_, hidden = (reflected(TOWARD, torch.full((3,), 0.5), answers(1.0, 0.0, o), dark)[0] for o in (1.0, 0.0))
    assert float(hidden) == pytest.approx(0.0, abs=1e-6)
    assert float(open_) > 0.5 * (AMBIENT + SKY / 2)


def test_smooth_things_have_a_highlight_on_the_lamps_side_and_matt_ones_do_not() -> None:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.9)
    vertices = torch.tensor(ball.vertices, dtype=torch.float32)
    mesh = Mesh(vertices, torch.tensor(ball.faces), uvs=vertices[:, :2] / 2 + 0.5, texture=torch.full((4, 4, 3), 0.5))
    brightest = {}
    for roughness in (0.2, 1.0):
        picture = lit_views(mesh, orbit([0.0]), 64, answers(roughness, 0.0).expand(4, 4, 3), light_from(-30, 30))[0]
        inside = picture[16:48, 16:48].mean(-1)
        brightest[roughness] = float(inside.max())
        row, column = divmod(int(inside.argmax()), 32)
        assert row < 16 and column < 16  # up and to the left
    assert brightest[0.2] > brightest[1.0] + 0.1


def test_the_lamp_goes_where_it_is_sent() -> None:
    assert light_from(0, 0) == pytest.approx((0, 0, 1)) and light_from(90, 0) == pytest.approx((1, 0, 0))
    assert light_from(0, 90) == pytest.approx((0, 1, 0))
