"""A texture of one mesh as colours in space."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from humannorm.body import load_body
from humannorm.texture.carrying import CarrySettings, carried, in_space
from humannorm.texture.fields import UvColorSettings
from humannorm.texture.settings import preset
from humannorm.texture.state import TextureState, start_state

QUICK = preset("quick")


def banded() -> TextureState:
    """The body with a texture of four grey and coloured bands."""
    mesh = load_body().to_mesh(uvs=True)
    state = start_state(mesh, replace(QUICK, field=UvColorSettings(64)), torch.Generator().manual_seed(0))
    bands = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9], [0.5, 0.5, 0.5]]).repeat_interleave(16, 0)
    with torch.no_grad():
        state.field.logits.copy_(torch.logit(bands[:, None].expand(64, 64, 3)))
    return state


@pytest.mark.slow
def test_a_texture_is_carried_to_a_surface_that_was_changed():
    painted = banded()
    other = painted.mesh.replace(vertices=painted.mesh.vertices * 1.001, uvs=None)
    moved = carried(painted, other, QUICK, torch.Generator().manual_seed(1), CarrySettings(steps=40, points=2000))
    assert moved.mesh.uvs is None and moved.step == 0
    points = other.vertices[::7]
    away = (moved.field.at(points) - painted.field.at(points)).abs().mean()
    assert float(away) < 0.1  # grey would be 0.28 away
    assert carried(painted, painted.mesh, QUICK, torch.Generator()).field.settings == UvColorSettings(64)


def test_the_same_seed_gives_the_same_bytes():
    painted, few = banded(), CarrySettings(steps=3, points=500)
    first, second = (
        in_space(painted, QUICK, torch.Generator().manual_seed(4), few).field.state_dict() for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
