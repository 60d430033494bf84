"""Text editing: a finished human goes on under other words, as a whole or in the named parts of the body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from comfy_api.v0_0_2 import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from humannorm.body import Body as BodyValue
from humannorm.checks import InputError
from humannorm.geometry import settings as geometry_settings
from humannorm.geometry.state import GeometryState
from humannorm.mesh import Mesh
from humannorm.stages import edit_painting, edit_sculpture, held_for_edit
from humannorm.texture import settings as texture_settings
from humannorm.texture.carrying import carried
from humannorm.texture.fields import ColorField
from humannorm.texture.state import TextureState

from . import geometry as sculpting
from . import texture as painting
from .devices import moved, rest_device, work_device
from .host_denoiser import ordinary_tensors
from .long_work import forget, show_result
from .payloads import GuidancePayload
from .schema import CATEGORY, Body, Geometry, Guidance, Texture, preset_input, schema, seed_input
from .subjects import sculpted_mesh
from .views import four_sides

__all__ = ["HumanNormEdit"]

REGIONS = ("head", "top", "bottom", "shoes", "hands")


class HumanNormEdit(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormEdit",
            display_name="HumanNorm Edit",
            category=f"{CATEGORY}/edit",
            description="Changes a finished human by another prompt: its surface, its colours, or both, and only the"
            " parts of the body that are switched on. All else stays as it was. Interrupt it and queue again: it goes"
            " on where it stopped. Clothes of a human that was dressed by its words change better by Change Clothes.",
            search_aliases=["text editing", "change clothes", "edit by text", "region"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            inputs=[
                Geometry.Input(
                    "geometry", optional=True, tooltip="A sculpture to change. Without it only the colours change."
                ),
                Texture.Input(
                    "texture", optional=True, tooltip="A painting to change. Without it only the surface changes."
                ),
                Guidance.Input(
                    "normal_guidance", optional=True, tooltip="The new words, of kind normal, for the sculpture."
                ),
                Guidance.Input("depth_guidance", optional=True, tooltip="The new words, of kind depth."),
                Guidance.Input(
                    "image_guidance",
                    optional=True,
                    tooltip="The new words, of kind image and with the normal ControlNet, for the painting.",
                ),
                Body.Input(
                    "start_body",
                    optional=True,
                    tooltip="The body that the human began as, in its pose: it tells where the parts are. Without it"
                    " the neutral adult's A-pose.",
                ),
                *(
                    io.Boolean.Input(
                        region,
                        default=region == "top",
                        tooltip=f"May the {region} change? With none of the parts on, everything may.",
                    )
                    for region in REGIONS
                ),
                io.Float.Input(
                    "strength",
                    default=0.5,
                    min=0.02,
                    max=1.0,
                    step=0.01,
                    tooltip="How much noise the changes begin from: 0.3 details, 0.5 garments, 0.8 almost anew.",
                ),
                preset_input(),
                io.Int.Input(
                    "sculpt_steps", default=0, min=0, max=100_000, tooltip="Steps on the surface; 0: the preset's."
                ),
                io.Int.Input(
                    "paint_steps", default=0, min=0, max=100_000, tooltip="Steps on the colours; 0: the preset's."
                ),
                seed_input(),
            ],
            outputs=[
                Geometry.Output("edited_geometry", display_name="geometry", tooltip="The changed sculpture."),
                Texture.Output("edited_texture", display_name="texture", tooltip="The changed painting."),
                io.Image.Output("before", display_name="before", tooltip="The original: front, left, back, right."),
                io.Image.Output("after", display_name="after", tooltip="The changed human from the same sides."),
            ],
        )

    @classmethod
    def execute(
        cls,
        strength: float,
        preset: str,
        sculpt_steps: int,
        paint_steps: int,
        seed: int,
        geometry: GeometryState | None = None,
        texture: TextureState | None = None,
        normal_guidance: GuidancePayload | None = None,
        depth_guidance: GuidancePayload | None = None,
        image_guidance: GuidancePayload | None = None,
        start_body: BodyValue | None = None,
        **regions: bool,
    ) -> io.NodeOutput:
        guides = {"normal": normal_guidance, "depth": depth_guidance, "image": image_guidance}
        _check_pairs(geometry, texture, guides)
        chosen = [region for region in REGIONS if regions[region]]
        with ordinary_tensors():
            old = _shown(geometry, texture)
            body = None if start_body is None else start_body.in_working_box()
            labelled = None if geometry is None else geometry.labelled
            hold = held_for_edit(old.mesh, chosen, body=body, colors=old.colors(), labelled=labelled)
            unfinished = None
            if geometry is not None and normal_guidance is not None:
                sculptors = {"normal": normal_guidance} | ({} if depth_guidance is None else {"depth": depth_guidance})
                start, schedule = edit_sculpture(
                    geometry, hold, _sculpting(preset, sculpt_steps, normal_guidance), strength
                )
                geometry, unfinished = sculpting.run_sculpting(cls.hidden, start, sculptors, schedule, 0, seed)
            if texture is not None and image_guidance is not None:
                begun, settings = moved(texture, work_device()), _painting(preset, paint_steps, image_guidance)
                if geometry is not None:
                    generator = torch.Generator().manual_seed(seed)
                    begun = carried(begun, sculpted_mesh(geometry).to(work_device()), settings, generator)
                words = image_guidance.prompts.prompts.prompt
                first, steps = edit_painting(begun, hold, settings, strength, prompt=words, regions=chosen)
                texture = painting.run_painting(cls.hidden, first, image_guidance, steps, seed, None)
            if unfinished is not None:
                forget(unfinished)
            new = _shown(geometry, texture)
            before, after = old.pictures(), new.pictures()
            show_result(after)
        nothing = ExecutionBlocker("HumanNorm Edit was given no such thing to change")
        return io.NodeOutput(
            nothing if geometry is None else moved(geometry, rest_device()),
            nothing if texture is None else moved(texture, rest_device()),
            before,
            after,
            ui=ui.PreviewImage(after, cls=cls),
        )


@dataclass(frozen=True, eq=False)
class _Shown:
    """What a person sees of a human: its colours, or its normals while it has none."""

    mesh: Mesh
    field: ColorField | None

    def colors(self) -> Tensor | None:
        """Of the vertices [V, 3], if there are any."""
        return None if self.field is None else self.field.at(self.mesh.vertices)

    def pictures(self) -> Tensor:
        """The four sides [4, H, W, 3]."""
        passes = four_sides(self.mesh, None, self.field)
        picture = passes.normal if self.field is None else passes.color
        assert picture is not None
        return picture.to(rest_device())


def _shown(geometry: GeometryState | None, texture: TextureState | None) -> _Shown:
    if texture is not None:
        return _Shown(texture.mesh, texture.field)
    assert geometry is not None
    return _Shown(sculpted_mesh(geometry), None)


def _check_pairs(
    geometry: GeometryState | None, texture: TextureState | None, guides: Mapping[str, GuidancePayload | None]
) -> None:
    """What is to change and the words for it come together."""
    if geometry is None and texture is None:
        raise InputError("geometry, texture: expected at least one of them to be connected, got none")
    for name, state, kind in (("geometry", geometry, "normal"), ("texture", texture, "image")):
        if (state is None) != (guides[kind] is None):
            given, missing = (name, f"{kind}_guidance") if guides[kind] is None else (f"{kind}_guidance", name)
            raise InputError(f"{missing}: expected it to be connected beside {given}, got none")
    if geometry is None and guides["depth"] is not None:
        raise InputError("geometry: expected it to be connected beside depth_guidance, got none")


def _sculpting(preset: str, steps: int, guide: GuidancePayload) -> geometry_settings.GeometrySettings:
    settings = geometry_settings.preset(preset)
    return sculpting.for_guide(settings.with_steps(steps) if steps else settings, guide)


def _painting(preset: str, steps: int, guide: GuidancePayload) -> texture_settings.TextureSettings:
    settings = texture_settings.preset(preset)
    return painting.for_guide(settings.with_steps(steps) if steps else settings, guide)
