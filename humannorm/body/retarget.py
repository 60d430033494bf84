"""Motion files on the body: which joint of a file is which of ours, and what to do about another rest pose.

Known are the names of MakeHuman (rest and axes are ours), of Mixamo with or without its prefix, and of the CMU library.
A bone of another rig takes the direction in the world that the file gives it, so its rest pose (a T-pose, mostly) does
not matter; the twist about the bone is the file's against its own rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body.body import Body
from humannorm.body.bvh import Motion, load_bvh, rotations_for
from humannorm.body.clips import Clip, clip_transforms
from humannorm.body.skeleton import local_rotations, rotation_between
from humannorm.body.skinning import linear_blend_skinning
from humannorm.checks import InputError

__all__ = ["clip_of_bvh", "retarget"]

_SIDES = (("Left", ".L"), ("Right", ".R"))
_LIMBS = {
    "Shoulder": "clavicle", "Arm": "upperarm01", "ForeArm": "lowerarm01", "Hand": "wrist",
    "UpLeg": "upperleg01", "Leg": "lowerleg01", "Foot": "foot",
}  # fmt: skip
_FINGERS = ("Thumb", "Index", "Middle", "Ring", "Pinky")
_TRUNK = {"Hips": "root", "Neck": "neck01", "Head": "head"}


def _names(trunk: Mapping[str, str]) -> dict[str, str]:
    """File joint -> ours, without prefix."""
    table = {**_TRUNK, **trunk}
    for side, ours in _SIDES:
        table |= {f"{side}{name}": f"{joint}{ours}" for name, joint in _LIMBS.items()}
        for number, finger in enumerate(_FINGERS, start=1):
            table |= {f"{side}Hand{finger}{part}": f"finger{number}-{part}{ours}" for part in (1, 2, 3)}
    return table


MIXAMO = _names({"Spine": "spine04", "Spine1": "spine02", "Spine2": "spine01"})
CMU = _names({"LowerBack": "spine04", "Spine": "spine03", "Spine1": "spine01"})
MAKEHUMAN_ENOUGH = 20  # joints of our own names from which on a file is MakeHuman's

# The joint that a bone points at, where the direction of the rest matters.
_POINTS_AT = {
    "clavicle": "upperarm01", "upperarm01": "lowerarm01", "lowerarm01": "wrist", "wrist": "finger3-1",
    "upperleg01": "lowerleg01", "lowerleg01": "foot",
    **{f"finger{n}-{part}": f"finger{n}-{part + 1}" for n in range(1, 6) for part in (1, 2)},
}  # fmt: skip
_INHERITS = {"wrist": "lowerarm01", **{f"finger{n}-3": f"finger{n}-2" for n in range(1, 6)}}


def clip_of_bvh(path: str | Path, body: Body, up: str | None = None) -> Clip:
    """A motion file as a clip of the body. `up`: its vertical axis, "y" or "z" (default: z for MakeHuman's names)."""
    motion = load_bvh(path, up or "y")
    if up is None and _is_makehuman(motion, body):
        motion = load_bvh(path, "z")
    return retarget(motion, body, Path(path).stem)


def retarget(motion: Motion, body: Body, name: str = "motion") -> Clip:
    """A motion on the body's joints, with its lowest frame standing on the body's ground."""
    if _is_makehuman(motion, body):
        frames = [rotations_for(motion, body.joint_names, frame) for frame in range(motion.num_frames)]
        rotations, scale = torch.stack(frames), 1.0
        legs = ("upperleg01.L", "lowerleg01.L", "foot.L")
        if all(joint in motion.joint_names for joint in legs):
            scale = _leg(body, *legs) / _file_leg(motion, *legs)
    else:
        table = _table_of(motion)
        rotations = _by_direction(motion, table, body)
        scale = _leg(body, "upperleg01.L", "lowerleg01.L", "foot.L") / _file_leg(
            motion, *(_file_name(motion, joint) for joint in ("LeftUpLeg", "LeftLeg", "LeftFoot"))
        )
    translations = scale * (motion.root_positions - motion.root_positions[0])
    clip = Clip(name, rotations, translations, motion.frame_time)
    return Clip(name, rotations, translations + _to_ground(clip, body), motion.frame_time)


def _is_makehuman(motion: Motion, body: Body) -> bool:
    return len(set(motion.joint_names) & set(body.joint_names)) >= MAKEHUMAN_ENOUGH


def _plain(name: str) -> str:
    return name.split(":")[-1].removeprefix("mixamorig_")


def _file_name(motion: Motion, plain: str) -> str:
    return next(name for name in motion.joint_names if _plain(name) == plain)


def _table_of(motion: Motion) -> dict[str, str]:
    """File joint -> ours for the joints that the file has."""
    plain = {_plain(name): name for name in motion.joint_names}
    known = CMU if "LowerBack" in plain else MIXAMO
    needed = ("Hips", *(f"{side}{joint}" for side, _ in _SIDES for joint in ("UpLeg", "Leg", "Foot", "Arm", "ForeArm")))
    missing = [joint for joint in needed if joint not in plain]
    if missing:
        raise InputError(
            f"motion: expected the joint names of MakeHuman, Mixamo or CMU, got {', '.join(motion.joint_names[:4])}, "
            f"... without {', '.join(missing[:3])}"
        )
    return {plain[joint]: ours for joint, ours in known.items() if joint in plain}


def _rest_positions(motion: Motion) -> Float[Tensor, "J 3"]:
    positions: list[Tensor] = []
    for parent, offset in zip(motion.parents, motion.offsets, strict=True):
        positions.append(offset if parent < 0 else positions[parent] + offset)
    return torch.stack(positions)


def _by_direction(motion: Motion, table: Mapping[str, str], body: Body) -> Float[Tensor, "T B 3 3"]:
    """Every known bone in the file's direction; joints that the file does not name go along with their parents."""
    file_turns: list[Tensor] = []  # of each file joint in the world [T, 3, 3]
    for joint, parent in enumerate(motion.parents):
        own = motion.rotations[:, joint]
        file_turns.append(own if parent < 0 else file_turns[parent] @ own)
    source = {ours: motion.joint_names.index(theirs) for theirs, ours in table.items()}
    places = _rest_positions(motion)
    turns: list[Tensor] = []
    for joint, (name, parent) in enumerate(zip(body.joint_names, body.parents, strict=True)):
        if name in source:
            turns.append(file_turns[source[name]] @ _alignment(name, source, places, body))
        else:
            turns.append(turns[parent] if joint else torch.eye(3).repeat(motion.num_frames, 1, 1))
    return local_rotations(torch.stack(turns, dim=1), body.parents)


def _alignment(name: str, source: Mapping[str, int], places: Tensor, body: Body) -> Float[Tensor, "3 3"]:
    """The rotation that lays our bone at rest along the file's bone at rest."""
    stem, dot, side = name.partition(".")
    end = f"{_POINTS_AT.get(stem, '')}{dot}{side}"
    if end in source:
        theirs = places[source[end]] - places[source[name]]
        ours = body.rest_joints[body.joint_names.index(end)] - body.rest_joints[body.joint_names.index(name)]
        return rotation_between(ours, theirs)
    if stem in _INHERITS:
        return _alignment(f"{_INHERITS[stem]}{dot}{side}", source, places, body)
    return torch.eye(3)


def _leg(body: Body, *joints: str) -> float:
    hip, knee, ankle = (body.rest_joints[body.joint_names.index(joint)] for joint in joints)
    return float((knee - hip).norm() + (ankle - knee).norm())


def _file_leg(motion: Motion, *joints: str) -> float:
    hip, knee, ankle = (_rest_positions(motion)[motion.joint_names.index(joint)] for joint in joints)
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
