"""Reading motion files (Biovision hierarchy, .bvh).

Letters: T frames, J joints. End sites are no joints. Angles in the file are degrees, lengths are the file's own.
Programs write the format loosely; what cannot be misunderstood is taken: capitals, a byte order mark, spaces in joint
names, missing spaces after colons, more rows than stated (with a warning).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body.skeleton import axis_angle_to_matrix
from humannorm.checks import InputError
from humannorm.mesh_standing import UP_AXES

__all__ = ["Motion", "load_bvh", "parse_bvh", "rotations_for"]

_CHANNELS = tuple(f"{axis}{kind}" for kind in ("position", "rotation") for axis in "xyz")
_FRAME_TIMES = (1e-4, 10.0)  # seconds: ten thousand frames a second to one in ten seconds
_MOST_JOINTS = 10_000


@dataclass(frozen=True, eq=False)
class Motion:
    """A motion in our axes: rotations in world axes at rest (see `skeleton`), one place per joint and frame."""

    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Float[Tensor, "J 3"]  # rest position of a joint relative to its parent, file units
    rotations: Float[Tensor, "T J 3 3"]
    translations: Float[Tensor, "T J 3"]  # of a joint relative to its parent, in the parent's axes, file units
    frame_time: float  # seconds

    @property
    def num_frames(self) -> int:
        return self.rotations.shape[0]

    @property
    def root_positions(self) -> Float[Tensor, "T 3"]:
        return self.translations[:, 0]

    def with_up(self, up: str) -> Motion:
        """The same numbers read as a file whose vertical axis is `up` instead of "y"."""
        if up not in UP_AXES:
            raise InputError(f"up: expected one of {', '.join(UP_AXES)}, got {up!r}")
        return self.turned(torch.tensor(UP_AXES[up], dtype=torch.float32))

    def turned(self, change: Float[Tensor, "3 3"]) -> Motion:
        """In other axes of the world: what was along x is along the first column."""
        return replace(
            self,
            offsets=self.offsets @ change.T,
            rotations=change @ self.rotations @ change.T,
            translations=self.translations @ change.T,
        )

    def world(self) -> Float[Tensor, "T J 4 4"]:
        """Where each joint is, and how it is turned from the axes of the world."""
        local = torch.zeros(*self.rotations.shape[:2], 4, 4)
        local[..., :3, :3], local[..., :3, 3], local[..., 3, 3] = self.rotations, self.translations, 1.0
        placed: list[Tensor] = []
        for joint, parent in enumerate(self.parents):
            placed.append(local[:, joint] if parent < 0 else placed[parent] @ local[:, joint])
        return torch.stack(placed, dim=1)

    def rest(self) -> Float[Tensor, "J 3"]:
        """Places of the joints without any rotation. A file that gives no offsets has them in its first frame."""
        offsets = self.offsets if bool((self.offsets[1:] != 0).any()) else self.translations[0]
        positions: list[Tensor] = []
        for parent, offset in zip(self.parents, offsets, strict=True):
            positions.append(offset if parent < 0 else positions[parent] + offset)
        return torch.stack(positions)


def load_bvh(path: str | Path, up: str = "y") -> Motion:
    """Read a .bvh file whose vertical axis is `up`: one of `UP_AXES`, such as "y" (Mixamo, CMU) or "z" (MakeHuman)."""
    return parse_bvh(_read_text(Path(path)), up, name=str(path))


def _read_text(path: Path) -> str:
    content = path.read_bytes()
    try:
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return content.decode("utf-16")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\0" in content or content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(f"{path}: expected a text file, got bytes that are neither UTF-8 nor UTF-16") from error
        return content.decode("latin-1")  # joint names in an older encoding: each byte stays what it is


def parse_bvh(text: str, up: str = "y", name: str = "bvh") -> Motion:
    """`load_bvh` for text already read; `name` stands in error messages."""
    if up not in UP_AXES:
        raise InputError(f"up: expected one of {', '.join(UP_AXES)}, got {up!r}")
    head, motion_word, body = _partition(text)
    try:
        joints = _Hierarchy(head).joints
        if not motion_word:
            raise IndexError
        width = sum(len(joint.channels) for joint in joints)
        frame_time, table = _parse_motion(body, width, name)
    except IndexError:
        raise InputError(f"{name}: expected a whole BVH file, got one that ends too early") from None
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error
    rotations, translations = _decode(joints, table)
    return Motion(
        joint_names=tuple(joint.name for joint in joints),
        parents=tuple(joint.parent for joint in joints),
        offsets=torch.tensor([joint.offset for joint in joints], dtype=torch.float32),
        rotations=rotations,
        translations=translations,
        frame_time=frame_time,
    ).with_up(up)


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


def _partition(text: str) -> tuple[str, str, str]:
    """What stands before the line MOTION, that word, and what stands behind."""
    found = re.search(r"^\s*(MOTION)\b|(?<=[\s}])(MOTION)(?=\s)", text, re.IGNORECASE | re.MULTILINE)
    if found is None:
        return text, "", ""
    return text[: found.start()], "MOTION", text[found.end() :]


@dataclass
class _Joint:
    name: str
    parent: int
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    channels: tuple[str, ...] = field(default=())


class _Hierarchy:
    """The joints of a file's first half. `IndexError` where it ends too early, `ValueError` where it is no BVH."""

    def __init__(self, text: str) -> None:
        # A name reaches to the end of its line or to the brace: "JOINT Bip01 L Thigh".
        self.tokens = re.findall(r"[{}]|(?<=[{}])[^\s{}]+|[^\s{}]+|\n", text)
        self.at = 0
        self.joints: list[_Joint] = []
        self._expect("hierarchy")
        self._expect("root")
        self._read()

    def _next(self) -> str:
        while self.tokens[self.at] == "\n":
            self.at += 1
        self.at += 1
        return self.tokens[self.at - 1]

    def _expect(self, *wanted: str) -> str:
        token = self._next()
        if token.lower() not in wanted:
            shown = [word.upper() if word in ("hierarchy", "root", "joint") else word for word in wanted]
            raise ValueError(f"expected a BVH file, with {' or '.join(shown)} at this place, got {token[:40]!r}")
        return token.lower()

    def _name(self) -> str:
        words = [self._next()]
        while self.tokens[self.at] not in ("\n", "{"):
            words.append(self._next())
        self._expect("{")
        return " ".join(words)

    def _read(self) -> None:
        open_joints: list[int] = []  # -1 stands for an end site
        keyword = "root"
        while True:
            if keyword in ("root", "joint"):
                self.joints.append(_Joint(self._name(), open_joints[-1] if open_joints else -1))
                open_joints.append(len(self.joints) - 1)
                if len(self.joints) > _MOST_JOINTS:
                    raise ValueError(f"expected at most {_MOST_JOINTS} joints, got more")
            elif keyword == "end":
                self._name()
                open_joints.append(-1)
            elif keyword == "offset":
                offset = (_number(self._next()), _number(self._next()), _number(self._next()))
                if open_joints[-1] >= 0:
                    self.joints[open_joints[-1]].offset = offset
            elif keyword == "channels":
                channels = tuple([self._expect(*_CHANNELS) for _ in range(_count(self._next()))])
                if open_joints[-1] >= 0:
                    self.joints[open_joints[-1]].channels = channels
            elif keyword == "}":
                open_joints.pop()
                if not open_joints:
                    return
            keyword = self._expect("joint", "end", "offset", "channels", "}")


def _number(token: str) -> float:
    """A finite number; some programs write decimals with a comma where their computer does."""
    try:
        value = float(token.replace(",", "."))
    except ValueError:
        raise ValueError(f"expected a BVH file, with a number at this place, got {token[:40]!r}") from None
    if not math.isfinite(value):
        raise ValueError(f"expected finite numbers, got {token}")
    return value


def _count(token: str) -> int:
    value = _number(token)
    if value != int(value) or not 0 <= value <= 1e9:
        raise ValueError(f"expected a whole number, got {token}")
    return int(value)


def _parse_motion(text: str, width: int, name: str) -> tuple[float, Tensor]:
    """Seconds of a frame, and the rows that the file states [T, C]."""
    head = re.match(r"\s*Frames\s*:\s*(\S+)\s+Frame\s*Time\s*:\s*(\S+)", text, re.IGNORECASE)
    if head is None:
        if len(text.split()) < 4:
            raise IndexError
        found = " ".join(text[:40].split())
        raise ValueError(f"expected a BVH file, with Frames: and Frame Time: after MOTION, got {found!r}")
    frames, values = _count(head[1]), [_number(token) for token in text[head.end() :].split()]
    frame_time = _frame_time(head[2])
    if frames < 1 or width < 1:
        raise ValueError(f"expected at least one frame and one channel, got {frames} frames of {width} channels")
    rows, rest = divmod(len(values), width)
    if rest or rows < 1:
        raise ValueError(f"expected {frames} frames of {width} channels ({frames * width} numbers), got {len(values)}")
    if rows != frames:
        taken = min(rows, frames)
        warnings.warn(f"{name}: says Frames: {frames} and has {rows} rows; the first {taken} are taken", stacklevel=4)
    table = torch.tensor(values[: min(rows, frames) * width], dtype=torch.float32)
    return frame_time, table.reshape(-1, width)


def _frame_time(token: str) -> float:
    low, high = _FRAME_TIMES
    try:
        value = float(token.replace(",", "."))
    except ValueError:
        value = math.nan
    if not value > 0 or math.isinf(value):
        raise ValueError(f"Frame Time: expected a positive number of seconds, got {token}")
    if not low <= value <= high:
        raise ValueError(f"Frame Time: expected {low:g} to {high:g} seconds, got {token}")
    return value


def _decode(joints: list[_Joint], table: Tensor) -> tuple[Tensor, Tensor]:
    """Channel table [T, C] -> rotations [T, J, 3, 3] (product in file order), places by the parent [T, J, 3]."""
    frames = table.shape[0]
    rotations = torch.eye(3).repeat(frames, len(joints), 1, 1)
    translations = torch.tensor([joint.offset for joint in joints]).repeat(frames, 1, 1)
    column = 0
    for index, joint in enumerate(joints):
        moved = translations[:, index].clone()
        for channel in joint.channels:
            axis = "xyz".index(channel[0])
            if channel.endswith("rotation"):
                turn = torch.zeros(frames, 3)
                turn[:, axis] = torch.deg2rad(table[:, column])
                rotations[:, index] = rotations[:, index] @ axis_angle_to_matrix(turn)
            else:
                moved[:, axis] = table[:, column]
            column += 1
        translations[:, index] = moved if index == 0 else _beside_parent(moved, translations[0, index])
    return rotations, translations


def _beside_parent(moved: Float[Tensor, "T 3"], offset: Float[Tensor, "3"]) -> Float[Tensor, "T 3"]:
    """Position channels of an inner joint: most programs write its place, some what is added to the offset."""
    middle = moved.median(0).values
    added = bool((middle - offset).norm() > middle.norm())
    return offset + moved if added else moved
