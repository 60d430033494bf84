"""Painting: a colour field on a frozen surface, its coarse optimiser (SDS) and its refiner (multi-step SDS)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.v0_0_2 import io, ui

from humannorm.body.painted_skin import tone_of_words
from humannorm.cameras import TEXTURE_CAMERA_PLANS, target_cameras
from humannorm.checks import InputError
from humannorm.geometry.state import GeometryState
from humannorm.stages import begin_painting
from humannorm.texture.carrying import carried
from humannorm.texture.fields import HashColorSettings, UvColorSettings
from humannorm.texture.paint import paint
from humannorm.texture.perceptual import FeatureDistance, VggFeatures
from humannorm.texture.settings import FINE_LOSSES, TextureSettings, coarse_only, fine_only
from humannorm.texture.settings import preset as settings_of
from humannorm.texture.state import TextureState, load_state

from .devices import moved, rest_device, work_device
from .host_denoiser import ordinary_tensors
from .host_mesh import from_host
from .long_work import forget, show_result
from .optimiser_run import HostRun, RunSpan, run_optimiser
from .payloads import GuidancePayload, kind_of
from .schema import (
    CATEGORY,
    Geometry,
    Guidance,
    Texture,
    factor_input,
    mesh_input,
    preset_input,
    rendering_inputs,
    schema,
    seed_input,
    skin_input,
    steps_input,
)
from .subjects import check_one_connected, sculpted_mesh
from .views import four_sides

__all__ = ["HumanNormTextureOptimizer", "HumanNormTextureRefiner", "HumanNormTextureStart", "for_guide", "run_painting"]

MODELS = "humannorm"  # folder in the host's models folder for files that are no diffusion models


class HumanNormTextureStart(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormTextureStart",
            display_name="HumanNorm Texture Start",
            category=f"{CATEGORY}/texture",
            description="A fresh grey colour field on a sculpted surface or on any mesh of yours.",
            search_aliases=["texture mesh", "paint mesh"],
            inputs=[
                Geometry.Input(
                    "geometry", optional=True, tooltip="From the geometry optimiser. Connect this or a mesh."
                ),
                mesh_input(
                    "own_mesh",
                    "Any mesh or its 3D file, +Y up and facing +Z; it is painted in a copy centred and of a body's"
                    " height.",
                    optional=True,
                ),
                preset_input(),
                io.Combo.Input(
                    "field",
                    options=["preset", "hash", "uv"],
                    default="preset",
                    tooltip="hash: the published hash grid in space. uv: the texture of the mesh's own UV layout.",
                ),
                io.Int.Input(
                    "uv_size", default=1024, min=64, max=8192, step=64, tooltip="Texels a side of the uv field."
                ),
                seed_input(),
                Texture.Input(
                    "colors_of",
                    optional=True,
                    tooltip="A painting whose colours to begin with: for a surface that was changed a little.",
                ),
                skin_input("hands and face that the sculpture holds of its start body", "connected guidance names"),
                Guidance.Input("guidance", optional=True, tooltip="Whose words name the skin: 'an African man'."),
            ],
            outputs=[Texture.Output("texture", display_name="texture", tooltip="For the texture optimiser.")],
        )

    @classmethod
    def execute(
        cls,
        preset: str,
        field: str,
        uv_size: int,
        seed: int,
        geometry: GeometryState | None = None,
        own_mesh: Any | None = None,
        colors_of: TextureState | None = None,
        skin: str = "any",
        guidance: GuidancePayload | None = None,
    ) -> io.NodeOutput:
        check_one_connected(geometry=geometry, own_mesh=own_mesh)
        with ordinary_tensors():
            settings = settings_of(preset)
            if field == "hash":
                settings = replace(settings, field=HashColorSettings())
            if field == "uv":
                settings = replace(settings, field=UvColorSettings(uv_size))
            mesh = sculpted_mesh(geometry) if geometry is not None else from_host(own_mesh, "own_mesh")
            mesh = mesh.to(work_device())
            if colors_of is not None:
                generator = torch.Generator().manual_seed(seed)
                state = carried(moved(colors_of, work_device()), mesh, settings, generator)
            else:
                hold = None if geometry is None else geometry.hold
                state = begin_painting(mesh, settings, seed, hold=hold, skin=skin_of(skin, guidance, seed))
            return io.NodeOutput(moved(state, rest_device()))


class HumanNormTextureOptimizer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormTextureOptimizer",
            display_name="HumanNorm Texture Optimizer",
            category=f"{CATEGORY}/texture",
            description="Coarse painting by score distillation of a model that follows the surface's normals. Interrupt"
            " it and queue again: it goes on where it stopped.",
            search_aliases=["paint", "sds texture", "coarse texture"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            inputs=[
                *_painter_inputs("From Texture Start, another optimiser or Load State.", "Coarse steps"),
                *_number_inputs(),
            ],
            outputs=_painter_outputs(),
        )

    @classmethod
    def execute(
        cls,
        texture: TextureState,
        guidance: GuidancePayload,
        preset: str,
        steps: int,
        seed: int,
        views_per_step: int = 0,
        render_size: int = 0,
        learning_rate: float = 1.0,
    ) -> io.NodeOutput:
        settings = coarse_only(settings_of(preset))
        settings = settings.with_steps(steps) if steps else settings
        settings = _with_numbers(for_guide(settings, guidance), views_per_step, render_size, learning_rate)
        with ordinary_tensors():
            return _painted(cls, texture, guidance, settings, seed)


class HumanNormTextureRefiner(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormTextureRefiner",
            display_name="HumanNorm Texture Refiner",
            category=f"{CATEGORY}/texture",
            description="Fine painting: every view is noised and denoised again in many steps (multi-step SDS), and the"
            " colours follow what comes out.",
            search_aliases=["multi-step sds", "fine texture", "texture details"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            inputs=[
                *_painter_inputs("From the texture optimiser or Load State.", "Fine steps"),
                io.Int.Input(
                    "target_views",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Views that get a target of their own; 0 takes the preset's.",
                ),
                io.Combo.Input(
                    "loss",
                    options=list(FINE_LOSSES),
                    default="published",
                    tooltip="published: pixels and perceptual distance. paper: latents, weighted as in equation 10.",
                ),
                io.Float.Input(
                    "perceptual_weight",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.05,
                    tooltip="Weight of the perceptual distance; 0 leaves it out.",
                ),
                io.String.Input(
                    "vgg_weights",
                    default="",
                    tooltip="File with torchvision's VGG16 weights in models/humannorm; empty: features of the VAE.",
                ),
                *_number_inputs(),
            ],
            outputs=_painter_outputs(),
        )

    @classmethod
    def execute(
        cls,
        texture: TextureState,
        guidance: GuidancePayload,
        preset: str,
        steps: int,
        seed: int,
        target_views: int,
        loss: str,
        perceptual_weight: float,
        vgg_weights: str,
        views_per_step: int = 0,
        render_size: int = 0,
        learning_rate: float = 1.0,
    ) -> io.NodeOutput:
        settings = fine_only(settings_of(preset))
        settings = settings.with_steps(steps) if steps else settings
        settings = replace(settings, fine_loss=loss, perceptual_weight=perceptual_weight)  # type: ignore[arg-type]
        if target_views:
            settings = replace(settings, fine_views=target_views)
        settings = _with_numbers(for_guide(settings, guidance), views_per_step, render_size, learning_rate)
        with ordinary_tensors():
            features = VggFeatures.load(_vgg_file(vgg_weights)).to(work_device()) if vgg_weights else None
            return _painted(cls, texture, guidance, settings, seed, features)


def _painted(
    cls: Any,
    texture: TextureState,
    guidance: GuidancePayload,
    settings: TextureSettings,
    seed: int,
    features: VggFeatures | None = None,
) -> io.NodeOutput:
    """The painting after the run, and pictures of it in the node and on its output; inside `ordinary_tensors`."""
    state = run_painting(cls.hidden, texture, guidance, settings, seed, features)
    views = four_sides(state.mesh, guidance.plan, state.field).color
    assert views is not None
    views = views.to(rest_device())
    show_result(views)
    return io.NodeOutput(moved(state, rest_device()), views, ui=ui.PreviewImage(views, cls=cls))


def run_painting(
    hidden: Any,
    texture: TextureState,
    guidance: GuidancePayload,
    settings: TextureSettings,
    seed: int,
    features: VggFeatures | None = None,
) -> TextureState:
    """The painting after the settings' coarse steps, fine steps or both, see `run_optimiser`."""
    check_guide(guidance)
    stage = "coarse" if settings.coarse_steps else "fine"

    def begin(state: TextureState, generator: torch.Generator) -> TextureState:
        state = replace(state, step=0)
        if stage == "fine" and state.targets is None:
            cameras = target_cameras(settings.plan, settings.fine_views, generator)
            state = replace(state, cameras=cameras.to(work_device()))
        return state

    def optimise(state: TextureState, run: HostRun) -> TextureState:
        (denoiser,) = run.denoisers
        return paint(
            state,
            guidance.prompts.prompts.prompt,
            settings,
            guide=denoiser,
            perceptual=FeatureDistance(features or denoiser.vae.features),
            generator=run.generator,
            negative=guidance.prompts.prompts.negative,
            callback=lambda now: run.tell(now.step, now.picture, now.seconds_left),
            checkpoint=run.checkpoint,
        )

    span = RunSpan(f"texture_{stage}", "Painting", 0, settings.steps, settings.views)
    state, unfinished = run_optimiser(
        hidden, span, texture, [guidance], seed, load=load_state, begin=begin, optimise=optimise
    )
    forget(unfinished)
    return state


def skin_of(choice: str, guidance: GuidancePayload | None, seed: int) -> str:
    """The tone, or "" for the model's own, behind the widget `skin`; "any" is what the words name, else by the seed."""
    words = "" if guidance is None else guidance.prompts.prompts.prompt
    return {"any": tone_of_words(words, seed), "model": ""}.get(choice, choice)


def check_guide(guidance: GuidancePayload, control: bool = True) -> None:
    """control: whether the ControlNet is needed."""
    kind = guidance.prompts.prompts.modality
    if kind != "color":
        raise InputError(f"guidance: expected prompts of kind image, got kind {kind_of(kind)}")
    if control and guidance.control_net is None:
        raise InputError("guidance: expected one with the normal ControlNet connected, got one without")


def for_guide(settings: TextureSettings, guidance: GuidancePayload) -> TextureSettings:
    """The settings with the cameras and texts that the guide's model and prompts need."""
    texts = guidance.prompts.prompts
    plan = guidance.plan or TEXTURE_CAMERA_PLANS[texts.plan]
    return replace(settings, plan=plan, text_plan=texts.plan, text_rule=texts.rule, guidance_scale=guidance.cfg)


def _with_numbers(settings: TextureSettings, views: int, render_size: int, rate: float) -> TextureSettings:
    return replace(
        settings,
        encoding_rate=settings.encoding_rate * rate,
        network_rate=settings.network_rate * rate,
        views=views or settings.views,
        render_size=render_size or settings.render_size,
    )


def _vgg_file(name: str) -> Path:
    folder = Path(folder_paths.models_dir) / MODELS
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise InputError(f"vgg_weights: expected a file in the models folder's {MODELS}, got {name!r}")
    return path


def _painter_inputs(origin: str, steps: str) -> list[io.Input]:
    """What both painters begin their inputs with."""
    return [
        Texture.Input("texture", tooltip=origin),
        Guidance.Input("guidance", tooltip="Guidance with prompts of kind image and the normal ControlNet."),
        preset_input(),
        steps_input(f"{steps}; schedules are stretched with them."),
        seed_input(),
    ]


def _number_inputs() -> list[io.Input]:
    """What both end with."""
    return [*rendering_inputs(), factor_input("learning_rate", "learning rates")]


def _painter_outputs() -> list[io.Output]:
    return [
        Texture.Output("painted", display_name="texture", tooltip="To go on with, to export or to save."),
        io.Image.Output("views", display_name="views", tooltip="Pictures: front, left, back, right."),
    ]
