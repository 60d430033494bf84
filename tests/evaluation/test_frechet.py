from __future__ import annotations

import pytest
import torch

from humannorm.checks import InputError
from humannorm.evaluation.frechet import fid64, frechet_distance


def gaussian(generator, count, mean, scale):
    """Samples whose mean and covariance are exactly those asked for (whitened)."""
    x = torch.randn(count, len(mean), generator=generator, dtype=torch.float64)
    x = x - x.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    white = x @ vectors / values.sqrt()
    return white * torch.tensor(scale, dtype=torch.float64) + torch.tensor(mean, dtype=torch.float64)


def test_closed_form_of_two_axis_aligned_gaussians(generator):
    """|m1 - m2|^2 + sum (s1 - s2)^2."""
    first = gaussian(generator, 50, [0.0, 1.0, 2.0], [1.0, 2.0, 3.0])
    second = gaussian(generator, 80, [1.0, 1.0, 0.0], [2.0, 2.0, 1.0])
    assert frechet_distance(first, second) == pytest.approx(1 + 4 + 1 + 0 + 4, rel=1e-9)


def test_zero_to_itself_symmetric_and_free_of_rotation(generator):
    first = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    second = torch.randn(70, 5, generator=generator, dtype=torch.float64) * 2 + 1
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))
    distance = frechet_distance(first, second)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(second, first) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(first @ turn, second @ turn) == pytest.approx(distance, rel=1e-9)


def test_fid64_looks_where_the_reference_varies(generator):
    """With few features nothing is left out; a shift across all directions of the reference is not seen."""
    reference = torch.randn(100, 8, generator=generator)
    other = torch.randn(90, 8, generator=generator) + 0.5
    assert fid64(reference, other) == pytest.approx(frechet_distance(reference, other), rel=1e-6)
    flat = torch.cat((torch.randn(100, 64, generator=generator), torch.zeros(100, 8)), dim=1)
    shifted = flat.clone()
    shifted[:, 64:] += 10
    assert fid64(flat, shifted) == pytest.approx(0, abs=1e-4)


def test_damage_is_ordered(generator):
    reference = torch.randn(200, 16, generator=generator)
    distances = [fid64(reference, torch.randn(200, 16, generator=generator) + shift) for shift in (0.0, 0.5, 1.0, 2.0)]
    assert distances == sorted(distances)


def test_hostile_sets(as_user):
    with pytest.raises(InputError, match="at least 2 pictures in each set, got 1 and 5"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(5, 3))
    with pytest.raises(InputError, match=r"pictures: expected float tensor \[M, 3\]"):
        fid64(torch.zeros(4, 3), torch.zeros(5, 2))
