"""Skeletons to rig a human with: MakeHuman's own 163 joints, and those that engines and animation services know.

Baked by tools/bake_rigs.py from CC0 data. Every rig is laid over the one body, so a pose of the body's joints is a pose
of any rig: each joint turns with the body joint that it `follows`. Letters: J the rig's joints, B the body's (163), V
vertices of the body.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from humannorm.body.body import Body, load_body
from humannorm.body.skeleton import transform_points
from humannorm.checks import check_choice

__all__ = ["RIGS", "Rig", "load_rig"]

DATA = Path(__file__).parent / "data" / "rigs.npz"
RIGS = ("makehuman", "game_engine", "mixamo")


@dataclass(frozen=True, eq=False)
class Rig:
    """Joints of one rig and how they hang on the body."""

    name: str
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]  # -1 for the root, else an earlier joint
    follows: Int64[Tensor, " J"]  # body joint whose turning a joint takes over
    head_joints: Int64[Tensor, "J 4"]  # body joints ...
    head_weights: Float[Tensor, "J 4"]  # ... whose mix is the joint's head, at rest; sum to 1
    weight_joints: Int64[Tensor, "V 4"]
    weights: Float[Tensor, "V 4"]  # skin weights of the body's vertices; sum to 1, heaviest first

    def heads(self, body: Body) -> Float[Tensor, "J 3"]:
        """Where the joints are in the body's pose: mixed at rest, then carried along by what they follow."""
        rest = torch.einsum("jk,jkc->jc", self.head_weights.to(body.rest_joints), body.rest_joints[self.head_joints])
        return transform_points(body.transforms[self.follows], rest)


@functools.cache
def load_rig(name: str) -> Rig:
    """One of `RIGS`: "makehuman" (163 joints), "game_engine" (53) or "mixamo" (52)."""
    check_choice("rig", name, RIGS)
    if name == "makehuman":
        return _own_rig()
    data = _arrays()
    weights = torch.from_numpy(data[f"{name}.weights"].astype(np.float32))

    def indices(field: str) -> Tensor:
        return torch.from_numpy(data[f"{name}.{field}"].astype(np.int64))

    return Rig(
        name=name,
        joint_names=tuple(data[f"{name}.names"].tolist()),
        parents=tuple(data[f"{name}.parents"].tolist()),
        follows=indices("follows"),
        head_joints=indices("head_joints"),
        head_weights=torch.from_numpy(data[f"{name}.head_weights"]),
        weight_joints=indices("weight_joints"),
        weights=weights / weights.sum(-1, keepdim=True),
    )


def _own_rig() -> Rig:
    body = load_body(pose="rest")
    count = len(body.joint_names)
    own = torch.arange(count)
    alone = torch.zeros(count, 4)
    alone[:, 0] = 1
    return Rig(
        "makehuman",
        body.joint_names,
        body.parents,
        own,
        own[:, None].repeat(1, 4),
        alone,
        body.weight_joints,
        body.weights,
    )


@functools.cache
def _arrays() -> Mapping[str, np.ndarray]:
    with np.load(DATA, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
