"""The model that comes along: small enough, readable, of the promised kind, and it knows what it is asked for."""

from __future__ import annotations

import pytest
import torch

from humannorm import models
from humannorm.body import load_body
from humannorm.cameras import orbit, sample_cameras
from humannorm.checks import InputError
from humannorm.guidance import Autoguidance, DiffusersDenoiser, sample_images
from humannorm.guidance.folders import few_steps_of
from humannorm.guidance.samplers import sample_latents
from humannorm.models import FEW_STEPS, HINTS_CONTROLNET, JOINT_FILTER
from humannorm.prompts import Prompts
from humannorm.rendering.passes import render
from humannorm.training.vae import psnr_inside

WORDS = "a young man with brown short hair, wearing a red t-shirt, blue jeans and white sneakers, standing"


@pytest.fixture(scope="module")
def guide():
    return DiffusersDenoiser.load("bundled", control=True)


def draw(guide, kind, views, control=None):
    prompts = [Prompts(WORDS, kind).text("full", view) for view in views]
    condition = guide.condition(prompts, guidance_scale=4.0, control=control)
    noise = torch.randn((len(views), 4, 32, 32), generator=torch.Generator().manual_seed(0))
    return guide.decode(sample_latents(guide, condition, noise, scheduler_config=guide.scheduler_config, steps=8))


def test_size_and_kind(guide):
    folder = models.bundled_folder()
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    assert sizes.pop(FEW_STEPS) < 6e6 and sizes.pop(HINTS_CONTROLNET) < 6e6 and sizes.pop(JOINT_FILTER) < 2.2e6
    assert sum(sizes.values()) < 64e6
    assert (guide.resolution, guide.downscale, guide.channels) == (128, 4, 4)
    assert guide.prediction_type == "v_prediction"
    assert guide.vae.config.scaling_factor == 0.18215
    plan = models.camera_plan("bundled")
    assert plan is not None and {crop.part for crop in plan.crops} == {"full", "head", "upper", "lower"}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "border"), [("normal", 0.0), ("depth", 0.0), ("color", 1.0)])
def test_kinds_come_on_their_background(guide, kind, border):
    images = draw(guide, kind, ["front", "left", "back", "right"])
    corners = images[:, :8, [*range(8), *range(120, 128)]]
    assert (corners - border).abs().mean() < 0.1
    middle = images[:, 40:90, 50:78]
    assert (middle - border).abs().mean() > 0.2
    if kind == "depth":
        assert (images.amax(-1) - images.amin(-1)).mean() < 0.1  # grey


@pytest.mark.slow
def test_four_unguided_steps_draw_what_twelve_guided_ones_draw():
    """Of the same noise: the picture that the teacher draws is nearer than one of other noise, by far."""
    assert few_steps_of("bundled") == 4
    teacher = DiffusersDenoiser.load("bundled", control=True, autoguidance=Autoguidance())
    student = DiffusersDenoiser.load("bundled", control=True, few_steps=True)
    texts = [Prompts(WORDS, "normal").text("full", view) for view in ("front", "back")]
    guided = sample_images(teacher, texts, seeds=[0, 1], steps=12)
    quick = sample_images(student, texts, seeds=[0, 1], guidance_scale=1.0, steps=4, sampler="ddim")
    error = (quick - guided).square().mean((1, 2, 3))
    other = (quick.flip(0) - guided).square().mean((1, 2, 3))
    assert bool((error < 0.35 * other).all())


def test_a_guide_draws_with_its_weights_for_few_steps_beside_its_own(tiny_sd):
    guide = DiffusersDenoiser.load("bundled", control=True, autoguidance=Autoguidance())
    few, loaded = guide.in_few_steps(), DiffusersDenoiser.load("bundled", few_steps=True)
    assert few.vae is guide.vae and few.controlnet is guide.controlnet and few.weak_unet is None
    assert guide.in_few_steps().unet is few.unet  # read once
    weights, own = few.unet.state_dict(), guide.unet.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in loaded.unet.state_dict().items())
    assert not torch.equal(weights["conv_in.weight"], own["conv_in.weight"])
    with pytest.raises(InputError, match="guide: expected a model with few_steps_lora.safetensors"):
        DiffusersDenoiser.load(tiny_sd("v_prediction")).in_few_steps()


@pytest.mark.slow
def test_colour_follows_the_normal_map(guide):
    plan = models.camera_plan("bundled")
    full = next(crop for crop in plan.crops if crop.part == "full")
    cameras = sample_cameras(plan, 0, 32, torch.Generator().manual_seed(1))
    cameras = cameras.select([i for i, part in enumerate(cameras.part) if part == full.part][:4])
    rendered = render(load_body().to_mesh(), cameras, (128, 128), ("normal", "mask"))
    images = draw(guide, "color", cameras.view_labels(), control=rendered.normal)
    drawn = (1 - images).amax(-1) > 0.12
    shape = rendered.mask > 0.5
    overlap = (drawn & shape).sum((1, 2)) / (drawn | shape).sum((1, 2))
    assert overlap.mean() > 0.7


def test_what_the_vae_loses_comes_back_from_the_normals(guide):
    cameras = orbit([0.0, 90.0], target_y=0.0, zoom=1.0)
    normals = render(load_body().to_mesh(), cameras, (128, 128), ("normal", "mask"))
    copies = guide.decode(guide.encode_images(normals.normal))
    sharpened = guide.sharpened(copies, normals.normal)
    before, after = (psnr_inside(each, normals.normal, normals.mask[..., None]) for each in (copies, sharpened))
    assert after > before + 4
