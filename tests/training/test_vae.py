"""Training the VAE: what it may change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from humannorm.training.config import LoopConfig, VaeConfig
from humannorm.training.loop import train
from humannorm.training.shards import Shards
from humannorm.training.vae import VaeTask, build_vae

SMALL = VaeConfig(channels=(8, 8, 8), crop=32)


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
