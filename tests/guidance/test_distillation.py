"""Score distillation against its equations, with networks whose answer is known."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from humannorm.checks import InputError
from humannorm.guidance import (
    DiffusersDenoiser,
    multistep_target,
    portions,
    sds_at_pictures,
    sds_gradient,
    sds_loss,
    sds_weight,
)
from humannorm.guidance.distillation import NoiseFree, asked, timestep_bounds
from humannorm.guidance.samplers import sample_latents
from humannorm.training.diffusion import SCHEDULE


class Oracle:
    """A denoiser that always believes in the same clean latents; `seen` keeps what it was asked."""

    def __init__(self, guide, truth):
        self.guide, self.truth, self.seen = guide, truth, []
        self.timesteps, self.resolution, self.hint_channels = guide.timesteps, guide.resolution, 3

    def sigma(self, timestep):
        return self.guide.sigma(timestep)

    def condition(self, prompts, **options):
        return None

    def denoise(self, x, sigma, condition):
        self.seen.append((x, sigma))
        return self.truth.expand_as(x)

    def encode_images(self, images):
        raise AssertionError("distillation works on latents")

    decode = encode_images


@pytest.fixture(scope="module")
def guide(tiny_sd):
    return DiffusersDenoiser.load(tiny_sd("epsilon"))


@pytest.fixture
def oracle(guide):
    return Oracle(guide, torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7)))


def test_gradient_is_the_published_formula(guide):
    # (1 - alphabar) * (eps_hat - eps), computed the published way from a real network.
    z = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    condition = guide.condition(["a man", "a woman"], guidance_scale=5.0)
    result = sds_gradient(guide, z, condition, t_range=(0.3, 0.3), generator=torch.Generator().manual_seed(3))
    draws = torch.Generator().manual_seed(3)
    timestep = torch.randint(300, 301, (1,), generator=draws)
    eps = torch.randn(z.shape, generator=draws)
    sigma = guide.sigma(timestep.float())
    abar = (1 / (1 + sigma**2)).reshape(())
    noised = abar.sqrt() * z + (1 - abar).sqrt() * eps
    text = torch.cat([guide.encode_prompts([""]).expand(2, -1, -1), guide.encode_prompts(["a man", "a woman"])])
    with torch.no_grad():
        unguided, guided = guide.unet(noised.repeat(2, 1, 1, 1), timestep, text).sample.chunk(2)
    eps_hat = unguided + 5.0 * (guided - unguided)
    torch.testing.assert_close(result.gradient, (1 - abar) * (eps_hat - eps), rtol=1e-3, atol=1e-3)
    assert result.timestep.tolist() == [300.0, 300.0]


def test_descending_the_gradient_reaches_what_the_network_believes(oracle):
    z = torch.zeros((1, 4, 8, 8), requires_grad=True)
    optimizer = torch.optim.SGD([z], lr=0.5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        optimizer.zero_grad()
        sds_loss(z, sds_gradient(oracle, z, None, generator=generator).gradient).backward()
        optimizer.step()
    torch.testing.assert_close(z.detach(), oracle.truth, atol=1e-3, rtol=0)


def test_loss_hands_on_the_gradient_divided_by_the_batch():
    z = torch.randn((3, 4, 8, 8), requires_grad=True)
    gradient = torch.randn((3, 4, 8, 8))
    sds_loss(z, gradient).backward()
    torch.testing.assert_close(z.grad, gradient / 3)


def test_weight_is_one_minus_alphabar():
    sigma = torch.tensor([0.1, 1.0, 14.6], dtype=torch.float64)
    torch.testing.assert_close(sds_weight(sigma), 1 - 1 / (1 + sigma**2))


def test_timesteps_are_drawn_from_the_range_and_the_seed_decides(oracle):
    z = torch.zeros((2, 4, 8, 8))
    generator = torch.Generator().manual_seed(0)
    drawn = [sds_gradient(oracle, z, None, t_range=(0.02, 0.03), generator=generator) for _ in range(200)]
    seen = {int(result.timestep[0]) for result in drawn}
    assert seen == set(range(20, 31))  # both ends included
    assert all(result.timestep[0] == result.timestep[1] for result in drawn)
    again = sds_gradient(oracle, z, None, t_range=(0.02, 0.03), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.gradient, drawn[0].gradient, rtol=0, atol=0)


@pytest.mark.parametrize("t_range", [(-0.1, 0.5), (0.6, 0.5), (0.0, 1.1)])
def test_impossible_ranges(oracle, t_range):
    with pytest.raises(InputError, match="t_range"):
        timestep_bounds(oracle, t_range)


def test_multistep_walks_down_in_the_published_number_of_steps(oracle):
    z = torch.zeros((2, 4, 8, 8))
    target = multistep_target(oracle, z, None, t_range=(0.5, 0.5), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(target, oracle.truth.expand_as(target), atol=1e-5, rtol=0)
    sigmas = [float(sigma[0]) for _, sigma in oracle.seen]
    assert len(sigmas) == 21
    assert sigmas[0] == pytest.approx(float(oracle.sigma(torch.tensor([500.0]))))
    assert all(later < earlier for earlier, later in pairwise(sigmas))


@pytest.mark.parametrize("sampler", ["ddim", "dpm"])
def test_samplers_end_at_what_the_network_believes(oracle, sampler):
    noise = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    steps = []
    options = {"scheduler_config": SCHEDULE, "steps": 8, "sampler": sampler}
    z = sample_latents(oracle, None, noise, **options, progress=lambda step, of: steps.append((step, of)))
    torch.testing.assert_close(z, oracle.truth.expand_as(z), atol=2e-2, rtol=0)
    assert steps == [(index, 8) for index in range(1, 9)]
    # The first question is pure noise at the schedule's end.
    x, sigma = oracle.seen[0]
    assert float(sigma[0]) == pytest.approx(14.61, rel=1e-2)
    torch.testing.assert_close(x / (1 + sigma[0] ** 2).sqrt(), noise)


def test_ddim_agrees_with_diffusers_on_a_real_network(guide):
    from diffusers import DDIMScheduler

    condition = guide.condition(["a man"], guidance_scale=1.0)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    ours = sample_latents(guide, condition, noise, scheduler_config=guide.scheduler_config, steps=5, sampler="ddim")
    scheduler = DDIMScheduler.from_config(
        {**guide.scheduler_config, "timestep_spacing": "trailing", "set_alpha_to_one": True}
    )
    scheduler.set_timesteps(5)
    x = noise
    with torch.no_grad():
        for timestep in scheduler.timesteps:
            x = scheduler.step(guide.unet(x, timestep, condition.positive).sample, timestep, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-2, atol=1e-2)


def test_unknown_sampler(guide):
    with pytest.raises(InputError, match="sampler: expected one of dpm, ddim"):
        sample_latents(guide, None, torch.zeros(1, 4, 8, 8), scheduler_config=SCHEDULE, sampler="euler")


class PictureOracle(Oracle):
    """The same with the real encoder, of any stated resolution."""

    def __init__(self, guide, truth, resolution):
        super().__init__(guide, truth)
        self.resolution, self.encoded = resolution, []

    def encode_images(self, images):
        self.encoded.append(len(images))
        return self.guide.encode_images(images)


@pytest.mark.slow
def test_large_pictures_are_looked_at_one_by_one_and_small_ones_together(guide):
    pictures = torch.rand((5, 64, 64, 3), generator=torch.Generator().manual_seed(1))
    truth = torch.zeros_like(guide.encode_images(pictures[:1]))
    found = {}
    for resolution, expected in ((64, [5]), (256, [4, 1]), (512, [1] * 5), (1024, [1] * 5)):
        oracle = PictureOracle(guide, truth, resolution)
        asked = []
        gradient, size = sds_at_pictures(
            oracle, pictures, asked.extend, t_range=(0.5, 0.5), generator=torch.Generator().manual_seed(0)
        )
        assert oracle.encoded == expected and asked == list(range(5))
        assert [len(group) for group in portions(5, oracle)] == expected
        found[resolution] = gradient, size
    # What the network believes does not hang on the noise here, so all agree; and with the gradient of the sum.
    leaf = pictures.clone().requires_grad_()
    z = guide.encode_images(leaf)
    sigma = guide.sigma(torch.tensor([500.0]))
    upstream = sds_weight(sigma) / sigma * (z - truth).detach()
    (expected_gradient,) = torch.autograd.grad(z, leaf, upstream / 5)
    for gradient, size in found.values():
        torch.testing.assert_close(gradient, expected_gradient, atol=1e-6, rtol=1e-3)
        assert size == pytest.approx(float(upstream.square().mean().sqrt()), rel=1e-4)


NUMBERS = {"words": 0.3, "nothing": 0.1, "bad": -0.2}


class Linear(Oracle):
    """Believes `x - sigma * (a + slope * x)`: predicts noise `a + slope * x`, with a number `a` for each text."""

    def denoise(self, x, sigma, condition):
        self.seen.append(condition)
        return x - sigma[:, None, None, None] * (NUMBERS[condition] + 0.5 * x)


@pytest.mark.parametrize(("level", "is_small"), [(0.1, True), (0.199, True), (0.2, False), (0.7, False)])
def test_noise_free_distillation_is_its_two_directions(guide, level, is_small):
    linear = Linear(guide, torch.zeros(1))
    z = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(2))
    three = NoiseFree("words", "nothing", "bad", 7.5)
    found = sds_gradient(linear, z, three, t_range=(level, level), generator=torch.Generator().manual_seed(3))
    draws = torch.Generator().manual_seed(3)
    torch.randint(0, 1, (1,), generator=draws)
    sigma = guide.sigma(found.timestep)[:, None, None, None]
    x = z + sigma * torch.randn(z.shape, generator=draws)
    into = 0.1 + 0.5 * x if is_small else torch.full_like(x, 0.1 + 0.2)  # what both predict alike falls out
    expected = sds_weight(sigma) * (into + 7.5 * (0.3 - 0.1))
    torch.testing.assert_close(found.gradient, expected, atol=1e-4, rtol=1e-4)
    assert linear.seen == (["words", "nothing"] if is_small else ["words", "nothing", "bad"])


def test_where_noise_is_large_the_noise_free_gradient_has_none_of_it(guide):
    linear = Linear(guide, torch.zeros(1))
    z, three = torch.zeros(1, 4, 8, 8), NoiseFree("words", "nothing", "bad", 7.5)
    draws = [
        sds_gradient(linear, z, three, t_range=(0.5, 0.5), generator=torch.Generator().manual_seed(seed)).gradient
        for seed in range(2)
    ]
    torch.testing.assert_close(draws[0], draws[1], atol=1e-5, rtol=0)
    one, two = (
        sds_gradient(linear, z, "words", t_range=(0.5, 0.5), generator=torch.Generator().manual_seed(seed)).gradient
        for seed in range(2)
    )
    assert float((one - two).abs().mean()) > 0.1


def test_what_is_asked_by_either_way():
    made = []

    def condition(prompts, scale):
        made.append((list(prompts), scale))
        return len(made)

    assert asked("sds", condition, ["a", "b"], 50.0) == 1 and made == [(["a", "b"], 50.0)]
    three = asked("nfsd", condition, ["a", "b"], 7.5)
    assert (three.words, three.nothing, three.bad, three.scale) == (2, 3, 4, 7.5)
    assert made[1:3] == [(["a", "b"], 1.0), (["", ""], 1.0)] and made[3][0][0].startswith("unrealistic, blurry")
