"""A network with its texts, ready to guide an optimiser; and further ControlNets for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.v0_0_2 import io

from humannorm.body import Body as BodyValue
from humannorm.checks import InputError
from humannorm.controls import CONTROL_KINDS

from .host_denoiser import check_fit, check_size, check_vae, native_resolution, ordinary_tensors
from .long_work import say
from .payloads import GuidancePayload, PromptSet, ShownControl, wrong_card
from .scales import distilling_scale, told
from .schema import CATEGORY, Body, Guidance, Prompts, override_input, schema, vae_input

__all__ = ["HumanNormAddControl", "HumanNormGuidance"]


class HumanNormGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormGuidance",
            display_name="HumanNorm Guidance",
            category=f"{CATEGORY}/guidance",
            description="A diffusion model with its prompts, to guide the sculpture or the painting. LoRAs, patches and"
            " adapters on the MODEL act on the gradient. Any base that draws pictures may stand in its place: SD1.x,"
            " SD2.x, SDXL, SD3, Flux, Qwen-Image, Lumina and their kin.",
            search_aliases=["sds", "score distillation"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Model.Input("model", tooltip="The model: normal, depth or image, as the prompts' kind says."),
                Prompts.Input("prompts", tooltip="From HumanNorm Prompts, of the kind that the model draws."),
                vae_input(),
                io.Float.Input(
                    "cfg",
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=0.5,
                    tooltip="Classifier-free guidance of the distillation. 0: what suits the model, shown on the node:"
                    " 6 and 3 (texture) for the bundled one, 50 and 7.5 for the published weights, 1 for Flux.",
                ),
                io.ControlNet.Input(
                    "control_net", optional=True, tooltip="The normal ControlNet, which the texture stages need."
                ),
                io.Float.Input(
                    "control_strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How strictly the pictures follow the normals of the surface.",
                ),
                override_input(
                    "resolution", 2048, "Pixels a side that the network sees; 0 is what the model was made for."
                ),
                Body.Input(
                    "body",
                    optional=True,
                    tooltip="A posed body: the cameras of head, upper and lower body look where it has them, and a pose"
                    " ControlNet is shown its skeleton.",
                ),
            ],
            outputs=[Guidance.Output("guidance", display_name="guidance", tooltip="For the optimisers.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        prompts: PromptSet,
        vae: Any,
        cfg: float,
        control_net: Any | None = None,
        control_strength: float = 1.0,
        resolution: int = 0,
        body: BodyValue | None = None,
    ) -> io.NodeOutput:
        check_fit(model, prompts.width, "prompts")
        check_vae(model, vae)
        modality = prompts.prompts.modality
        scale = cfg or distilling_scale(model, modality)
        check_size("resolution", resolution, model)
        size = resolution or native_resolution(model)
        say(cls.hidden.unique_id, "\n".join([told(model, scale, cfg), *wrong_card(model, modality)]))
        with ordinary_tensors():
            placed = None if body is None else body.in_working_box()
        control = control_net, control_strength
        payload = GuidancePayload(model, prompts, vae, scale, size, *control, placed, cfg_chosen=bool(cfg))
        return io.NodeOutput(payload)


class HumanNormAddControl(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormAddControl",
            display_name="HumanNorm Add Control",
            category=f"{CATEGORY}/guidance",
            description="A further ControlNet for a guidance, shown what it reads of the surface or of the body's"
            " skeleton in every view: pose, edges, depth, normals, labels. Put several one after another.",
            search_aliases=["openpose", "canny", "multi controlnet", "pose control"],
            inputs=[
                Guidance.Input("guidance", tooltip="From HumanNorm Guidance, or another of these."),
                io.ControlNet.Input("control_net", tooltip="The ControlNet, of the model's own family."),
                io.Combo.Input(
                    "kind",
                    options=list(CONTROL_KINDS),
                    default="openpose",
                    tooltip="What it is shown. openpose: needs the guidance's body. normal_bae: red to the left, as"
                    " ControlNet 1.1 has it. normal_directx: green down. labels: skin, hair, clothes in flat colours.",
                ),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=10.0, step=0.05, tooltip="How strictly it is followed."
                ),
                io.Float.Input(
                    "start",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="From where on it is heard, on the way from pure noise (0) to the picture (1).",
                ),
                io.Float.Input("end", default=1.0, min=0.0, max=1.0, step=0.01, tooltip="Until where it is heard."),
            ],
            outputs=[Guidance.Output("more_guidance", display_name="guidance", tooltip="With the ControlNet.")],
        )

    @classmethod
    def execute(
        cls, guidance: GuidancePayload, control_net: Any, kind: str, strength: float, start: float, end: float
    ) -> io.NodeOutput:
        if start > end:
            raise InputError(f"end: expected at least the start, {start:g}, got {end:g}")
        if kind == "openpose" and guidance.body is None:
            raise InputError("guidance: expected one with a body connected, whose skeleton is shown, got one without")
        added = ShownControl(kind, control_net, strength, start, end)
        return io.NodeOutput(replace(guidance, controls=(*guidance.controls, added)))
