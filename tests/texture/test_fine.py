"""Equation 10: both readings of the loss."""

from __future__ import annotations

import pytest
import torch

from humannorm.checks import InputError
from humannorm.guidance.targets import Target
from humannorm.images import to_network
from humannorm.texture.fine import fine_loss


def make_target(generator: torch.Generator, count: int = 2, size: int = 48) -> Target:
    images = torch.rand(count, size, size, 3, generator=generator)
    return Target(images, to_network(images), torch.full((count,), 0.7))


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
