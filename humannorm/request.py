"""The request: one human in plain words and numbers, and the job that these stand for.

A `HumanRequest` is made from words alone; `job_of` reads them, loads the start body and chooses the settings. What a
preset does about a model that is too weak to draw hands, faces or clothes is said here once, in `StartSettings`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.checks import InputError, check_choice, check_range
from humannorm.processor import PRECISIONS

if TYPE_CHECKING:
    import torch

    from humannorm.body import Body, BodyShape, Outfit
    from humannorm.cameras import CameraPlan
    from humannorm.export import ExportSettings
    from humannorm.geometry.multiview import NormalSculptSettings
    from humannorm.geometry.settings import GeometrySettings
    from humannorm.mesh import Mesh
    from humannorm.texture.multiview import MultiviewSettings
    from humannorm.texture.settings import TextureSettings

__all__ = [
    "HEIGHTS_M",
    "LIMITS",
    "METHODS",
    "PRESETS",
    "START_SETTINGS",
    "HumanJob",
    "HumanRequest",
    "HumanSettings",
    "KeptPainting",
    "StartFigure",
    "StartSettings",
    "figure_of_body",
    "following",
    "job_of",
    "network_prompt",
    "outfit_for",
    "parse_sliders",
    "pick_device",
    "posed_prompt",
    "preset",
    "sampled_prompt",
    "settings_of",
    "start_figure",
    "told_of",
]

PRESETS = ("quick", "standard", "paper")
METHODS = ("auto", "views", "distil")
"""How a surface is sculpted: by sampling all views together, or by distillation; auto: as the preset does."""
AUTO, NONE, FROM_MODEL = "auto", "none", "model"
LIMITS: Mapping[str, tuple[int, int]] = {
    "sculpt_steps": (1, 1_000_000),
    "paint_steps": (1, 1_000_000),
    "faces": (4, 10_000_000),
    "texture_size": (16, 8192),
}
"""Lowest and highest value of the numbers that a request may put in place of the preset's."""
HEIGHTS_M = (0.01, 100.0)  # lowest and highest of an exported human, metres
NEUTRAL = ("neutral", "body")
"""Words for the neutral adult that comes along."""
BVH = ".bvh"
RECORD = "run.json"
"""Of a run: what was asked for, and what came out."""


@dataclass(frozen=True)
class StartSettings:
    """What the sculpture begins with and keeps. All choices are ours; the paper starts from a bare neutral body."""

    dressed: bool  # the body begins in the hair and clothes that the prompt names
    held: tuple[str, ...] = ()  # regions of the body that stay as the start has them, see `hold_regions`
    keeps_outfit: bool = False  # hair and clothes that the body begins in stay, whatever the guidance wants
    completes: bool = False  # plain clothes and hair for what the prompt does not name
    fabric: bool = False  # folds of cloth and strands of hair are the start's, where networks draw none so fine
    sculpted: bool = True  # else a dressed start goes to the painter as it is


START_SETTINGS: Mapping[str, StartSettings] = {
    # The bundled model draws neither fingers nor faces of full bodies, and its steps blur hems, hair and shoes.
    "quick": StartSettings(
        dressed=True, held=("hands", "face"), keeps_outfit=True, completes=True, fabric=True, sculpted=False
    ),
    "standard": StartSettings(dressed=True),
    "paper": StartSettings(dressed=False),
}


SAMPLING = frozenset({"standard"})
"""Presets that sculpt by sampling all views together. The bundled model's normals make a dressed start no better."""

# A dressed start has 300,000 faces. Reduced to these its normals are 35 dB from what they were (37 dB of the head), and
# unwrapping takes 11 s of a core in place of 17.
EXPORTED_FACES: Mapping[str, int] = {"quick": 120_000, "standard": 400_000, "paper": 400_000}


@dataclass(frozen=True)
class HumanSettings:
    """The settings of all stages."""

    geometry: GeometrySettings  # the distance field, and how it is distilled into
    texture: TextureSettings | MultiviewSettings  # distillation, or all views sampled together
    export: ExportSettings
    start: StartSettings
    perceptual: str = "vae"  # see `make_perceptual`; the only engine that needs no file
    views: NormalSculptSettings | None = None  # to sculpt by sampling all views together; None: by distillation


def preset(name: str, models: str | Path = "bundled", method: str = AUTO, *, few_steps: bool = True) -> HumanSettings:
    """The settings of a preset. A model's own cameras, if its card names any, are taken for all optimisers.

    method: of the sculpting, one of `METHODS`. few_steps: paint by the model's weights for few steps, if it has some.
    """
    from humannorm.export import ExportSettings
    from humannorm.geometry.multiview import NORMAL_PRESETS
    from humannorm.geometry.settings import preset as geometry_preset
    from humannorm.models import camera_plan, has_few_steps
    from humannorm.texture.multiview import MULTIVIEW_PRESETS, MultiviewSettings, multiview_preset
    from humannorm.texture.settings import preset as texture_preset

    check_choice("preset", name, PRESETS)
    check_choice("method", method, METHODS)
    samples = method == "views" or (method == AUTO and name in SAMPLING)
    views = NORMAL_PRESETS[name] if samples else None
    geometry, own = geometry_preset(name), camera_plan(models)
    texture: TextureSettings | MultiviewSettings = texture_preset(name)
    if name in MULTIVIEW_PRESETS:
        texture = multiview_preset(name, few_steps=few_steps and has_few_steps(models))
    if own is not None:
        geometry = dataclasses.replace(geometry, plan=own)
        texture = dataclasses.replace(texture, plan=own)
        views = None if views is None else dataclasses.replace(views, plan=own)
    size = texture.texture_size if isinstance(texture, MultiviewSettings) else ExportSettings().texture_size
    export = ExportSettings(height_m=1.75, texture_size=size, faces=EXPORTED_FACES[name])
    return HumanSettings(geometry, texture, export, START_SETTINGS[name], views=views)


@dataclass(frozen=True)
class HumanRequest:
    """One human as a user asks for it; the same in the command, in Python and in a run's record."""

    prompt: str  # the person, such as "an old man in a long coat"
    seed: int = 0  # source of every random draw
    preset: str = "quick"  # one of PRESETS
    models: str = "bundled"  # or a folder, see `guidance.find_guides`
    precision: str = "auto"  # of the networks, one of `processor.PRECISIONS`
    body: str | BodyShape = AUTO  # of the prompt's sex, age and build; "neutral"; sliders "sex=1,age=0.9"; a mesh file
    pose: str = "a-pose"  # of the start body: one of `body.POSES`, or a BVH file
    frame: int = 0  # of a BVH file, from 0
    outfit: str = AUTO  # what the start body wears: what the prompt names, or "none"
    hold: tuple[str, ...] | None = None  # regions of the start that stay; None: the preset's, and of a mesh file none
    skin: str = AUTO  # of held regions: the prompt's tone, one of `body.painted_skin.SKIN_TONES`, or "model"
    height_m: float = 1.75  # metres, of the exported human
    sculpt_steps: int | None = None  # None: the preset's, which for a dressed start may be none
    paint_steps: int | None = None
    faces: int | None = None  # most of the exported human; None: the preset's
    texture_size: int | None = None  # texels a side; None: the preset's
    method: str = AUTO  # of the sculpting, one of `METHODS`
    edits: str = ""  # folder of a finished run, of which the prompt says what changes (`editing`); empty: a new human
    delight: bool = False  # take the light that the networks painted out of the colours, `texture.delighting`

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise InputError("prompt: expected words for the person, got none")
        check_choice("preset", self.preset, PRESETS)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("outfit", self.outfit, (AUTO, NONE))
        check_choice("method", self.method, METHODS)
        check_range("height_m", self.height_m, *HEIGHTS_M)
        for name, limits in LIMITS.items():
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name), *limits)


@dataclass(frozen=True, eq=False)
class StartFigure:
    """What the sculpting begins from."""

    mesh: Mesh
    body: Body | None  # that the mesh is the surface of, posed, in the working box; None: a mesh file


@dataclass(frozen=True)
class KeptPainting:
    """Of an edit: the painting that it keeps, and where not."""

    file: Path
    changed: frozenset[int]  # labels that are painted anew


@dataclass(frozen=True, eq=False)
class HumanJob:
    """A request with all that it stands for: with the networks' weights, all that decides how the human comes out."""

    request: HumanRequest
    start: Mesh
    body: Body | None  # as in `StartFigure`
    outfit: Outfit  # what the body begins in
    settings: HumanSettings
    network_prompt: str  # the prompt as the networks hear it
    skin: str  # one of `SKIN_TONES`, which held regions of the body are painted in; empty: the networks paint them
    kept: KeptPainting | None = None


def settings_of(request: HumanRequest) -> HumanSettings:
    """The preset with what the request changes in it."""
    from humannorm.texture.delighting import DelightSettings
    from humannorm.texture.multiview import MultiviewSettings

    few_steps = request.paint_steps is None  # those weights know one number of steps
    settings = preset(request.preset, request.models, request.method, few_steps=few_steps)
    geometry, texture, size = settings.geometry, settings.texture, request.texture_size or settings.export.texture_size
    views = settings.views
    if request.sculpt_steps is not None and views is not None:
        views = views.with_steps(request.sculpt_steps)
    elif request.sculpt_steps is not None:
        geometry = geometry.with_steps(request.sculpt_steps)
    if isinstance(texture, MultiviewSettings):
        levels = dataclasses.replace(texture.walk, steps=request.paint_steps or texture.walk.steps)
        light = DelightSettings() if request.delight else texture.delight
        texture = dataclasses.replace(texture, walk=levels, texture_size=size, delight=light)
    elif request.delight:
        raise InputError(f"delight: expected a preset that paints all views together, got {request.preset}")
    elif request.paint_steps is not None:
        texture = texture.with_steps(request.paint_steps)
    export = dataclasses.replace(
        settings.export, faces=request.faces or settings.export.faces, texture_size=size, height_m=request.height_m
    )
    return dataclasses.replace(settings, geometry=geometry, texture=texture, export=export, views=views)


def job_of(request: HumanRequest, settings: HumanSettings | None = None) -> HumanJob:
    """The job that a request stands for. settings: in place of those of the request's preset, steps and export."""
    from humannorm.body.outfit import Outfit
    from humannorm.body.painted_skin import SKIN_TONES, tone_of_words

    check_choice("skin", request.skin, (AUTO, *SKIN_TONES, FROM_MODEL))
    figure = start_figure(request)
    settings = settings_of(request) if settings is None else settings
    start = dataclasses.replace(
        settings.start,
        dressed=settings.start.dressed and request.outfit == AUTO and figure.body is not None,
        sculpted=settings.start.sculpted or request.sculpt_steps is not None or request.method != AUTO,
        held=_held_regions(request, settings.start, figure),
    )
    settings = dataclasses.replace(
        settings,
        start=start,
        geometry=dataclasses.replace(settings.geometry, plan=following(settings.geometry.plan, figure.body)),
        texture=dataclasses.replace(settings.texture, plan=following(settings.texture.plan, figure.body)),
        views=None
        if settings.views is None
        else dataclasses.replace(settings.views, plan=following(settings.views.plan, figure.body)),
    )
    skin = tone_of_words(request.prompt, request.seed) if request.skin == AUTO else request.skin
    shape = None if figure.body is None else figure.body.shape
    return HumanJob(
        request,
        figure.mesh,
        figure.body,
        outfit_for(request.prompt, shape, start) if start.dressed else Outfit(),
        settings,
        network_prompt(request.prompt, request.models, figure.body),
        "" if skin == FROM_MODEL else skin,
    )


def outfit_for(prompt: str, shape: BodyShape | None, start: StartSettings) -> Outfit:
    """What the prompt names, completed where the preset does so; nothing without a body to wear it."""
    from humannorm.body import completed, outfit_of_words
    from humannorm.body.outfit import Outfit

    if shape is None:
        return Outfit()
    outfit = outfit_of_words(prompt)
    return completed(outfit, shape) if start.completes else outfit


def told_of(job: HumanJob) -> tuple[str, ...]:
    """Sentences for the user: what of the prompt's clothes and hair could not be read or made as it is said."""
    from humannorm.geometry.outfits import told_of_pose

    if job.body is None or not job.settings.start.dressed:
        return ()
    return (*job.outfit.told, *told_of_pose(job.body.pose, job.outfit))


def network_prompt(prompt: str, models: str | Path, body: Body | None = None) -> str:
    """The prompt as the networks hear it: with a word for the pose where the model's captions named one.

    body: whose pose it is; without one, the figure is taken to stand. A pose from a motion file has no word. A prompt
    for an undressed child is refused.
    """
    from humannorm.body import check_people
    from humannorm.models import names_poses

    check_people(prompt)
    return posed_prompt(prompt, body) if names_poses(models) else prompt


def sampled_prompt(prompt: str, models: str | Path) -> str:
    """The prompt as a network hears it that draws from the text alone: where the model learnt from captions, what the
    prompt says in their words (`humannorm.body.captioned`), since it knows no others."""
    from humannorm.body import captioned
    from humannorm.models import names_poses

    return captioned(prompt) if names_poses(models) and prompt.strip() else prompt


def posed_prompt(prompt: str, body: Body | None = None) -> str:
    """The prompt with a word for the body's pose, unless it names one itself; as in `network_prompt`."""
    from humannorm.body import POSES, with_pose

    pose = "a-pose" if body is None else body.pose
    return with_pose(prompt, pose) if pose in POSES and prompt.strip() else prompt


def following(plan: CameraPlan, body: Body | None) -> CameraPlan:
    """The plan with head, upper and lower crops that follow the joints of a posed start body."""
    from humannorm.body import plan_for_body

    return plan if body is None or body.pose == "a-pose" else plan_for_body(plan, body)


def start_figure(request: HumanRequest) -> StartFigure:
    """The body behind the request's `body` and `pose` in the working box, or the mesh file, as it is."""
    from humannorm.body import BodyShape, shape_of_words
    from humannorm.mesh_io import load_mesh

    body = request.body
    if isinstance(body, BodyShape):
        shape = body
    elif body == AUTO:
        shape = shape_of_words(request.prompt)
    elif body in NEUTRAL:
        shape = BodyShape()
    elif "=" in body and not Path(body).exists():
        shape = parse_sliders(body)
    else:
        if request.pose != "a-pose":
            raise InputError(f"pose: expected a-pose beside the mesh file {body}, got {request.pose}")
        return StartFigure(load_mesh(body), None)
    return figure_of_body(_posed(shape, request.pose, request.frame))


def figure_of_body(body: Body) -> StartFigure:
    """A body as a start, moved and scaled into the working box."""
    placed = body.in_working_box()
    return StartFigure(placed.to_mesh(normalized=False), placed)


def _posed(shape: BodyShape, pose: str, frame: int) -> Body:
    """A body in a named pose or in one frame of a motion file."""
    from humannorm.body import load_body
    from humannorm.body.retarget import clip_of_bvh

    if not pose.lower().endswith(BVH):
        return load_body(shape, pose)
    rest = load_body(shape, "rest")
    clip = clip_of_bvh(pose, rest)
    check_range("frame", frame, 0, clip.num_frames - 1)
    return rest.posed(clip.rotations[frame], Path(pose).stem)


def _held_regions(request: HumanRequest, start: StartSettings, figure: StartFigure) -> tuple[str, ...]:
    """Of a mesh file nothing is held unless it is requested: nobody knows what its hands are like."""
    from humannorm.body.regions import BODY_REGIONS

    if request.hold is None:
        return start.held if figure.body is not None else ()
    for region in request.hold:
        check_choice("hold", region, BODY_REGIONS)
    return request.hold


def pick_device(name: str) -> torch.device:
    """The device behind "auto" (CUDA where torch sees it), "cpu" or "cuda"."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device: expected cpu or auto, as torch sees no CUDA device here, got cuda")
    return torch.device(name)


def parse_sliders(text: str) -> BodyShape:
    """'sex=1,age=0.9' as a body."""
    from humannorm.body import BodyShape

    known = [field.name for field in dataclasses.fields(BodyShape)]
    values: dict[str, float] = {}
    for slider in text.split(","):
        name, _, number = (word.strip() for word in slider.partition("="))
        try:
            values[name] = float(number)
        except ValueError:
            raise InputError(f"body: expected sliders such as sex=1,age=0.9, got {slider!r}") from None
        if name not in known:
            raise InputError(f"body: expected sliders {', '.join(known)}, got {name!r}")
    return BodyShape(**values)
