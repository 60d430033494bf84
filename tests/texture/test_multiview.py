"""Painting by sampling all views at once: guides whose belief is known, labels, held colours, resumption."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from humannorm.checks import InputError
from humannorm.guidance.synchronised import SynchronisedSettings
from humannorm.images import lab_from_srgb, linear_from_srgb, luminance, srgb_from_linear
from humannorm.mesh import Mesh
from humannorm.texture.agreement import (
    ColorAgreement,
    FusingSettings,
    Neighbours,
    disagreement_of,
    label_leak,
    leaks,
    nearer_shade,
    texel_surface,
)
from humannorm.texture.multiview import (
    MultiviewSettings,
    Ring,
    body_rings,
    paint_synchronised,
    plain_rings,
    ring_cameras,
)
from humannorm.texture.state import load_state, save_state

RED, BLUE, GREEN, GREY = (0.8, 0.1, 0.1), (0.1, 0.1, 0.8), (0.1, 0.7, 0.2), (0.5, 0.5, 0.5)


def cylinder(radius: float = 0.4, sides: int = 48, rows: int = 32) -> Mesh:
    """An upright tube, 1.8 high, without its ends, on texture coordinates that fill the picture but for its rim."""
    angle = torch.linspace(0, 2 * math.pi, sides + 1)
    height = torch.linspace(-0.9, 0.9, rows + 1)
    y, a = torch.meshgrid(height, angle, indexing="ij")
    vertices = torch.stack([radius * a.sin(), y, radius * a.cos()], -1).reshape(-1, 3)
    uvs = torch.stack([0.02 + 0.96 * a / (2 * math.pi), 0.02 + 0.96 * (0.9 - y) / 1.8], -1).reshape(-1, 2)
    corner = torch.arange(rows * (sides + 1)).reshape(rows, sides + 1)[:, :-1].reshape(-1, 1)
    low = corner + torch.tensor([[0, 1, sides + 2]])
    high = corner + torch.tensor([[0, sides + 2, sides + 1]])
    normals = torch.stack([a.sin(), 0 * y, a.cos()], -1).reshape(-1, 3)
    return Mesh(vertices, torch.cat([low, high]), normals=normals, uvs=uvs)


@pytest.fixture(scope="module")
def tube() -> Mesh:
    return cylinder()


@pytest.fixture
def settings() -> MultiviewSettings:
    return MultiviewSettings(
        walk=SynchronisedSettings(steps=5, batch=3), rings=(Ring(4), Ring(4, "upper", first=45.0)), texture_size=64
    )


def upper_half(points: Tensor) -> Tensor:
    return (points[:, 1] > 0).int()


def test_what_all_views_believe_is_what_the_whole_surface_wears(tube, settings, believes_in_color):
    painting = paint_synchronised(tube, "a person", settings, believes_in_color(RED, RED))
    assert torch.allclose(painting.texture, torch.tensor(RED).expand(64, 64, 3), atol=1e-4)
    assert painting.figures["disagreement_first"] < 0.01
    assert painting.figures["forwards"] == 2 * 8 * 8
    assert torch.allclose(painting.mesh.vertices, tube.vertices, atol=1e-6)


def test_each_side_is_painted_by_the_views_that_face_it(tube, settings, believes_in_color):
    painting = paint_synchronised(tube, "a person", settings, believes_in_color(RED, BLUE))
    # The texture runs once around: front at its sides, back in the middle. Far down only the whole views look.
    assert torch.allclose(painting.texture[52, 32], torch.tensor(BLUE), atol=0.02)
    assert torch.allclose(painting.texture[52, 1], torch.tensor(RED), atol=0.02)
    assert painting.figures["disagreement_first"] > 5
    found = painting.state.field.at(tube.vertices[[0]])  # the state wears the same texture
    assert torch.allclose(found[0], painting.texture[-2, 1], atol=0.02)


def test_labels_keep_their_colours_apart(tube, settings, believes_in_color):
    # The guide paints all of it red; the lower half is asked for in blue, and nothing red is believed there.
    painting = paint_synchronised(
        tube,
        "a person",
        settings,
        believes_in_color(RED, RED),
        labels_at=upper_half,
        palette=torch.tensor([BLUE, RED]),
    )
    assert torch.allclose(painting.texture[8, 20], torch.tensor(RED), atol=0.02)
    # Eight views of red, believed to a hundredth, still say something beside the asked blue.
    assert torch.allclose(painting.texture[56, 20], torch.tensor(BLUE), atol=0.3)
    assert painting.figures["leak"] < 0.1


def test_a_painting_remembers_what_its_texels_are_and_are_of(tube, settings, believes_in_color, tmp_path):
    painting = paint_synchronised(tube, "a person", settings, believes_in_color(RED, RED), labels_at=upper_half)
    folds = torch.zeros(64, 64, 3).index_fill(-1, torch.tensor([0]), 0.25)
    state = dataclasses.replace(painting.state, materials={"skin": "metal"}, folds=folds)
    assert state.labels is not None and state.labels.dtype == torch.uint8
    assert bool((state.labels[:28] == 1).all()) and bool((state.labels[36:] == 0).all())
    save_state(state, tmp_path / "painted.safetensors")
    for other in (load_state(tmp_path / "painted.safetensors"), state.edited(None), state.on(tube)):
        assert torch.equal(other.labels, state.labels) and other.materials == {"skin": "metal"}
        assert torch.equal(other.folds, folds)
    assert paint_synchronised(tube, "a person", settings, believes_in_color(RED, RED)).state.labels is None


def test_held_colours_are_never_changed(tube, settings, believes_in_color):
    def held(points: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tensor(GREEN).expand(len(points), 3), (points[:, 1] > 0.5).float()

    painting = paint_synchronised(tube, "a person", settings, believes_in_color(RED, RED), held=held)
    assert torch.allclose(painting.texture[6], torch.tensor(GREEN).expand(64, 3), atol=1e-5)
    assert torch.allclose(painting.texture[40], torch.tensor(RED).expand(64, 3), atol=1e-3)


def test_given_views_are_projected_onto_what_they_show(tube, settings, believes_in_color):
    green = torch.tensor(GREEN).expand(48, 48, 3)
    painting = paint_synchronised(tube, "a person", settings, believes_in_color(RED, RED), given={2: green})
    back = painting.texture[32, 32]
    assert float((back - torch.tensor(GREEN)).abs().max()) < 0.1
    assert torch.allclose(painting.pictures[2], green)
    assert painting.figures["forwards"] == 2 * 8 * 7


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bytes(tube, settings, believes_in_color, sick, tmp_path):
    def painted(guide, **options):
        return paint_synchronised(
            tube,
            "a person",
            settings,
            guide,
            seed=3,
            labels_at=upper_half,
            palette=torch.tensor([BLUE, RED]),
            **options,
        )

    whole, file = painted(believes_in_color(RED, BLUE)), tmp_path / "walk.safetensors"
    with pytest.raises(KeyboardInterrupt):
        painted(sick(believes_in_color(RED, BLUE), 8, interrupt=True), checkpoint=file)
    again = painted(believes_in_color(RED, BLUE), checkpoint=file, resume=True)
    assert torch.equal(whole.texture, again.texture)
    done = painted(believes_in_color(RED, BLUE), checkpoint=file, resume=True)  # nothing is left to do
    assert torch.equal(whole.texture, done.texture)
    with pytest.raises(InputError, match="expected a walk with digest"):
        paint_synchronised(
            tube, "a person", settings, believes_in_color(RED, RED), seed=4, checkpoint=file, resume=True
        )


def test_texts_and_normals_reach_the_guide(tube, settings, believes_in_color):
    guide = believes_in_color(RED, RED)
    paint_synchronised(tube, "a person", settings, guide)
    assert "a person, full body, front view" in guide.prompts
    assert "a person, upper body, left side view" in guide.prompts
    assert all(control.shape[1:] == (48, 48, 3) for control in guide.controls)


def test_rings_are_cameras_of_the_plan(settings):
    cameras = ring_cameras(dataclasses.replace(settings, rings=body_rings(3, 0, 2, 1)))
    assert cameras.part == ("full",) * 3 + ("lower",) * 2 + ("head",)
    assert cameras.target[3].tolist() == pytest.approx([0, -0.5, 0])
    plain = ring_cameras(dataclasses.replace(settings, rings=plain_rings(4, (-20.0, 30.0))))
    assert plain.elevation.tolist() == pytest.approx([-20] * 4 + [30] * 4)
    assert plain.azimuth[4:].tolist() == pytest.approx([45, 135, -135, -45])


def test_specks_of_labels_are_taken_for_noise():
    tube = cylinder(sides=192, rows=128)

    def speckled(points: Tensor) -> Tensor:
        speck = (points - torch.tensor([0.4, -0.5, 0.0])).norm(dim=1) < 0.0135
        return torch.where(speck, 1, upper_half(points))

    def patched(points: Tensor) -> Tensor:
        patch = (points - torch.tensor([0.4, -0.5, 0.0])).norm(dim=1) < 0.2
        return torch.where(patch, 1, upper_half(points))

    plain, specks, patch = (texel_surface(tube, 64, at).points for at in (upper_half, speckled, patched))
    assert bool((speckled(tube.vertices) != upper_half(tube.vertices)).any())
    assert torch.equal(specks.labels, plain.labels)
    assert float((patch.labels != plain.labels).float().mean()) > 0.01


def test_a_border_of_labels_runs_where_it_is_and_not_along_the_faces():
    """A coarse mesh of a start: a slanted border crosses its faces."""
    coarse = cylinder(sides=12, rows=8)

    def below_a_slope(points: Tensor) -> Tensor:
        return (points[:, 1] > 0.3 * points[:, 0] + 0.05).long()

    points = texel_surface(coarse, 256, below_a_slope).points
    assert torch.equal(points.labels.long(), below_a_slope(points.points))


def test_unseen_texels_take_the_colours_of_like_labelled_neighbours(tube):
    surface = texel_surface(tube, 32, upper_half)
    points = surface.points
    needy = (points.points[:, 1].abs() < 0.1).bool()
    neighbours = Neighbours.find(points, needy, ~needy, FusingSettings())
    palette = torch.tensor([BLUE, RED])
    colors = palette[points.labels.long()].masked_fill(needy[:, None], 0.0)
    filled = neighbours.filled(colors, (~needy).float(), 0.03)
    assert torch.allclose(filled, palette[points.labels.long()], atol=1e-5)


def test_disagreement_is_the_lab_distance_of_what_views_say(tube, settings):
    agreement = ColorAgreement.of(texel_surface(tube, 32), ring_cameras(settings), 32, FusingSettings())
    grey = torch.full((8, 32, 32, 3), 0.5)
    assert disagreement_of(agreement.views, grey) < 1e-3
    two = grey.clone()
    two[::2] = torch.tensor([0.6, 0.6, 0.6])
    # L* of 0.5 and 0.6 are 9.4 apart: no view is farther from the mean than that, and the mean is between.
    assert 1 < disagreement_of(agreement.views, two) < 9.4


def test_leaks_by_hand():
    asked = torch.tensor([RED, BLUE, (math.nan,) * 3, (0.82, 0.12, 0.1)])
    colors = torch.tensor([RED, BLUE, RED, (0.8, 0.12, 0.12), BLUE])
    labels = torch.tensor([0, 0, 2, 0, 3], dtype=torch.int32)
    # A colour not asked for cannot leak, and two labels asked for in one colour cannot leak into each other.
    assert leaks(colors, labels, asked).tolist() == [False, True, False, False, True]
    assert label_leak(colors, labels, asked) == pytest.approx(2 / 4)


def test_light_on_a_cloth_is_kept_and_another_dye_is_not():
    dye = torch.tensor([[0.6, 0.3, 0.1]])
    light = linear_from_srgb(dye)
    lit = srgb_from_linear(torch.cat([0.4 * light, light, 1.3 * light]))
    torch.testing.assert_close(nearer_shade(lit, dye.expand(3, 3), 0.0), lit, atol=1e-4, rtol=0)
    olive = torch.tensor([[0.45, 0.42, 0.15]])
    near = nearer_shade(olive, dye, 3.0)
    torch.testing.assert_close(luminance(linear_from_srgb(near)), luminance(linear_from_srgb(olive)))
    shade = nearer_shade(olive, dye, 0.0)
    assert float((lab_from_srgb(near) - lab_from_srgb(shade)).norm()) == pytest.approx(3.0, rel=0.15)
    torch.testing.assert_close(nearer_shade(olive, dye, 100.0), olive)  # within the bound it is left alone


def test_asked_colours_bound_what_views_can_dye(tube):
    asked = torch.tensor([BLUE, (math.nan,) * 3])
    surface = texel_surface(tube, 32, upper_half)
    cameras = ring_cameras(dataclasses.replace(MultiviewSettings(), rings=plain_rings(8)))
    agreement = ColorAgreement.of(surface, cameras, 32, FusingSettings(dye=5.0), asked=asked)
    purple = torch.tensor([0.3, 0.2, 0.7]).expand(len(cameras), 32, 32, 3)
    fused = agreement.fused(purple, 1.0)
    own = surface.points.labels == 0
    shade = nearer_shade(fused[own], asked[:1].expand(int(own.sum()), 3), 0.0)
    assert float((lab_from_srgb(fused[own]) - lab_from_srgb(shade)).norm(dim=1).max()) < 6.0
    assert torch.allclose(fused[~own], purple[0, 0, 0].expand(int((~own).sum()), 3), atol=1e-3)  # nothing was asked


def test_bad_input_is_refused(as_user, tube, settings, believes_in_color):
    guide = believes_in_color(RED, RED)

    def refused(match: str, mesh: Mesh = tube, **options) -> None:
        with pytest.raises(InputError, match=match):
            paint_synchronised(mesh, "a person", settings, guide, **options)

    refused("mesh: expected texture coordinates", Mesh(tube.vertices, tube.faces))
    refused("given: expected numbers of views, 0 to 7, got 9", given={9: torch.zeros(8, 8, 3)})
    refused("given\\[0\\]", given={0: torch.zeros(8, 8, 4)})
    refused(
        "palette: expected a colour for each of the labels 0 to 1, got 1",
        labels_at=upper_half,
        palette=torch.zeros(1, 3),
    )
    refused("labels: expected int tensor", labels_at=lambda points: points[:, 0])
    refused("entry", entry=lambda points: points[:3])
    with pytest.raises(InputError, match="few_steps: expected a guide with weights for few steps"):
        paint_synchronised(tube, "a person", dataclasses.replace(settings, few_steps=True), guide)
    with pytest.raises(InputError, match="rings: expected at least one"):
        MultiviewSettings(rings=())
    with pytest.raises(InputError, match="control"):
        MultiviewSettings(control="edges")
    with pytest.raises(InputError, match="prompt"):
        paint_synchronised(tube, " ", settings, guide)
