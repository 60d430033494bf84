"""Walks of many views against closed forms, with denoisers whose answer is known."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from humannorm.checks import InputError
from humannorm.guidance.synchronised import (
    SynchronisedSettings,
    Walk,
    begin_walk,
    levels,
    load_walk,
    sample_together,
)
from humannorm.optimisation import RunError

MEAN, SPREAD = 0.3, 0.5


class Gaussian:
    """The exact denoiser of z ~ N(mean, spread^2) in every pixel, on pixels: E[z | x] = (s^2 x + sigma^2 m) / (s^2 +
    sigma^2)."""

    timesteps, resolution = 1000, 4
    hint_channels = 0

    def __init__(self, mean: float = MEAN, spread: float = SPREAD) -> None:
        self.mean, self.spread, self.batches, self.fails_at = mean, spread, [], -1

    def sigma(self, timestep: Tensor) -> Tensor:
        return 0.01 * 1000 ** (timestep / 999)

    def condition(self, prompts, **options):
        return None

    def denoise(self, x: Tensor, sigma: Tensor, condition) -> Tensor:
        self.batches.append(len(x))
        if len(self.batches) == self.fails_at:
            raise KeyboardInterrupt
        v, noise = self.spread**2, sigma[:, None, None, None].square()
        return (v * x + noise * self.mean) / (v + noise)

    def encode_images(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2)

    def decode(self, latents: Tensor) -> Tensor:
        return latents.permute(0, 2, 3, 1)


def own_noise(**options) -> SynchronisedSettings:
    """Settings of walks whose views begin from noise of their own."""
    return SynchronisedSettings(one_noise=False, **options)


def nothing(estimates: Tensor, share: float) -> Tensor:
    return estimates


def mean_of_views(estimates: Tensor, share: float) -> Tensor:
    return estimates.mean(0, keepdim=True).expand_as(estimates)


def walk_of(denoiser, settings, *, count=5, agree=nothing, seed=0, **options) -> Walk:
    generator = torch.Generator().manual_seed(seed)
    walk = begin_walk(denoiser, settings, generator, count=count)
    return sample_together(denoiser, lambda views: None, agree, walk, settings, generator=generator, **options)


def test_without_agreement_every_view_is_sampled_as_if_alone():
    settings = own_noise(steps=12, level=1.0, batch=2)
    together = walk_of(Gaussian(), settings).x
    generator = torch.Generator().manual_seed(0)
    start, sigmas, alone = begin_walk(Gaussian(), settings, generator, count=5).x, levels(Gaussian(), settings), []
    for x in start.split(1):
        for sigma, following in pairwise(sigmas):
            z = Gaussian().denoise(x, sigma.expand(1), None)
            x = z + following / sigma * (x - z)
        alone.append(x)
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.slow
def test_many_ddim_steps_follow_the_probability_flow():
    # For a Gaussian the flow scales x - m by s / sqrt(s^2 + sigma^2).
    settings = own_noise(steps=900, level=1.0, batch=64)
    start = begin_walk(Gaussian(), settings, torch.Generator().manual_seed(0), count=64).x
    expected = MEAN + (start - MEAN) * SPREAD / (SPREAD**2 + levels(Gaussian(), settings)[0] ** 2).sqrt()
    assert torch.allclose(walk_of(Gaussian(), settings, count=64).x, expected, atol=0.02)


@pytest.mark.parametrize("place", ["pictures", "latents"])
def test_views_that_agree_to_the_end_are_one(place):
    settings = own_noise(steps=6, level=1.0, free=0.0, agree_on=place)
    x = walk_of(Gaussian(), settings, agree=mean_of_views).x
    assert torch.allclose(x, x[:1].expand_as(x), atol=1e-6)
    free = walk_of(Gaussian(), own_noise(steps=6, level=1.0, free=0.5), agree=mean_of_views).x
    assert free.std(0).mean() > 1e-3


def test_agreement_is_asked_at_every_second_level_and_not_at_the_last_ones():
    shares = []

    def note(estimates, share):
        shares.append(share)
        return estimates

    walk_of(Gaussian(), own_noise(steps=11, level=1.0, free=0.2, agree_every=2), agree=note)
    assert shares == [0.0, 0.2, 0.4, 0.6, 0.8]


def test_an_entry_is_noised_to_its_level():
    settings = own_noise(level=0.5)
    entry = torch.rand(3, 4, 4, 3, generator=torch.Generator().manual_seed(1))
    walk = begin_walk(Gaussian(), settings, torch.Generator().manual_seed(0), count=3, entry=entry)
    noise = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(walk.x, entry.permute(0, 3, 1, 2) + levels(Gaussian(), settings)[0] * noise)


def test_one_noise_is_that_of_every_view():
    entry = torch.rand(3, 4, 4, 3, generator=torch.Generator().manual_seed(1))
    settings = SynchronisedSettings(level=0.5)
    walk = begin_walk(Gaussian(), settings, torch.Generator().manual_seed(0), count=3, entry=entry)
    noise = walk.x - entry.permute(0, 3, 1, 2)
    assert torch.allclose(noise, noise[:1].expand_as(noise), atol=1e-5)
    assert noise[0].std() == pytest.approx(float(levels(Gaussian(), settings)[0]), rel=0.3)
    x = begin_walk(Gaussian(), SynchronisedSettings(level=1.0), torch.Generator().manual_seed(0), count=3).x
    assert torch.equal(x, x[:1].expand_as(x))


def test_a_consistency_walk_draws_fresh_noise_at_every_level():
    settings = own_noise(steps=4, level=1.0, walk="consistency", batch=1024)
    certain = walk_of(Gaussian(spread=0.0), settings).x
    assert torch.equal(certain, torch.full_like(certain, MEAN))  # the answer of a denoiser that is certain
    x = walk_of(Gaussian(), settings, count=4096).x
    sigma = levels(Gaussian(), settings)[-2]
    # The last step gives the posterior's mean at the last level: variance s^4 / (s^2 + sigma^2) at most.
    assert abs(float(x.mean()) - MEAN) < 0.02
    assert float(x.var()) <= SPREAD**4 / (SPREAD**2 + float(sigma) ** 2) + 0.01


def test_given_views_stay_as_they_are_and_cost_nothing():
    given = torch.full((4, 4, 3), 0.9)
    denoiser = Gaussian()
    settings = own_noise(steps=3, level=1.0, free=0.0)
    x = walk_of(denoiser, settings, agree=mean_of_views, given={1: given}).x
    assert torch.allclose(x[1], given.permute(2, 0, 1), atol=1e-6)
    assert sum(denoiser.batches) == 3 * 4


def test_an_interrupted_walk_goes_on_to_the_same_bytes(tmp_path):
    settings = own_noise(steps=6, level=1.0, walk="consistency", batch=2)
    whole = walk_of(Gaussian(), settings, agree=mean_of_views)
    for fails_at in (1, 5, 11, 18):
        file, sick = tmp_path / f"{fails_at}.safetensors", Gaussian()
        sick.fails_at = fails_at
        with pytest.raises(KeyboardInterrupt):
            walk_of(sick, settings, agree=mean_of_views, checkpoint=file, request={"prompt": "a"})
        generator = torch.Generator().manual_seed(0)
        if file.exists():
            walk = load_walk(file, generator, {"prompt": "a"})
            assert walk.step == (fails_at - 1) // 3
        else:
            walk = begin_walk(Gaussian(), settings, generator, count=5)
        again = sample_together(Gaussian(), lambda views: None, mean_of_views, walk, settings, generator=generator)
        assert torch.equal(whole.x, again.x)


def test_another_request_is_refused(tmp_path):
    file = tmp_path / "walk.safetensors"
    walk_of(Gaussian(), own_noise(steps=2, level=1.0), checkpoint=file, request={"prompt": "a"})
    with pytest.raises(InputError, match="expected a walk with prompt 'b', got 'a'"):
        load_walk(file, torch.Generator(), {"prompt": "b"})


def test_the_callback_sees_every_batch_and_may_end_the_walk():
    seen = []

    def stop(progress):
        seen.append((progress.step, progress.batch))
        assert progress.seconds_left >= 0
        return len(seen) < 5

    walk = walk_of(Gaussian(), own_noise(steps=4, level=1.0, batch=2), callback=stop)
    assert seen == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert walk.step == 1


def test_what_is_not_finite_is_refused_with_the_last_good_walk():
    with pytest.raises(RunError, match="level 0 is not finite") as caught:
        walk_of(Gaussian(mean=float("nan")), own_noise(steps=3, level=1.0))
    assert caught.value.state.step == 0 and bool(caught.value.state.x.isfinite().all())


@pytest.mark.usefixtures("as_user")
def test_bad_input_is_refused():
    wrong = (("steps", 0), ("level", 0.0), ("level", 1.5), ("walk", "euler"), ("agree_on", "wishes"), ("batch", 0))
    for name, value in wrong:
        with pytest.raises(InputError, match=name):
            SynchronisedSettings(**{name: value})
    with pytest.raises(InputError, match="level: expected 1 .* without pictures to enter from, got 0.7"):
        begin_walk(Gaussian(), own_noise(level=0.7), torch.Generator(), count=2)
    with pytest.raises(InputError, match="entry"):
        begin_walk(Gaussian(), own_noise(), torch.Generator(), count=2, entry=torch.zeros(3, 4, 4, 3))
    with pytest.raises(InputError, match="more than the 2 levels done"):
        settings = own_noise(steps=2)
        walk = Walk(torch.zeros(1, 3, 4, 4), 2)
        sample_together(Gaussian(), lambda views: None, nothing, walk, settings, generator=torch.Generator())
