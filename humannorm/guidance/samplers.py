"""Sampling whole images: DDIM and DPM-Solver++ (2M) of diffusers, walked with any `Denoiser`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError, check_choice, check_range
from humannorm.guidance.denoiser import Denoiser

SAMPLERS = ("dpm", "ddim")
GUIDANCE_SCALES = {"normal": 4.0, "depth": 4.0, "color": 2.0}
"""Classifier-free guidance that suits sampling with the bundled model; distillation uses other scales."""


@torch.no_grad()
def sample_latents(
    denoiser: Denoiser,
    condition: Any,
    noise: Float[Tensor, "B C h w"],
    *,
    scheduler_config: dict[str, Any],
    steps: int = 20,
    sampler: str = "dpm",
    progress: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "B C h w"]:
    """Clean latents from unit Gaussian noise.

    The schedulers walk in variance preserving coordinates and are told that the network predicts the clean sample,
    which is what `denoise` gives, whatever the network itself predicts. `scheduler_config` is the model's own.
    """
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    check_choice("sampler", sampler, SAMPLERS)
    check_range("steps", steps, 1, 1000)
    told = {
        **{name: value for name, value in scheduler_config.items() if not name.startswith("_")},
        "prediction_type": "sample",
        "clip_sample": False,
        "thresholding": False,
        "timestep_spacing": "trailing",  # starts at the last timestep: the first input is pure noise
    }
    if sampler == "ddim":
        scheduler = DDIMScheduler.from_config({**told, "set_alpha_to_one": True})
    else:
        scheduler = DPMSolverMultistepScheduler.from_config(
            {**told, "algorithm_type": "dpmsolver++", "solver_order": 2}
        )
    scheduler.set_timesteps(steps)
    x = noise
    for number, timestep in enumerate(scheduler.timesteps):
        sigma = denoiser.sigma(timestep.float().reshape(1)).to(x)
        unscaled = x * (1 + sigma.square()).sqrt()
        denoised = denoiser.denoise(unscaled, sigma.expand(len(x)), condition)
        x = scheduler.step(denoised, timestep, x).prev_sample
        if progress is not None:
            progress(number + 1, len(scheduler.timesteps))
    check_finite(x)
    return x


def check_finite(latents: Float[Tensor, "B C h w"]) -> None:
    """Raise `InputError` for what would be saved as black pictures."""
    if not bool(torch.isfinite(latents).all()):
        raise InputError(
            "models: expected networks that answer with finite numbers, got NaN or infinite ones; half precision may"
            " overflow (fp32 or bf16 does not), else the weights or the noise schedule of the folder are broken"
        )
