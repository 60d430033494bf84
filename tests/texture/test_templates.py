"""A held template's painted skin over learned colours."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from humannorm.body import Body, BodyShape, load_body
from humannorm.body.painted_skin import skin_picture
from humannorm.body.regions import region_vertices
from humannorm.checks import InputError
from humannorm.geometry.holding import Hold, hold_all_but, hold_regions
from humannorm.mesh import Mesh
from humannorm.texture.fields import HeldColorField, TemplateColorField, UvColorSettings
from humannorm.texture.paint import paint
from humannorm.texture.settings import TextureSettings
from humannorm.texture.state import TextureState, load_state, save_state, start_state
from humannorm.texture.templates import with_painted_template

BLUE = (0.1, 0.1, 0.9)


@pytest.fixture(name="body", scope="module")
def _body() -> Body:
    return load_body(BodyShape(sex=0.95)).in_working_box()


@pytest.fixture(name="hold", scope="module")
def _hold(body: Body) -> Hold:
    return hold_regions(body.to_mesh(normalized=False), body, ["face", "hands"])


@pytest.fixture(name="state")
def _state(body: Body, hold: Hold, small_settings: TextureSettings) -> TextureState:
    start = start_state(body.to_mesh(normalized=False), small_settings, torch.Generator().manual_seed(0))
    return with_painted_template(start, hold, "dark")


@torch.no_grad()
def colors(state: TextureState) -> torch.Tensor:
    return state.field(state.mesh.vertices)


def inner_face(body: Body) -> torch.Tensor:
    """Vertices around nose and eyes: well inside of what is held and of what is painted."""
    middle = torch.stack([body.joint("eye.L"), body.joint("eye.R")]).mean(0)
    return region_vertices(body, ["face"]) & ((body.vertices - middle).norm(dim=1) < 0.06)


@pytest.mark.slow
def test_the_template_wears_its_picture_and_the_rest_the_learned_colours(body: Body, state: TextureState) -> None:
    assert isinstance(state.field, TemplateColorField)
    found, face = colors(state), inner_face(body)
    texels = (body.uvs * 512).long().clamp(0, 511)
    picture = torch.zeros(len(body.vertices), 3)
    picture[body.uv_vertices] = skin_picture(body.shape, "dark")[texels[:, 1], texels[:, 0]]
    assert float((found - picture)[face].abs().mean()) < 0.04  # half a texel off: lashes and lips
    trunk = region_vertices(body, ["top"]) & (body.vertices[:, 0].abs() < 0.2)
    assert float((found[trunk] - 0.5).abs().max()) < 1e-2  # a fresh field is grey


@pytest.mark.slow
def test_painting_changes_everything_else(
    body: Body, state: TextureState, small_settings: TextureSettings, believes_in_color: Any, pixel_distance: Any
) -> None:
    before = colors(state)
    done = paint(
        state,
        "blue",
        small_settings,
        guide=believes_in_color(BLUE, BLUE),
        perceptual=pixel_distance,
        generator=torch.Generator().manual_seed(0),
    )
    assert float((colors(done) - before)[inner_face(body)].abs().max()) < 5e-3  # a step of 8 bits
    trunk = region_vertices(body, ["top"]) & (body.vertices[:, 0].abs() < 0.2)
    assert float((colors(done) - before)[trunk, 2].median()) > 0.1


def test_hair_and_hats_before_the_template_keep_their_colour(body: Body, state: TextureState) -> None:
    face = inner_face(body)
    outside = state.mesh.vertices[face] + torch.tensor([0.0, 0.0, 0.05])
    with torch.no_grad():
        assert float((state.field(outside) - 0.5).abs().max()) < 1e-2


def test_it_goes_through_a_file(state: TextureState, tmp_path: Path) -> None:
    save_state(state, tmp_path / "state.safetensors")
    assert torch.equal(colors(load_state(tmp_path / "state.safetensors")), colors(state))


@pytest.mark.slow
def test_edits_keep_the_skin_unless_they_are_told_to_change_the_face(body: Body, state: TextureState) -> None:
    mesh, face = state.mesh, inner_face(body)
    everything = state.edited(None)
    assert torch.equal(colors(everything), colors(state))
    top = state.edited(hold_all_but(mesh, body, ["top"]))
    assert isinstance(top.field, HeldColorField)
    torch.testing.assert_close(colors(top)[face], colors(state)[face], atol=2e-3, rtol=0)
    torch.testing.assert_close(
        colors(top.edited(None))[face], colors(state)[face], atol=2e-3, rtol=0
    )  # and when all may change again
    head = state.edited(hold_all_but(mesh, body, ["head"]))
    assert float((colors(head)[face] - 0.5).abs().max()) < 1e-2


@pytest.mark.slow
def test_another_start_than_a_template_is_left_to_the_networks(
    body: Body, hold: Hold, small_settings: TextureSettings
) -> None:
    mesh = body.to_mesh(normalized=False)
    start = start_state(mesh, small_settings, torch.Generator().manual_seed(0))
    assert with_painted_template(start, None, "fair") is start
    turned = Mesh(mesh.vertices, mesh.faces.roll(1, 0))
    other = hold_regions(turned, body, ["face"])
    assert hold.shape == body.shape and other.shape is None
    assert with_painted_template(start, other, "fair") is start


def test_skin_over_a_texture_does_not_go_over_to_another_surface(
    body: Body, hold: Hold, small_settings: TextureSettings
) -> None:
    plain = body.to_mesh(normalized=False)
    mesh = Mesh(plain.vertices, plain.faces, uvs=torch.rand(plain.num_vertices, 2))
    settings = dataclasses.replace(small_settings, field=UvColorSettings(8))
    state = with_painted_template(start_state(mesh, settings, torch.Generator().manual_seed(0)), hold, "fair")
    with pytest.raises(InputError, match="expected colours in space"):
        state.on(Mesh(0.5 * mesh.vertices, mesh.faces))
