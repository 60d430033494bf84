"""The fine texture loss (equation 10): multi-step targets kept per camera, and the two readings of the equation.

The paper weighs the residual between the render and its multi-step denoising by omega(t), and adds lambda_p times the
distance of VGG features. The published code has neither omega nor a loss on latents: mean absolute difference of pixels
plus LPIPS, at targets that are kept and seldom renewed. Both are here:

- "published" (the default): pixels. Sharp details of the decoded target reach the texture directly, no gradient passes
  through the VAE's encoder, and the value is bounded.
- "paper": latents, omega(t) = sds_weight, with the gradient through the encoder. Means instead of sums over latents, so
  that lambda_p weighs the same against both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from humannorm.cameras import TEXTURE_CAMERA_PLANS, CameraPlan, Cameras, evaluation_cameras, orbit
from humannorm.checks import InputError, check_choice
from humannorm.guidance import Denoiser, multistep_target, sds_weight
from humannorm.guidance.distillation import timestep_bounds
from humannorm.texture.perceptual import Perceptual
from humannorm.texture.settings import FINE_LOSSES, FineLoss

__all__ = ["Target", "TargetCache", "fine_cameras", "fine_loss", "make_targets"]


@dataclass(frozen=True, eq=False)
class Target:
    """What a batch of renders should become."""

    images: Float[Tensor, "B S S 3"]  # 0..1
    latents: Float[Tensor, "B C h w"]
    weights: Float[Tensor, " B"]  # omega(t) of the level that each was noised to


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


def fine_cameras(plan: CameraPlan, count: int, generator: torch.Generator) -> Cameras:
    """The cameras of the fine steps: the published test set of a published plan, else equal turns of each own crop.

    A count that the crops do not divide is rounded up. A model's own plan is kept to, as it was trained at its crops.
    """
    each = -(-count // len(plan.crops))
    if TEXTURE_CAMERA_PLANS.get(plan.name) == plan:
        return evaluation_cameras(plan.name, generator, each * len(plan.crops))
    low, high = plan.elevation
    distance, fov_y = sum(plan.distance) / 2, sum(plan.fov_y) / 2
    turns = []
    for crop in plan.crops:
        elevations = low + (high - low) * torch.rand(each, generator=generator, device=generator.device)
        turns.append(
            orbit(
                [360.0 * i / each for i in range(each)],
                elevation=elevations.tolist(),
                distance=distance,
                fov_y=fov_y,
                part=crop.part,
                zoom=crop.zoom,
                target_y=crop.target_y,
            )
        )
    return Cameras.concatenate(turns)


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


def fine_loss(
    kind: FineLoss,
    denoiser: Denoiser,
    pictures: Float[Tensor, "B S S 3"],
    target: Target,
    perceptual: Perceptual,
    *,
    fidelity_weight: float,
    perceptual_weight: float,
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Equation 10 in one of its two readings, and its two terms unweighted (`fidelity`, `perceptual`)."""
    check_choice("fine_loss", kind, FINE_LOSSES)
    if target.images.shape != pictures.shape:
        raise InputError(f"target: expected images {list(pictures.shape)}, got {list(target.images.shape)}")
    if kind == "published":
        fidelity = (pictures - target.images).abs().mean()
    else:
        residual = (denoiser.encode_images(pictures) - target.latents).square().mean(dim=(1, 2, 3))
        fidelity = 0.5 * (target.weights * residual).mean()
    total, terms = fidelity_weight * fidelity, {"fidelity": float(fidelity.detach()), "perceptual": 0.0}
    if perceptual_weight > 0:
        distance = perceptual(pictures, target.images)
        terms["perceptual"] = float(distance.detach())
        total = total + perceptual_weight * distance
    return total, terms
