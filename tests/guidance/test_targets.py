"""Multi-step targets: by their recurrence, and the cache that keeps them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from humannorm.guidance import DiffusersDenoiser, sds_weight
from humannorm.guidance.targets import Target, TargetCache, make_targets, with_targets
from humannorm.images import to_network


def make_target(generator: torch.Generator, count: int = 2, size: int = 48) -> Target:
    images = torch.rand(count, size, size, 3, generator=generator)
    return Target(images, to_network(images), torch.full((count,), 0.7))


@pytest.mark.slow
def test_target_is_the_ddim_walk_from_the_noised_render(tiny_sd, generator):
    guide = DiffusersDenoiser.load(tiny_sd("epsilon"), control=True)
    size = guide.resolution
    pictures, normals = torch.rand(2, 1, size, size, 3, generator=generator).unbind()
    condition = guide.condition(["a man"], guidance_scale=3.0, control=normals)
    target = make_targets(
        guide, pictures, condition, t_range=(0.5, 0.51), stride=100, generator=torch.Generator().manual_seed(3)
    )
    draws = torch.Generator().manual_seed(3)
    start = int(torch.randint(500, 511, (1,), generator=draws))
    z = guide.encode_images(pictures)
    torch.randint(0, 1, (1,), generator=draws)  # multistep_target's own draw of the one timestep left to it
    noise = torch.randn(z.shape, generator=draws)
    walk = torch.linspace(start, 0, start // 100 + 2)[:-1]
    sigmas = [*guide.sigma(walk), torch.tensor(0.0)]
    x = z + sigmas[0] * noise
    for sigma, following in pairwise(sigmas):
        clean = guide.denoise(x, sigma[None], condition)
        x = clean + (x - clean) / sigma * following
    torch.testing.assert_close(target.latents, x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(target.images, guide.decode(x), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(target.weights, sds_weight(guide.sigma(torch.tensor([float(start)]))))


def test_targets_come_in_the_renders_size(tiny_sd, generator):
    guide = DiffusersDenoiser.load(tiny_sd("epsilon"), control=True)
    pictures = torch.rand(1, 40, 40, 3, generator=generator)
    condition = guide.condition(["a man"], guidance_scale=1.0, control=pictures)
    target = make_targets(guide, pictures, condition, t_range=(0.1, 0.1), stride=100, generator=generator)
    assert target.images.shape == pictures.shape


def test_cache_keeps_eight_bits_and_the_step(generator):
    target = make_target(generator, size=8)
    cache = TargetCache.empty("a man", 5, 8, target.latents[0])
    assert cache.step.tolist() == [-1] * 5
    cache.put([3, 1], target, 7)
    assert cache.step.tolist() == [-1, 7, -1, 7, -1]
    back = cache.get([3, 1])
    assert float((back.images - target.images).abs().max()) <= 0.5 / 255 + 1e-6
    assert torch.equal(back.latents, target.latents)
    other = cache.clone()
    other.put([0], make_target(generator, 1, 8), 9)
    assert cache.step.tolist()[0] == -1
    assert cache.suits("a man", 5, 8)
    assert not cache.suits("a woman", 5, 8) and not cache.suits("a man", 4, 8) and not cache.suits("a man", 5, 16)


def test_new_targets_go_into_a_copy(generator):
    first = with_targets(None, [2], make_target(generator, 1, 8), prompt="a man", count=4, step=3)
    second = with_targets(first, [0], make_target(generator, 1, 8), prompt="a man", count=4, step=5)
    assert first.step.tolist() == [-1, -1, 3, -1]
    assert second.step.tolist() == [5, -1, 3, -1]
    assert torch.equal(first.images[2], second.images[2])


def test_targets_that_are_not_finite_say_so(generator):
    target = make_target(generator, 1, 8)
    assert target.is_finite
    target.latents[0, 0, 0, 0] = torch.nan
    assert not target.is_finite
