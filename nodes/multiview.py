"""Painting any mesh by sampling all its views at once: they agree on the texture at every noise level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from comfy_api.v0_0_2 import io, ui
from torch import Tensor

from humannorm.body import Body as BodyValue
from humannorm.body import shape_of_words
from humannorm.cameras import TEXTURE_CAMERA_PLANS, wrap_degrees
from humannorm.checks import InputError
from humannorm.editing import changed_labels
from humannorm.export import ExportSettings
from humannorm.geometry.state import GeometryState, extract_mesh
from humannorm.guidance.synchronised import WALKS
from humannorm.mesh import Mesh
from humannorm.request import START_SETTINGS, figure_of_body, outfit_for
from humannorm.rings import body_rings, plain_rings
from humannorm.stages import asked_colors, paint_all_views, paint_any_mesh, textured_mesh, worn_fabric
from humannorm.texture.agreement import FusingSettings
from humannorm.texture.delighting import DelightSettings
from humannorm.texture.fields import UvColorField
from humannorm.texture.keeping import kept_colors
from humannorm.texture.multiview import (
    CONTROLS,
    MULTIVIEW_PRESETS,
    MultiviewPainting,
    MultiviewProgress,
    MultiviewSettings,
    multiview_preset,
    ring_cameras,
)
from humannorm.texture.state import PaintedPerson, TextureState

from .clothes import person_of
from .devices import moved, rest_device, work_device
from .host_denoiser import HostDenoiser, in_few_steps, ordinary_tensors, with_denoisers
from .host_mesh import from_host, to_host
from .long_work import Progress, forget, show_result, unfinished_file
from .payloads import GuidancePayload
from .schema import (
    CATEGORY,
    Body,
    Geometry,
    Guidance,
    Texture,
    advanced,
    mesh_input,
    override_input,
    schema,
    seed_input,
    skin_input,
    steps_input,
)
from .subjects import check_one_connected
from .texture import check_guide, skin_of
from .views import chosen_views, four_sides, pictures_from

__all__ = ["FRAMINGS", "HumanNormMultiviewPainter", "degrees", "painted_mesh"]

FRAMINGS = ["body", "plain"]
LAYOUTS = ["new", "own"]


class HumanNormMultiviewPainter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormMultiviewPainter",
            display_name="HumanNorm Multiview Painter",
            category=f"{CATEGORY}/texture",
            description="Paints any mesh from all sides at once with any model that has a ControlNet for normals or"
            " depth: the views are sampled together and agree on one texture at every step. Interrupt it and queue"
            " again: it goes on where it stopped.",
            essentials_category="3D",
            search_aliases=["texture mesh", "paint mesh", "multiview texture", "syncmvd"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            inputs=[
                Guidance.Input("guidance", tooltip="Guidance with prompts of kind image and the ControlNet."),
                mesh_input(
                    "own_mesh",
                    "Any mesh or its 3D file, +Y up and facing +Z. Connect this or a texture.",
                    optional=True,
                ),
                Texture.Input("texture", optional=True, tooltip="A painting, to be painted again from its colours."),
                io.Combo.Input(
                    "preset",
                    options=list(MULTIVIEW_PRESETS),
                    default="quick",
                    tooltip="quick: the bundled small model on a CPU. standard: SD1.5-class weights on a GPU.",
                ),
                steps_input("Noise levels of a whole walk."),
                io.Float.Input(
                    "level",
                    default=1.0,
                    min=0.05,
                    max=1.0,
                    step=0.05,
                    tooltip="Where the walk begins, as denoise: 1 is pure noise; less begins from the mesh's colours.",
                ),
                io.Combo.Input(
                    "framing",
                    options=FRAMINGS,
                    default="body",
                    tooltip="body: the whole person and close-ups of parts. plain: rings of views, for other things.",
                ),
                io.Int.Input("views", default=8, min=1, max=64, tooltip="Views of each ring, evenly around."),
                io.String.Input(
                    "elevations",
                    default="-20,0,30",
                    tooltip="Degrees of the plain rings, parted by commas; each is turned by half a step.",
                ),
                seed_input(),
                io.Int.Input(
                    "texture_size", default=1024, min=64, max=8192, step=64, tooltip="Texels a side of the texture."
                ),
                advanced(
                    io.Combo,
                    "layout",
                    options=LAYOUTS,
                    default="new",
                    tooltip="new: a fresh atlas. own: the mesh's own UVs, which must not overlap.",
                ),
                advanced(
                    io.Combo,
                    "control",
                    options=list(CONTROLS),
                    default="normal",
                    tooltip="What the guidance's ControlNet is shown. none: for bases without one; begin at a level"
                    " well below 1. openpose: the skeleton of the guidance's body.",
                ),
                advanced(
                    io.Combo,
                    "walk",
                    options=list(WALKS),
                    default="ddim",
                    tooltip="ddim: for any model. consistency: for few-step models (LCM) at cfg 1.",
                ),
                advanced(
                    io.Float,
                    "sharpness",
                    default=1.0,
                    min=0.0,
                    max=5.0,
                    step=0.1,
                    tooltip="How much a view that looks straight at a place counts more than one that looks askance.",
                ),
                io.Image.Input(
                    "finished",
                    optional=True,
                    tooltip="Finished pictures of some views: they stay as they are and are projected onto the mesh.",
                ),
                io.String.Input(
                    "finished_views",
                    default="front",
                    optional=True,
                    tooltip="Which views of the first ring they are: sides or degrees, parted by commas.",
                ),
                Geometry.Input(
                    "geometry",
                    optional=True,
                    tooltip="A sculpture, in place of a mesh: the clothes that it began in enter in the colours that"
                    " the words ask for, and hands and face that it holds in painted skin. Connect its body too.",
                ),
                Body.Input(
                    "start_body",
                    optional=True,
                    tooltip="The body that the sculpture began as; without it that of what is held, or of the words.",
                ),
                skin_input("what a sculpture holds of its body", "the words name"),
                override_input("faces", 2_000_000, "Most faces of the painted surface; 0: 400,000.", step=100),
                advanced(
                    io.Boolean,
                    "delight",
                    default=False,
                    tooltip="Estimate the light that the model paints along with the colours and divide it out, for"
                    " maps that are to be lit anew.",
                ),
                Texture.Input(
                    "kept",
                    optional=True,
                    tooltip="An earlier painting of the same person beside a sculpture: what that wore and this wears"
                    " keeps its colours, place by place, as skin and hair do.",
                ),
            ],
            outputs=[
                io.Mesh.Output("mesh", display_name="mesh", tooltip="With its texture, where it was and as large."),
                Texture.Output("painted", display_name="texture", tooltip="To go on with, to export or to save."),
                io.Image.Output("pictures", display_name="views", tooltip="The views that it was painted from."),
                io.Image.Output("picture", display_name="texture image", tooltip="The texture itself."),
            ],
        )

    @classmethod
    def execute(
        cls,
        guidance: GuidancePayload,
        preset: str,
        steps: int,
        level: float,
        framing: str,
        views: int,
        elevations: str,
        seed: int,
        texture_size: int,
        own_mesh: Any | None = None,
        texture: TextureState | None = None,
        layout: str = "new",
        control: str = "normal",
        walk: str = "ddim",
        sharpness: float = 1.0,
        finished: Tensor | None = None,
        finished_views: str = "front",
        geometry: GeometryState | None = None,
        start_body: BodyValue | None = None,
        skin: str = "any",
        faces: int = 0,
        delight: bool = False,
        kept: TextureState | None = None,
    ) -> io.NodeOutput:
        check_one_connected(own_mesh=own_mesh, texture=texture, geometry=geometry)
        check_guide(guidance, control=control != "none")
        check_layout(layout, geometry)
        few = in_few_steps(guidance) if preset == "quick" and not steps else None  # it knows one number of steps
        guidance = few or guidance
        if kept is not None and geometry is None:
            raise InputError("geometry: expected it to be connected beside kept, got none")
        settings = sharpened(multiview_settings(preset, guidance, steps, level), sharpness)
        settings = replace(
            settings,
            rings=body_rings(*[views] * 4) if framing == "body" else plain_rings(views, degrees(elevations)),
            texture_size=texture_size,
            control=control,  # type: ignore[arg-type]
            delight=DelightSettings() if delight else None,
            walk=replace(settings.walk, walk=walk),  # type: ignore[arg-type]
        )
        export = ExportSettings(faces=faces or ExportSettings().faces, texture_size=texture_size)
        with ordinary_tensors():
            given = {} if finished is None else given_views(settings, finished, finished_views)
            if geometry is not None:
                start: Any = (geometry, kept)
                if kept is not None and skin == "any":
                    tone = person_of(kept, "kept").skin
                else:
                    tone = skin_of(skin, guidance, seed)
                work = _human_work(geometry, guidance, settings, export, preset, start_body, tone, given, kept)
            else:
                mesh = painted_mesh(texture) if texture is not None else from_host(own_mesh, "own_mesh")
                start = mesh.to(work_device())
                work = _mesh_work(start, guidance, settings, export.faces, layout == "own", given)
            painting = _painted(cls.hidden, start, guidance, settings, seed, work)
            color = four_sides(painting.state.mesh, guidance.plan, painting.state.field).color
            assert color is not None
            sides = color.to(rest_device())
            show_result(sides)
            return io.NodeOutput(
                to_host(painting.mesh),
                moved(painting.state, rest_device()),
                painting.pictures.to(rest_device()),
                painting.texture[None].to(rest_device()),
                ui=ui.PreviewImage(sides, cls=cls),
            )


Work = Callable[..., MultiviewPainting]
"""Called with the denoiser and the keywords `seed`, `callback` and `checkpoint`."""


def _mesh_work(
    mesh: Mesh,
    guidance: GuidancePayload,
    settings: MultiviewSettings,
    faces: int,
    own_layout: bool,
    given: dict[int, Tensor],
) -> Work:
    """Painting any mesh."""
    texts = guidance.prompts.prompts

    def work(denoiser: HostDenoiser, **run: Any) -> MultiviewPainting:
        return paint_any_mesh(
            mesh,
            texts.prompt,
            settings,
            denoiser,
            negative=texts.negative,
            faces=faces,
            own_layout=own_layout,
            from_colors=settings.walk.level < 1,
            given=given,
            **run,
        )

    return work


def _human_work(
    geometry: GeometryState,
    guidance: GuidancePayload,
    settings: MultiviewSettings,
    export: ExportSettings,
    preset: str,
    body: BodyValue | None,
    skin: str,
    given: dict[int, Tensor],
    earlier: TextureState | None,
) -> Work:
    """Painting a sculpture as `humannorm generate` does. Without a body its shape is that of what is held, or of the
    words. earlier: a painting that keeps its colours where the person is as it was."""
    state, texts = moved(geometry, work_device()), guidance.prompts.prompts
    held = None if state.hold is None else state.hold.shape
    shape = body.shape if body is not None else held or shape_of_words(texts.prompt)
    keeping = START_SETTINGS[preset]
    outfit = outfit_for(texts.prompt, shape, keeping)
    fabric = None if body is None else worn_fabric(keeping, figure_of_body(body).body, outfit)
    kept = None
    if earlier is not None:
        before = person_of(earlier, "kept")
        changes = changed_labels(outfit_for(before.words, before.shape, keeping), outfit)
        kept = kept_colors(moved(earlier, work_device()), changes)
    person = None if body is None else PaintedPerson(texts.prompt, skin, shape, body.pose)

    def work(denoiser: HostDenoiser, **run: Any) -> MultiviewPainting:
        return paint_all_views(
            extract_mesh(state).mesh,
            texts.prompt,
            settings,
            export,
            denoiser,
            negative=texts.negative,
            hold=state.hold,
            skin=skin,
            labelled=state.labelled,
            palette=asked_colors(outfit, shape, skin),
            fabric=fabric,
            materials=outfit.materials(),
            kept=kept,
            person=person,
            given=given,
            **run,
        )

    return work


def _painted(
    hidden: Any, start: Any, guidance: GuidancePayload, settings: MultiviewSettings, seed: int, work: Work
) -> MultiviewPainting:
    """The painting, begun or gone on with; inside `ordinary_tensors`. start: what it depends on beside the graph."""
    unfinished = unfinished_file("multiview", hidden.unique_id, hidden.prompt, start)
    progress = Progress(hidden.unique_id, settings.walk.steps, "Painting")

    def tell(now: MultiviewProgress) -> None:
        progress.total = now.steps  # a walk that finds no colours to enter from is longer
        progress.update(now.step, now.picture, now.seconds_left)

    finished = False
    try:
        painting = with_denoisers(
            [guidance],
            settings.walk.batch,
            seed,
            lambda denoisers: work(denoisers[0], seed=seed, callback=tell, checkpoint=unfinished),
        )
        finished = True
    finally:
        progress.close(finished)
    forget(unfinished)
    return painting


def multiview_settings(preset: str, guidance: GuidancePayload, steps: int, level: float) -> MultiviewSettings:
    """A preset with the cameras and texts that the guide's model and prompts need. steps: of a walk from pure noise."""
    texts, settings = guidance.prompts.prompts, multiview_preset(preset, few_steps=guidance.in_few_steps)
    whole = steps or settings.walk.from_noise().steps
    return replace(
        settings,
        walk=replace(settings.walk, steps=max(1, round(whole * level)), level=level),
        plan=guidance.plan or TEXTURE_CAMERA_PLANS[texts.plan],
        text_rule=texts.rule,
        guidance_scale=guidance.cfg,
    )


def check_layout(layout: str, geometry: GeometryState | None) -> None:
    if geometry is not None and layout == "own":
        raise InputError("layout: expected new beside geometry, which has no texture coordinates, got own")


def sharpened(settings: MultiviewSettings, sharpness: float) -> MultiviewSettings:
    """How much more a view counts that looks straight at a place, times `sharpness`."""
    low, high = FusingSettings().power
    return replace(
        settings,
        fusing=replace(settings.fusing, power=(low * sharpness, high * sharpness)),
        final_power=settings.final_power * sharpness,
    )


def painted_mesh(state: TextureState) -> Mesh:
    """A painting's surface in the user's frame, with its colours."""
    if isinstance(state.field, UvColorField):
        return textured_mesh(state)
    colors = state.field.at(state.mesh.vertices).clamp(0, 1)
    return state.mesh.replace(vertices=state.placement.to_user(state.mesh.vertices), colors=colors)


def degrees(text: str) -> tuple[float, ...]:
    """'-20,0,30' as numbers."""
    try:
        found = tuple(float(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise InputError(f"elevations: expected degrees parted by commas, got {text!r}") from None
    if not found or not all(abs(value) <= 89 for value in found):
        raise InputError(f"elevations: expected degrees from -89 to 89, got {text!r}")
    return found


def given_views(settings: MultiviewSettings, finished: Tensor, sides: str) -> dict[int, Tensor]:
    """The pictures by the number of the view of the first ring that is nearest to each side."""
    pictures, azimuths = pictures_from(finished, "finished"), chosen_views(sides).azimuths
    if len(pictures) != len(azimuths):
        raise InputError(
            f"finished_views: expected a side for each of the {len(pictures)} finished pictures, got {len(azimuths)}"
        )
    ring = ring_cameras(settings).azimuth[: settings.rings[0].views].tolist()
    found = {}
    for picture, azimuth in zip(pictures, azimuths, strict=True):
        away = [abs(wrap_degrees(view - azimuth)) for view in ring]
        nearest = min(range(len(ring)), key=away.__getitem__)
        if away[nearest] > 0.5:
            raise InputError(
                f"finished_views: expected views of the first ring ({', '.join(f'{view:g}' for view in ring)} degrees),"
                f" got {azimuth:g}"
            )
        found[nearest] = picture.to(work_device())
    return found
