"""Classifier-free guidance by the model that is wired in, where a widget is left at 0."""

from __future__ import annotations

from typing import Any

from humannorm.geometry import settings as geometry_settings
from humannorm.guidance.samplers import GUIDANCE_SCALES
from humannorm.prompts import Modality
from humannorm.texture import settings as texture_settings

from .bases import UNKNOWN, base_of
from .payloads import model_facts

__all__ = ["distilling_scale", "drawing_scale", "told"]


def distilling_scale(model: Any, modality: Modality) -> float:
    """`quick`'s for the bundled model; for others that of their kind in painting, and in sculpting the published one,
    but where guidance was distilled into the network."""
    settings = texture_settings if modality == "color" else geometry_settings
    if model_facts(model) is not None:
        return float(settings.preset("quick").guidance_scale)
    base = base_of(model)
    if modality == "color" or base.guidance_is_distilled:
        return base.cfg
    return float(settings.preset("paper").guidance_scale)


def drawing_scale(model: Any, modality: Modality) -> float:
    """What the model's pictures are best looked at with in 2D."""
    return base_of(model).cfg if model_facts(model) is None else GUIDANCE_SCALES[modality]


def told(model: Any, scale: float, chosen: float) -> str:
    """A line for the node."""
    if chosen:
        return f"cfg {chosen:g}"
    if model_facts(model) is not None:
        return f"cfg {scale:g}, of the bundled model"
    base = base_of(model)
    if base is UNKNOWN:
        return f"cfg {scale:g}; a model of no kind known here: choose cfg and resolution yourself"
    return f"cfg {scale:g}, of {base.name} models"
