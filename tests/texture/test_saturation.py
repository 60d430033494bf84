"""Chroma of pictures, pictures from pure noise."""

from __future__ import annotations

import pytest
import torch

from humannorm.cameras import orbit
from humannorm.prompts import Prompts
from humannorm.texture.saturation import chroma, mean_chroma, sample_pictures


def test_chroma_of_greys_is_zero_and_of_red_105():
    greys = torch.linspace(0, 1, 20)[:, None].expand(-1, 3)
    assert float(chroma(greys).max()) < 0.05
    assert float(chroma(torch.tensor([[1.0, 0.0, 0.0]]))) == pytest.approx(104.6, abs=0.1)


def test_mean_chroma_looks_inside_the_mask():
    images = torch.full((1, 4, 4, 3), 0.5)
    images[0, :2] = torch.tensor([1.0, 0.0, 0.0])
    mask = torch.zeros(1, 4, 4)
    assert mean_chroma(images, mask) == 0
    mask[0, :2] = 1
    assert mean_chroma(images, mask) == pytest.approx(104.6, abs=0.1)
    mask[0] = 1
    assert mean_chroma(images, mask) == pytest.approx(52.3, abs=0.1)


def test_sampled_pictures_are_the_guides_belief(ball, believes_in_color, generator):
    guide = believes_in_color((1, 0, 0), (0.5, 0.5, 0.5))
    sampled = sample_pictures(
        guide, Prompts("a ball", "color"), ball, orbit([0.0, 180.0]), guidance_scale=5.0, generator=generator
    )
    assert float((sampled.images[0] - torch.tensor([1.0, 0, 0])).abs().max()) < 1e-5
    assert sampled.chroma == pytest.approx(52.3, abs=0.1)
