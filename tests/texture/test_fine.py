"""Equation 10: targets by their recurrence, both readings of the loss, the cache, the cameras."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch

from humannorm.cameras import TEXTURE_CAMERA_PLANS, CameraPlan, Crop
from humannorm.checks import InputError
from humannorm.guidance import DiffusersGuide, sds_weight
from humannorm.images import to_network
from humannorm.schedules import constant
from humannorm.texture.fine import Target, TargetCache, fine_cameras, fine_loss, make_targets


def make_target(generator: torch.Generator, count: int = 2, size: int = 48) -> Target:
    images = torch.rand(count, size, size, 3, generator=generator)
    return Target(images, to_network(images), torch.full((count,), 0.7))


def test_target_is_the_ddim_walk_from_the_noised_render(tiny_sd, generator):
    guide = DiffusersGuide.load(tiny_sd("epsilon"), control=True)
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
    guide = DiffusersGuide.load(tiny_sd("epsilon"), control=True)
    pictures = torch.rand(1, 40, 40, 3, generator=generator)
    condition = guide.condition(["a man"], guidance_scale=1.0, control=pictures)
    target = make_targets(guide, pictures, condition, t_range=(0.1, 0.1), stride=100, generator=generator)
    assert target.images.shape == pictures.shape


def test_published_loss_is_mean_absolute_difference_and_perceptual(believes_in_color, pixel_distance, generator):
    guide, target = believes_in_color((1, 0, 0), (0, 0, 1)), make_target(generator)
    pictures = torch.rand(2, 48, 48, 3, generator=generator)
    total, terms = fine_loss(
        "published", guide, pictures, target, pixel_distance, fidelity_weight=2.0, perceptual_weight=3.0
    )
    l1, squares = (pictures - target.images).abs().mean(), (pictures - target.images).square().mean()
    assert float(total) == pytest.approx(float(2 * l1 + 3 * squares), rel=1e-6)
    assert terms == {"fidelity": pytest.approx(float(l1)), "perceptual": pytest.approx(float(squares))}


def test_papers_loss_has_the_gradient_of_equation_10(believes_in_color, pixel_distance, generator):
    """omega(t) * (z - z_target) at the latents, as a mean: with z = 2 x - 1 it is doubled at the pixels."""
    guide, target = believes_in_color((1, 0, 0), (0, 0, 1)), make_target(generator)
    leaf = torch.rand(2, 48, 48, 3, generator=generator).requires_grad_()
    total, _ = fine_loss("paper", guide, leaf, target, pixel_distance, fidelity_weight=1.0, perceptual_weight=0.0)
    (gradient,) = torch.autograd.grad(total, leaf)
    residual = (to_network(leaf.detach()) - target.latents).permute(0, 2, 3, 1)
    torch.testing.assert_close(gradient, 0.7 * 2 * residual / leaf.numel())


def test_wrong_losses_and_sizes_are_refused(believes_in_color, pixel_distance, generator, as_user):
    guide, target = believes_in_color((1, 0, 0), (0, 0, 1)), make_target(generator)
    weights = {"fidelity_weight": 1.0, "perceptual_weight": 1.0}
    with pytest.raises(InputError, match="fine_loss: expected one of published, paper"):
        fine_loss("other", guide, target.images, target, pixel_distance, **weights)
    with pytest.raises(InputError, match="target: expected images"):
        fine_loss("paper", guide, torch.zeros(2, 16, 16, 3), target, pixel_distance, **weights)


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


def test_published_plan_gives_the_published_test_set():
    cameras = fine_cameras(TEXTURE_CAMERA_PLANS["full_body"], 120, torch.Generator().manual_seed(0))
    assert len(cameras) == 120
    assert [cameras.part.count(part) for part in ("full", "head", "upper", "lower")] == [30] * 4
    assert set(cameras.zoom.tolist()) == {1.0, 2.0, 4.0} and set(cameras.distance.tolist()) == {3.0}


def test_a_models_own_plan_keeps_its_crops():
    plan = CameraPlan(
        "small_model", (3.0, 3.2), (-10.0, 10.0),
        (Crop("full", 1.15, 0.0, constant(0.5)), Crop("head", 5.0, 0.74, constant(0.5))),
    )  # fmt: skip
    cameras = fine_cameras(plan, 7, torch.Generator().manual_seed(0))
    assert cameras.part == ("full",) * 4 + ("head",) * 4
    assert cameras.zoom.tolist() == pytest.approx([1.15] * 4 + [5.0] * 4)
    assert cameras.azimuth.tolist() == [0, 90, 180, -90] * 2
    assert float(cameras.elevation.abs().max()) <= 10
    moved = dataclasses.replace(TEXTURE_CAMERA_PLANS["full_body"], elevation=(0.0, 0.0))
    assert float(fine_cameras(moved, 8, torch.Generator().manual_seed(0)).elevation.abs().max()) == 0
