"""Autoguidance: the difference between a UNet and a weak one of the same kind is taken further (Karras et al. 2024)."""

import shutil

import pytest
import torch

from humannorm.checks import InputError
from humannorm.guidance import Autoguidance, DiffusersDenoiser

PROMPTS = ["a young man in a red t-shirt, front view", "a woman"]


@pytest.fixture
def folder(autoguided_sd):
    return autoguided_sd


@pytest.fixture
def noised(generator):
    return torch.randn(2, 4, 8, 8, generator=generator) * 3, torch.tensor([3.0, 0.7])


def only(guide, unet):
    """The same model with another UNet and no weak one."""
    return DiffusersDenoiser(
        unet=unet,
        scheduler_config=guide.scheduler_config,
        text_encoder=guide.text_encoder,
        tokenizer=guide.tokenizer,
        vae=guide.vae,
        controlnet=guide.controlnet,
    )


@pytest.mark.few(1)
@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("controlled", [False, True])
def test_is_the_sum_of_both_guidances(folder, noised, scale, controlled, generator):
    guide = DiffusersDenoiser.load(folder, control=True, autoguidance=Autoguidance(free=2.5, controlled=1.5))
    control = torch.rand(2, 64, 64, 3, generator=generator) if controlled else None

    def estimate(unet, prompts, control):
        alone = only(guide, unet)
        return alone.denoise(*noised, alone.condition(prompts, guidance_scale=1.0, control=control))

    conditional = estimate(guide.unet, PROMPTS, control)
    empty = estimate(guide.unet, ["", ""], control)
    weak = estimate(guide.weak_unet, PROMPTS, None)
    expected = empty + scale * (conditional - empty) + (0.5 if controlled else 1.5) * (conditional - weak)
    condition = guide.condition(PROMPTS, guidance_scale=scale, control=control)
    torch.testing.assert_close(guide.denoise(*noised, condition), expected, rtol=1e-4, atol=1e-4)


def test_a_weak_network_as_good_as_the_other_changes_nothing(folder, noised):
    guide = DiffusersDenoiser.load(folder, autoguidance=Autoguidance())
    guide.weak_unet = guide.unet
    condition = guide.condition(PROMPTS, guidance_scale=4.0)
    expected = only(guide, guide.unet).denoise(*noised, condition)
    torch.testing.assert_close(guide.denoise(*noised, condition), expected, rtol=1e-4, atol=1e-4)


def test_without_it_leaves_the_weak_network_on_the_disk(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "weak_unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert DiffusersDenoiser.load(tmp_path / "model").weak_unet is None
    with pytest.raises(InputError, match=r"weak_unet: expected diffusion_pytorch_model\.safetensors"):
        DiffusersDenoiser.load(tmp_path / "model", autoguidance=Autoguidance())


@pytest.mark.parametrize("weight", [0.0, float("nan")])
def test_refuses_a_weight_below_one(weight):
    for name in ("free", "controlled"):
        with pytest.raises(InputError, match="autoguidance: expected 1"):
            Autoguidance(**{name: weight})
