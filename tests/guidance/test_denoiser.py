"""The one denoiser interface: coordinates, prediction types, guidance, the ControlNet and gradients."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler

from humannorm.checks import InputError
from humannorm.guidance import Denoiser, DiffusersDenoiser, diffusers_denoiser, to_denoised

PROMPTS = ["a man, front view", "a woman, back view"]


@pytest.fixture(scope="module")
def guide(tiny_sd):
    return DiffusersDenoiser.load(tiny_sd("v_prediction"), control=True)


def latents(seed=0, batch=2):
    return torch.randn((batch, 4, 8, 8), generator=torch.Generator().manual_seed(seed))


def test_it_is_the_interface(guide):
    assert isinstance(guide, Denoiser)
    assert (guide.timesteps, guide.resolution, guide.downscale, guide.channels) == (1000, 64, 8, 4)


@pytest.mark.few(1)
def test_one_model_draws_other_sizes(guide):
    larger = guide.at_resolution(96)
    assert (larger.resolution, guide.resolution) == (96, 64) and larger.unet is guide.unet
    pictures = torch.rand(1, 40, 40, 3, generator=torch.Generator().manual_seed(0))
    assert larger.encode_images(pictures).shape[-1] == 12 and guide.encode_images(pictures).shape[-1] == 8
    condition = guide.condition(PROMPTS[:1], guidance_scale=1.0, control=pictures)
    for each, side in ((guide, 8), (larger, 12)):
        x = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(1))
        assert each.decode(each.denoise(x, torch.tensor([1.0]), condition)).shape == (1, 8 * side, 8 * side, 3)
    for wrong in (0, -64, 72):
        with pytest.raises(InputError, match="resolution: expected a multiple of 16 pixels"):
            guide.at_resolution(wrong)


def test_noise_levels_are_stable_diffusions_and_invert(guide):
    assert guide.sigma(torch.tensor([0.0, 999.0])).tolist() == pytest.approx([0.02917, 14.6146], rel=1e-3)
    timesteps = torch.tensor([0.0, 0.5, 17.3, 500.0, 998.9])
    torch.testing.assert_close(guide.timestep(guide.sigma(timesteps)), timesteps, rtol=0, atol=2e-2)


@pytest.mark.parametrize("timestep", [1, 500, 999])
def test_eps_and_v_that_mean_the_same_give_the_same_estimate(timestep):
    # Where noised = sqrt(abar) z + sqrt(1-abar) eps, a perfect network's answer must lead back to z in either form.
    abar = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod[timestep]
    abar = abar.double()
    z, eps = latents(0).double(), latents(1).double()
    sigma = ((1 - abar) / abar).sqrt()
    x = z + sigma * eps
    v = abar.sqrt() * eps - (1 - abar).sqrt() * z
    torch.testing.assert_close(to_denoised(eps, x, sigma, "epsilon"), z)
    torch.testing.assert_close(to_denoised(v, x, sigma, "v_prediction"), z)


def test_unknown_prediction_type():
    with pytest.raises(InputError, match="epsilon or v_prediction"):
        to_denoised(latents(), latents(), torch.ones(()), "flow")


@pytest.mark.few(1)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_denoise_agrees_with_diffusers_own_scheduler(tiny_sd, prediction_type):
    guide = DiffusersDenoiser.load(tiny_sd(prediction_type))
    scheduler = DDPMScheduler.from_config(guide.scheduler_config)
    condition = guide.condition(PROMPTS, guidance_scale=1.0)
    timestep = torch.tensor([300.0])
    sigma = guide.sigma(timestep)
    x = latents() * 2
    noised = x / (1 + sigma**2).sqrt()
    with torch.no_grad():
        output = guide.unet(noised, timestep, condition.positive).sample
    expected = scheduler.step(output, 300, noised).pred_original_sample
    torch.testing.assert_close(guide.denoise(x, sigma.expand(2), condition), expected, rtol=1e-3, atol=1e-4)


def test_guidance_is_uncond_plus_scale_times_difference(guide):
    sigma = torch.tensor([2.0, 2.0])
    guided = guide.denoise(latents(), sigma, guide.condition(PROMPTS, guidance_scale=7.5, negative="blurry"))
    plain = guide.denoise(latents(), sigma, guide.condition(PROMPTS, guidance_scale=1.0))
    empty = guide.denoise(latents(), sigma, guide.condition(["blurry"] * 2, guidance_scale=1.0))
    torch.testing.assert_close(guided, empty + 7.5 * (plain - empty), rtol=1e-4, atol=1e-4)


def test_every_sample_has_its_own_noise_level_and_prompt(guide):
    sigma = torch.tensor([0.5, 5.0])
    together = guide.denoise(latents(), sigma, guide.condition(PROMPTS, guidance_scale=3.0))
    for index, prompt in enumerate(PROMPTS):
        alone = guide.condition([prompt], guidance_scale=3.0)
        one = guide.denoise(latents()[index : index + 1], sigma[index : index + 1], alone)
        torch.testing.assert_close(together[index : index + 1], one, rtol=1e-4, atol=1e-4)


def test_controlnet_acts_and_scale_zero_switches_it_off(guide):
    sigma = torch.tensor([2.0, 2.0])
    normals = torch.rand((2, 64, 64, 3), generator=torch.Generator().manual_seed(0))
    plain = guide.denoise(latents(), sigma, guide.condition(PROMPTS, guidance_scale=2.0))
    led = guide.denoise(latents(), sigma, guide.condition(PROMPTS, guidance_scale=2.0, control=normals))
    off = guide.condition(PROMPTS, guidance_scale=2.0, control=normals, control_scale=0.0)
    assert (led - plain).abs().max() > 1e-3
    torch.testing.assert_close(guide.denoise(latents(), sigma, off), plain)
    smaller = torch.nn.functional.interpolate(normals.movedim(-1, 1), scale_factor=2.0).movedim(1, -1)
    resized = guide.denoise(latents(), sigma, guide.condition(PROMPTS, guidance_scale=2.0, control=smaller))
    assert resized.shape == led.shape  # a hint of another size is brought to the network's


def test_control_without_a_controlnet(tiny_sd):
    guide = DiffusersDenoiser.load(tiny_sd("epsilon"))
    with pytest.raises(InputError, match="control=True"):
        guide.condition(PROMPTS, guidance_scale=1.0, control=torch.zeros(2, 64, 64, 3))


def test_control_of_another_count(guide, as_user):
    with pytest.raises(InputError, match=r"control: expected float tensor \[2, H, W, 3\]"):
        guide.condition(PROMPTS, guidance_scale=1.0, control=torch.zeros(3, 64, 64, 3))


def test_images_go_in_with_gradient_and_come_out_in_range(guide):
    images = torch.rand((1, 64, 64, 3), generator=torch.Generator().manual_seed(0)).requires_grad_()
    z = guide.encode_images(images)
    assert z.shape == (1, 4, 8, 8)
    z.square().sum().backward()
    assert images.grad is not None and images.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in guide.vae.parameters())
    decoded = guide.decode(z.detach())
    assert decoded.shape == (1, 64, 64, 3)
    assert decoded.min() >= 0 and decoded.max() <= 1


def test_words_never_seen_and_long_prompts_pass(guide):
    embeddings = guide.encode_prompts(["", "\u30e6\u30cb\u30b3\u30fc\u30f3 \u00fcber 99!", "very " * 200 + "long"])
    assert embeddings.shape == (3, 77, 32)
    assert torch.isfinite(embeddings).all()


def test_half_precision_networks_answer_in_the_precision_of_the_latents(tiny_sd):
    guide = DiffusersDenoiser.load(tiny_sd("v_prediction"), dtype=torch.bfloat16)
    full = DiffusersDenoiser.load(tiny_sd("v_prediction"))
    sigma = torch.tensor([2.0, 2.0])
    rough = guide.denoise(latents(), sigma, guide.condition(PROMPTS, guidance_scale=1.0))
    exact = full.denoise(latents(), sigma, full.condition(PROMPTS, guidance_scale=1.0))
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.1, atol=0.1)


def test_a_text_is_encoded_once_and_alike_in_any_company(tiny_sd, monkeypatch):
    guide = DiffusersDenoiser.load(tiny_sd("v_prediction"))
    asked = []
    encode = guide.encode_prompts
    monkeypatch.setattr(guide, "encode_prompts", lambda prompts: asked.append(list(prompts)) or encode(prompts))
    together = guide.condition(["a man", "a woman"], guidance_scale=4.0)
    alone = guide.condition(["a woman"], guidance_scale=4.0, negative="a man")
    assert asked == [["a man"], ["a woman"], [""]]
    assert torch.equal(together.positive[1:], alone.positive)
    assert torch.equal(together.positive[:1], alone.negative)
    torch.testing.assert_close(together.positive, encode(["a man", "a woman"]), atol=1e-5, rtol=1e-5)


def test_old_texts_make_room(tiny_sd, monkeypatch):
    monkeypatch.setattr(diffusers_denoiser, "TEXTS_KEPT", 2)
    guide = DiffusersDenoiser.load(tiny_sd("v_prediction"))
    asked, encode = [], guide.encode_prompts
    monkeypatch.setattr(guide, "encode_prompts", lambda prompts: asked.append(*prompts) or encode(prompts))
    first = guide.condition(["a man", "a woman"], guidance_scale=4.0, negative="a child")
    guide.condition(["a woman"], guidance_scale=4.0, negative="a child")
    assert asked == ["a man", "a woman", "a child"]  # the two last are kept
    again = guide.condition(["a man"], guidance_scale=4.0, negative="a child")
    assert asked[3:] == ["a man"]  # the first had to go
    assert torch.equal(first.positive[:1], again.positive)
