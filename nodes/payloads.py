"""What travels on the pack's own sockets beside the library's types."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from humannorm.body import Body, plan_for_body
from humannorm.cameras import CAMERA_PLANS, TEXTURE_CAMERA_PLANS, CameraPlan
from humannorm.checks import InputError
from humannorm.prompts import Prompts
from humannorm.rigging import RiggedHuman

DISTILLS = "humannorm_distills"
"""In a MODEL's options while an optimiser distils from it, for patches that are meant for sampling."""

NAMES_POSES = "humannorm_names_poses"
"""On a CLIP's network, where the model's captions named the pose; there it survives LoRAs and clones."""

Conditioning = list[list[Any]]
"""The host's CONDITIONING: pairs of a tensor [B, T, C] and a dict."""


@dataclass(frozen=True, eq=False)
class PromptSet:
    """HUMANNORM_PROMPTS: the texts of one person in one modality, encoded for every body part and view."""

    prompts: Prompts
    encoded: Mapping[str, Conditioning]  # by text
    negative: Conditioning

    def conditioning(self, texts: Sequence[str]) -> Conditioning:
        """One CONDITIONING with an entry of the batch for each text."""
        return in_one_batch([self.encoded[text] for text in texts])

    @property
    def width(self) -> int:
        """Channels of the text embedding."""
        return int(self.negative[0][0].shape[-1])


@dataclass(frozen=True, eq=False)
class ModelFacts:
    """What a bundled model says of itself; kept on the host's model object, so that it survives LoRAs and patches."""

    resolution: int  # pixels a side that it was trained at
    plan: CameraPlan  # that it was trained at


@dataclass(frozen=True, eq=False)
class GuidancePayload:
    """HUMANNORM_GUIDANCE: all that an optimiser asks a network through the host's own sampling machinery."""

    model: Any  # ModelPatcher
    prompts: PromptSet
    vae: Any  # comfy.sd.VAE
    cfg: float
    resolution: int  # pixels a side that the network sees
    control_net: Any | None = None  # ControlBase
    control_strength: float = 1.0
    body: Body | None = None  # posed, in the working box: what the parts' cameras look at

    @property
    def plan(self) -> CameraPlan | None:
        """The cameras that the model was trained at, where it says so; with a body, aimed at its parts."""
        facts = model_facts(self.model)
        own = None if facts is None else facts.plan
        if self.body is None:
            return own
        texts = self.prompts.prompts
        published = TEXTURE_CAMERA_PLANS if texts.modality == "color" else CAMERA_PLANS
        return plan_for_body(own or published[texts.plan], self.body)


@dataclass(frozen=True, eq=False)
class RiggedPayload:
    """HUMANNORM_RIGGED: a human with its skeleton, and the detail of its surface that only a texture has."""

    human: RiggedHuman
    normal_map: torch.Tensor | None = None  # [H, W, 3], tangent space


def wants_pose(clip: Any) -> bool:
    """Whether a CLIP belongs to a model whose captions named the pose, as the bundled ones' did."""
    return getattr(clip.cond_stage_model, NAMES_POSES, False)


def model_facts(model: Any) -> ModelFacts | None:
    """The facts on a MODEL, None for one that is not bundled."""
    return getattr(model.model, "humannorm_facts", None)


def in_one_batch(items: Sequence[Conditioning]) -> Conditioning:
    """Conditionings of one text each as one whose batch has them all; longer texts are met by repeating the shorter
    ones, as the host does."""
    for item in items:
        if len(item) != 1:
            raise InputError(f"prompts: expected one conditioning for a text, got {len(item)}")
    if len({id(item) for item in items}) == 1:
        return items[0]
    tensors = [item[0][0] for item in items]
    length = math.lcm(*(tensor.shape[1] for tensor in tensors))
    whole = torch.cat([tensor.repeat(1, length // tensor.shape[1], 1) for tensor in tensors])
    extra = dict(items[0][0][1])
    pooled = [item[0][1].get("pooled_output") for item in items]
    if all(isinstance(value, torch.Tensor) for value in pooled):
        extra["pooled_output"] = torch.cat(pooled)
    return [[whole, extra]]
