"""Classifier-free guidance by the model that is wired in, where a widget is left at 0."""

from __future__ import annotations

from typing import Any

from humannorm.geometry import settings as geometry_settings
from humannorm.guidance.samplers import GUIDANCE_SCALES
from humannorm.prompts import Modality
from humannorm.texture import settings as texture_settings

from .payloads import model_facts

__all__ = ["distilling_scale", "drawing_scale", "told"]

DRAWING = 7.5  # the usual scale of SD1.5-class models in 2D


def distilling_scale(model: Any, modality: Modality) -> float:
    """The preset's that belongs to the model: `quick` for the bundled one, `paper` for SD1.5-class weights."""
    preset = "paper" if model_facts(model) is None else "quick"
    settings = texture_settings if modality == "color" else geometry_settings
    return float(settings.preset(preset).guidance_scale)


def drawing_scale(model: Any, modality: Modality) -> float:
    """What the model's pictures are best looked at with in 2D."""
    return DRAWING if model_facts(model) is None else GUIDANCE_SCALES[modality]


def told(model: Any, scale: float, chosen: float) -> str:
    """A line for the node."""
    if chosen:
        return f"cfg {chosen:g}"
    return f"cfg {scale:g}, of the {'SD1.5-class' if model_facts(model) is None else 'bundled'} model"
