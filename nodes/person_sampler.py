"""Pictures that begin from the body that the words describe, in what they say it wears."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.sample
import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from humannorm.body import Body as BodyValue
from humannorm.cameras import CAMERA_PLANS
from humannorm.checks import InputError
from humannorm.guidance.denoiser import HINT_CHANNELS
from humannorm.guidance.diffusers_denoiser import resized
from humannorm.guidance.folders import few_steps_of
from humannorm.guidance.samplers import walk_levels
from humannorm.start_pictures import ENTRY_LEVEL, StartPictures, start_of_sentence

from .devices import rest_device
from .host_denoiser import (
    HostDenoiser,
    check_size,
    hint_channels,
    in_few_steps,
    latent_size,
    ordinary_tensors,
    with_denoisers,
)
from .long_work import Progress
from .payloads import GuidancePayload, kind_of, model_facts
from .samplers import MOST_AT_ONCE, mask_of
from .schema import CATEGORY, Body, Guidance, override_input, part_input, schema, seed_input, skin_input, views_input
from .texture import skin_of
from .views import chosen_views, pictures_from

__all__ = ["HumanNormPersonSampler"]

STEPS = 20  # of a whole walk by a model without weights for few


class HumanNormPersonSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormPersonSampler",
            display_name="HumanNorm Person Sampler",
            category=f"{CATEGORY}/sampling",
            description="Normal maps, depth maps or pictures of the person whom the words describe, from each side:"
            " body, pose and clothes are set up as the words have them, and the model draws over that, in a second or"
            " two a view."
            " The bundled models have learnt it.",
            search_aliases=["text to person", "character sheet", "turnaround"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                Guidance.Input("guidance", tooltip="Guidance of any kind, with the bundled model's control net."),
                views_input(),
                part_input(),
                seed_input(),
                io.Float.Input(
                    "level",
                    default=ENTRY_LEVEL,
                    min=0.05,
                    max=1.0,
                    step=0.05,
                    tooltip="How far the model may go from the flat colours, as denoise: less keeps more of them.",
                ),
                Body.Input(
                    "body", optional=True, tooltip="In its shape and pose; without one as the words describe it."
                ),
                skin_input("the body", "the words name", model=False),
                io.Image.Input(
                    "normal_maps",
                    optional=True,
                    tooltip="For pictures: normal maps of the same views to follow in place of the start's own.",
                ),
                override_input(
                    "resolution",
                    2048,
                    "Pixels a side. 0: the guidance's; of the bundled model 256, as fine as it draws over a start.",
                ),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="One for each view."),
                io.Mask.Output("mask", display_name="mask", tooltip="Where the person is."),
                io.Image.Output(
                    "flat", display_name="flat colours", tooltip="What the pictures began from: colours by label."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        guidance: GuidancePayload,
        views: str,
        part: str,
        seed: int,
        level: float,
        body: BodyValue | None = None,
        skin: str = "any",
        normal_maps: Tensor | None = None,
        resolution: int = 0,
    ) -> io.NodeOutput:
        check_size("resolution", resolution, guidance.model)
        kind = guidance.prompts.prompts.modality
        if hint_channels(guidance.control_net) != HINT_CHANNELS:
            raise InputError(
                "guidance: expected one with a control net that has learnt to draw from a start, as the bundled one"
                " has, got another or none"
            )
        if normal_maps is not None and kind != "color":
            raise InputError(f"normal_maps: expected with guidance of kind image alone, got it with {kind_of(kind)}")
        chosen, texts = chosen_views(views), guidance.prompts.prompts
        azimuths, sides = chosen.azimuths, chosen.sides
        steps = STEPS
        facts = model_facts(guidance.model)
        few = in_few_steps(guidance)
        if few is not None and facts is not None and facts.few_steps is not None:
            guidance, steps = few, few_steps_of(facts.few_steps.parent)
        guidance = replace(guidance, resolution=resolution or _own_resolution(guidance))
        own = None if body is None else body.in_working_box()
        plan = replace(guidance, body=None).plan or CAMERA_PLANS[texts.plan]
        with ordinary_tensors():
            maps = None if normal_maps is None else pictures_from(normal_maps, "normal_maps")
            if maps is not None and len(maps) != len(azimuths):
                raise InputError(f"normal_maps: expected one for each of {len(azimuths)} views, got {len(maps)}")
            if maps is not None:
                maps = resized(maps.permute(0, 3, 1, 2), guidance.resolution).permute(0, 2, 3, 1)
            progress = Progress(cls.hidden.unique_id, 2 * len(azimuths), "Drawing")
            finished = False
            try:
                start = start_of_sentence(texts.prompt, plan, body=own, tone=skin_of(skin, guidance, seed), seed=seed)
                seen = start.pictures(part, azimuths, guidance.resolution)
                progress.update(len(azimuths))

                def work(ready: list[HostDenoiser]) -> Tensor:
                    return _drawn(ready[0], seen, maps, sides, part, seed, (level, steps), progress)

                drawn = with_denoisers([guidance], min(len(sides), MOST_AT_ONCE), seed, work)
                finished = True
            finally:
                progress.close(finished)
            mask = seen.covered[..., 0] if kind == "color" else mask_of(drawn)
            return io.NodeOutput(*(each.to(rest_device()) for each in (drawn, mask, seen.entry("color"))))


def _own_resolution(guidance: GuidancePayload) -> int:
    """Pixels a side where the node names none: the guidance's, if it was given one, else what the model draws over a
    start; depth maps, which no ControlNet has learnt, as from words."""
    facts = model_facts(guidance.model)
    depth = guidance.prompts.prompts.modality == "depth"
    if facts is None or depth or guidance.resolution != facts.resolution:
        return guidance.resolution
    return facts.resolution_over_start or guidance.resolution


def _drawn(
    denoiser: HostDenoiser,
    seen: StartPictures,
    maps: Tensor | None,
    sides: Any,
    part: Any,
    seed: int,
    pace: tuple[float, int],
    progress: Progress,
) -> Tensor:
    """Pictures [B, H, W, 3] of all views; view i has the noise of item i of the host's batch. pace: level of the entry,
    and steps of a whole walk."""
    level, steps = pace
    payload = denoiser.payload
    texts = [payload.prompts.prompts.text(part, side) for side in sides]
    kind = payload.prompts.prompts.modality
    hints = seen.control(kind, maps)
    noise = comfy.sample.prepare_noise(torch.zeros(len(texts), *latent_size(payload)), seed)
    pictures = []
    for first in range(0, len(texts), MOST_AT_ONCE):
        chosen = slice(first, first + MOST_AT_ONCE)
        shown = None if hints is None else hints[chosen]
        condition = denoiser.condition(texts[chosen], guidance_scale=payload.cfg, control=shown)
        clean = walk_levels(
            denoiser,
            condition,
            noise[chosen],
            steps=steps,
            sampler="ddim" if payload.in_few_steps else "dpm",
            entry=denoiser.encode_images(seen.entry(kind)[chosen]),
            left=max(1, round(level * steps)),
        )
        drawn = denoiser.decode(clean)
        pictures.append(drawn if shown is None else denoiser.sharpened(drawn, shown))
        progress.update(len(texts) + min(len(texts), first + MOST_AT_ONCE))
    return torch.cat(pictures).clamp(0, 1)
