"""The bundled model as the host's own objects computes what diffusers computes."""

from __future__ import annotations

import importlib
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from humannorm.guidance import Autoguidance, DiffusersDenoiser
from humannorm.guidance.folders import WEAK_UNET
from humannorm.models import bundled_folder

TEXT = "a young man in a red t-shirt, black background, normal map, full body, front view"
TOLERANCE = 1e-4
SIZE = 64  # pixels


@pytest.fixture(scope="module")
def guide():
    return DiffusersDenoiser.load("bundled", control=True)


@pytest.fixture(scope="module")
def builders(pack):
    return importlib.import_module("humannorm_pack.nodes.host_models")


@torch.no_grad()
def test_text_encoder(builders, guide):
    clip = builders.build_clip(bundled_folder())
    ((encoded, _),) = clip.encode_from_tokens_scheduled(clip.tokenize(TEXT))
    assert torch.allclose(encoded, guide.encode_prompts([TEXT]), atol=TOLERANCE)


@torch.no_grad()
def test_vae_both_ways(builders, guide, generator):
    vae = builders.build_vae(bundled_folder())
    images = torch.rand(1, SIZE, SIZE, 3, generator=generator)
    encoded = vae.encode(images)
    scale = guide.vae.config.scaling_factor
    expected = guide.vae.encode(images.permute(0, 3, 1, 2) * 2 - 1).latent_dist.mode()
    assert encoded.shape == (1, 4, SIZE // 4, SIZE // 4)
    assert torch.allclose(encoded, expected, atol=TOLERANCE)
    assert torch.allclose(vae.decode(encoded), guide.decode(encoded * scale), atol=TOLERANCE)


@torch.no_grad()
def test_a_vae_with_more_blocks_a_level(builders, guide, generator, tmp_path):
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    deeper = AutoencoderKL.from_config({**guide.vae.config, "layers_per_block": 3}).eval()
    deeper.save_pretrained(tmp_path / "vae")
    vae = builders.build_vae(tmp_path)
    images = torch.rand(1, SIZE, SIZE, 3, generator=generator)
    encoded = vae.encode(images)
    expected = deeper.encode(images.permute(0, 3, 1, 2) * 2 - 1).latent_dist.mode()
    assert torch.allclose(encoded, expected, atol=TOLERANCE)
    pictures = deeper.decode(encoded).sample.permute(0, 2, 3, 1) / 2 + 0.5
    assert torch.allclose(vae.decode(encoded), pictures.clamp(0, 1), atol=TOLERANCE)


@pytest.mark.parametrize("timestep", [1, 500, 999])
@torch.no_grad()
def test_unet_and_control_net(builders, guide, generator, timestep):
    import comfy.model_management

    model = builders.build_model(bundled_folder())
    control_net = builders.build_control_net(bundled_folder())
    comfy.model_management.load_models_gpu([model, *control_net.get_models()])
    sampling = model.get_model_object("model_sampling")
    sigma = guide.sigma(torch.tensor([float(timestep)]))
    assert torch.allclose(sampling.sigma(torch.tensor([float(timestep)])), sigma, rtol=1e-5)
    text = guide.encode_prompts([TEXT])
    side = SIZE // guide.downscale
    x = sigma * torch.randn(1, 4, side, side, generator=generator)
    hint = torch.rand(1, SIZE, SIZE, 3, generator=generator)
    for picture in (None, hint):
        expected = guide.denoise(x, sigma, guide.condition([TEXT], guidance_scale=1.0, control=picture))
        residuals = None
        if picture is not None:
            applied = control_net.copy().set_cond_hint(picture.permute(0, 3, 1, 2))
            applied.pre_run(model.model, sampling.percent_to_sigma)
            residuals = applied.get_control(x, sigma, {"c_crossattn": text}, 1, {})
        found = model.model.apply_model(x, sigma, c_crossattn=text, control=residuals)
        assert torch.allclose(found, expected, atol=TOLERANCE), (picture is not None, (found - expected).abs().max())


@pytest.mark.parametrize("distils", [False, True])
@pytest.mark.parametrize("controlled", [False, True])
@torch.no_grad()
def test_autoguidance(pack, builders, autoguided, generator, controlled, distils):
    """A weak UNet guides whatever the host samples as it guides the library's denoiser, but not what is distilled."""
    import comfy.samplers

    guide = DiffusersDenoiser.load(autoguided, control=True, autoguidance=None if distils else Autoguidance())
    model, control_net = builders.build_model(autoguided), builders.build_control_net(autoguided)
    if distils:
        model.model_options[importlib.import_module("humannorm_pack.nodes.payloads").DISTILLS] = True
    side = SIZE // guide.downscale
    noise = torch.randn(1, 4, side, side, generator=generator)
    extra, hint = {}, None
    if controlled:
        hint = torch.rand(1, SIZE, SIZE, 3, generator=generator)
        extra = {"control": control_net.copy().set_cond_hint(hint.movedim(-1, 1)), "control_apply_to_uncond": True}
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds([[guide.encode_prompts([TEXT]), extra]], [[guide.encode_prompts([""]), {}]])
    guider.set_cfg(3.0)
    sigmas = torch.cat([guide.sigma(torch.tensor([600.0])), torch.zeros(1)])
    found = guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, seed=0)
    x = sigmas[0] * noise
    expected = guide.denoise(x, sigmas[:1], guide.condition([TEXT], guidance_scale=3.0, control=hint))
    assert (found - expected / guide.vae.config.scaling_factor).abs().max() < 20 * TOLERANCE


@pytest.fixture
def autoguided(tmp_path):
    """The bundled model with a weak UNet that differs from its UNet."""
    folder = tmp_path / "model"
    shutil.copytree(bundled_folder(), folder, ignore=shutil.ignore_patterns(WEAK_UNET))
    shutil.copytree(folder / "unet", folder / WEAK_UNET)
    path = folder / WEAK_UNET / "diffusion_pytorch_model.safetensors"
    save_file({name: 0.9 * value for name, value in load_file(path).items()}, path)
    return folder
