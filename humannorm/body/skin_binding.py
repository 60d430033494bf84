"""A skin binding: joints under a surface, and what moves them. Any rig, any surface; what files of moving figures hold.

Joint axes are the world's in the bind pose: where all rotations are the identity, the surface is as it was bound.
Letters: J joints, V vertices, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from humannorm.body.linear_blend_skinning import check_weights, linear_blend_skinning
from humannorm.body.skeleton import check_parents, forward_kinematics
from humannorm.checks import InputError, check_tensor

__all__ = ["JointMotion", "SkinBinding"]


@dataclass(frozen=True, eq=False)
class JointMotion:
    """Frames of one skin at even times."""

    name: str
    rotations: Float[Tensor, "T J 3 3"]  # of each joint against its parent
    root_positions: Float[Tensor, "T 3"]  # of the root joint, units of the surface
    frame_time: float  # seconds


@dataclass(frozen=True, eq=False)
class SkinBinding:
    """Joints in the bind pose, and four influences for each vertex of a surface."""

    joint_names: tuple[str, ...]
    parents: tuple[int, ...]  # -1 for the root, else an earlier joint
    joints: Float[Tensor, "J 3"]
    weight_joints: Int64[Tensor, "V 4"]  # an empty slot has joint 0
    weights: Float[Tensor, "V 4"]  # sum to 1

    def __post_init__(self) -> None:
        count = len(self.joint_names)
        if len(self.parents) != count:
            raise InputError(f"parents: expected one for each of {count} joints, got {len(self.parents)}")
        check_parents(self.parents)
        check_tensor("joints", self.joints, f"{count} 3", finite=True)
        check_tensor("weight_joints", self.weight_joints, "V 4", dtype="int")
        check_tensor("weights", self.weights, f"{len(self.weight_joints)} 4", finite=True)
        check_weights(self.weight_joints, self.weights, count)

    def transforms(self, motion: JointMotion) -> Float[Tensor, "T J 4 4"]:
        """Matrices that carry the bind pose into each frame."""
        joints = self.joints.expand(len(motion.rotations), -1, -1)
        return forward_kinematics(motion.rotations, joints, self.parents, motion.root_positions - self.joints[0])

    def moved(self, vertices: Float[Tensor, "V 3"], transforms: Float[Tensor, "J 4 4"]) -> Float[Tensor, "V 3"]:
        """The surface's vertices in one frame of `transforms`."""
        device = vertices.device
        return linear_blend_skinning(
            vertices, transforms.to(vertices), self.weight_joints.to(device), self.weights.to(vertices)
        )
