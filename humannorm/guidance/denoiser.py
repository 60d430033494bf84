"""The one interface to any diffusion network, and the noise it speaks of.

Noise is k-diffusion style (variance exploding): `x = z + sigma * eps` with `z` the scaled latent. The link to the
variance preserving form of DDPM: `alphabar = 1 / (1 + sigma^2)` and `x_vp = sqrt(alphabar) * x`. A network that
predicts eps, v or anything else answers here with its estimate of the clean latent, `z0`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

__all__ = ["HINT_CHANNELS", "Denoiser"]

HINT_CHANNELS = 6
"""Of a ControlNet that is told a start's normal map and flat colours by label (`training.hints`), and under them draws
normals as well as colours; others are told a finished normal map alone."""


@runtime_checkable
class Denoiser(Protocol):
    """All that optimisers and samplers know of a diffusion model.

    Conditions are opaque: the engine makes and reads them.

    An engine with weights of its own for few steps without guidance has a method `in_few_steps`, which returns the one
    that draws with them. It is asked for where `MultiviewSettings.few_steps` says so.

    An engine that has learnt to sharpen what it decodes by its hints has a method `sharpened(pictures [B,H,W,3],
    control [B,H,W,C])`, which gives such pictures: see `guidance.joint_filter`.

    An engine with further ControlNets has an attribute `control_kinds`, the kinds of pictures that they are to be shown
    (`humannorm.controls.CONTROL_KINDS`), and takes these by kind as `more_controls` of `condition`; `body` is then the
    posed body for those that show a skeleton, or None. Others have none of it and are not asked.
    """

    @property
    def timesteps(self) -> int:
        """Length of the noise schedule, such as 1000."""

    @property
    def resolution(self) -> int:
        """Pixels: the square image size the network was trained at."""

    @property
    def hint_channels(self) -> int:
        """What a control may have: 3 (a normal map), 6 (and flat colours by label) or 0, where there is no ControlNet.
        Of a control of six an engine of three takes the first three. One of six may have a ControlNet of its own for a
        control of three."""

    def sigma(self, timestep: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Noise level of (fractional) timesteps 0 .. timesteps - 1, increasing."""

    def condition(
        self,
        prompts: Sequence[str],
        *,
        guidance_scale: float,
        negative: str = "",
        control: Float[Tensor, "B H W C"] | None = None,
        control_scale: float = 1.0,
    ) -> Any:
        """What `denoise` needs beside the latents: one prompt per sample, the classifier-free guidance scale, and for
        an aligned model the normal maps (0..1, black background) that the samples must follow. Optimisers call it
        at every step: an engine caches what is costly about a text."""

    def denoise(
        self, x: Float[Tensor, "B C h w"], sigma: Float[Tensor, "B"], condition: Any
    ) -> Float[Tensor, "B C h w"]:
        """Estimate of the clean latents z0, guided; without gradient."""

    def encode_images(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B C h w"]:
        """Scaled latents of images 0..1; differentiable to the images."""

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B H W 3"]:
        """Images 0..1 of scaled latents; without gradient."""
