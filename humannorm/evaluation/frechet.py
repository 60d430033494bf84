"""Distance between two sets of pictures by their features (N pictures, D features)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError, check_tensor

__all__ = ["fid64", "frechet_distance"]

DIMENSIONS = 64  # a covariance of 1024 features needs more pictures than a test has


def frechet_distance(first: Float[Tensor, "N D"], second: Float[Tensor, "M D"]) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the two Gaussians (Dowson and Landau 1982; Heusel et al. 2017)."""
    check_tensor("first", first, "N D")
    check_tensor("second", second, f"M {first.shape[1]}")
    if min(len(first), len(second)) < 2:
        raise InputError(f"features: expected at least 2 pictures in each set, got {len(first)} and {len(second)}")
    first, second = first.double(), second.double()
    difference = first.mean(0) - second.mean(0)
    c1, c2 = torch.atleast_2d(torch.cov(first.T)), torch.atleast_2d(torch.cov(second.T))
    # tr (C1 C2)^(1/2) = tr (C1^(1/2) C2 C1^(1/2))^(1/2), and that matrix is symmetric.
    values, vectors = torch.linalg.eigh(c1)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ c2 @ root).clamp_min(0).sqrt().sum()
    return float(difference @ difference + c1.trace() + c2.trace() - 2 * cross)


def fid64(reference: Float[Tensor, "N D"], pictures: Float[Tensor, "M D"]) -> float:
    """Frechet distance in the 64 main directions of the reference's features (not comparable with Inception's FID)."""
    check_tensor("reference", reference, "N D")
    check_tensor("pictures", pictures, f"M {reference.shape[1]}")
    mean = reference.double().mean(0)
    _, _, directions = torch.linalg.svd(reference.double() - mean, full_matrices=False)
    basis = directions[:DIMENSIONS].T
    return frechet_distance((reference.double() - mean) @ basis, (pictures.double() - mean) @ basis)
