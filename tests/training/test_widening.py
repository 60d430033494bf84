"""A network with more channels goes on from what it has learnt."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from humannorm.checks import InputError
from humannorm.guidance.diffusers_denoiser import DiffusersDenoiser
from humannorm.training.widening import with_hint_channels, with_latents


@pytest.fixture(scope="module")
def networks() -> tuple[UNet2DConditionModel, ControlNetModel]:
    """The bundled model's shape with half of its finest level, random."""
    guide = DiffusersDenoiser.load("bundled", dtype=torch.float32, control=True)
    torch.manual_seed(0)
    width = {"block_out_channels": [32, *guide.unet.config.block_out_channels[1:]]}
    unet = UNet2DConditionModel.from_config({**guide.unet.config, **width})
    control = ControlNetModel.from_config({**guide.controlnet.config, **width})
    for convolution in control.controlnet_down_blocks:  # zero when new
        torch.nn.init.normal_(convolution.weight)
    return unet, control


def inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "sample": torch.randn(2, 4, 16, 16, generator=generator),
        "timestep": torch.tensor([40, 700]),
        "encoder_hidden_states": torch.randn(2, 7, 192, generator=generator),
    }


@pytest.mark.slow
@torch.no_grad()
def test_a_network_for_more_latents_says_the_same_of_the_old_ones_and_nothing_of_the_new(
    networks: tuple[Any, Any],
) -> None:
    unet, control = networks
    asked = inputs(3)
    more = {**asked, "sample": torch.cat([asked["sample"], torch.randn(2, 4, 16, 16)], 1)}
    wide = with_latents(unet, 8)
    assert (wide.config.in_channels, wide.config.out_channels) == (8, 8)
    predicted = wide(**more).sample
    torch.testing.assert_close(predicted[:, :4], unet(**asked).sample)
    assert not predicted[:, 4:].any()
    picture = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    _, middle = control(**asked, controlnet_cond=picture, return_dict=False)
    _, wide_middle = with_latents(control, 8)(**more, controlnet_cond=picture, return_dict=False)
    torch.testing.assert_close(wide_middle, middle)
    with pytest.raises(InputError, match="channels: expected at least the network's 8, got 4"):
        with_latents(wide, 4)


@pytest.mark.slow
def test_new_latents_learn_from_the_first_step(networks: tuple[Any, Any]) -> None:
    wide = with_latents(networks[0], 8)
    asked = inputs(4)
    asked["sample"] = torch.randn(2, 8, 16, 16)
    (wide(**asked).sample - 1.0).square().mean().backward()
    assert bool(wide.conv_in.weight.grad[:, 4:].any()) and bool(wide.conv_out.weight.grad[4:].any())


@torch.no_grad()
def test_a_controlnet_with_more_hints_follows_the_old_ones_as_before(networks: tuple[Any, Any]) -> None:
    _, control = networks
    wide = with_hint_channels(control, 6)
    hint = torch.rand(2, 6, 64, 64, generator=torch.Generator().manual_seed(2))
    _, middle = control(**inputs(1), controlnet_cond=hint[:, :3], return_dict=False)
    _, wide_middle = wide(**inputs(1), controlnet_cond=hint, return_dict=False)
    torch.testing.assert_close(wide_middle, middle)
    again = with_hint_channels(wide, 6).state_dict()
    assert all(torch.equal(again[name], value) for name, value in wide.state_dict().items())
    with pytest.raises(InputError, match="channels: expected at least the ControlNet's 6, got 3"):
        with_hint_channels(wide, 3)


def test_new_hints_are_told_apart_from_the_first_step(networks: tuple[Any, Any]) -> None:
    """What reads them is random and not 0, so that the first gradient says how to use them."""
    wide = with_hint_channels(networks[1], 6)
    hint = torch.rand(2, 6, 64, 64, generator=torch.Generator().manual_seed(2))
    embedding = wide.controlnet_cond_embedding
    (embedding(hint) - 1.0).square().mean().backward()
    new = embedding.conv_out.weight.shape[1] * 2 // 3
    assert bool(embedding.conv_out.weight.grad[:, new:].any())
    with torch.no_grad():
        embedding.conv_out.weight += embedding.conv_out.weight.grad
        other = torch.cat([hint[:, :3], hint[:, 3:].flip(2)], 1)
        assert not torch.equal(embedding(hint), embedding(other))
