"""Painting: a colour field on a frozen surface, its coarse optimiser (SDS) and its refiner (multi-step SDS)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io, ui
from torch import Tensor

from humannorm.cameras import TEXTURE_CAMERA_PLANS, target_cameras
from humannorm.checks import InputError
from humannorm.geometry.state import GeometryState, extract_mesh
from humannorm.mesh import Mesh, vertex_normals
from humannorm.texture.fields import HashColorSettings, UvColorSettings
from humannorm.texture.paint import PaintProgress, paint
from humannorm.texture.perceptual import FeatureDistance, VggFeatures
from humannorm.texture.settings import FINE_LOSSES, TextureSettings, coarse_part, fine_part, shortened
from humannorm.texture.settings import preset as settings_of
from humannorm.texture.state import TextureState, copy_field, load_state, start_state

from .devices import moved, rest_device, work_device
from .host_denoiser import ordinary_tensors, with_denoisers
from .host_mesh import from_host
from .long_work import Progress, forget_old, unfinished_file
from .payloads import GuidancePayload
from .schema import CATEGORY, Geometry, Guidance, Texture, advanced, preset_input, schema, seed_input
from .views import framed_cameras, rendered

VIEW_SIZE = 512  # pixels of the pictures that show the result
SHOWN = (0.0, 90.0, 180.0, -90.0)  # degrees
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
                io.Mesh.Input(
                    "own_mesh",
                    optional=True,
                    tooltip="Any mesh, +Y up and facing +Z; it is painted in a copy centred and of a body's height.",
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
    ) -> io.NodeOutput:
        if (geometry is None) == (own_mesh is None):
            raise InputError(
                "geometry, own_mesh: expected one of them to be connected, got " + ("both", "none")[geometry is None]
            )
        with ordinary_tensors():
            settings = settings_of(preset)
            if field == "hash":
                settings = replace(settings, field=HashColorSettings())
            if field == "uv":
                settings = replace(settings, field=UvColorSettings(uv_size))
            mesh = sculpted_mesh(geometry) if geometry is not None else from_host(own_mesh, "own_mesh")
            if colors_of is not None:
                settings = replace(settings, field=colors_of.field.settings)
            state = start_state(mesh.to(work_device()), settings, torch.Generator().manual_seed(seed % 2**63))
            if colors_of is not None:
                if isinstance(settings.field, UvColorSettings):
                    raise InputError(
                        "colors_of: expected colours in space (a hash field), got a texture of another mesh"
                    )
                state = replace(state, field=copy_field(moved(colors_of.field, work_device()), state.mesh))
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
                Texture.Input("texture", tooltip="From Texture Start, another optimiser or Load State."),
                Guidance.Input("guidance", tooltip="Guidance with prompts of kind image and the normal ControlNet."),
                preset_input(),
                _steps_input("coarse"),
                seed_input(),
                *_numbers_inputs(),
            ],
            outputs=_outputs(),
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
        settings = coarse_part(settings_of(preset))
        settings = shortened(settings, steps) if steps else settings
        settings = _with_numbers(_for_guide(settings, guidance), views_per_step, render_size, learning_rate)
        with ordinary_tensors():
            state = _run(cls.hidden, texture, guidance, settings, seed, None)
            return _shown(cls, state, guidance)


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
                Texture.Input("texture", tooltip="From the texture optimiser or Load State."),
                Guidance.Input("guidance", tooltip="Guidance with prompts of kind image and the normal ControlNet."),
                preset_input(),
                _steps_input("fine"),
                seed_input(),
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
                *_numbers_inputs(),
            ],
            outputs=_outputs(),
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
        settings = fine_part(settings_of(preset))
        settings = shortened(settings, steps) if steps else settings
        settings = replace(settings, fine_loss=loss, perceptual_weight=perceptual_weight)  # type: ignore[arg-type]
        if target_views:
            settings = replace(settings, fine_views=target_views)
        settings = _with_numbers(_for_guide(settings, guidance), views_per_step, render_size, learning_rate)
        with ordinary_tensors():
            features = VggFeatures.load(_vgg_file(vgg_weights)).to(work_device()) if vgg_weights else None
            state = _run(cls.hidden, texture, guidance, settings, seed, features)
            return _shown(cls, state, guidance)


def sculpted_mesh(state: GeometryState) -> Mesh:
    """The surface of a geometry with smooth normals."""
    surface = extract_mesh(state).mesh
    return surface.replace(normals=vertex_normals(surface.vertices, surface.faces))


def _run(
    hidden: Any,
    texture: TextureState,
    guidance: GuidancePayload,
    settings: TextureSettings,
    seed: int,
    features: VggFeatures | None,
) -> TextureState:
    _check_guide(guidance)
    generator = torch.Generator().manual_seed(seed % 2**63)
    stage = "coarse" if settings.coarse_steps else "fine"
    unfinished = unfinished_file(f"texture_{stage}", hidden.unique_id, hidden.prompt, texture)
    if unfinished.is_file():
        state = load_state(unfinished, generator, work_device())
    else:
        state = replace(moved(texture, work_device()), step=0)
        if stage == "fine" and state.targets is None:
            cameras = target_cameras(settings.plan, settings.fine_views, generator)
            state = replace(state, cameras=cameras.to(work_device()))
    progress = Progress(hidden.unique_id, settings.steps, "Painting")

    def tell(now: PaintProgress) -> None:
        progress.update(now.step, now.picture, now.seconds_left)

    def work(denoisers: list[Any]) -> TextureState:
        return paint(
            state,
            guidance.prompts.prompts.prompt,
            settings,
            guide=denoisers[0],
            perceptual=FeatureDistance(features or denoisers[0].vae.features),
            generator=generator,
            negative=guidance.prompts.prompts.negative,
            callback=tell,
            checkpoint=unfinished,
        )

    if state.step < settings.steps:
        state = with_denoisers([guidance], settings.views, seed, work)
    unfinished.unlink(missing_ok=True)
    forget_old(unfinished.parent)
    return state


def _shown(cls: Any, state: TextureState, guidance: GuidancePayload) -> io.NodeOutput:
    """The state, and pictures of it in the node and on its output."""
    cameras = framed_cameras(guidance.plan, "full", SHOWN, 0.0)
    views: Tensor | None = rendered(state.mesh, cameras, VIEW_SIZE, state.field).color
    assert views is not None
    views = views.to(rest_device())
    return io.NodeOutput(moved(state, rest_device()), views, ui=ui.PreviewImage(views, cls=cls))


def _check_guide(guidance: GuidancePayload) -> None:
    kind = guidance.prompts.prompts.modality
    if kind != "color":
        raise InputError(f"guidance: expected prompts of kind image, got kind {kind}")
    if guidance.control_net is None:
        raise InputError("guidance: expected one with the normal ControlNet connected, got one without")


def _for_guide(settings: TextureSettings, guidance: GuidancePayload) -> TextureSettings:
    """The settings with the cameras and texts that the guide's model and prompts ask for."""
    texts = guidance.prompts.prompts
    plan = guidance.plan or TEXTURE_CAMERA_PLANS[texts.plan]
    return replace(settings, plan=plan, text_rule=texts.rule, guidance_scale=guidance.cfg)


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


def _steps_input(stage: str) -> io.Input:
    return io.Int.Input(
        "steps",
        default=0,
        min=0,
        max=100_000,
        tooltip=f"{stage.capitalize()} steps; schedules are stretched with them. 0 takes the preset's.",
    )


def _numbers_inputs() -> list[io.Input]:
    return [
        advanced(io.Int, "views_per_step", default=0, min=0, max=64, tooltip="Cameras per step; 0: the preset's."),
        advanced(
            io.Int,
            "render_size",
            default=0,
            min=0,
            max=2048,
            step=8,
            tooltip="Pixels a side of the pictures that are judged; 0: the preset's.",
        ),
        advanced(
            io.Float,
            "learning_rate",
            default=1.0,
            min=0.01,
            max=100.0,
            step=0.05,
            tooltip="Factor on the preset's learning rates.",
        ),
    ]


def _outputs() -> list[io.Output]:
    return [
        Texture.Output("painted", display_name="texture", tooltip="To go on with, to export or to save."),
        io.Image.Output("views", display_name="views", tooltip="Pictures: front, left, back, right."),
    ]
