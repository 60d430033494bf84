"""Reading motion files (Biovision hierarchy, .bvh).

Letters: T frames, J joints. End sites are no joints. Angles in the file are degrees, lengths are the file's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body.skeleton import axis_angle_to_matrix
from humannorm.checks import InputError

__all__ = ["Motion", "load_bvh", "parse_bvh", "rotations_for"]

_CHANNELS = ("Xposition", "Yposition", "Zposition", "Xrotation", "Yrotation", "Zrotation")

# World axes of a file -> ours (+Y up). MakeHuman writes z up with the figure facing -y; CMU and Mixamo write y up.
_TO_Y_UP = {"y": ((1, 0, 0), (0, 1, 0), (0, 0, 1)), "z": ((1, 0, 0), (0, 0, 1), (0, -1, 0))}


@dataclass(frozen=True, eq=False)
class Motion:
    """A motion in our axes: rotations in world axes at rest (see `skeleton`), one root position per frame."""

    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Float[Tensor, "J 3"]  # rest position of a joint relative to its parent, file units
    rotations: Float[Tensor, "T J 3 3"]
    root_positions: Float[Tensor, "T 3"]  # file units
    frame_time: float  # seconds

    @property
    def num_frames(self) -> int:
        return self.rotations.shape[0]


def load_bvh(path: str | Path, up: str = "y") -> Motion:
    """Read a .bvh file whose vertical axis is `up`: "y" (Mixamo, CMU) or "z" (MakeHuman)."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected a text file, got bytes that are not UTF-8") from error
    return parse_bvh(text, up, name=str(path))


def parse_bvh(text: str, up: str = "y", name: str = "bvh") -> Motion:
    """`load_bvh` for text already read; `name` stands in error messages."""
    if up not in _TO_Y_UP:
        raise InputError(f"up: expected one of {', '.join(_TO_Y_UP)}, got {up!r}")
    tokens = iter(text.split())
    try:
        joints = _parse_hierarchy(tokens)
        frames, frame_time, values = _parse_motion(tokens)
    except StopIteration:
        raise InputError(f"{name}: expected a whole BVH file, got one that ends too early") from None
    except ValueError as error:
        raise InputError(f"{name}: expected a BVH file, {error}") from error
    width = sum(len(joint.channels) for joint in joints)
    if len(values) != frames * width:
        raise InputError(
            f"{name}: expected {frames} frames of {width} channels ({frames * width} numbers), got {len(values)}"
        )
    table = torch.tensor(values, dtype=torch.float32).reshape(frames, width)
    rotations, root_positions = _decode(joints, table)
    change = torch.tensor(_TO_Y_UP[up], dtype=torch.float32)
    return Motion(
        joint_names=tuple(joint.name for joint in joints),
        parents=tuple(joint.parent for joint in joints),
        offsets=torch.tensor([joint.offset for joint in joints], dtype=torch.float32) @ change.T,
        rotations=change @ rotations @ change.T,
        root_positions=root_positions @ change.T,
        frame_time=frame_time,
    )


def rotations_for(motion: Motion, joint_names: Sequence[str], frame: int = 0) -> Float[Tensor, "J 3 3"]:
    """One frame for a skeleton of other joints, matched by name; joints that the motion does not name stay at rest.

    Right only where both rests point the bones the same way, as all MakeHuman files do.
    """
    if not 0 <= frame < motion.num_frames:
        raise InputError(f"frame: expected 0 to {motion.num_frames - 1}, got {frame}")
    index = {name: position for position, name in enumerate(motion.joint_names)}
    if not any(name in index for name in joint_names):
        raise InputError(f"motion: expected joints such as {joint_names[0]!r}, got {', '.join(motion.joint_names[:4])}")
    rotations = torch.eye(3).repeat(len(joint_names), 1, 1)
    for position, name in enumerate(joint_names):
        if name in index:
            rotations[position] = motion.rotations[frame, index[name]]
    return rotations


@dataclass
class _Joint:
    name: str
    parent: int
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    channels: tuple[str, ...] = ()


def _expect(tokens: Iterator[str], *wanted: str) -> str:
    token = next(tokens)
    if token not in wanted:
        raise ValueError(f"expected {' or '.join(wanted)}, got {token!r}")
    return token


def _parse_hierarchy(tokens: Iterator[str]) -> list[_Joint]:
    _expect(tokens, "HIERARCHY")
    _expect(tokens, "ROOT")
    joints: list[_Joint] = []
    open_joints: list[int] = []  # -1 stands for an end site
    keyword = "ROOT"
    while True:
        if keyword in ("ROOT", "JOINT"):
            joints.append(_Joint(next(tokens), open_joints[-1] if open_joints else -1))
            open_joints.append(len(joints) - 1)
            _expect(tokens, "{")
        elif keyword == "End":
            _expect(tokens, "Site")
            _expect(tokens, "{")
            open_joints.append(-1)
        elif keyword == "OFFSET":
            offset = (float(next(tokens)), float(next(tokens)), float(next(tokens)))
            if open_joints[-1] >= 0:
                joints[open_joints[-1]].offset = offset
        elif keyword == "CHANNELS":
            channels = tuple([_expect(tokens, *_CHANNELS) for _ in range(int(next(tokens)))])
            joints[open_joints[-1]].channels = channels
        elif keyword == "}":
            open_joints.pop()
            if not open_joints:
                return joints
        keyword = _expect(tokens, "JOINT", "End", "OFFSET", "CHANNELS", "}")


def _parse_motion(tokens: Iterator[str]) -> tuple[int, float, list[float]]:
    _expect(tokens, "MOTION")
    _expect(tokens, "Frames:")
    frames = int(next(tokens))
    _expect(tokens, "Frame")
    _expect(tokens, "Time:")
    frame_time = float(next(tokens))
    values = [float(token) for token in tokens]
    if frames < 1 or not all(math.isfinite(value) for value in values):
        raise ValueError(f"expected at least one frame of finite numbers, got {frames} frames")
    return frames, frame_time, values


def _decode(joints: list[_Joint], table: Tensor) -> tuple[Tensor, Tensor]:
    """Channel table [T, C] -> rotations [T, J, 3, 3] (product in file order), root positions [T, 3]."""
    frames = table.shape[0]
    rotations = torch.eye(3).repeat(frames, len(joints), 1, 1)
    root_positions = torch.tensor(joints[0].offset).repeat(frames, 1)
    column = 0
    for index, joint in enumerate(joints):
        for channel in joint.channels:
            axis = "XYZ".index(channel[0])
            if channel.endswith("rotation"):
                turn = torch.zeros(frames, 3)
                turn[:, axis] = torch.deg2rad(table[:, column])
                rotations[:, index] = rotations[:, index] @ axis_angle_to_matrix(turn)
            elif index == 0:
                root_positions[:, axis] = table[:, column]
            column += 1
    return rotations, root_positions
