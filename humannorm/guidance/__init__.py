"""Diffusion models behind one interface, and what is distilled from them."""

from __future__ import annotations

from humannorm.guidance.denoiser import Denoiser
from humannorm.guidance.diffusers_denoiser import (
    Autoguidance,
    DiffusersCondition,
    DiffusersDenoiser,
    ExtraControl,
    to_denoised,
)
from humannorm.guidance.distillation import (
    SdsResult,
    multistep_target,
    portions,
    sds_at_pictures,
    sds_gradient,
    sds_loss,
    sds_weight,
)
from humannorm.guidance.samplers import GUIDANCE_SCALES, sample_images
from humannorm.guidance.stages import (
    PUBLISHED_FOLDERS,
    StageGuides,
    draws_under_starts,
    few_steps_in,
    find_guides,
    load_networks,
)

__all__ = [
    "GUIDANCE_SCALES",
    "PUBLISHED_FOLDERS",
    "Autoguidance",
    "Denoiser",
    "DiffusersCondition",
    "DiffusersDenoiser",
    "ExtraControl",
    "SdsResult",
    "StageGuides",
    "draws_under_starts",
    "few_steps_in",
    "find_guides",
    "load_networks",
    "multistep_target",
    "portions",
    "sample_images",
    "sds_at_pictures",
    "sds_gradient",
    "sds_loss",
    "sds_weight",
    "to_denoised",
]
