"""Clips: poses over time on the body's joints, and what makes a pose a clip.

A clip is written for the body that came along, whatever rig shows it later. Letters: T frames, B the body's joints.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body.body import Body
from humannorm.body.skeleton import forward_kinematics
from humannorm.checks import check_tensor

__all__ = ["Clip", "clip_transforms", "still"]


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames at even times. A looping clip's last frame is its first one again."""

    name: str
    rotations: Float[Tensor, "T B 3 3"]  # in world axes at rest, as everywhere
    root_translations: Float[Tensor, "T 3"]  # of the root joint from where it is at rest, units of the body
    frame_time: float  # seconds
    loops: bool = False

    def __post_init__(self) -> None:
        check_tensor("rotations", self.rotations, "T B 3 3", finite=True)
        check_tensor("root_translations", self.root_translations, f"{len(self.rotations)} 3", finite=True)

    @property
    def num_frames(self) -> int:
        return len(self.rotations)

    @property
    def seconds(self) -> float:
        return (self.num_frames - 1) * self.frame_time

    def in_place(self) -> Clip:
        """The same without travelling: what the root covers along the ground from first to last frame is taken out."""
        share = torch.linspace(0, 1, self.num_frames, dtype=self.root_translations.dtype)[:, None]
        covered = (self.root_translations[-1] - self.root_translations[0]) * torch.tensor([1.0, 0.0, 1.0])
        return dataclasses.replace(self, root_translations=self.root_translations - share * covered)


def still(name: str, rotations: Float[Tensor, "B 3 3"], body: Body) -> Clip:
    """One pose as a clip of two equal frames, the lowest point on the ground."""
    drop = body.posed(rotations, grounded=False).vertices[:, 1].min()
    ground = body.rest_vertices[:, 1].min()
    translation = torch.stack([torch.zeros_like(drop), ground - drop, torch.zeros_like(drop)])
    return Clip(name, rotations[None].repeat(2, 1, 1, 1), translation[None].repeat(2, 1), 1.0, loops=True)


def clip_transforms(clip: Clip, body: Body) -> Float[Tensor, "T B 4 4"]:
    """Matrices that carry the body's rest into each frame."""
    joints = body.rest_joints.expand(clip.num_frames, -1, -1)
    return forward_kinematics(clip.rotations.to(joints), joints, body.parents, clip.root_translations.to(joints))
