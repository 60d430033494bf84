"""Motion files on the body: which way its bones point, frame by frame, and where it goes.

Files with MakeHuman's joints are taken to the letter. A bone of another skeleton takes the direction in the world that
the file gives it, whatever its rest pose and the axes of its joints; the twist about the bone is the file's against
the pose that `reference_pose` finds. Which joint is which is found by `joint_names`, or said by the user.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body.body import Body
from humannorm.body.bvh import Motion, load_bvh, rotations_for
from humannorm.body.clips import Clip, clip_transforms
from humannorm.body.joint_names import NEEDED, TOES, JointTable, match_joints
from humannorm.body.linear_blend_skinning import linear_blend_skinning
from humannorm.body.reference_pose import Stance, axes_of_frames, end_of, find_stance, safe_rotation_between
from humannorm.body.skeleton import local_rotations
from humannorm.checks import InputError

__all__ = ["Reading", "clip_of_bvh", "read_motion", "retarget"]

MAKEHUMAN_ENOUGH = 20  # joints of our own names from which on a file is MakeHuman's
_INHERITS = {"wrist": "lowerarm01", **{f"finger{n}-3": f"finger{n}-2" for n in range(1, 6)}}
_LEG = ("upperleg01.L", "lowerleg01.L", "foot.L")


@dataclass(frozen=True, eq=False)
class Reading:
    """How a motion file is understood."""

    motion: Motion  # +Y up
    table: JointTable
    stance: Stance
    by_name: bool  # MakeHuman's joints, to the letter


def clip_of_bvh(path: str | Path, body: Body, up: str | None = None, joints: Mapping[str, str] | None = None) -> Clip:
    """A motion file as a clip of the body.

    up: its vertical axis, "y", "z" or "x" (default: told from how the person stands in it). joints: the file's joint ->
    ours, where names do not tell.
    """
    source = Path(path)
    try:
        return _clip_of(read_motion(load_bvh(source), body, up, joints), body, source.stem)
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(str(source)) else f"{source}: {message}") from error


def read_motion(motion: Motion, body: Body, up: str | None = None, joints: Mapping[str, str] | None = None) -> Reading:
    """What the joints of a motion (as read with "y" up) are, and which way is up. Doubts are said by a warning."""
    by_name = joints is None and len(set(motion.joint_names) & set(body.joint_names)) >= MAKEHUMAN_ENOUGH
    if joints is not None:
        table = _stated_table(motion, body, joints)
    elif by_name:
        table = {name: at for at, name in enumerate(motion.joint_names) if name in body.joint_names}
    else:
        table = match_joints(motion.joint_names, motion.parents)
    if by_name and not all(joint in table for joint in NEEDED):
        stance = Stance(up or "z", True, torch.eye(3))  # as MakeHuman writes
    else:
        stance = find_stance(motion, table, up)
    if stance.doubt:
        warnings.warn(stance.doubt, stacklevel=3)
    turned = motion.with_up(stance.up)
    if up is None and stance.up != "y" and stance.rest_is_upright:
        # Which way is front is agreed on where y is up only: there a rest looks along z. Elsewhere the rest tells it.
        turned = turned.turned(stance.facing.T)
        stance = replace(stance, facing=torch.eye(3))
    return Reading(turned, table, stance, by_name)


def retarget(motion: Motion, body: Body, name: str = "motion") -> Clip:
    """A motion, as read with its vertical axis for y, on the body's joints, its lowest frame on the body's ground."""
    return _clip_of(read_motion(motion, body, "y"), body, name)


def _clip_of(reading: Reading, body: Body, name: str) -> Clip:
    motion, table = reading.motion, reading.table
    if reading.by_name:
        frames = [rotations_for(motion, body.joint_names, frame) for frame in range(motion.num_frames)]
        rotations = torch.stack(frames)
    else:
        rotations = _by_direction(reading, body)
    hips = motion.world()[:, table.get("root", 0), :3, 3]
    scale = 1.0
    if all(joint in table for joint in _LEG):
        scale = _leg(body) / _file_leg(motion, table)
    translations = scale * (hips - hips[0])
    clip = Clip(name, rotations, translations, motion.frame_time)
    return Clip(name, rotations, translations + _to_ground(clip, body), motion.frame_time)


def _stated_table(motion: Motion, body: Body, joints: Mapping[str, str]) -> JointTable:
    known = {*body.joint_names, *(f"{TOES}.{side}" for side in "LR")}
    table: JointTable = {}
    for theirs, ours in joints.items():
        if theirs not in motion.joint_names:
            raise InputError(f"joints: expected joints of the file, got {theirs!r}")
        if ours not in known:
            raise InputError(f"joints: expected joints of the body such as upperarm01.L or {TOES}.L, got {ours!r}")
        table[ours] = motion.joint_names.index(theirs)
    missing = [joint for joint in NEEDED if joint not in table]
    if missing:
        raise InputError(f"joints: expected at least {', '.join(NEEDED)}, got none for {', '.join(missing)}")
    return table


def _by_direction(reading: Reading, body: Body) -> Float[Tensor, "T B 3 3"]:
    """Every known bone in the file's direction; joints that the file does not name go along with their parents."""
    motion, table = reading.motion, reading.table
    turned = motion.world()[..., :3, :3]
    ours = _own_directions(body)
    if reading.stance.rest_is_upright:
        rest = motion.rest()
        places = {name: rest[joint] for name, joint in table.items()}
        axes = {name: _from_rest(name, places, ours, reading.stance.facing) for name in table}
    else:
        axes = axes_of_frames(motion, table, ours)
    turns: list[Tensor] = []
    for joint, (name, parent) in enumerate(zip(body.joint_names, body.parents, strict=True)):
        if name in axes:
            turns.append(turned[:, table[name]] @ axes[name])
        else:
            turns.append(turns[parent] if joint else torch.eye(3).repeat(motion.num_frames, 1, 1))
    return local_rotations(torch.stack(turns, dim=1), body.parents)


def _from_rest(
    name: str, places: Mapping[str, Tensor], ours: Mapping[str, Tensor], facing: Float[Tensor, "3 3"]
) -> Float[Tensor, "3 3"]:
    """The rotation that lays our bone at rest along the file's bone at rest."""
    stem, dot, side = name.partition(".")
    end = None if stem == "foot" else end_of(name, places)  # soles are flat in both rests
    if end is not None and float((places[end] - places[name]).norm()) > 0:
        return safe_rotation_between(facing @ ours[name], places[end] - places[name]) @ facing
    above = f"{_INHERITS[stem]}{dot}{side}" if stem in _INHERITS else ""
    return _from_rest(above, places, ours, facing) if above in places else facing


def _own_directions(body: Body) -> dict[str, Float[Tensor, "3"]]:
    """Our limb bones' directions at rest by joint, and under "JOINT bend" the axes of elbows and knees."""
    places = dict(zip(body.joint_names, body.rest_joints, strict=True))
    for side in "LR":
        ball = [place for name, place in places.items() if name.startswith("toe") and name.endswith(f"-1.{side}")]
        places[f"{TOES}.{side}"] = torch.stack(ball).mean(0)
    found = {}
    for name in body.joint_names:
        end = end_of(name, places)
        if end is not None:
            found[name] = torch.nn.functional.normalize(places[end] - places[name], dim=0)
    for side in "LR":
        elbow = torch.linalg.cross(found[f"upperarm01.{side}"], found[f"lowerarm01.{side}"])
        for part in ("upperarm01", "lowerarm01"):
            found[f"{part}.{side} bend"] = torch.nn.functional.normalize(elbow, dim=0)
        for part in ("upperleg01", "lowerleg01"):
            found[f"{part}.{side} bend"] = torch.tensor([1.0, 0.0, 0.0])
    return found


def _leg(body: Body) -> float:
    hip, knee, ankle = (body.rest_joints[body.joint_names.index(joint)] for joint in _LEG)
    return float((knee - hip).norm() + (ankle - knee).norm())


def _file_leg(motion: Motion, table: JointTable) -> float:
    hip, knee, ankle = (motion.rest()[table[joint]] for joint in _LEG)
    length = float((knee - hip).norm() + (ankle - knee).norm())
    if length <= 0:
        raise InputError("motion: expected legs with a length, got a skeleton whose joints lie in one place")
    return length


def _to_ground(clip: Clip, body: Body) -> Float[Tensor, "3"]:
    """What lifts or sinks the clip so that its lowest point touches the ground."""
    every = max(1, clip.num_frames // 60)
    transforms = clip_transforms(clip, body)[::every]
    sole = torch.tensor([name.startswith(("foot", "toe", "lowerleg", "root", "upperleg")) for name in body.joint_names])
    chosen = sole[body.weight_joints[:, 0]].nonzero()[::4, 0]  # every fourth vertex below the waist
    low = min(
        float(
            linear_blend_skinning(body.rest_vertices[chosen], frame, body.weight_joints[chosen], body.weights[chosen])[
                :, 1
            ].min()
        )
        for frame in transforms
    )
    return torch.tensor([0.0, float(body.rest_vertices[:, 1].min()) - low, 0.0])
