"""Vertices that stand at one place: where texture, normals or colours change abruptly, meshes split their vertices."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["weld"]

# Odd multipliers, one per coordinate (fractional parts of the golden ratio, sqrt(2) and sqrt(3) in 63 bits).
_MULTIPLIERS = (0x4F1BBCDCBFA53E0B, 0x3504F333F9DE6485, 0x5DB3D742C265539D)


def weld(vertices: Float[Tensor, "V 3"]) -> Int64[Tensor, " V"]:
    """For every vertex the first one at exactly the same position: `weld(vertices)[faces]` is the mesh without seams.

    Positions are compared by a hash of their bits, much faster than `torch.unique` over rows; should two positions ever
    share a hash, the slow way is taken.
    """
    positions = vertices.detach() + 0.0  # turns -0 into 0
    bits = positions.view(torch.int64 if positions.dtype == torch.float64 else torch.int32).long()
    keys = torch.zeros_like(bits[:, 0])
    for coordinate, multiplier in zip(bits.unbind(1), _MULTIPLIERS, strict=True):
        keys = (keys ^ coordinate) * multiplier  # wraps around
        keys = keys ^ (keys >> 29)
    first = _first_of_each(torch.unique(keys, return_inverse=True)[1])
    if torch.equal(positions[first], positions):
        return first
    return _first_of_each(torch.unique(positions, dim=0, return_inverse=True)[1])


def _first_of_each(group: Int64[Tensor, " V"]) -> Int64[Tensor, " V"]:
    """Lowest index with the same group number."""
    index = torch.arange(len(group), device=group.device)
    return torch.full_like(group, len(group)).scatter_reduce(0, group, index, "amin")[group]
