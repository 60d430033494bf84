"""Normal maps, depth maps and pictures as 2D outputs, by the host's own samplers and schedules."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.samplers
import latent_preview
import torch
from comfy_api.latest import io
from torch import Tensor

from humannorm.checks import InputError

from .host_denoiser import check_fit, native_resolution, with_control
from .payloads import GuidancePayload, PromptSet
from .schema import CATEGORY, Prompts, advanced, part_input, schema, seed_input, views_input
from .views import chosen_views, pictures_from

# Between the background's black and the darkest colour of a normal map, whose largest channel is at least 0.5.
MASK_THRESHOLD, MASK_SOFTNESS = 0.25, 0.1


def _sampling_inputs(steps: int, cfg: float) -> list[io.Input]:
    return [
        seed_input(),
        io.Int.Input("steps", default=steps, min=1, max=1000, tooltip="Denoising steps."),
        io.Float.Input(
            "cfg", default=cfg, min=0.0, max=100.0, step=0.1, tooltip="Classifier-free guidance: 1 switches it off."
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
    ]


def _size_input() -> io.Input:
    return advanced(
        io.Int,
        "size",
        default=0,
        min=0,
        max=2048,
        step=8,
        tooltip="Side of the square pictures in pixels; 0 is what the model was made for.",
    )


def _draw(
    payload: GuidancePayload,
    texts: list[str],
    seed: int,
    steps: int,
    sampler_name: str,
    scheduler: str,
    normal_maps: Tensor | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Pictures [B, H, W, 3] and their LATENT, one for each text; view i has the noise of item i of the host's batch."""
    downscale = payload.vae.spacial_compression_encode()
    side = payload.resolution // downscale
    positive = payload.prompts.conditioning(texts)
    conds = with_control(payload, positive, payload.prompts.negative, normal_maps, 1.0)
    model = payload.model
    latent = torch.zeros(len(texts), model.get_model_object("latent_format").latent_channels, side, side)
    latent = comfy.sample.fix_empty_latent_channels(model, latent)
    samples = comfy.sample.sample(
        model,
        comfy.sample.prepare_noise(latent, seed),
        steps,
        payload.cfg,
        sampler_name,
        scheduler,
        conds["positive"],
        conds["negative"],
        latent,
        callback=latent_preview.prepare_callback(model, steps),
        seed=seed,
    )
    return payload.vae.decode(samples), {"samples": samples}


def _plain_samplers(kind: str, node_id: str, name: str, what: str, alias: str) -> io.Schema:
    return schema(
        node_id=node_id,
        display_name=name,
        category=f"{CATEGORY}/sampling",
        description=f"Draws {what} of the person from each side as pictures, for looking at and for image nodes.",
        search_aliases=[alias, f"{kind} diffusion"],
        inputs=[
            io.Model.Input("model", tooltip=f"A model that draws {what}; LoRAs and patches before it act."),
            Prompts.Input("prompts", tooltip=f"From HumanNorm Prompts of kind {kind}."),
            io.Vae.Input("vae", tooltip="Autoencoder that belongs to the model."),
            views_input(),
            part_input(),
            *_sampling_inputs(steps=20, cfg=5.0),
            _size_input(),
        ],
        outputs=[
            io.Image.Output("images", display_name="images", tooltip=f"One {what[:-1]} for each view."),
            io.Mask.Output("mask", display_name="mask", tooltip="Where the person is: all that is not black."),
            io.Latent.Output("latent", display_name="latent", tooltip="The latents of the pictures."),
        ],
    )


def _run_plain(
    kind: str,
    model: Any,
    prompts: PromptSet,
    vae: Any,
    views: str,
    part: str,
    seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    size: int,
) -> io.NodeOutput:
    if prompts.prompts.modality != kind:
        raise InputError(f"prompts: expected prompts of kind {kind}, got kind {prompts.prompts.modality}")
    check_fit(model, prompts.width, "prompts")
    payload = GuidancePayload(model, prompts, vae, cfg, size or native_resolution(model, vae))
    texts = [prompts.prompts.text(part, view) for view in chosen_views(views).sides]  # type: ignore[arg-type]
    images, latent = _draw(payload, texts, seed, steps, sampler_name, scheduler)
    brightest = images[..., :3].amax(-1)
    mask = ((brightest - (MASK_THRESHOLD - MASK_SOFTNESS)) / (2 * MASK_SOFTNESS)).clamp(0, 1)
    return io.NodeOutput(images, mask, latent)


class HumanNormNormalSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return _plain_samplers(
            "normal", "HumanNormNormalSampler", "HumanNorm Normal Sampler", "normal maps", "normal map generator"
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        prompts: PromptSet,
        vae: Any,
        views: str,
        part: str,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        size: int = 0,
    ) -> io.NodeOutput:
        return _run_plain("normal", model, prompts, vae, views, part, seed, steps, cfg, sampler_name, scheduler, size)


class HumanNormDepthSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return _plain_samplers(
            "depth", "HumanNormDepthSampler", "HumanNorm Depth Sampler", "depth maps", "depth map generator"
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        prompts: PromptSet,
        vae: Any,
        views: str,
        part: str,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        size: int = 0,
    ) -> io.NodeOutput:
        return _run_plain("depth", model, prompts, vae, views, part, seed, steps, cfg, sampler_name, scheduler, size)


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
            inputs=[
                io.Model.Input("model", tooltip="A model that draws pictures; LoRAs and patches before it act."),
                io.ControlNet.Input("control_net", tooltip="The normal ControlNet that belongs to the model."),
                Prompts.Input("prompts", tooltip="From HumanNorm Prompts of kind image."),
                io.Vae.Input("vae", tooltip="Autoencoder that belongs to the model."),
                io.Image.Input(
                    "normal_maps",
                    tooltip="Camera-space normal maps on black: x right is red, y up is green, toward the viewer blue.",
                ),
                views_input(),
                part_input(),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=10.0, step=0.05, tooltip="How strictly to follow the normals."
                ),
                *_sampling_inputs(steps=20, cfg=7.5),
                _size_input(),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="One picture for each normal map."),
                io.Latent.Output("latent", display_name="latent", tooltip="The latents of the pictures."),
            ],
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
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        size: int = 0,
    ) -> io.NodeOutput:
        if prompts.prompts.modality != "color":
            raise InputError(f"prompts: expected prompts of kind image, got kind {prompts.prompts.modality}")
        check_fit(model, prompts.width, "prompts")
        maps = pictures_from(normal_maps, "normal_maps")
        sides = chosen_views(views).sides
        if len(sides) == 1:
            sides = sides * len(maps)
        if len(sides) != len(maps):
            raise InputError(
                f"views: expected one for each of the {len(maps)} normal maps (or one for all), got {views!r}"
            )
        payload = GuidancePayload(
            model, prompts, vae, cfg, size or native_resolution(model, vae), control_net, strength
        )
        texts = [prompts.prompts.text(part, view) for view in sides]  # type: ignore[arg-type]
        images, latent = _draw(payload, texts, seed, steps, sampler_name, scheduler, maps)
        return io.NodeOutput(images, latent)
