"""Sampling whole images: DDIM and DPM-Solver++ (2M), walked with any `Denoiser`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError, check_choice, check_range
from humannorm.guidance.denoiser import Denoiser

if TYPE_CHECKING:
    from humannorm.guidance.diffusers_denoiser import DiffusersDenoiser

__all__ = ["GUIDANCE_SCALES", "SAMPLERS", "latent_states", "sample_images", "sample_latents", "walk_levels"]

SAMPLERS = ("dpm", "ddim")
GUIDANCE_SCALES = {"normal": 4.0, "depth": 4.0, "color": 2.0}
"""Classifier-free guidance that suits sampling with the bundled model; distillation uses other scales."""


@torch.no_grad()
def sample_images(
    model: DiffusersDenoiser,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    guidance_scale: float = GUIDANCE_SCALES["normal"],
    negative: str = "",
    control: Float[Tensor, "N H W C"] | None = None,
    steps: int = 20,
    sampler: str = "dpm",
    entry: Float[Tensor, "N H W 3"] | None = None,
    level: float = 1.0,
    batch: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "N S S 3"]:
    """One picture 0..1 of each prompt, on the CPU, at the model's resolution S.

    prompts: as the model hears them; `Prompts.text` names the kind of picture, part and view. seeds: one for each; a
    picture's noise hangs on its own alone, whatever is drawn beside it. control: normal maps to follow, for a model
    with a ControlNet, and perhaps flat colours by label in three further channels; where the ControlNet reads none,
    they serve to sharpen what it draws alone. entry: pictures that the walk begins from, at `level` of the noise, 0..1
    (SDEdit, Meng et al. 2021); that share of the steps is taken. batch: pictures at a time. progress: sees the
    denoising steps done, and how many there are.
    """
    check_range("batch", batch, 1, 10_000)
    if len(seeds) != len(prompts):
        raise InputError(f"seeds: expected one for each of {len(prompts)} prompts, got {len(seeds)}")
    side = model.resolution // model.downscale
    pictures: list[Tensor] = []
    firsts = range(0, len(prompts), batch)
    for number, first in enumerate(firsts):
        chosen = slice(first, first + batch)
        noise = [
            torch.randn((model.channels, side, side), generator=torch.Generator().manual_seed(seed))
            for seed in seeds[chosen]
        ]
        condition = model.condition(
            prompts[chosen],
            guidance_scale=guidance_scale,
            negative=negative,
            control=None if control is None else control[chosen],
        )

        def report(step: int, of: int, before: int = number) -> None:
            if progress is not None:
                progress(before * of + step, len(firsts) * of)

        latents = sample_latents(
            model,
            condition,
            torch.stack(noise).to(model.device),
            scheduler_config=model.scheduler_config,
            steps=steps,
            sampler=sampler,
            entry=None if entry is None else model.encode_images(entry[chosen].to(model.device)).float(),
            level=level,
            progress=report,
        )
        drawn = model.decode(latents)
        if control is not None:
            drawn = model.sharpened(drawn, control[chosen].to(drawn))
        pictures.append(drawn.float().cpu())
    return torch.cat(pictures) if pictures else torch.empty(0, model.resolution, model.resolution, 3)


@torch.no_grad()
def sample_latents(
    denoiser: Denoiser,
    condition: Any,
    noise: Float[Tensor, "B C h w"],
    *,
    scheduler_config: dict[str, Any],
    steps: int = 20,
    sampler: str = "dpm",
    entry: Float[Tensor, "B C h w"] | None = None,
    level: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "B C h w"]:
    """Clean latents from unit Gaussian noise, or from the latents `entry` at a level of it, as in `sample_images`.

    diffusers' schedulers walk in variance preserving coordinates and are configured for a network that predicts the
    clean sample, which is what `denoise` gives, whatever the network itself predicts. `scheduler_config` is the model's
    own. Flow models have no such schedule: they are walked in the denoiser's own noise, `walk_levels`.
    """
    check_choice("sampler", sampler, SAMPLERS)
    check_range("steps", steps, 1, 1000)
    check_range("level", level, 0.0, 1.0)
    left = steps if entry is None else max(1, round(level * steps))
    if "FlowMatch" in str(scheduler_config.get("_class_name", "")):
        clean = walk_levels(
            denoiser, condition, noise, steps=steps, sampler=sampler, entry=entry, left=left, progress=progress
        )
        check_finite(clean)
        return clean
    clean = noise
    states = latent_states(
        denoiser,
        condition,
        noise,
        scheduler_config=scheduler_config,
        steps=steps,
        sampler=sampler,
        entry=entry,
        left=left,
    )
    for number, state in enumerate(states, 1):
        clean = state
        if progress is not None:
            progress(number, left)
    check_finite(clean)
    return clean


@torch.no_grad()
def latent_states(
    denoiser: Denoiser,
    condition: Any,
    noise: Float[Tensor, "B C h w"],
    *,
    scheduler_config: dict[str, Any],
    steps: int,
    sampler: str = "dpm",
    entry: Float[Tensor, "B C h w"] | None = None,
    left: int | None = None,
) -> Iterator[Float[Tensor, "B C h w"]]:
    """What `sample_latents` walks through: the latents after each step, in variance preserving form, clean at last.

    entry: clean latents from which the last `left` steps are taken; without any, all are, from the noise.
    """
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    config = {
        **{name: value for name, value in scheduler_config.items() if not name.startswith("_")},
        "prediction_type": "sample",
        "clip_sample": False,
        "thresholding": False,
        "timestep_spacing": "trailing",  # starts at the last timestep: the first input is pure noise
    }
    if sampler == "ddim":
        scheduler = DDIMScheduler.from_config({**config, "set_alpha_to_one": True})
    else:
        scheduler = DPMSolverMultistepScheduler.from_config(
            {**config, "algorithm_type": "dpmsolver++", "solver_order": 2}
        )
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps
    x = noise
    if entry is not None:
        timesteps = timesteps[-(left or steps) :]
        sigma = denoiser.sigma(timesteps[0].float().reshape(1)).to(noise)
        x = (entry + sigma * noise) / (1 + sigma.square()).sqrt()
    for timestep in timesteps:
        sigma = denoiser.sigma(timestep.float().reshape(1)).to(x)
        unscaled = x * (1 + sigma.square()).sqrt()
        denoised = denoiser.denoise(unscaled, sigma.expand(len(x)), condition)
        x = scheduler.step(denoised, timestep, x).prev_sample
        yield x


@torch.no_grad()
def walk_levels(
    denoiser: Denoiser,
    condition: Any,
    noise: Float[Tensor, "B C h w"],
    *,
    steps: int,
    sampler: str = "dpm",
    entry: Float[Tensor, "B C h w"] | None = None,
    left: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "B C h w"]:
    """Clean latents by the denoiser's own noise levels, even in timesteps, in x = z + sigma eps.

    ddim: x' = z + sigma' / sigma (x - z), for a flow model its Euler step. dpm: DPM-Solver++ (2M) (Lu et al. 2022,
    algorithm 2) with alpha = 1: z is led on from the last two estimates, evenly in log sigma. entry, left: as in
    `latent_states`.
    """
    timesteps = torch.linspace(denoiser.timesteps - 1, 0, steps + 1)[:-1]
    sigmas = [float(sigma) for sigma in denoiser.sigma(timesteps)] + [0.0]
    x = noise * math.sqrt(1 + sigmas[0] ** 2)
    if entry is not None:
        sigmas = sigmas[-(left or steps) - 1 :]
        x = entry + sigmas[0] * noise
    before: Tensor | None = None
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        clean = denoiser.denoise(x, torch.full((len(x),), sigma, device=x.device), condition)
        ahead = clean
        if sampler == "dpm" and before is not None and following > 0:
            last, width = math.log(sigmas[step - 1] / sigma), math.log(sigma / following)
            ahead = clean + width / (2 * last) * (clean - before)
        x, before = ahead + following / sigma * (x - ahead), clean
        if progress is not None:
            progress(step + 1, len(sigmas) - 1)
    return x


def check_finite(latents: Float[Tensor, "B C h w"]) -> None:
    """Raise `InputError` for what would be saved as black pictures."""
    if not bool(torch.isfinite(latents).all()):
        raise InputError(
            "models: expected networks that answer with finite numbers, got NaN or infinite ones; half precision may"
            " overflow (fp32 or bf16 does not), else the weights or the noise schedule of the folder are broken"
        )
