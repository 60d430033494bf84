"""Sculpting: a field that starts from a body or a mesh, and the optimiser that normal and depth guidance drive."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from comfy_api.v0_0_2 import io, ui

from humannorm.body import Body as BodyValue
from humannorm.body import check_people
from humannorm.cameras import CAMERA_PLANS
from humannorm.checks import InputError
from humannorm.geometry.fields import DenseFieldSettings, HashFieldSettings
from humannorm.geometry.multiview import NORMAL_PRESETS, NormalSculptSettings, sculpt_synchronised
from humannorm.geometry.outfits import told_of_pose
from humannorm.geometry.sculpt import sculpt
from humannorm.geometry.settings import GeometrySettings
from humannorm.geometry.settings import preset as settings_of
from humannorm.geometry.state import GeometryState, load_state
from humannorm.request import START_SETTINGS, StartFigure, figure_of_body, outfit_for
from humannorm.schedules import Schedule, constant
from humannorm.stages import begin_sculpture, place_start

from .devices import moved, rest_device, work_device
from .host_denoiser import ordinary_tensors
from .host_mesh import from_host, to_host
from .long_work import forget, say, show_result
from .optimiser_run import HostRun, RunSpan, run_optimiser
from .payloads import GuidancePayload, kind_of
from .schema import (
    CATEGORY,
    Body,
    Geometry,
    Guidance,
    factor_input,
    mesh_input,
    override_input,
    preset_input,
    rendering_inputs,
    schema,
    seed_input,
    steps_input,
)
from .subjects import check_one_connected, sculpted_mesh
from .views import four_sides

__all__ = ["HELD", "HumanNormGeometryOptimizer", "HumanNormGeometryStart", "for_guide", "run_sculpting"]

HELD = (
    ("hands", "them", "guidance spoils fingers"),
    ("face", "it", "a small model draws none"),
)
METHODS = ["distil", "views"]


class HumanNormGeometryStart(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormGeometryStart",
            display_name="HumanNorm Geometry Start",
            category=f"{CATEGORY}/geometry",
            description="A signed distance field fitted to a body or to any closed mesh: what the optimiser sculpts.",
            search_aliases=["sdf", "dmtet", "mesh to sdf"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                Body.Input("body", optional=True, tooltip="From HumanNorm Body. Connect this or a mesh."),
                mesh_input(
                    "start_mesh",
                    "Any closed mesh or its 3D file, +Y up and facing +Z; it is centred and scaled to a body's height.",
                    optional=True,
                ),
                preset_input(),
                io.Combo.Input(
                    "field",
                    options=["preset", "hash", "dense"],
                    default="preset",
                    tooltip="hash: the published hash grid. dense: a pyramid of plain grids. preset: what it names.",
                ),
                io.Int.Input(
                    "resolution",
                    default=0,
                    min=0,
                    max=512,
                    step=8,
                    tooltip="Cells a side of the tetrahedral lattice to begin with; 0 takes the preset's.",
                ),
                seed_input(),
                *(
                    io.Boolean.Input(
                        f"hold_{region}",
                        default=False,
                        optional=True,
                        tooltip=f"Keep the {region} as the start has {them}, whatever the guidance wants: {why}.",
                    )
                    for region, them, why in HELD
                ),
                io.String.Input(
                    "wears",
                    default="",
                    optional=True,
                    tooltip="Clothes and hair that these words name, such as the prompt's, are put on the body; the"
                    " preset quick adds what they leave out and keeps all of it. What was not understood is told"
                    " on the node. Empty: the body as it is.",
                ),
            ],
            outputs=[Geometry.Output("geometry", display_name="geometry", tooltip="For the geometry optimiser.")],
        )

    @classmethod
    def execute(
        cls,
        preset: str,
        field: str,
        resolution: int,
        seed: int,
        body: BodyValue | None = None,
        start_mesh: Any | None = None,
        hold_hands: bool = False,
        hold_face: bool = False,
        wears: str = "",
    ) -> io.NodeOutput:
        check_one_connected(body=body, start_mesh=start_mesh)
        check_people(wears)
        if wears and body is None:
            raise InputError("wears: expected a connected body to put clothes and hair on, got a mesh")
        held = tuple(region for region, wanted in (("hands", hold_hands), ("face", hold_face)) if wanted)
        with ordinary_tensors():
            settings = settings_of(preset)
            if field == "hash" and not isinstance(settings.field, HashFieldSettings):
                settings = replace(settings, field=HashFieldSettings())
            if field == "dense":
                settings = replace(settings, field=DenseFieldSettings())
            if resolution:
                settings = replace(settings, resolution=constant(resolution))
            figure = StartFigure(from_host(start_mesh, "start_mesh"), None) if body is None else figure_of_body(body)
            outfit = None
            if wears and figure.body is not None:
                outfit = outfit_for(wears, figure.body.shape, START_SETTINGS[preset])
                say(cls.hidden.unique_id, "\n".join((*outfit.told, *told_of_pose(figure.body.pose, outfit))))
            begun = begin_sculpture(
                place_start(figure.mesh, figure.body, work_device()),
                settings,
                replace(START_SETTINGS[preset], held=held),
                torch.Generator().manual_seed(seed),
                body=figure.body,
                outfit=outfit,
            )
            return io.NodeOutput(moved(begun.state, rest_device()))


class HumanNormGeometryOptimizer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormGeometryOptimizer",
            display_name="HumanNorm Geometry Optimizer",
            category=f"{CATEGORY}/geometry",
            description="Sculpts the surface until its normal and depth maps look to the models like those of the"
            " person in the prompt. Interrupt it and queue again: it goes on where it stopped. Chain two of them to go"
            " on with another prompt.",
            search_aliases=["sculpt", "text to mesh", "text to 3d", "sds geometry"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            inputs=[
                Geometry.Input("geometry", tooltip="From Geometry Start, another optimiser or Load State."),
                Guidance.Input("normal_guidance", tooltip="Guidance with prompts of kind normal."),
                Guidance.Input("depth_guidance", optional=True, tooltip="Guidance with prompts of kind depth."),
                preset_input(),
                steps_input("Length of the whole run in optimiser steps; schedules are stretched with it."),
                io.Float.Input(
                    "begin",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Where in the run to begin: 0 coarse and free, near 1 fine and careful. To change a"
                    " finished person a little, begin at 0.3 to 0.6.",
                ),
                io.Float.Input("end", default=1.0, min=0.0, max=1.0, step=0.01, tooltip="Where in the run to stop."),
                seed_input(),
                *rendering_inputs(),
                override_input("resolution", 512, "Cells a side of the lattice throughout; 0: the preset's schedule."),
                factor_input("learning_rate", "learning rate"),
                factor_input("smoothness", "weights of the Laplacian and of normal consistency", least=0.0),
                io.Combo.Input(
                    "method",
                    options=METHODS,
                    default="distil",
                    optional=True,
                    tooltip="distil: the models judge a few views a step, as published. views: all sides are sampled"
                    " together, agree on one surface at every noise level, and the surface is drawn to them; steps are"
                    " then the noise levels of a whole walk, begin and end choose among its rounds, and what belongs to"
                    " distilling (depth guidance and the factors above) is not used.",
                ),
            ],
            outputs=[
                Geometry.Output("sculpted", display_name="geometry", tooltip="To go on with, to paint or to save."),
                io.Mesh.Output("mesh", display_name="mesh", tooltip="The surface."),
                io.Image.Output("views", display_name="views", tooltip="Normal maps: front, left, back, right."),
            ],
        )

    @classmethod
    def execute(
        cls,
        geometry: GeometryState,
        normal_guidance: GuidancePayload,
        preset: str,
        steps: int,
        begin: float,
        end: float,
        seed: int,
        depth_guidance: GuidancePayload | None = None,
        views_per_step: int = 0,
        render_size: int = 0,
        resolution: int = 0,
        learning_rate: float = 1.0,
        smoothness: float = 1.0,
        method: str = "distil",
    ) -> io.NodeOutput:
        if method == "views":
            views = views_between(_with_steps(NORMAL_PRESETS[preset], steps), normal_guidance, begin, end)
            views = replace(views, resolution=resolution or views.resolution)
            with ordinary_tensors():
                return cls.finished(*run_views(cls.hidden, geometry, normal_guidance, views, seed), normal_guidance)
        guides = {"normal": normal_guidance} | ({} if depth_guidance is None else {"depth": depth_guidance})
        settings = settings_of(preset)
        settings = settings.with_steps(steps) if steps else settings
        settings = replace(
            settings,
            views=views_per_step or settings.views,
            render_size=render_size or settings.render_size,
            resolution=constant(resolution) if resolution else settings.resolution,
            learning_rate=_times(settings.learning_rate, learning_rate),
            laplacian_weight=_times(settings.laplacian_weight, smoothness),
            normal_consistency_weight=_times(settings.normal_consistency_weight, smoothness),
        )
        first, settings = span_of_run(for_guide(settings, normal_guidance), begin, end)
        with ordinary_tensors():
            return cls.finished(*run_sculpting(cls.hidden, geometry, guides, settings, first, seed), normal_guidance)

    @classmethod
    def finished(cls, state: GeometryState, unfinished: Path, guide: GuidancePayload) -> io.NodeOutput:
        """What the node hands over of a sculpture that is done."""
        forget(unfinished)
        surface = sculpted_mesh(state)
        views = four_sides(surface, guide.plan).normal
        assert views is not None
        views = views.to(rest_device())
        show_result(views)
        return io.NodeOutput(moved(state, rest_device()), to_host(surface), views, ui=ui.PreviewImage(views, cls=cls))


def span_of_run(settings: GeometrySettings, begin: float, end: float) -> tuple[int, GeometrySettings]:
    """First step, and the settings that stop at the last one, of a part of the run (fractions of its steps)."""
    first, last = round(begin * settings.steps), round(end * settings.steps)
    if first >= last:
        raise InputError(
            f"begin, end: expected at least one step between them, got {begin:g} and {end:g} of {settings.steps} steps"
        )
    return first, replace(settings, steps=last)


def run_sculpting(
    hidden: Any,
    geometry: GeometryState,
    guides: dict[str, GuidancePayload],
    settings: GeometrySettings,
    first: int,
    seed: int,
) -> tuple[GeometryState, Path]:
    """The sculpture from step `first` to the settings' last, see `run_optimiser`."""
    check_guides(guides)

    def begin(state: GeometryState, generator: torch.Generator) -> GeometryState:
        return replace(state, step=first)

    def optimise(state: GeometryState, run: HostRun) -> GeometryState:
        named = dict(zip(guides, run.denoisers, strict=True))
        return sculpt(
            state,
            guides["normal"].prompts.prompts.prompt,
            settings,
            normal=named["normal"],
            depth=named.get("depth"),
            generator=run.generator,
            callback=lambda now: run.tell(now.step, now.picture, now.seconds_left),
            checkpoint=run.checkpoint,
        )

    span = RunSpan("geometry", "Sculpting", first, settings.steps, settings.views)
    return run_optimiser(
        hidden, span, geometry, list(guides.values()), seed, load=load_state, begin=begin, optimise=optimise
    )


def run_views(
    hidden: Any, geometry: GeometryState, guide: GuidancePayload, settings: NormalSculptSettings, seed: int
) -> tuple[GeometryState, Path]:
    """The sculpture by all views together, see `run_optimiser`."""
    check_guides({"normal": guide})

    def optimise(state: GeometryState, run: HostRun) -> GeometryState:
        return sculpt_synchronised(
            state,
            guide.prompts.prompts.prompt,
            settings,
            normal=run.denoisers[0],
            generator=run.generator,
            callback=lambda now: run.tell(now.step, now.picture, now.seconds_left),
            checkpoint=run.checkpoint,
        ).state

    span = RunSpan("geometry", "Sculpting", 0, settings.steps, settings.walk.batch)
    return run_optimiser(
        hidden,
        span,
        geometry,
        [guide],
        seed,
        load=load_state,
        begin=lambda state, generator: replace(state, step=0),
        optimise=optimise,
    )


def views_between(
    settings: NormalSculptSettings, guide: GuidancePayload, begin: float, end: float
) -> NormalSculptSettings:
    """The rounds between two shares of the run, with the cameras and texts that the guide's model and prompts need."""
    texts, rounds = guide.prompts.prompts, len(settings.levels)
    levels = settings.levels[round(begin * rounds) : round(end * rounds)]
    if not levels:
        raise InputError(
            f"begin, end: expected at least one round between them, got {begin:g} and {end:g} of {rounds} rounds"
        )
    return replace(
        settings,
        levels=levels,
        text_rule=texts.rule,
        text_plan=texts.plan,
        plan=guide.plan or CAMERA_PLANS[texts.plan],
        guidance_scale=guide.cfg,
    )


def _with_steps(settings: NormalSculptSettings, steps: int) -> NormalSculptSettings:
    return settings.with_steps(steps) if steps else settings


def check_guides(guides: dict[str, GuidancePayload]) -> None:
    for name, guide in guides.items():
        kind = guide.prompts.prompts.modality
        if kind != name:
            raise InputError(f"{name}_guidance: expected prompts of kind {name}, got kind {kind_of(kind)}")
    normal = guides["normal"].prompts.prompts
    for name, guide in guides.items():
        own = guide.prompts.prompts
        if (own.prompt, own.plan, own.rule) != (normal.prompt, normal.plan, normal.rule):
            raise InputError(f"{name}_guidance: expected prompt, plan and part rule of the normal guidance, got others")


def for_guide(settings: GeometrySettings, guide: GuidancePayload) -> GeometrySettings:
    """The settings with the cameras and texts that the guide's model and prompts need."""
    texts = guide.prompts.prompts
    return replace(
        settings,
        text_rule=texts.rule,
        text_plan=texts.plan,
        plan=guide.plan or CAMERA_PLANS[texts.plan],
        guidance_scale=guide.cfg,
    )


def _times(schedule: Schedule, factor: float) -> Schedule:
    return dataclasses.replace(schedule, points=tuple((at, value * factor) for at, value in schedule.points))
