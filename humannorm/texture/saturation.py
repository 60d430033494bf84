"""Saturation, measured: mean chroma of pictures in CIELAB, to hold against the paper's figure 7.

The figure shows that score distillation alone over-saturates and that multi-step targets do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.cameras import Cameras
from humannorm.controls import more_controls
from humannorm.guidance import Denoiser, multistep_target
from humannorm.images import lab_from_srgb
from humannorm.mesh import Mesh
from humannorm.prompts import Prompts
from humannorm.rendering.passes import render
from humannorm.texture.fields import ColorField

__all__ = ["SampledPictures", "chroma", "field_chroma", "mean_chroma", "sample_pictures"]

INSIDE = 0.99  # coverage from which a pixel counts, so that no background is mixed in


def chroma(colors: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N"]:
    """C* = sqrt(a*^2 + b*^2) of sRGB colours: 0 for greys, 105 for pure red."""
    return lab_from_srgb(colors)[..., 1:].square().sum(-1).sqrt()


@torch.no_grad()
def mean_chroma(images: Float[Tensor, "B H W 3"], mask: Float[Tensor, "B H W"]) -> float:
    """Mean chroma of the pixels inside a mask; 0 if it is empty."""
    inside = images[mask >= INSIDE]
    return float(chroma(inside).mean()) if len(inside) else 0.0


@torch.no_grad()
def field_chroma(field: ColorField, mesh: Mesh, cameras: Cameras, size: int) -> float:
    """Mean chroma of a colour field as these cameras see it."""
    passes = field.pictures(mesh, cameras, size, ("mask", "color"))
    assert passes.color is not None and passes.mask is not None
    return mean_chroma(passes.color, passes.mask)


@dataclass(frozen=True, eq=False)
class SampledPictures:
    """The model's own pictures of a surface, and their mean chroma inside its outline."""

    images: Float[Tensor, "B S S 3"]
    chroma: float


@torch.no_grad()
def sample_pictures(
    denoiser: Denoiser,
    prompts: Prompts,
    mesh: Mesh,
    cameras: Cameras,
    *,
    guidance_scale: float,
    generator: torch.Generator,
    stride: int = 50,
) -> SampledPictures:
    """What the normal-aligned model draws from pure noise over the surface's normal maps, without any distillation."""
    size = denoiser.resolution
    passes = render(mesh, cameras, (size, size), ("normal", "mask"))
    assert passes.normal is not None and passes.mask is not None
    condition = denoiser.condition(
        prompts.for_cameras(cameras),
        guidance_scale=guidance_scale,
        negative=prompts.negative,
        control=passes.normal,
        **more_controls(denoiser, mesh, cameras, size),
    )
    nothing = torch.zeros_like(denoiser.encode_images(torch.zeros_like(passes.normal)))
    latents = multistep_target(denoiser, nothing, condition, t_range=(1.0, 1.0), stride=stride, generator=generator)
    images = denoiser.decode(latents)
    return SampledPictures(images, mean_chroma(images, passes.mask))
