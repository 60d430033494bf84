"""Normal maps, depth maps and pictures as 2D outputs, by the host's own samplers and schedules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import comfy.model_management
import comfy.sample
import comfy.samplers
import latent_preview
import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from humannorm.cameras import View
from humannorm.checks import InputError

from .host_denoiser import (
    check_fit,
    check_size,
    check_vae,
    decoded_pictures,
    latent_size,
    native_resolution,
    with_control,
)
from .long_work import heard_inside, say
from .payloads import KINDS, GuidancePayload, PromptSet, kind_of, wrong_card
from .scales import drawing_scale, told
from .schema import CATEGORY, Prompts, override_input, part_input, schema, seed_input, vae_input, views_input
from .views import chosen_views, pictures_from

__all__ = [
    "HumanNormDepthSampler",
    "HumanNormNormalAlignedSampler",
    "HumanNormNormalSampler",
    "Sampling",
    "draw_views",
    "mask_of",
    "nearest_to_white",
]

# Between the background's black and the darkest colour of a normal map, whose largest channel is at least 0.5.
NEAREST_SHARE, DARK = 0.995, 0.2  # quantile of a depth map that is its nearest point; too dull to be a person
MOST_AT_ONCE = 16  # pictures of the model's own size in one batch
MASK_THRESHOLD, MASK_SOFTNESS = 0.25, 0.1


@dataclass(frozen=True)
class Sampling:
    """The widgets of `_sampling_inputs`."""

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    size: int = 0  # pixels a side; 0 is what the model was made for


def _sampling_inputs() -> list[io.Input]:
    return [
        seed_input(),
        io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Denoising steps."),
        io.Float.Input(
            "cfg",
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip="Classifier-free guidance: 1 switches it off. 0: what suits the model, shown on the node.",
        ),
        io.Combo.Input(
            "sampler_name",
            options=list(comfy.samplers.SAMPLER_NAMES),
            default="dpmpp_2m",
            tooltip="Any of the host's samplers.",
        ),
        io.Combo.Input(
            "scheduler",
            options=list(comfy.samplers.SCHEDULER_NAMES),
            default="normal",
            tooltip="Any of the host's noise schedules.",
        ),
        override_input("size", 2048, "Side of the square pictures in pixels; 0 is what the model was made for."),
    ]


def _network_inputs(what: str, kind: str, control_net: bool = False) -> list[io.Input]:
    control = [io.ControlNet.Input("control_net", tooltip="The normal ControlNet that belongs to the model.")]
    return [
        io.Model.Input("model", tooltip=f"A model that draws {what}; LoRAs and patches before it act."),
        *(control if control_net else []),
        Prompts.Input("prompts", tooltip=f"From HumanNorm Prompts of kind {kind}."),
        vae_input(),
    ]


def _picture_outputs(of_each: str) -> dict[str, io.Output]:
    return {
        "images": io.Image.Output("images", display_name="images", tooltip=f"One {of_each}."),
        "latent": io.Latent.Output("latent", display_name="latent", tooltip="The latents of the pictures."),
    }


def _check_kind(kind: str, model: Any, prompts: PromptSet) -> None:
    """kind: as the prompts node names it."""
    if prompts.prompts.modality != KINDS[kind]:
        raise InputError(f"prompts: expected prompts of kind {kind}, got kind {kind_of(prompts.prompts.modality)}")
    check_fit(model, prompts.width, "prompts")


def draw_views(
    payload: GuidancePayload, sides: Sequence[View], part: Any, sampling: Sampling, normal_maps: Tensor | None = None
) -> tuple[Tensor, dict[str, Any]]:
    """Pictures [B, H, W, 3] and their LATENT, one for each side; view i has the noise of item i of the host's batch."""
    texts = [payload.prompts.prompts.text(part, side) for side in sides]
    model = payload.model
    latent = torch.zeros(len(texts), *latent_size(payload))
    noise = comfy.sample.prepare_noise(latent, sampling.seed)
    at_once = max(1, MOST_AT_ONCE * native_resolution(model) ** 2 // payload.resolution**2)
    drawn: dict[int, tuple[Tensor, Tensor]] = {}
    for chosen in _batches(payload.prompts, texts, at_once):  # an interrupt is heard between any two
        comfy.model_management.throw_exception_if_processing_interrupted()
        maps = None if normal_maps is None else normal_maps[chosen]
        positive = payload.prompts.conditioning([texts[at] for at in chosen])
        conds = with_control(payload, positive, payload.prompts.negative, maps, 1.0)
        with heard_inside(model.load_device):
            samples = comfy.sample.sample(
                model,
                noise[chosen],
                sampling.steps,
                payload.cfg,
                sampling.sampler_name,
                sampling.scheduler,
                conds["positive"],
                conds["negative"],
                latent[chosen],
                callback=latent_preview.prepare_callback(model, sampling.steps),
                seed=sampling.seed,
            )
        drawn |= dict(zip(chosen, zip(samples, decoded_pictures(payload.vae, samples), strict=True), strict=True))
    latents, pictures = (torch.stack(each) for each in zip(*(drawn[at] for at in range(len(texts))), strict=True))
    return pictures, {"samples": latents}


def _batches(prompts: PromptSet, texts: Sequence[str], at_once: int) -> list[list[int]]:
    """Places of texts that are drawn together, at most so many."""
    groups = prompts.groups(texts)
    return [group[first : first + at_once] for group in groups for first in range(0, len(group), at_once)]


def _payload(cls: Any, model: Any, prompts: PromptSet, vae: Any, chosen: Sampling) -> GuidancePayload:
    """What is drawn with; scale and card of the model are told on the node."""
    modality = prompts.prompts.modality
    scale = chosen.cfg or drawing_scale(model, modality)
    check_vae(model, vae)
    check_size("size", chosen.size, model)
    say(cls.hidden.unique_id, "\n".join([told(model, scale, chosen.cfg), *wrong_card(model, modality)]))
    return GuidancePayload(model, prompts, vae, scale, chosen.size or native_resolution(model))


def nearest_to_white(images: Tensor) -> Tensor:
    """Depth maps [B, H, W, 3] with 1 at the nearest point of every view, as the encoding has it: a network draws some
    views duller than others. What is all dark stays dark."""
    brightest = images[..., :3].amax(-1).flatten(1).quantile(NEAREST_SHARE, dim=1)
    gain = torch.where(brightest > DARK, 1 / brightest.clamp_min(DARK), torch.ones_like(brightest))
    return (images * gain[:, None, None, None]).clamp(0, 1)


def mask_of(maps: Tensor) -> Tensor:
    """Masks [B, H, W] of maps [B, H, W, 3] on black: all that is not."""
    brightest = maps[..., :3].amax(-1)
    return ((brightest - (MASK_THRESHOLD - MASK_SOFTNESS)) / (2 * MASK_SOFTNESS)).clamp(0, 1)


class _MapSampler(io.ComfyNode):
    """Draws maps of one kind from texts alone."""

    KIND: ClassVar[str]

    @classmethod
    def execute(cls, model: Any, prompts: PromptSet, vae: Any, views: str, part: str, **sampling: Any) -> io.NodeOutput:
        chosen = Sampling(**sampling)
        _check_kind(cls.KIND, model, prompts)
        payload = _payload(cls, model, prompts, vae, chosen)
        images, latent = draw_views(payload, chosen_views(views).sides, part, chosen)
        if cls.KIND == "depth":
            images = nearest_to_white(images)
        return io.NodeOutput(images, mask_of(images), latent)


def _map_sampler_schema(kind: str, node_id: str) -> io.Schema:
    what = f"{kind} map"
    outputs = _picture_outputs(f"{what} for each view")
    mask = io.Mask.Output("mask", display_name="mask", tooltip="Where the person is: all that is not black.")
    return schema(
        node_id=node_id,
        display_name=f"HumanNorm {kind.capitalize()} Sampler",
        category=f"{CATEGORY}/sampling",
        description=f"Draws {what}s of the person from each side as pictures, for looking at and for image nodes.",
        search_aliases=[f"{what} generator", f"{kind} diffusion"],
        hidden=[io.Hidden.unique_id],
        inputs=[*_network_inputs(f"{what}s", kind), views_input(), part_input(), *_sampling_inputs()],
        outputs=[outputs["images"], mask, outputs["latent"]],
    )


class HumanNormNormalSampler(_MapSampler):
    KIND = "normal"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _map_sampler_schema("normal", "HumanNormNormalSampler")


class HumanNormDepthSampler(_MapSampler):
    KIND = "depth"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _map_sampler_schema("depth", "HumanNormDepthSampler")


class HumanNormNormalAlignedSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormNormalAlignedSampler",
            display_name="HumanNorm Normal-Aligned Sampler",
            category=f"{CATEGORY}/sampling",
            description="Pictures of the person that follow normal maps: those of our sampler, a render, or any other"
            " pack's.",
            search_aliases=["normal controlnet", "normal to image"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                *_network_inputs("pictures", "image", control_net=True),
                io.Image.Input(
                    "normal_maps",
                    tooltip="Camera-space normal maps on black: x right is red, y up is green, toward the viewer blue.",
                ),
                views_input(),
                part_input(),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=10.0, step=0.05, tooltip="How strictly to follow the normals."
                ),
                *_sampling_inputs(),
            ],
            outputs=list(_picture_outputs("picture for each normal map").values()),
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        control_net: Any,
        prompts: PromptSet,
        vae: Any,
        normal_maps: Tensor,
        views: str,
        part: str,
        strength: float,
        **sampling: Any,
    ) -> io.NodeOutput:
        chosen = Sampling(**sampling)
        _check_kind("image", model, prompts)
        maps = pictures_from(normal_maps, "normal_maps")
        sides = chosen_views(views).sides
        if len(sides) == 1:
            sides = sides * len(maps)
        if len(sides) != len(maps):
            raise InputError(
                f"views: expected one for each of the {len(maps)} normal maps (or one for all), got {views!r}"
            )
        height, width = maps.shape[1:3]
        if height != width:
            raise InputError(f"normal_maps: expected square pictures, got {width} x {height}; pad or crop them first")
        payload = replace(
            _payload(cls, model, prompts, vae, chosen), control_net=control_net, control_strength=strength
        )
        return io.NodeOutput(*draw_views(payload, sides, part, chosen, maps))
