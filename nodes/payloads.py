"""What travels on the pack's own sockets beside the library's types."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from humannorm.body import Body, plan_for_body
from humannorm.cameras import CAMERA_PLANS, TEXTURE_CAMERA_PLANS, CameraPlan
from humannorm.checks import InputError
from humannorm.export import BakedMesh
from humannorm.prompts import Modality, Prompts
from humannorm.rigging import RiggedHuman

__all__ = [
    "DISTILLS",
    "HINTS_CONTROL",
    "KINDS",
    "NAMES_POSES",
    "Conditioning",
    "GuidancePayload",
    "ModelFacts",
    "PromptSet",
    "RiggedPayload",
    "ShownControl",
    "kind_of",
    "model_facts",
    "wants_pose",
    "wrong_card",
]

DISTILLS = "humannorm_distills"
"""In a MODEL's options while an optimiser distils from it, for patches that are meant for sampling."""

NAMES_POSES = "humannorm_names_poses"
"""On a CLIP's network, where the model's captions named the pose; there it survives LoRAs and clones."""

HINTS_CONTROL = "humannorm_hints"
"""On a CONTROL_NET of ours, the one beside it that is told flat colours by label too."""

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

    def groups(self, texts: Sequence[str]) -> list[list[int]]:
        """Places of texts that can share one CONDITIONING: all of them, or those that have the same words.

        Embeddings of different lengths, with masks or other extras that count tokens, cannot stand in one batch.
        """
        items = [self.encoded[text] for text in texts]
        if can_share(items):
            return [list(range(len(texts)))]
        places: dict[int, list[int]] = {}
        for at, item in enumerate(items):
            places.setdefault(id(item), []).append(at)
        return list(places.values())

    @property
    def width(self) -> int:
        """Channels of the text embedding."""
        return int(self.negative[0][0].shape[-1])


@dataclass(frozen=True, eq=False)
class ModelFacts:
    """What a bundled model says of itself; kept on the host's model object, so that it survives LoRAs and patches."""

    resolution: int  # pixels a side that it was trained at
    plan: CameraPlan  # that it was trained at
    kind: str | None = None  # of prompts that its output of the loader is meant for, as the prompts node names it
    few_steps: Path | None = None  # LoRA with which it draws in few steps without guidance
    joint_filter: Path | None = None  # what sharpens its pictures by what its ControlNet is shown
    resolution_over_start: int | None = None  # pixels a side of what it draws over a dressed start


@dataclass(frozen=True, eq=False)
class ShownControl:
    """A further ControlNet of a guidance, and when it is heard."""

    kind: str  # of picture that it is shown, see `humannorm.controls.CONTROL_KINDS`
    network: Any  # ControlBase
    strength: float = 1.0
    start: float = 0.0  # of the way from pure noise (0) to the picture (1), as the host counts it
    end: float = 1.0


@dataclass(frozen=True, eq=False)
class GuidancePayload:
    """HUMANNORM_GUIDANCE: all that an optimiser needs to run a network through the host's own sampling machinery."""

    model: Any  # ModelPatcher
    prompts: PromptSet
    vae: Any  # comfy.sd.VAE
    cfg: float
    resolution: int  # pixels a side that the network sees
    control_net: Any | None = None  # ControlBase
    control_strength: float = 1.0
    body: Body | None = None  # posed, in the working box: what the parts' cameras look at, whose skeleton is shown
    controls: tuple[ShownControl, ...] = ()  # beside control_net
    cfg_chosen: bool = True  # by the user, and not by the model that is wired in
    in_few_steps: bool = False  # the model draws with its LoRA for few steps

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
    """HUMANNORM_RIGGED: a human with its skeleton, and its surface with all maps."""

    human: RiggedHuman
    look: BakedMesh


def wants_pose(clip: Any) -> bool:
    """Whether a CLIP belongs to a model whose captions named the pose, as the bundled ones' did."""
    return getattr(clip.cond_stage_model, NAMES_POSES, False)


KINDS: dict[str, Modality] = {"normal": "normal", "depth": "depth", "image": "color"}
"""Kinds of prompts as the nodes name them."""


def kind_of(modality: str) -> str:
    """The word of the prompts node's widget."""
    return next(kind for kind, other in KINDS.items() if other == modality)


def wrong_card(model: Any, modality: str) -> list[str]:
    """A line for the node where the bundled model of another kind is connected; it draws all kinds, a LoRA may not."""
    facts = model_facts(model)
    if facts is None or facts.kind in (None, kind_of(modality)):
        return []
    return [f"the bundled {facts.kind} model draws {kind_of(modality)}s here"]


def model_facts(model: Any) -> ModelFacts | None:
    """The facts on a MODEL, None for one that is not bundled."""
    return getattr(model.model, "humannorm_facts", None)


CLIP_LENGTH = 77
"""Tokens of a text to a CLIP; longer texts are several of these, and repeating one changes nothing."""


def can_share(items: Sequence[Conditioning]) -> bool:
    """Whether conditionings differ in nothing but the tensors that `in_one_batch` puts together."""
    if len({id(item) for item in items}) == 1:
        return True
    if any(len(item) != 1 for item in items):
        return False
    lengths = {item[0][0].shape[1] for item in items}
    if len(lengths) > 1 and any(length % CLIP_LENGTH for length in lengths):
        return False
    extras = [{name: value for name, value in item[0][1].items() if name != "pooled_output"} for item in items]
    plain = all(not isinstance(value, torch.Tensor | list | dict) for extra in extras for value in extra.values())
    return plain and all(extra == extras[0] for extra in extras)


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
