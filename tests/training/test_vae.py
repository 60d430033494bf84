"""Training the VAE: what it may change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from humannorm.checks import InputError
from humannorm.training import vae as vae_module
from humannorm.training.config import LoopConfig, VaeConfig
from humannorm.training.detail import with_detail
from humannorm.training.loop import train
from humannorm.training.shards import Shards
from humannorm.training.vae import (
    ROUND_OFF,
    VaeTask,
    build_vae,
    crop_around,
    soft_magnitude,
    structural_similarity,
)

ROUNDING = {"rtol": 1e-4, "atol": 1e-4}  # layers of other shapes add in another order
SMALL = VaeConfig(channels=(8, 8, 8), layers_per_block=1, crop=32)


@pytest.mark.slow
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


def test_more_latent_channels_leave_the_old_latents_and_the_pictures_as_they_were():
    vae = build_vae(SMALL, 64)
    wider = with_detail(vae, 6)
    images = 2 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 1
    with torch.no_grad():
        old, new = vae.encode(images).latent_dist, wider.encode(images).latent_dist
        assert new.mean.shape[1] == wider.config.latent_channels == 6
        torch.testing.assert_close(new.mean[:, :4], old.mean, **ROUNDING)
        torch.testing.assert_close(new.logvar[:, :4], old.logvar, **ROUNDING)
        assert bool(new.mean[:, 4:].std(dim=(0, 2, 3)).gt(0.01).all())  # there is something in the new ones to learn
        torch.testing.assert_close(wider.decode(new.mean).sample, vae.decode(old.mean).sample, **ROUNDING)
    with pytest.raises(InputError, match="latent_channels"):
        with_detail(vae, 4)


@pytest.mark.slow
def test_new_latent_channels_are_learnt_beside_kept_ones(people_shards, tmp_path):
    data = people_shards(shards=1, size=64)
    vae = build_vae(SMALL, 64)
    images = 2 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 1
    with torch.no_grad():
        old = vae.encode(images).latent_dist.mode()
    wider = with_detail(vae, 6)
    config = replace(SMALL, latent_channels=6, kept_channels=4)
    task = VaeTask(wider.train().requires_grad_(True), Shards(data), Shards(data, split="held_out"), config)
    with torch.no_grad():
        before = wider.encode(images).latent_dist
        mean, logvar = task.moments(images)
        torch.testing.assert_close(mean, before.mean, **ROUNDING)
        torch.testing.assert_close(logvar, before.logvar, **ROUNDING)
    settings = LoopConfig(steps=3, batch_size=2, learning_rate=1e-2, warmup_steps=0, precision="no", weight_decay=0.1)
    folder = train(task, settings, tmp_path, device="cpu")
    trained = type(vae).from_pretrained(folder)
    with torch.no_grad():
        after = trained.encode(images).latent_dist.mode()
    assert torch.equal(after[:, :4], before.mode()[:, :4])  # to the bit: weight decay does not touch them either
    torch.testing.assert_close(after[:, :4], old, **ROUNDING)
    assert not torch.allclose(after[:, 4:], before.mode()[:, 4:])
    mean, logvar = VaeTask(trained, task.shards, task.held_out, config).moments(images)  # taken apart again
    torch.testing.assert_close(mean, trained.encode(images).latent_dist.mean, **ROUNDING)
    torch.testing.assert_close(logvar, trained.encode(images).latent_dist.logvar, **ROUNDING)


@pytest.mark.parametrize("kept", [6, 7])
def test_all_latent_channels_cannot_be_kept(people_shards, kept):
    data = people_shards(shards=1, size=64)
    config = replace(SMALL, latent_channels=6, kept_channels=kept)
    with pytest.raises(InputError, match="kept_channels"):
        VaeTask(build_vae(config, 64), Shards(data), Shards(data, split="held_out"), config)


def test_errors_as_small_as_bf16s_rounding_hardly_pull_and_large_ones_pull_as_their_absolute_value():
    error = torch.tensor([-0.5, -0.0025, 0.0, 0.0025, 0.5], dtype=torch.float64, requires_grad=True)
    value = soft_magnitude(error)
    (slope,) = torch.autograd.grad(value.sum(), error)
    assert bool((value <= error.abs()).all()) and bool((value >= error.abs() - ROUND_OFF).all()) and value[2] == 0
    assert float(slope[3].abs()) < 0.25 and float(slope[4]) > 0.999
    torch.testing.assert_close(slope, -slope.flip(0))


def test_the_structural_term_looks_at_people_alone(people_shards, monkeypatch):
    data = people_shards(shards=1, size=64)
    task = VaeTask(build_vae(SMALL, 64), Shards(data), Shards(data, split="held_out"), SMALL)
    batch = task.draw(torch.Generator().manual_seed(0), 2)
    inside = batch["weight"]
    structural = VaeTask(task.vae, task.shards, task.held_out, replace(SMALL, similarity_weight=1.0))

    def added(dissimilarity: torch.Tensor) -> float:
        monkeypatch.setattr(vae_module, "structural_similarity", lambda *_: 1.0 - dissimilarity)
        with torch.no_grad():
            return float(structural(batch) - task(batch))

    assert added((inside == 0).float().expand(-1, 3, -1, -1)) == 0.0
    assert abs(added(torch.ones_like(batch["image"])) - 1.0) < 1e-5
