"""An edit by regions: what is held keeps its colours whatever the guidance wants; the rest is free."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.spatial import cKDTree

from humannorm.body import load_body
from humannorm.body.regions import BODY_REGIONS, region_vertices
from humannorm.checks import InputError
from humannorm.geometry.holding import Hold, hold_all_but
from humannorm.mesh import Mesh
from humannorm.texture.fields import HeldColorField, UvColorSettings
from humannorm.texture.paint import paint
from humannorm.texture.settings import QUICK, TextureSettings, edit_settings
from humannorm.texture.state import TextureState, load_state, save_state, start_state

RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)


def painted(state: TextureState, settings: TextureSettings, guide: Any, distance: Any, prompt: str) -> TextureState:
    generator = torch.Generator().manual_seed(0)
    return paint(state, prompt, settings, guide=guide, perceptual=distance, generator=generator)


def colors(state: TextureState, points: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return state.field(points)


@pytest.fixture
def red(
    ball: Mesh, small_settings: TextureSettings, believes_in_color: Any, pixel_distance: Any
) -> tuple[TextureState, Hold]:
    """A ball that was painted red, and a hold on its left half."""
    state = start_state(ball, small_settings, torch.Generator().manual_seed(0))
    share = torch.zeros(16, 16, 16)
    share[..., :8] = 1  # x below -1/15, a cell of transition
    return painted(state, small_settings, believes_in_color(RED, RED), pixel_distance, "red"), Hold(ball, share)


def test_the_held_half_keeps_its_colours_to_the_bit_while_the_other_changes(
    red: tuple[TextureState, Hold],
    small_settings: TextureSettings,
    believes_in_color: Any,
    pixel_distance: Any,
    tmp_path: Path,
) -> None:
    state, hold = red
    before = {name: value.clone() for name, value in state.field.state_dict().items()}
    start = state.edited(hold)
    assert start.step == 0 and start.targets is None and start.history is None
    points = state.mesh.vertices
    torch.testing.assert_close(colors(start, points), colors(state, points), atol=1e-6, rtol=0)

    done = painted(start, small_settings, believes_in_color(BLUE, BLUE), pixel_distance, "blue")
    x = points[:, 0]
    held, free = x < -0.1, x > 0.1
    torch.testing.assert_close(colors(done, points[held]), colors(state, points[held]), atol=1e-6, rtol=0)
    change = (colors(done, points[free]) - colors(state, points[free])).mean(0)
    assert float(change[2]) > 0.1 > -0.1 > float(change[0])
    assert all(torch.equal(value, state.field.state_dict()[name]) for name, value in before.items())

    save_state(done, tmp_path / "state.safetensors")
    again = load_state(tmp_path / "state.safetensors")
    assert torch.equal(colors(again, points), colors(done, points))


@pytest.mark.slow
def test_an_edit_of_an_edit_keeps_both(
    red: tuple[TextureState, Hold], small_settings: TextureSettings, believes_in_color: Any, pixel_distance: Any
) -> None:
    state, hold = red
    blue = painted(state.edited(hold), small_settings, believes_in_color(BLUE, BLUE), pixel_distance, "blue")
    other = Hold(hold.mesh, 1 - hold.share)
    done = painted(blue.edited(other), small_settings, believes_in_color(BLUE, BLUE), pixel_distance, "blue")
    points = state.mesh.vertices[state.mesh.vertices[:, 0] > 0.1]  # free in the first edit, held in the second
    torch.testing.assert_close(colors(done, points), colors(blue, points), atol=1e-6, rtol=0)
    assert not isinstance(done.edited(None).field, HeldColorField)


def test_colours_go_over_to_a_changed_surface_but_a_texture_does_not(
    red: tuple[TextureState, Hold], small_settings: TextureSettings
) -> None:
    state, hold = red
    larger = Mesh(100 * state.mesh.vertices, state.mesh.faces)
    moved = state.edited(hold).on(larger)
    world = moved.placement.to_world(larger.vertices)
    torch.testing.assert_close(moved.mesh.vertices, world)
    torch.testing.assert_close(colors(moved, world), colors(state, world), atol=1e-6, rtol=0)

    plain = Mesh(state.mesh.vertices, state.mesh.faces, uvs=torch.rand(state.mesh.num_vertices, 2))
    settings = dataclasses.replace(small_settings, field=UvColorSettings(8))
    texels = start_state(plain, settings, torch.Generator().manual_seed(0))
    held = texels.edited(hold)
    assert held.on(plain).mesh is held.mesh
    for each in (texels, held):
        with pytest.raises(InputError, match="expected colours in space"):
            each.on(larger)


@pytest.mark.slow
@pytest.mark.parametrize("region", [region for region in BODY_REGIONS if region != "face"])
def test_every_region_of_a_dressed_body_can_change_alone(region: str, small_settings: TextureSettings) -> None:
    """No vertex that follows another region may lose more than the border's blend."""
    body = load_body().in_working_box()
    mesh = body.to_mesh(normalized=False)
    state = start_state(mesh, small_settings, torch.Generator().manual_seed(0))
    edited = state.edited(hold_all_but(mesh, body, [region]))
    assert isinstance(edited.field, HeldColorField)
    with torch.no_grad():
        for parameter in edited.field.learned.parameters():
            parameter.add_(1.0)  # the learned colours go anywhere
    change = (colors(edited, mesh.vertices) - colors(state, mesh.vertices)).abs().amax(1)
    own = region_vertices(body, [region])
    distance = torch.from_numpy(cKDTree(mesh.vertices[own].numpy()).query(mesh.vertices.numpy())[0])
    # The border is 0.09 units wide, and a cell of the grid of shares has a diagonal of 0.074.
    assert float(change[distance > 0.17].max()) < 1e-3  # a quarter of a step of 8 bits
    assert float(change[own].median()) > 0.1


def test_edits_begin_from_moderate_noise() -> None:
    low, high = edit_settings(QUICK, 0.4).coarse_t_range
    assert low == QUICK.coarse_t_range[0] and high(0) == high(1000) == 0.4
    with pytest.raises(InputError, match="strength: expected 0.02 to 1"):
        edit_settings(QUICK, 1.5)
