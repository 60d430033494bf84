"""Training the VAE: what it may change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from humannorm.training.config import LoopConfig, VaeConfig
from humannorm.training.loop import train
from humannorm.training.shards import Shards
from humannorm.training.vae import VaeTask, build_vae, crop_around, structural_similarity

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


def similarity_by_loops(images: torch.Tensor, truth: torch.Tensor, side: int) -> torch.Tensor:
    """Wang et al. 2004, eq. 13, window by window."""
    c1, c2, half = 0.01**2, 0.03**2, side // 2
    result = torch.empty_like(images)
    for batch, channel, row, column in torch.cartesian_prod(*map(torch.arange, images.shape)).tolist():
        window = (
            batch,
            channel,
            slice(max(row - half, 0), row + half + 1),
            slice(max(column - half, 0), column + half + 1),
        )
        a, b = images[window].flatten(), truth[window].flatten()
        covariance = torch.cov(torch.stack([a, b]), correction=0)
        luminance = (2 * a.mean() * b.mean() + c1) / (a.mean() ** 2 + b.mean() ** 2 + c1)
        structure = (2 * covariance[0, 1] + c2) / (covariance[0, 0] + covariance[1, 1] + c2)
        result[batch, channel, row, column] = luminance * structure
    return result


def test_structural_similarity_is_the_one_of_its_paper():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 1, 9, 8, generator=generator, dtype=torch.float64)
    images = torch.rand(2, 1, 9, 8, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(structural_similarity(images, truth, 5), similarity_by_loops(images, truth, 5))
    torch.testing.assert_close(structural_similarity(truth, truth), torch.ones_like(truth))


def test_structural_similarity_tells_a_lost_structure_from_a_brighter_picture():
    stripes = 0.5 + 0.2 * torch.arange(16).remainder(2).float().mul(2).sub(1).expand(1, 1, 16, 16)
    brighter, flat = stripes + 0.1, torch.full_like(stripes, 0.5)
    assert float(structural_similarity(brighter, stripes).mean()) > 0.9
    assert float(structural_similarity(flat, stripes).mean()) < 0.1


def test_the_structural_term_adds_to_the_loss(people_shards):
    data = people_shards(shards=1, size=64)
    vae = build_vae(SMALL, 64)
    plain = VaeTask(vae, Shards(data), Shards(data, split="held_out"), SMALL)
    batch = plain.draw(torch.Generator().manual_seed(0), 2)
    structural = VaeTask(vae, plain.shards, plain.held_out, replace(SMALL, similarity_weight=0.5))
    with torch.no_grad():
        added = float(structural(batch) - plain(batch))
    assert 0.0 < added < 1.0  # 1 - SSIM is 0..2


def test_heads_of_full_bodies_weigh_more(people_shards, generator):
    shards = Shards(people_shards(shards=1, size=64))
    parts = replace(SMALL, crop=16, whole_every=10**9, parts=(("full", 1.0),))
    plain, heavy = (
        VaeTask(build_vae(parts, 64), shards, shards, replace(parts, head_weight=weight)).draw(
            generator.manual_seed(0), 64
        )["weight"]
        for weight in (0.0, 8.0)
    )
    assert set(plain.unique().tolist()) == {0.0, 1.0}
    assert set(heavy.unique().tolist()) == {0.0, 1.0, 9.0}
    heads = VaeTask(build_vae(parts, 64), shards, shards, replace(parts, head_weight=8.0, parts=(("head", 1.0),)))
    assert set(heads.draw(generator, 16)["weight"].unique().tolist()) == {0.0, 1.0}


def test_a_crop_is_drawn_as_its_pixels_weigh(generator):
    weight = torch.zeros(64, 64)
    weight[8, 8], weight[56, 56] = 1.0, 3.0
    upper = sum(crop_around(weight, 16, generator)[0] < 32 for _ in range(400))
    assert upper / 400 == pytest.approx(1 / 4, abs=0.08)
