"""Colour fields: values, gradients against plain torch and differences, pictures, UV textures, settings."""

from __future__ import annotations

import pytest
import torch

from humannorm.body import load_body
from humannorm.cameras import orbit
from humannorm.checks import InputError
from humannorm.fields.hash_grid import GridLayout
from humannorm.mesh import Mesh
from humannorm.texture.fields import (
    HashColorField,
    HashColorSettings,
    UvColorField,
    UvColorSettings,
    color_settings_from_dict,
    color_settings_to_dict,
    make_color_field,
)

SMALL = HashColorSettings(GridLayout(levels=3, log2_table=8, base=4, growth=1.5), hidden=8)


def square(uvs: bool = True) -> Mesh:
    """A unit square at z = 0 that faces the front; v = 0 is its top."""
    vertices = torch.tensor([[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.5, 0.5, 0.0], [-0.5, 0.5, 0.0]])
    layout = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    return Mesh(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]), uvs=layout if uvs else None)


def test_published_sizes():
    layout = HashColorSettings().layout
    assert (layout.levels, layout.log2_table, layout.base) == (16, 19, 16)
    assert layout.base * layout.growth**15 == pytest.approx(4096, rel=1e-3)
    assert HashColorSettings().hidden == 64


def test_a_fresh_field_is_grey(generator):
    colors = HashColorField(SMALL, generator)(torch.rand(100, 3, generator=generator) * 2 - 1).detach()
    assert colors.shape == (100, 3)
    assert float((colors - 0.5).abs().max()) < 1e-3


def test_gradients_match_the_plain_torch_field(generator):
    fields = [HashColorField(SMALL, torch.Generator().manual_seed(5), engine) for engine in ("warp", "torch")]
    points, upstream = (torch.rand(2, 200, 3, generator=generator) * 2 - 1).unbind()
    results = [torch.autograd.grad(field(points), list(field.parameters()), upstream) for field in fields]
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-7)


def test_gradient_is_the_slope(generator):
    """Double precision, central differences, through the torch engine."""
    field = HashColorField(SMALL, generator, "torch").double()
    points = (torch.rand(6, 3, generator=generator) * 2 - 1).double()
    with torch.no_grad():
        torch._foreach_mul_(list(field.encoding.tables), 1e3)  # away from grey, where the sigmoid is straight
    names = [name for name, _ in field.named_parameters()]

    def colors(*values):
        return torch.func.functional_call(field, dict(zip(names, values, strict=True)), (points,))

    assert torch.autograd.gradcheck(colors, tuple(field.parameters()), fast_mode=True)


def test_pictures_ask_at_visible_points_only(ball, generator):
    field, asked = HashColorField(SMALL, generator), []
    field.register_forward_pre_hook(lambda _, points: asked.append(points[0]))
    passes = field.pictures(ball, orbit([0.0]), 32)
    assert len(asked) == 1 and 100 < len(asked[0]) < 32 * 32
    assert float(asked[0].norm(dim=1).mean()) == pytest.approx(0.8, abs=0.01)
    assert float(asked[0][:, 2].min()) > 0.1  # the far side is not asked
    assert torch.equal(passes.color[0, 0, 0], torch.ones(3))


def test_uv_field_shows_its_texture(generator):
    mesh = square()
    field = make_color_field(UvColorSettings(16), mesh, generator)
    assert isinstance(field, UvColorField)
    with torch.no_grad():
        field.logits[:8, :, 0] = 9.0  # upper half red
        field.logits[8:, :, 2] = 9.0
    points = torch.tensor([[0.0, 0.3, 0.0], [0.2, -0.3, 0.0]])
    colors = field(points).detach()
    assert colors[0, 0] > 0.99 and colors[0, 2] == pytest.approx(0.5)
    assert colors[1, 2] > 0.99
    picture = field.pictures(mesh, orbit([0.0]), 64).color[0]
    assert picture[26, 32, 0] > 0.99 and picture[38, 32, 2] > 0.99
    gradient = torch.autograd.grad(picture.sum(), field.logits)[0]
    assert float(gradient.abs().sum()) > 0


def test_uv_field_on_the_body_answers_at_points_as_in_pictures(generator):
    mesh = load_body().to_mesh(uvs=True)
    field = make_color_field(UvColorSettings(32), mesh, generator)
    with torch.no_grad():
        field.logits.copy_(torch.randn(32, 32, 3, generator=generator))
    assert mesh.uvs is not None
    colors = field(mesh.vertices)
    from humannorm.rendering import sample_texture

    wanted = sample_texture(field.texture(), mesh.uvs[None, None])[0, 0]
    alike = (colors - wanted).abs().amax(1) < 1e-2
    assert float(alike.float().mean()) > 0.9  # at a seam either side of it is right


def test_uv_field_needs_uvs(generator):
    with pytest.raises(InputError, match="expected texture coordinates .* got a mesh without uvs"):
        make_color_field(UvColorSettings(16), square(uvs=False), generator)


@pytest.mark.parametrize("settings", [SMALL, UvColorSettings(64)])
def test_settings_travel_as_plain_numbers(settings):
    assert color_settings_from_dict(color_settings_to_dict(settings)) == settings


def test_unknown_settings_are_refused():
    with pytest.raises(InputError, match="expected kind hash, uv, template or held, got 'voxels'"):
        color_settings_from_dict({"kind": "voxels"})
