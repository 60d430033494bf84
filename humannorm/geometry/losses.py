"""The terms that hold a sculpted surface together beside the guidance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import check_tensor
from humannorm.geometry.band import SignedField, evaluate
from humannorm.working_box import BOX

__all__ = ["SdfRecord", "progressive_sdf_loss", "record_sdf"]

POOL = 200_000  # recorded points; each step draws from them
SPREAD = 0.05  # world units: how far around the surface they lie


@dataclass(frozen=True, eq=False)
class SdfRecord:
    """What the field was before high frequencies were let in: s(x) of equation 7, at points near its surface."""

    points: Float[Tensor, "N 3"]
    values: Float[Tensor, " N"]


def record_sdf(
    field: SignedField, surface_points: Float[Tensor, "S 3"], generator: torch.Generator, count: int = POOL
) -> SdfRecord:
    """Record the field's values around surface points, spread normally by `SPREAD`."""
    check_tensor("surface_points", surface_points, "S 3", finite=True)
    device = surface_points.device
    chosen = torch.randint(len(surface_points), (count,), generator=generator).to(device)
    noise = torch.randn(count, 3, generator=generator).to(device)
    points = (surface_points[chosen] + SPREAD * noise).clamp(-BOX, BOX)
    return SdfRecord(points, evaluate(field, points))


def progressive_sdf_loss(values: Float[Tensor, " N"], recorded: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """Equation 7: squared differences to the recorded distances, summed over the points drawn from a record."""
    return (values - recorded).square().sum()
