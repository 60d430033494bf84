"""Training the VAE: what it may change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from humannorm.training.config import LoopConfig, VaeConfig
from humannorm.training.loop import train
from humannorm.training.shards import Shards
from humannorm.training.vae import VaeTask, build_vae, deepened

SMALL = VaeConfig(channels=(8, 8, 8), layers_per_block=1, crop=32)


@pytest.mark.parametrize("decoder_only", [False, True])
def test_the_decoder_alone_can_be_trained_and_leaves_all_latents_as_they_were(people_shards, tmp_path, decoder_only):
    data = people_shards(shards=1, size=64)
    vae = build_vae(SMALL, 64)
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    task = VaeTask(vae, Shards(data), Shards(data, split="held_out"), replace(SMALL, decoder_only=decoder_only))
    train(
        task,
        LoopConfig(steps=2, batch_size=2, learning_rate=1e-3, warmup_steps=0, precision="no"),
        tmp_path,
        device="cpu",
    )
    same = {name for name, value in vae.state_dict().items() if torch.equal(value, before[name])}
    encoding = {name for name in before if name.startswith(("encoder.", "quant_conv."))}
    assert encoding and (encoding <= same) == decoder_only
    assert not any(name.startswith("decoder.") and name.endswith("conv1.weight") for name in same)


def test_a_deepened_vae_gives_the_same_latents_and_pictures_and_its_new_blocks_learn(people_shards, tmp_path):
    data = people_shards(shards=1, size=64)
    vae = build_vae(SMALL, 64)
    deeper = deepened(vae, 2)
    images = 2 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 1
    with torch.no_grad():
        latents = vae.encode(images).latent_dist.mode()
        torch.testing.assert_close(deeper.encode(images).latent_dist.mode(), latents)
        torch.testing.assert_close(deeper.decode(latents).sample, vae.decode(latents).sample)
    task = VaeTask(deeper, Shards(data), Shards(data, split="held_out"), replace(SMALL, decoder_only=True))
    settings = LoopConfig(steps=2, batch_size=2, learning_rate=1e-3, warmup_steps=0, precision="no")
    train(task, settings, tmp_path, device="cpu")
    added = [value for name, value in deeper.decoder.named_parameters() if "resnets.2.conv2.weight" in name]
    assert len(added) == len(SMALL.channels) and all(bool(value.any()) for value in added)
    with torch.no_grad():
        torch.testing.assert_close(deeper.encode(images).latent_dist.mode(), latents)
