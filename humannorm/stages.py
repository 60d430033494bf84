"""The one assembly: the first state of a sculpture and of a painting, an edit's, and the human as a file.

Command, library and nodes begin, edit and export through these functions and nowhere else, so that one request gives
one first state, to the byte, whichever door it comes through.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body import Body, BodyShape, Outfit, outfit_of_words
from humannorm.body.painted_skin import mean_tone, skin_picture
from humannorm.checks import InputError
from humannorm.distance.signed_distance import SignedDistance
from humannorm.export import BakedMesh, ExportSettings, unwrapped, write_glb
from humannorm.export.baking import colors_at, locate
from humannorm.geometry import settings as geometry_settings
from humannorm.geometry import state as geometry_state
from humannorm.geometry.dressing import dressed, kept_of_start
from humannorm.geometry.fitting import FitReport, FitSettings
from humannorm.geometry.holding import Hold, hold_all_but, hold_all_but_labels
from humannorm.geometry.multiview import NormalSculptSettings, sculpt_synchronised
from humannorm.geometry.outfits import LabelledSurface
from humannorm.geometry.sculpt import sculpt
from humannorm.geometry.settings import GeometrySettings
from humannorm.geometry.start import StartMesh, prepare_start, start_height
from humannorm.geometry.state import ExtractedMesh, GeometryState, extract_mesh
from humannorm.geometry.worn_fabric import FabricLook, WornFabric
from humannorm.guidance import Denoiser, StageGuides
from humannorm.labels import LABELS, LABELS_OF_PARTS, SKIN, label_number
from humannorm.mesh import Mesh
from humannorm.optimisation import Callback as OptimiserCallback
from humannorm.request import HumanJob, StartSettings
from humannorm.rigging import fit_body
from humannorm.texture import settings as texture_settings
from humannorm.texture import state as texture_state
from humannorm.texture.fields import UvColorField
from humannorm.texture.keeping import Kept, kept_colors
from humannorm.texture.multiview import (
    FabricAt,
    MultiviewPainting,
    MultiviewProgress,
    MultiviewSettings,
    paint_synchronised,
)
from humannorm.texture.settings import TextureSettings
from humannorm.texture.state import PaintedPerson, TextureState
from humannorm.texture.surface import SurfaceColors, painted_mesh, surface_colors, user_field
from humannorm.texture.templates import held_skin, with_painted_template
from humannorm.working_box import place

__all__ = [
    "PaintedSurface",
    "SculptureStart",
    "as_it_is",
    "asked_colors",
    "begin_painting",
    "begin_sculpture",
    "begin_sculpture_of",
    "body_in",
    "edit_painting",
    "edit_sculpture",
    "held_for_edit",
    "own_colors",
    "paint_all_views",
    "paint_any_mesh",
    "paint_views_of",
    "painted_surface",
    "place_start",
    "sculpt_on",
    "textured_mesh",
    "worn_fabric",
    "worth_baking",
    "write_sculpture",
]


HeldAt = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Of points [N, 3] of the working box: colours [N, 3], and how far they stay [N], 0..1."""
ROUGH_FIT = FitSettings(steps=20, pool=20_000)


@dataclass(frozen=True, eq=False)
class SculptureStart:
    """The first state of a sculpture, and how it came about."""

    state: GeometryState
    fit: FitReport
    surface: StartMesh  # that the field was fitted to, with all that the body wears


def place_start(mesh: Mesh, body: Body | None = None, device: torch.device | str = "cpu") -> StartMesh:
    """A start mesh, repaired and placed in the working box; `InputError` where it cannot be a start.

    body: that the mesh is the surface of, in the working box; its pose says how tall the mesh stands.
    """
    return prepare_start(Mesh(mesh.vertices, mesh.faces).to(device), start_height(body))


def begin_sculpture(
    start: StartMesh,
    settings: GeometrySettings,
    keeping: StartSettings,
    generator: torch.Generator,
    *,
    body: Body | None = None,
    outfit: Outfit | None = None,
) -> SculptureStart:
    """A field fitted to the start and to what its body wears, with what is held of both.

    start: undressed, as `place_start` gives it. body: of the start, in the working box; without one nothing is worn,
    and what is held is found by fitting a body. outfit: that the body wears; None: nothing.
    """
    surface = start if body is None or outfit is None else dressed(start, body, outfit)
    if surface.labelled is not None and not keeping.sculpted:
        settings = dataclasses.replace(settings, fit=ROUGH_FIT)  # nobody looks at the field before an edit
    state, fit = geometry_state.start_state(surface, settings, generator)
    hold = kept_of_start(
        start,
        surface,
        inside=lambda: body_in(start.mesh) if body is None else body,
        regions=keeping.held,
        keep_outfit=keeping.keeps_outfit,
    )
    return SculptureStart(dataclasses.replace(state, hold=hold), fit, surface)


def begin_sculpture_of(job: HumanJob, start: StartMesh, generator: torch.Generator) -> SculptureStart:
    """`begin_sculpture` as a job asks for it. start: as `place_start` gives it of the job's."""
    settings = job.settings
    return begin_sculpture(start, settings.geometry, settings.start, generator, body=job.body, outfit=job.outfit)


def as_it_is(state: GeometryState, job: HumanJob) -> bool:
    """Whether a sculpture is finished before its first step: a dressed start that the preset leaves as it is."""
    return state.untouched and not job.settings.start.sculpted


def sculpt_on(
    state: GeometryState,
    prompt: str,
    settings: GeometrySettings,
    views: NormalSculptSettings | None,
    guides: StageGuides,
    generator: torch.Generator,
    *,
    callback: OptimiserCallback | None = None,
    checkpoint: Path | None = None,
) -> tuple[GeometryState, Mapping[str, float]]:
    """The state at its last step, and the figures of sampled views: by sampling all views together as `views` says, or,
    without it, by distillation as `settings` says.

    prompt: as the network hears it. checkpoint: a file that is kept up to date. A state at its last step comes back as
    it is: a run leaves one that was stopped before it wrote its files.
    """
    if state.step == (settings.steps if views is None else views.steps):
        return state, {}
    if views is None:
        sculpture = sculpt(
            state,
            prompt,
            settings,
            normal=guides.normal,
            depth=guides.depth,
            generator=generator,
            callback=callback,
            checkpoint=checkpoint,
        )
        return sculpture, {}
    sampled = sculpt_synchronised(
        state, prompt, views, normal=guides.normal, generator=generator, callback=callback, checkpoint=checkpoint
    )
    return sampled.state, sampled.figures


def begin_painting(
    mesh: Mesh, settings: TextureSettings, seed: int, *, hold: Hold | None = None, skin: str = ""
) -> TextureState:
    """A fresh grey field on any mesh; what the sculpting held of a template body wears painted skin.

    skin: one of `SKIN_TONES`; empty: the networks paint what is held.
    """
    state = texture_state.start_state(mesh, settings, torch.Generator(mesh.device).manual_seed(seed))
    return with_painted_template(state, hold, skin) if skin else state


def paint_all_views(
    sculpted: Mesh,
    prompt: str,
    settings: MultiviewSettings,
    export: ExportSettings,
    guide: Denoiser,
    *,
    seed: int,
    negative: str = "",
    hold: Hold | None = None,
    skin: str = "",
    labelled: LabelledSurface | None = None,
    palette: Float[Tensor, "L 3"] | None = None,
    fabric: WornFabric | None = None,
    materials: Mapping[str, str] | None = None,
    kept: Kept | None = None,
    person: PaintedPerson | None = None,
    given: Mapping[int, Float[Tensor, "H W 3"]] | None = None,
    callback: Callable[[MultiviewProgress], bool | None] | None = None,
    checkpoint: Path | None = None,
) -> MultiviewPainting:
    """Paint a sculpture by sampling all its views together, on the very atlas that is exported.

    sculpted: in the working box. prompt: as the network hears it. hold, skin: as in `begin_painting`. labelled: what
    the sculpture grew from; with it and a palette (`asked_colors`) the walk enters from those colours. fabric: of
    what the start wears; its folds and strands are painted, and go into the normal map. materials: what its labels are
    of (`Outfit.materials`), for the exporter. kept: colours of an earlier painting that stay. person: whom the painting
    is of, for a later edit. given: finished pictures of views of `ring_cameras`. checkpoint: gone on with where it is
    there.
    """
    low = unwrapped(sculpted, export)
    is_skin = None if labelled is None else lambda points: labelled.labels_at(points) == SKIN
    held = held_skin(hold, skin, is_skin) if skin else None
    fabric_at: FabricAt | None = None if labelled is None or fabric is None else fabric.look_at
    if kept is not None and labelled is not None:
        held, fabric_at = _with_kept(held, kept, labelled), _but_on_kept(fabric_at, kept)
    painting = paint_synchronised(
        low,
        prompt,
        settings,
        guide,
        seed=seed,
        negative=negative,
        labels_at=None if labelled is None else labelled.labels_at,
        palette=None if labelled is None else palette,
        fabric=fabric_at,
        held=held,
        given=given,
        callback=callback,
        checkpoint=checkpoint,
        resume=True,
    )
    state = dataclasses.replace(painting.state, materials=dict(materials or {}), person=person)
    return dataclasses.replace(painting, state=state)


def _with_kept(held: HeldAt | None, kept: Kept, labelled: LabelledSurface) -> HeldAt:
    """What is held, and what an edit keeps."""

    def both(points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N 3"], Float[Tensor, " N"]]:
        colors, stays = kept(points, labelled.labels_at(points))
        if held is None:
            return colors, stays.to(colors)
        own, share = held(points)
        return torch.where(stays[:, None], colors, own), torch.where(stays, 1.0, share)

    return both


def _but_on_kept(fabric: FabricAt | None, kept: Kept) -> FabricAt | None:
    """Fabric whose fine part is not laid over kept colours, which have theirs."""
    if fabric is None:
        return None

    def look_at(points: Float[Tensor, "N 3"], labels: Tensor) -> FabricLook:
        look = fabric(points, labels)
        return dataclasses.replace(look, fine=torch.where(kept(points, labels)[1], 1.0, look.fine))

    return look_at


def paint_views_of(
    job: HumanJob,
    sculpted: GeometryState,
    guide: Denoiser,
    *,
    callback: Callable[[MultiviewProgress], bool | None] | None = None,
    checkpoint: Path | None = None,
) -> MultiviewPainting:
    """`paint_all_views` as a job asks for it, of its finished sculpture.

    A job whose preset distils is refused.
    """
    settings, body = job.settings, job.body
    if not isinstance(settings.texture, MultiviewSettings):
        raise InputError(f"job: expected one that samples its views together, got {job.request.preset}")
    return paint_all_views(
        extract_mesh(sculpted).mesh,
        job.network_prompt,
        settings.texture,
        settings.export,
        guide,
        seed=job.request.seed,
        hold=sculpted.hold,
        skin=job.skin,
        labelled=sculpted.labelled,
        palette=asked_colors(job.outfit, None if body is None else body.shape, job.skin),
        fabric=worn_fabric(settings.start, body, job.outfit),
        materials=job.outfit.materials(),
        kept=None if job.kept is None else kept_colors(texture_state.load_state(job.kept.file), job.kept.changed),
        person=None if body is None else PaintedPerson(job.network_prompt, job.skin, body.shape, body.pose),
        callback=callback,
        checkpoint=checkpoint,
    )


def asked_colors(outfit: Outfit, shape: BodyShape | None, skin: str) -> Float[Tensor, "L 3"] | None:
    """sRGB 0..1 by label (`labels.LABELS`) of what the outfit names in a colour, and of a body's skin in its tone.

    NaN where no colour is known; None where none is.
    """
    named = dict(outfit.colours())
    if shape is not None and skin:
        named["skin"] = tuple(mean_tone(skin_picture(shape, skin)).tolist())
    if not named:
        return None
    palette = torch.full((len(LABELS), 3), torch.nan)
    for label, color in named.items():
        palette[label_number(label)] = torch.tensor(color)
    return palette


def worn_fabric(keeping: StartSettings, body: Body | None, outfit: Outfit) -> WornFabric | None:
    """Of what a body wears, where the preset paints it; the body stands where the sculpture's start stood."""
    return WornFabric(body, outfit) if keeping.fabric and body is not None and outfit.pieces else None


def paint_any_mesh(
    mesh: Mesh,
    prompt: str,
    settings: MultiviewSettings,
    guide: Denoiser,
    *,
    seed: int,
    negative: str = "",
    faces: int = ExportSettings.faces,
    own_layout: bool = False,
    from_colors: bool = False,
    given: Mapping[int, Float[Tensor, "H W 3"]] | None = None,
    callback: Callable[[MultiviewProgress], bool | None] | None = None,
    checkpoint: Path | None = None,
) -> MultiviewPainting:
    """Paint any mesh, of a person or not, by sampling all its views together.

    mesh: in any frame, +Y up, +Z to the front. own_layout: on the texture coordinates that it brings, which must not
    overlap; else on a new atlas of at most `faces` faces. from_colors: the walk enters at `settings.walk.level` from
    the colours that the mesh has; else it begins at pure noise. given: finished pictures of views of `ring_cameras`.
    checkpoint: gone on with where it is there.
    """
    if own_layout and mesh.uvs is None:
        raise InputError("mesh: expected texture coordinates to paint in its own layout, got a mesh without")
    surface = mesh if own_layout else unwrapped(mesh, ExportSettings(faces, settings.texture_size))
    return paint_synchronised(
        surface,
        prompt,
        settings,
        guide,
        seed=seed,
        negative=negative,
        entry=own_colors(mesh) if from_colors else None,
        given=given,
        callback=callback,
        checkpoint=checkpoint,
        resume=True,
    )


def own_colors(mesh: Mesh) -> Callable[[Tensor], Tensor]:
    """The colours of a mesh that has some, at points on or near it in the working box."""
    if mesh.colors is None and (mesh.texture is None or mesh.uvs is None):
        raise InputError("mesh: expected a texture with its coordinates, or vertex colours, to begin from, got neither")
    placed, _ = place(mesh)
    distance = SignedDistance(placed.vertices, placed.faces, inside_out="flip")
    return lambda points: colors_at(placed, None, locate(distance, points)).clamp(0, 1)


def textured_mesh(state: TextureState) -> Mesh:
    """A painting that is a texture on the mesh's own coordinates, in the user's frame."""
    field = state.field
    assert isinstance(field, UvColorField)
    vertices = state.placement.to_user(state.mesh.vertices)
    return state.mesh.replace(vertices=vertices, texture=field.texture().detach())


def body_in(mesh: Mesh, stated: Body | None = None) -> Body:
    """The body inside of a figure in the working box: the stated one where the figure grew from it, refined."""
    return fit_body(mesh, stated).body


def held_for_edit(
    mesh: Mesh,
    regions: Sequence[str],
    *,
    body: Body | None = None,
    colors: Float[Tensor, "V 3"] | None = None,
    labelled: LabelledSurface | None = None,
) -> Hold | None:
    """All that an edit of these regions of the body must not touch; None where everything may change.

    mesh: in the working box. body: that the figure grew from. colors: of a painted mesh's vertices, sRGB 0..1.
    labelled: the dressed start that it grew from; clothes are then told by their labels, to their very hems.
    """
    if regions and labelled is not None and all(region in LABELS_OF_PARTS for region in regions):
        return hold_all_but_labels(mesh, labelled.labels_of(mesh), regions)
    return hold_all_but(mesh, body_in(mesh, body), regions, colors) if regions else None


def edit_sculpture(
    finished: GeometryState, hold: Hold | None, settings: GeometrySettings, strength: float = 0.5
) -> tuple[GeometryState, GeometrySettings]:
    """The first state of an edit of a finished sculpture, and the settings that it goes on with.

    strength: to which share of the noise schedule the changes begin.
    """
    if finished.untouched and finished.labelled is not None:  # its field was fitted roughly, for nobody's use
        start = finished.labelled
        surface = StartMesh(start.mesh, start.distance, (), start)
        fitted, _ = geometry_state.start_state(surface, settings, torch.Generator().manual_seed(0))
        finished = dataclasses.replace(fitted, hold=finished.hold)
    levels, resolution = finished.active_levels, finished.band.lattice.resolution
    return finished.edited(hold), geometry_settings.edit_settings(settings, levels, resolution, strength)


def edit_painting(
    finished: TextureState,
    hold: Hold | None,
    settings: TextureSettings,
    strength: float = 0.5,
    *,
    prompt: str = "",
    regions: Sequence[str] = (),
) -> tuple[TextureState, TextureSettings]:
    """The first state of an edit of a finished painting, and the settings that it goes on with; as `edit_sculpture`.

    prompt: the new words, which may say what the regions (without any: all) are of from now on.
    """
    parts = {**LABELS_OF_PARTS, "head": ("hair", "hat")}
    labels = {label for region in regions for label in parts.get(region, ())} if regions else set(LABELS)
    said = {label: of for label, of in outfit_of_words(prompt).materials().items() if label in labels}
    edited = finished.edited(hold)
    if edited.materials:
        edited = dataclasses.replace(edited, materials={**edited.materials, **said})
    return edited, texture_settings.edit_settings(settings, strength)


def write_sculpture(path: Path, state: GeometryState) -> ExtractedMesh:
    """The state's surface as a GLB, whole and unpainted, in the working box."""
    surface = extract_mesh(state)
    write_glb(path, BakedMesh(surface.mesh), overwrite=True)
    return surface


@dataclass(frozen=True, eq=False)
class PaintedSurface:
    """A painting as an exporter takes it."""

    mesh: Mesh  # in the user's frame, with the colours at its vertices
    field: Callable[[Tensor], Tensor]  # the colours in that frame
    colors: SurfaceColors  # of the surface in the working box


def painted_surface(state: TextureState) -> PaintedSurface:
    """The surface with its colours, filled in where none of the painting's cameras saw it."""
    colors = surface_colors(state)
    return PaintedSurface(painted_mesh(state, colors), user_field(state, colors), colors)


def worth_baking(settings: ExportSettings, mesh: Mesh, folds: bool = False) -> ExportSettings:
    """The settings without a normal map where no faces are taken away that it could give back, and there are no
    `folds` that only it can show."""
    if folds or mesh.num_faces > settings.faces:
        return settings
    return dataclasses.replace(settings, normal_map=False)
