"""Noise schedules of all kinds of networks in this project's convention, x = z + sigma * eps.

Flow models speak of x_flow = (1 - s) z + s eps with s from 0 to 1 (rectified flow, arXiv 2209.03003). Divided by its
share of the picture that is the same thing: x = x_flow / (1 - s) with sigma = s / (1 - s). Both ways are here, and
nothing but a denoiser's border uses them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["LARGEST_SIGMA", "TIMESTEPS", "NoiseTable", "flow_level", "flow_sigma"]

TIMESTEPS = 1000
# Of a schedule that ends in pure noise, where sigma would be infinite: where Lin et al. (2024, "zero terminal SNR")
# are cut off by every implementation, alphabar = 4.9e-8. A picture's share of the input there is 1 in 4519.
LARGEST_SIGMA = 4518.7645


def flow_sigma(level: Tensor) -> Tensor:
    """sigma of a flow model's level s, 0..1; pure noise (1) is `LARGEST_SIGMA`."""
    highest = LARGEST_SIGMA / (1 + LARGEST_SIGMA)
    kept = level.double().clamp(max=highest)
    return (kept / (1 - kept)).to(level.dtype)


def flow_level(sigma: Tensor) -> Tensor:
    """s of a noise level: the inverse of `flow_sigma`."""
    return sigma / (1 + sigma)


@dataclass(frozen=True, eq=False)
class NoiseTable:
    """Noise levels by timestep, log-linear between a schedule's own."""

    log_sigmas: Float[Tensor, " N"]  # increasing
    timesteps: int = TIMESTEPS

    @staticmethod
    def of(sigmas: Float[Tensor, " N"], timesteps: int = TIMESTEPS) -> NoiseTable:
        """A schedule of any length, which the timesteps are spread over evenly."""
        return NoiseTable(sigmas.double().clamp(1e-8, LARGEST_SIGMA).log().float(), timesteps)

    def sigma(self, timestep: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Of fractional timesteps 0 .. timesteps - 1."""
        last = len(self.log_sigmas) - 1
        table = self.log_sigmas.to(timestep.device)
        at = timestep.float().clamp(0, self.timesteps - 1) * (last / (self.timesteps - 1))
        below = at.floor().long()
        above = (below + 1).clamp(max=last)
        return torch.lerp(table[below], table[above], at - below).exp()

    def timestep(self, sigma: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """The inverse of `sigma`, clamped to the schedule."""
        table = self.log_sigmas.to(sigma.device)
        log_sigma = sigma.float().log().clamp(table[0], table[-1])
        above = torch.searchsorted(table, log_sigma).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        at = (above - 1) + (log_sigma - low) / (high - low)
        return at * ((self.timesteps - 1) / (len(table) - 1))
