"""Multi-step targets: what renders become when they are noised and denoised in many steps (equation 10).

One target serves many steps of an optimiser, so the network's time is spent on whole walks instead of single looks.
Each camera keeps its own until it is renewed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from humannorm.guidance.denoiser import Denoiser
from humannorm.guidance.distillation import multistep_target, sds_weight, timestep_bounds

__all__ = ["Target", "TargetCache", "make_targets", "renew_targets", "with_targets"]


@dataclass(frozen=True, eq=False)
class Target:
    """What a batch of renders should become."""

    images: Float[Tensor, "B S S 3"]  # 0..1
    latents: Float[Tensor, "B C h w"]
    weights: Float[Tensor, " B"]  # omega(t) of the level that each was noised to

    @property
    def is_finite(self) -> bool:
        return bool(self.images.isfinite().all() and self.latents.isfinite().all())


@dataclass(eq=False)
class TargetCache:
    """One target for each of K cameras; `step` says since when, -1 where there is none yet."""

    prompt: str  # that the targets show
    images: UInt8[Tensor, "K S S 3"]
    latents: Float[Tensor, "K C h w"]
    weights: Float[Tensor, " K"]
    step: Int[Tensor, " K"]

    @staticmethod
    def empty(prompt: str, count: int, size: int, latent: Float[Tensor, "C h w"]) -> TargetCache:
        """Room for `count` targets of `size` pixels with latents like this one."""
        device = latent.device
        return TargetCache(
            prompt=prompt,
            images=torch.zeros(count, size, size, 3, dtype=torch.uint8, device=device),
            latents=torch.zeros(count, *latent.shape, dtype=latent.dtype, device=device),
            weights=torch.zeros(count, device=device),
            step=torch.full((count,), -1, device=device),
        )

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All but the prompt, by name, for a state file."""
        return {name: getattr(self, name) for name in ("images", "latents", "weights", "step")}

    def clone(self) -> TargetCache:
        return TargetCache(
            self.prompt, self.images.clone(), self.latents.clone(), self.weights.clone(), self.step.clone()
        )

    def suits(self, prompt: str, count: int, size: int) -> bool:
        """Whether these are targets of that prompt, for so many cameras and pixels."""
        return self.prompt == prompt and self.images.shape[:2] == (count, size)

    def put(self, index: Sequence[int], target: Target, step: int) -> None:
        at = list(index)
        self.images[at] = (target.images.clamp(0, 1) * 255).round().to(torch.uint8)
        self.latents[at] = target.latents
        self.weights[at] = target.weights
        self.step[at] = step

    def get(self, index: Sequence[int]) -> Target:
        at = list(index)
        return Target(self.images[at].float() / 255, self.latents[at], self.weights[at])


@torch.no_grad()
def make_targets(
    denoiser: Denoiser,
    pictures: Float[Tensor, "B S S 3"],
    condition: Any,
    *,
    t_range: tuple[float, float],
    stride: int,
    generator: torch.Generator,
) -> Target:
    """Multi-step targets of these renders: noised to one t of `t_range`, denoised again in t // stride + 1 steps."""
    low, high = timestep_bounds(denoiser, t_range)
    timestep = int(torch.randint(low, high + 1, (1,), generator=generator))
    exactly = (timestep + 0.5) / denoiser.timesteps  # the middle, so that rounding cannot lead to a neighbour
    latents = denoiser.encode_images(pictures)
    clean = multistep_target(
        denoiser, latents, condition, t_range=(exactly, exactly), stride=stride, generator=generator
    )
    images = denoiser.decode(clean)
    if images.shape[1:3] != pictures.shape[1:3]:
        images = torch.nn.functional.interpolate(
            images.permute(0, 3, 1, 2), pictures.shape[1:3], mode="bilinear", antialias=True
        ).permute(0, 2, 3, 1)
    sigma = denoiser.sigma(torch.full((len(pictures),), float(timestep), device=latents.device))
    return Target(images.to(pictures.dtype), clean.float(), sds_weight(sigma).float())


def with_targets(
    cache: TargetCache | None, index: Sequence[int], made: Target, *, prompt: str, count: int, step: int
) -> TargetCache:
    """A copy of the cache with these targets at the places `index` of `count`; a new cache if there is none."""
    size = made.images.shape[1]
    copy = TargetCache.empty(prompt, count, size, made.latents[0]) if cache is None else cache.clone()
    copy.put(index, made, step)
    return copy


def renew_targets(
    cache: TargetCache | None,
    denoiser: Denoiser,
    pictures: Float[Tensor, "B S S 3"],
    index: Sequence[int],
    due: Sequence[int],
    condition: Callable[[list[int]], Any],
    *,
    prompt: str,
    count: int,
    step: int,
    t_range: tuple[float, float],
    stride: int,
    generator: torch.Generator,
) -> tuple[TargetCache | None, bool]:
    """The cache with new targets at the places of the batch that are `due`, and whether all of them are finite.

    index: of the batch's pictures among the `count` that have a target. condition: of the pictures at these places of
    the batch. What is not finite is not kept: the step is then to be rejected.
    """
    if not due:
        return cache, True
    places = list(due)
    made = make_targets(
        denoiser, pictures.detach()[places], condition(places), t_range=t_range, stride=stride, generator=generator
    )
    if not made.is_finite:
        return cache, False
    return with_targets(cache, [index[at] for at in places], made, prompt=prompt, count=count, step=step), True
