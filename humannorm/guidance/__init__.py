"""Diffusion models behind one interface, and what is distilled from them."""

from __future__ import annotations

from humannorm.guidance.denoiser import Denoiser
from humannorm.guidance.diffusers_guide import DiffusersCondition, DiffusersGuide, to_denoised
from humannorm.guidance.distillation import SdsResult, multistep_target, sds_gradient, sds_loss, sds_weight

__all__ = [
    "Denoiser",
    "DiffusersCondition",
    "DiffusersGuide",
    "SdsResult",
    "multistep_target",
    "sds_gradient",
    "sds_loss",
    "sds_weight",
    "to_denoised",
]
