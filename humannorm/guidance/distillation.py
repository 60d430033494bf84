"""Score distillation: the SDS gradient (eq. 6 and 9 of HumanNorm), NFSD, and the multi-step targets (eq. 10)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import check_range
from humannorm.guidance.denoiser import Denoiser
from humannorm.optimiser_settings import Distillation

__all__ = [
    "NoiseFree",
    "SdsResult",
    "asked",
    "multistep_target",
    "portions",
    "sds_at_pictures",
    "sds_gradient",
    "sds_loss",
    "sds_weight",
    "timestep_bounds",
]

PIXELS_AT_ONCE = 2**18
"""One picture of 512 pixels, for which the graph of SD1.5's encoder takes gigabytes, or sixteen of 128."""


BAD = "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark, low-resolution, gloomy"
"""NFSD's words for pictures that lie beside the domain, as published (arXiv 2310.17590, section 4.2)."""
SMALL_NOISE = 0.2  # of the schedule: below it NFSD takes the unconditional prediction as it is, as published


@dataclass(frozen=True)
class NoiseFree:
    """What NFSD asks a network, in place of one guided belief. All three conditions are without guidance."""

    words: Any
    nothing: Any  # of the empty prompt
    bad: Any  # of `BAD`
    scale: float  # of the direction from nothing to the words; 7.5 as published


@dataclass(frozen=True)
class SdsResult:
    """The gradient with respect to the latents, and what it came from."""

    gradient: Float[Tensor, "B C h w"]
    denoised: Float[Tensor, "B C h w"]
    """The network's estimate of the clean latents."""
    timestep: Float[Tensor, "B"]


def sds_gradient(
    denoiser: Denoiser,
    latents: Float[Tensor, "B C h w"],
    condition: Any,
    *,
    t_range: tuple[float, float] = (0.02, 0.8),
    generator: torch.Generator,
) -> SdsResult:
    """Score distillation sampling, `w(t) * (eps_hat - eps)` with the published weight `w(t) = 1 - alphabar(t)`.

    With `x = z + sigma * eps` and `eps_hat = (x - z0) / sigma` this is `w * (z - z0) / sigma`: the optimiser's step
    against the gradient moves the latents toward what the network believes in. One timestep is drawn for the whole
    batch, uniformly from the integers of `t_range` (fractions of the schedule, both ends included), fresh on each call.

    With a `NoiseFree` condition it is NFSD instead: see `noise_free_direction`.
    """
    low, high = timestep_bounds(denoiser, t_range)
    timestep = torch.randint(low, high + 1, (1,), generator=generator).expand(len(latents)).to(latents.device).float()
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    z = latents.detach()
    sigma = denoiser.sigma(timestep).to(latents)
    wide = sigma[:, None, None, None]
    x = z + wide * noise
    if isinstance(condition, NoiseFree):
        is_small = float(timestep[0]) < SMALL_NOISE * denoiser.timesteps
        direction, denoised = noise_free_direction(denoiser, x, sigma, condition, is_small)
        return SdsResult(sds_weight(wide) * direction, denoised, timestep)
    denoised = denoiser.denoise(x, sigma, condition)
    return SdsResult(sds_weight(wide) * (z - denoised) / wide, denoised, timestep)


def noise_free_direction(
    denoiser: Denoiser, x: Float[Tensor, "B C h w"], sigma: Float[Tensor, "B"], asked: NoiseFree, is_small: bool
) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B C h w"]]:
    """NFSD's `delta_D + s * delta_C` (arXiv 2310.17590, eq. 8 and 9), and what the network believes of the words.

    `delta_C = eps(words) - eps(nothing)`. `delta_D`, the way into the domain without its noise, is `eps(nothing)` where
    there is little noise, and `eps(nothing) - eps(bad)` else: what the two have in common is the noise.
    """
    wide = sigma[:, None, None, None]
    words, nothing = (denoiser.denoise(x, sigma, each) for each in (asked.words, asked.nothing))
    into = x - nothing if is_small else denoiser.denoise(x, sigma, asked.bad) - nothing
    return (into + asked.scale * (nothing - words)) / wide, words


def asked(
    distillation: Distillation, condition: Callable[[Sequence[str], float], Any], prompts: Sequence[str], scale: float
) -> Any:
    """The condition of `sds_gradient`. condition: makes one of prompts and a guidance scale."""
    if distillation == "sds":
        return condition(prompts, scale)
    words, nothing, bad = (condition(texts, 1.0) for texts in (prompts, [""] * len(prompts), [BAD] * len(prompts)))
    return NoiseFree(words, nothing, bad, scale)


def sds_at_pictures(
    denoiser: Denoiser,
    pictures: Float[Tensor, "B H W 3"],
    condition: Callable[[list[int]], Any],
    *,
    t_range: tuple[float, float] = (0.02, 0.8),
    generator: torch.Generator,
) -> tuple[Float[Tensor, "B H W 3"], float]:
    """The SDS gradient at pictures, of the mean over them, and its root mean square per latent number.

    condition: of the pictures with these numbers. Large pictures are looked at one after the other, each `portions`
    with a timestep of its own, so that memory need not grow with the number of views.
    """
    gradient, squares, numbers = torch.zeros_like(pictures), 0.0, 0
    for at in portions(len(pictures), denoiser):
        leaf = pictures.detach()[at].requires_grad_()
        latents = denoiser.encode_images(leaf)
        result = sds_gradient(denoiser, latents, condition(at), t_range=t_range, generator=generator)
        (gradient[at],) = torch.autograd.grad(latents, leaf, result.gradient / len(pictures))
        squares, numbers = squares + float(result.gradient.square().sum()), numbers + result.gradient.numel()
    return gradient, math.sqrt(squares / numbers) if math.isfinite(squares) else math.nan


def portions(count: int, denoiser: Denoiser) -> list[list[int]]:
    """The numbers 0 .. count - 1 in groups whose pictures the encoder's graph may be held of at once."""
    size = max(1, PIXELS_AT_ONCE // denoiser.resolution**2)
    return [list(range(first, min(first + size, count))) for first in range(0, count, size)]


def sds_weight(sigma: Tensor) -> Tensor:
    """`w(t) = 1 - alphabar(t) = sigma^2 / (1 + sigma^2)`, DreamFusion's and HumanNorm's choice."""
    return sigma.square() / (1.0 + sigma.square())


def sds_loss(latents: Float[Tensor, "B C h w"], gradient: Float[Tensor, "B C h w"]) -> Float[Tensor, ""]:
    """A scalar whose gradient with respect to the latents is `gradient / B`, as published (summed, not averaged)."""
    return (latents * gradient.detach()).sum() / len(latents)


@torch.no_grad()
def multistep_target(
    denoiser: Denoiser,
    latents: Float[Tensor, "B C h w"],
    condition: Any,
    *,
    t_range: tuple[float, float] = (0.5, 0.51),
    stride: int = 25,
    generator: torch.Generator,
) -> Float[Tensor, "B C h w"]:
    """Eq. 10: noise the latents to t and denoise them again in many DDIM steps (eta 0).

    t is drawn uniformly from `t_range` (fractions of the schedule); the walk down takes t // stride + 1 even steps, 21
    as published. In this noise convention a DDIM step is `x <- z0 + sigma_next / sigma * (x - z0)`.
    """
    low, high = timestep_bounds(denoiser, t_range)
    start = int(torch.randint(low, high + 1, (1,), generator=generator))
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    timesteps = torch.linspace(start, 0, start // stride + 2, device=latents.device)[:-1]
    sigmas = torch.cat([denoiser.sigma(timesteps), timesteps.new_zeros(1)]).to(latents)
    x = latents.detach() + sigmas[0] * noise
    for sigma, following in pairwise(sigmas):
        denoised = denoiser.denoise(x, sigma.expand(len(x)), condition)
        x = denoised + following / sigma * (x - denoised)
    return x


def timestep_bounds(denoiser: Denoiser, t_range: tuple[float, float]) -> tuple[int, int]:
    """First and last integer timestep of a range given in fractions of the schedule."""
    check_range("t_range[0]", t_range[0], 0.0, 1.0)
    check_range("t_range[1]", t_range[1], t_range[0], 1.0)
    last = denoiser.timesteps - 1
    return min(int(t_range[0] * denoiser.timesteps), last), min(int(t_range[1] * denoiser.timesteps), last)
