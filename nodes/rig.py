"""A skeleton for a finished human: rigging, posing, animating."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from comfy_api.v0_0_2 import io
from torch import Tensor

from humannorm.body import POSES, named_pose
from humannorm.body import Body as BodyValue
from humannorm.body.clip_names import BVH_SUFFIX, CLIP_NAMES, clips_named
from humannorm.body.clips import Clip, still
from humannorm.body.retarget import clip_of_bvh
from humannorm.body.rigs import RIGS
from humannorm.body.skeleton import local_rotations
from humannorm.body.turns import JOINT_TURNS, turned
from humannorm.checks import check_range
from humannorm.export import BakedMesh, write_levels
from humannorm.export.skinned import write_skinned_glb
from humannorm.mesh import Mesh, welded_vertex_normals
from humannorm.rigging import rig_human
from humannorm.rigging.film import film_motion, joint_colors
from humannorm.working_box import place

from .export import workflow_notes
from .files import existing_file, file_fingerprint, next_output_file, refused, relative_to_output, shown_file
from .host_denoiser import ordinary_tensors
from .host_mesh import baked_from_host, baked_to_host, file_to_host
from .long_work import Progress
from .payloads import RiggedPayload
from .schema import CATEGORY, Body, File3D, Files, Rigged, advanced, levels_input, mesh_input, schema
from .subjects import check_one_connected
from .views import four_sides

__all__ = ["HumanNormAnimate", "HumanNormPose", "HumanNormRig"]

SHARES = 100  # of the progress bar
AS_IT_IS = "as it is"
UPS = {"by its joint names": None, "y": "y", "z": "z"}


class HumanNormRig(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormRig",
            display_name="HumanNorm Rig",
            category=f"{CATEGORY}/animation",
            description="Gives a finished human a skeleton and skin weights: the CC0 body is fitted into the surface,"
            " and its weights are carried over. No SMPL is needed.",
            essentials_category="3D",
            search_aliases=["skeleton", "skinning", "auto rig", "bones", "mixamo"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                mesh_input("mesh", "Any humanoid, +Y up and facing +Z, in any unit and at any place; or its 3D file."),
                Body.Input(
                    "start_body",
                    optional=True,
                    tooltip="The body that the human began as, in the pose it stands in; without it the neutral adult"
                    " in the pose that fits.",
                ),
                io.Combo.Input(
                    "rig",
                    options=list(RIGS),
                    default="mixamo",
                    tooltip="Names and number of joints: mixamo 52, which engines know, game_engine 53, makehuman 163"
                    " with a face.",
                ),
            ],
            outputs=[
                Rigged.Output("rigged", display_name="rigged human", tooltip="For HumanNorm Pose and Animate."),
                Body.Output("fitted_body", display_name="body", tooltip="The body that was found in the surface."),
                io.Image.Output(
                    "weights", display_name="weights", tooltip="Whose joint moves what: front, left, back, right."
                ),
            ],
        )

    @classmethod
    def execute(cls, mesh: Any, rig: str, start_body: BodyValue | None = None) -> io.NodeOutput:
        progress = Progress(cls.hidden.unique_id, SHARES, "Rigging")
        with ordinary_tensors():
            rigged = _rigged(mesh, progress, rig, start_body)
            human = rigged.human
            painted = Mesh(human.mesh.vertices, human.mesh.faces, colors=joint_colors(human.skin))
            return io.NodeOutput(rigged, human.body, _four_sides(painted, "color"))


class HumanNormPose(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormPose",
            display_name="HumanNorm Pose",
            category=f"{CATEGORY}/animation",
            description="Another pose for a body, to sculpt from, or for a rigged human: a named one or a frame of a"
            " motion file, changed by joint sliders.",
            search_aliases=["repose", "pose editing", "bvh frame", "joint sliders"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                Body.Input("body", optional=True, tooltip="From HumanNorm Body. Connect this or a rigged human."),
                _human_input(optional=True, more=" Connect this or a body."),
                io.Combo.Input(
                    "pose",
                    options=[AS_IT_IS, *POSES],
                    default=AS_IT_IS,
                    tooltip="Where the sliders begin, unless a motion file is named.",
                ),
                io.String.Input(
                    "motion_file",
                    default="",
                    tooltip="A .bvh file of the input or output folder (of MakeHuman, Mixamo, CMU, Rokoko, Xsens and"
                    " others); empty: the pose above.",
                ),
                io.Int.Input("frame", default=0, min=0, max=1_000_000, tooltip="Which frame of the motion file."),
                _up_input(),
                *(
                    advanced(
                        io.Float,
                        name,
                        default=0.0,
                        min=turn.low,
                        max=turn.high,
                        step=1.0,
                        display_mode=io.NumberDisplay.slider,
                        tooltip=f"Degrees: {turn.meaning}.",
                    )
                    for name, turn in JOINT_TURNS.items()
                ),
            ],
            outputs=[
                Body.Output("posed_body", display_name="body", tooltip="Posed: for Geometry Start and Guidance."),
                io.Mesh.Output("mesh", display_name="mesh", tooltip="The posed human, else the posed body."),
                io.Image.Output("preview", display_name="preview", tooltip="Normal maps: front, left, back, right."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, motion_file: str = "", **_: Any) -> str:
        return file_fingerprint(motion_file, [BVH_SUFFIX])

    @classmethod
    def execute(
        cls,
        pose: str,
        motion_file: str,
        frame: int,
        up: str,
        body: BodyValue | None = None,
        human: Any | None = None,
        **turns: float,
    ) -> io.NodeOutput:
        check_one_connected(body=body, human=human)
        with ordinary_tensors():
            rigged = None if human is None else _rigged(human, Progress(cls.hidden.unique_id, SHARES, "Rigging"))
            stated = body if body is not None else rigged.human.body  # type: ignore[union-attr]
            rotations = turned(stated, _first_pose(stated, pose, motion_file, frame, up), turns)
            posed = stated.posed(rotations)
            if rigged is None:
                moved = BakedMesh(_with_normals(posed.to_mesh(uvs=True)))
            else:
                mesh = _with_normals(rigged.human.posed(still("custom", rotations, stated)))
                moved = replace(rigged.look, mesh=mesh, tangents=None)
            plain = Mesh(moved.mesh.vertices, moved.mesh.faces)
            return io.NodeOutput(posed, baked_to_host(moved), _four_sides(plain, "normal"))


class HumanNormAnimate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormAnimate",
            display_name="HumanNorm Animate",
            category=f"{CATEGORY}/animation",
            description="A rigged human in motion: a skinned GLB with clips that opens in Blender, Unity, Godot and"
            " three.js, and a film of it. Clips are a walk and others made here, and any BVH file.",
            essentials_category="3D",
            search_aliases=["animation", "walk", "bvh", "retarget", "motion"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                _human_input(),
                io.Combo.Input(
                    "clip", options=list(CLIP_NAMES), default="walk", tooltip="What it does, or how it stands still."
                ),
                io.String.Input(
                    "more_clips",
                    default="",
                    tooltip="More clips for the same file, parted by commas: names as above, or .bvh files of the input"
                    " or output folder (of MakeHuman, Mixamo, CMU, Rokoko, Xsens and others).",
                ),
                _up_input(),
                io.Boolean.Input("travel", default=False, tooltip="Let clips leave the spot; else they stay in place."),
                io.Int.Input("film_size", default=384, min=64, max=1024, step=8, tooltip="Pixels a side of the film."),
                io.String.Input(
                    "filename_prefix",
                    default="humannorm/animated",
                    tooltip="Place and name in the output folder; %year% and the like work.",
                ),
                advanced(
                    io.Combo,
                    "bind_pose",
                    options=[AS_IT_IS, "t-pose", "a-pose"],
                    default=AS_IT_IS,
                    tooltip="Pose that the file's skeleton is bound in: game engines like to begin from the t-pose.",
                ),
                levels_input(),
            ],
            outputs=[
                io.String.Output("path", display_name="path", tooltip="From the output folder, for Preview 3D."),
                io.Image.Output("film", display_name="film", tooltip="Frames of all clips, 15 a second, one batch."),
                File3D.Output("model_3d", display_name="model_3d", tooltip="The file, for newer 3D nodes."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, more_clips: str = "", **_: Any) -> str:
        return " ".join(file_fingerprint(word.strip(), [BVH_SUFFIX]) for word in more_clips.split(","))

    @classmethod
    def execute(
        cls,
        human: Any,
        clip: str,
        more_clips: str,
        up: str,
        travel: bool,
        film_size: int,
        filename_prefix: str,
        bind_pose: str = AS_IT_IS,
        levels_of_detail: int = 0,
    ) -> io.NodeOutput:
        target = next_output_file(filename_prefix, ".glb")
        with ordinary_tensors():
            rigged = _rigged(human, Progress(cls.hidden.unique_id, SHARES, "Rigging"))
            figure, look = rigged.human, rigged.look
            if bind_pose != AS_IT_IS:
                figure = figure.bound_in(bind_pose)
                look = replace(look, mesh=figure.mesh, tangents=None)
            clips = clips_named(f"{clip},{more_clips}", figure.body, UPS[up], argument="more_clips", find=_motion_file)
            motions = [figure.motion(each if travel else each.in_place()) for each in clips]
            progress = Progress(cls.hidden.unique_id, SHARES * len(motions), "Filming")
            films = []
            for number, motion in enumerate(motions):

                def tell(done: int, count: int, number: int = number) -> None:
                    progress.update(SHARES * number + SHARES * done // count)

                films.append(film_motion(figure, motion, film_size, tell))
            shown = [target.with_name(f"{target.stem}{motion.name}.webp") for motion in motions]
            try:
                write_skinned_glb(
                    target,
                    look,
                    figure.skin,
                    motions,
                    extras=workflow_notes(cls.hidden),
                )
                levels = write_levels(target, look, levels_of_detail, figure.skin, motions)
                for film, place_ in zip(films, shown, strict=True):
                    film.save(place_)
            except OSError as error:
                raise refused(target, error) from error
            path = relative_to_output(target)
            paths = [path, *map(relative_to_output, levels)]
            preview = {"3d": [shown_file(target)], "result": [path, None], "text": paths}
            pictures = torch.stack([picture for film in films for picture in film.pictures])
            return io.NodeOutput(
                path,
                pictures,
                file_to_host(target),
                ui={**preview, "images": [shown_file(each) for each in shown], "animated": (True,)},
            )


def _human_input(optional: bool = False, more: str = "") -> io.Input:
    tooltip = f"From HumanNorm Rig; a mesh or a 3D file is rigged first, as that node does by itself.{more}"
    return io.MultiType.Input("human", types=[Rigged, io.Mesh, *Files], optional=optional, tooltip=tooltip)


def _rigged(value: Any, progress: Progress, rig: str = "mixamo", start_body: BodyValue | None = None) -> RiggedPayload:
    """A rigged human as it is; a mesh or a 3D file with a skeleton put in."""
    if isinstance(value, RiggedPayload):
        return value
    baked = baked_from_host(value)
    human = rig_human(baked.mesh, rig, start_body, tell=lambda share: progress.update(round(SHARES * share)))
    return RiggedPayload(human, replace(baked, mesh=human.mesh))


def _with_normals(mesh: Mesh) -> Mesh:
    return mesh.replace(normals=welded_vertex_normals(mesh.vertices, mesh.faces))


def _up_input() -> io.Input:
    return io.Combo.Input(
        "up",
        options=list(UPS),
        default=next(iter(UPS)),
        tooltip="Vertical axis of motion files, where how the person stands misleads.",
    )


def _first_pose(body: BodyValue, pose: str, motion_file: str, frame: int, up: str) -> Tensor:
    """Rotations [J, 3, 3] that the sliders begin from."""
    if motion_file.strip():
        clip: Clip = clip_of_bvh(_motion_file(motion_file), body, UPS[up])
        check_range("frame", frame, 0, clip.num_frames - 1)
        return clip.rotations[frame]
    if pose == AS_IT_IS:
        return local_rotations(body.transforms[:, :3, :3], body.parents)
    return named_pose(pose)


def _motion_file(name: str) -> Path:
    return existing_file(name, [BVH_SUFFIX])


def _four_sides(mesh: Mesh, kind: str) -> Tensor:
    """Pictures [4, H, W, 3] of a mesh in any frame."""
    placed, _ = place(mesh)
    picture: Tensor = getattr(four_sides(placed), kind)
    return picture
