"""Joint sliders: a pose changed by a few angles that a person understands.

A turn acts in the axes of the joint's parent, after the pose, so that an arm that a pose has lowered is raised again by
the same slider. Angles are degrees; signs and limits are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body.body import Body
from humannorm.body.skeleton import axis_angle_to_matrix
from humannorm.checks import check_choice, check_range, check_tensor

__all__ = ["JOINT_TURNS", "JointTurn", "turned"]

Axis = tuple[float, float, float]
FRONT = (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class JointTurn:
    """One slider: joints that share its angle, and about which axis they turn."""

    joints: tuple[str, ...]
    axis: Axis | None  # of the world at rest; None: the hinge that brings the bone to the front
    low: float  # degrees
    high: float
    meaning: str  # of a positive angle


def _both(name: str, joint: str, axis: Axis | None, low: float, high: float, meaning: str) -> dict[str, JointTurn]:
    """The same slider for both sides; the right one's axis is the left one's mirror image."""
    mirrored = None if axis is None else (axis[0], -axis[1], -axis[2])
    return {
        f"left_{name}": JointTurn((f"{joint}.L",), axis, low, high, f"left {meaning}"),
        f"right_{name}": JointTurn((f"{joint}.R",), mirrored, low, high, f"right {meaning}"),
    }


_SPINE = ("spine04", "spine03", "spine02")
_DOWN_FRONT, _FORWARD = (1.0, 0.0, 0.0), (-1.0, 0.0, 0.0)  # how what points up, and what hangs, comes to the front

JOINT_TURNS: Mapping[str, JointTurn] = {
    "head_turn": JointTurn(("neck01", "head"), (0.0, 1.0, 0.0), -80.0, 80.0, "head to the person's left"),
    "head_nod": JointTurn(("neck01", "head"), _DOWN_FRONT, -45.0, 45.0, "head down"),
    "body_turn": JointTurn(_SPINE, (0.0, 1.0, 0.0), -60.0, 60.0, "trunk to the person's left"),
    "body_bend": JointTurn(_SPINE, _DOWN_FRONT, -30.0, 90.0, "trunk forward"),
    **_both("arm_raise", "upperarm01", (0.0, 0.0, 1.0), -60.0, 130.0, "arm up, sideways"),
    **_both("arm_forward", "upperarm01", _FORWARD, -60.0, 130.0, "arm to the front"),
    **_both("elbow", "lowerarm01", None, -30.0, 130.0, "elbow bent"),
    **_both("leg_forward", "upperleg01", _FORWARD, -40.0, 110.0, "leg to the front"),
    **_both("leg_out", "upperleg01", (0.0, 0.0, 1.0), -20.0, 60.0, "leg sideways"),
    **_both("knee", "lowerleg01", _DOWN_FRONT, -5.0, 130.0, "knee bent"),
}

_CHILD = {"lowerarm01": "wrist"}  # whose direction tells the hinge of a joint without an axis


def turned(body: Body, rotations: Float[Tensor, "J 3 3"], turns: Mapping[str, float]) -> Float[Tensor, "J 3 3"]:
    """A pose of the body with these sliders (degrees, by name) turned on top; what is not named stays."""
    check_tensor("rotations", rotations, f"{len(body.parents)} 3 3")
    changed = rotations.clone()
    for name, degrees in turns.items():
        check_choice("turns", name, JOINT_TURNS)
        turn = JOINT_TURNS[name]
        check_range(name, degrees, turn.low, turn.high)
        for joint in turn.joints:
            index = body.joint_names.index(joint)
            axis = _hinge(body, joint, changed[index]) if turn.axis is None else changed.new_tensor(turn.axis)
            angle = math.radians(degrees) / len(turn.joints)
            changed[index] = axis_angle_to_matrix(angle * axis) @ changed[index]
    return changed


def _hinge(body: Body, joint: str, rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "3"]:
    """The axis about which the bone behind a joint turns toward the front, in the axes of the joint's parent."""
    name, side = joint.split(".")
    ends = [body.rest_joints[body.joint_names.index(each)] for each in (joint, f"{_CHILD[name]}.{side}")]
    axis = torch.linalg.cross(rotation @ (ends[1] - ends[0]), rotation.new_tensor(FRONT))
    return torch.nn.functional.normalize(axis, dim=0)
