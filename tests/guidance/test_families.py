"""SDXL and Stable Diffusion 3 folders behind the one interface, beside diffusers' own pipelines."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusion3ControlNetPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLPipeline,
)

from humannorm.checks import InputError
from humannorm.guidance import Denoiser, DiffusersDenoiser, sample_images, sds_gradient
from humannorm.guidance.folders import model_folder
from humannorm.guidance.noise import LARGEST_SIGMA, NoiseTable, flow_level, flow_sigma

PROMPT = "a young man, front view"
CHANNELS = {"sdxl": 4, "sd3": 16}


@pytest.fixture(scope="module", params=CHANNELS)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(tiny_family, family):
    return tiny_family(family)


@pytest.fixture(scope="module")
def guide(folder):
    return DiffusersDenoiser.load(folder, control=True)


def components(guide, family, control):
    """The pipeline's own parts, for a pipeline of diffusers."""
    given = {
        "vae": guide.vae,
        "text_encoder": guide.text_encoder,
        "text_encoder_2": guide.text_encoder_2,
        "tokenizer": guide.tokenizer,
        "tokenizer_2": guide.tokenizer_2,
        **({"controlnet": guide.controlnet} if control else {}),
    }
    if family == "sdxl":
        scheduler = EulerDiscreteScheduler.from_config(guide.scheduler_config)
        kind = StableDiffusionXLControlNetPipeline if control else StableDiffusionXLPipeline
        return kind(unet=guide.unet, scheduler=scheduler, **given, **({} if control else {"add_watermarker": False}))
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(guide.scheduler_config)
    kind = StableDiffusion3ControlNetPipeline if control else StableDiffusion3Pipeline
    return kind(transformer=guide.unet, scheduler=scheduler, text_encoder_3=None, tokenizer_3=None, **given)


def noisy(family, guide, share):
    """Unit noise, the project's sigma at a share of the schedule, and what the family itself calls that level."""
    sigma = guide.sigma(torch.tensor([share * 999]))
    noise = torch.randn(1, CHANNELS[family], 8, 8, generator=torch.Generator().manual_seed(1))
    return noise, sigma


def test_it_is_the_interface(guide, family):
    assert isinstance(guide, Denoiser)
    assert (guide.timesteps, guide.resolution, guide.channels) == (1000, 64, CHANNELS[family])
    timesteps = torch.tensor([0.0, 0.5, 17.3, 500.0, 998.5])
    torch.testing.assert_close(guide.timestep(guide.sigma(timesteps)), timesteps, rtol=0, atol=5e-2)


@pytest.mark.parametrize("control", [False, True])
def test_a_step_is_the_pipelines(guide, family, control):
    """One step of diffusers' own pipeline from a level to 0, guided, with and without its ControlNet."""
    pipeline = components(guide, family, control)
    pipeline.set_progress_bar_config(disable=True)
    noise, sigma = noisy(family, guide, 0.6)
    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    if family == "sdxl":
        timestep = int(0.6 * 999)
        sigma = guide.sigma(torch.tensor([float(timestep)]))
        starts = {"timesteps": [timestep], "latents": noise}  # which this scheduler multiplies by sigma
    else:
        level = flow_level(sigma)
        before_shift = float(level / (3 - 2 * level))
        starts = {"sigmas": [before_shift], "latents": noise * level}
    if control:
        image = picture.permute(0, 3, 1, 2)  # SD3's pipeline takes tensors as they are, -1..1
        image = image if family == "sdxl" else image * 2 - 1
        starts |= {"image" if family == "sdxl" else "control_image": image}
    if family == "sd3":  # its ControlNet pipeline draws the picture's latents: the mode is what we take
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        original, DiagonalGaussianDistribution.sample = (
            DiagonalGaussianDistribution.sample,
            lambda self, generator=None: self.mode(),
        )
    try:
        expected = pipeline(
            prompt=PROMPT,
            guidance_scale=4.0,
            num_inference_steps=1,
            height=64,
            width=64,
            output_type="latent",
            **starts,
        ).images
    finally:
        if family == "sd3":
            DiagonalGaussianDistribution.sample = original
    condition = guide.condition([PROMPT], guidance_scale=4.0, control=picture if control else None)
    found = guide.denoise(noise * sigma, sigma, condition)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)
    assert float(found.std()) > 0.05


def test_pictures_and_gradients(guide, family):
    leaf = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    latents = guide.encode_images(leaf)
    expected = guide.vae.encode(leaf.detach().permute(0, 3, 1, 2) * 2 - 1).latent_dist.mode()
    shift = guide.vae.config.shift_factor or 0.0
    torch.testing.assert_close(latents.detach(), (expected - shift) * guide.vae.config.scaling_factor)
    condition = guide.condition([PROMPT, "a woman"], guidance_scale=3.0)
    found = sds_gradient(guide, latents, condition, generator=torch.Generator().manual_seed(0)).gradient
    (pixels,) = torch.autograd.grad(latents, leaf, found)
    assert bool(pixels.isfinite().all()) and float(pixels.abs().max()) > 0
    back = guide.decode(latents.detach())
    pictures = guide.vae.decode(expected).sample.permute(0, 2, 3, 1) / 2 + 0.5
    torch.testing.assert_close(back, pictures.clamp(0, 1), rtol=1e-4, atol=1e-4)


def test_every_family_draws_other_sizes(guide, family):
    small = guide.at_resolution(48)
    condition = small.condition([PROMPT], guidance_scale=1.0)
    x = torch.randn(1, CHANNELS[family], 6, 6, generator=torch.Generator().manual_seed(1))
    assert small.decode(small.denoise(x, small.sigma(torch.tensor([500.0])), condition)).shape == (1, 48, 48, 3)
    with pytest.raises(InputError, match="resolution: expected a multiple of 16 pixels, got 56"):
        guide.at_resolution(56)


@pytest.mark.parametrize("sampler", ["dpm", "ddim"])
def test_pictures_are_sampled(guide, sampler):
    pictures = sample_images(guide, [PROMPT] * 2, seeds=[1, 2], steps=3, sampler=sampler)
    assert pictures.shape == (2, 64, 64, 3) and not torch.allclose(pictures[0], pictures[1])


def test_a_flow_schedule_is_the_schedulers():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    from humannorm.guidance.sd3_denoiser import Sd3Denoiser

    table = Sd3Denoiser.noise_table({"shift": 3.0})
    levels = flow_level(table.sigma(torch.arange(1000.0)))
    torch.testing.assert_close(levels[:-1], scheduler.sigmas.flip(0)[:-1], rtol=1e-3, atol=1e-5)


def test_flow_levels_invert_and_end():
    sigma = torch.tensor([0.0, 0.01, 1.0, 30.0, 900.0], dtype=torch.float64)
    torch.testing.assert_close(flow_sigma(flow_level(sigma)), sigma)
    assert float(flow_sigma(torch.ones(1))) == pytest.approx(LARGEST_SIGMA, rel=1e-3)
    longer = NoiseTable.of(flow_sigma(torch.arange(1, 10001) / 10000))
    shorter = NoiseTable.of(flow_sigma(torch.arange(1, 1001) / 1000))
    at = torch.tensor([300.0, 600.0])
    torch.testing.assert_close(longer.sigma(at), shorter.sigma(at), rtol=5e-3, atol=0)


def test_folders_that_do_not_fit_are_refused(folder, family, tmp_path):
    import json
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(folder, broken, symlinks=True)
    name, field = ("unet", "cross_attention_dim") if family == "sdxl" else ("transformer", "pooled_projection_dim")
    path = broken / name / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, field: 7}), encoding="utf-8")
    with pytest.raises(InputError, match=rf"{name}.config\.json: expected .*{field}.*got"):
        model_folder(broken)
    with pytest.raises(InputError, match=r"expected a Stable Diffusion 1\.5-class model, got"):
        model_folder(folder, ("sd",))
    shutil.rmtree(broken / "text_encoder_2")
    if family == "sd3":
        with pytest.raises(InputError, match="text_encoder_2: expected in a diffusers folder"):
            model_folder(broken)
