"""Meshes that stand otherwise: turned and scaled to our frame, +Y up and +Z the subject's front."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import check_choice, check_range
from humannorm.mesh import Mesh

__all__ = ["UPS", "UP_AXES", "stood_up", "turn_to_stand"]

# World axes of a file -> ours (+Y up) by its upward one, a rotation each; for a mesh, what it faces then is an azimuth.
# MakeHuman's motions are z up with the figure facing -y; CMU's and Mixamo's y up.
UP_AXES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]] = {
    "y": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "z": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "x": ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
    "-y": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "-z": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "-x": ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
}
UPS = tuple(UP_AXES)


def turn_to_stand(up: str = "y", front: float = 0.0) -> Float[Tensor, "3 3"]:
    """The rotation of a mesh whose upward axis is `up` and that faces the azimuth `front`, degrees, once that is up.

    Azimuths are as everywhere: 0 faces +Z, 90 +X. With z up (Blender, most scanners) and the figure facing -Y, as
    Blender shows its front, `front` is 0.
    """
    check_choice("up", up, UPS)
    check_range("front", front, -360, 360)
    angle = -math.radians(front)
    c, s = math.cos(angle), math.sin(angle)
    yaw = torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]], dtype=torch.float64)
    return (yaw @ torch.tensor(UP_AXES[up], dtype=torch.float64)).float()


def stood_up(mesh: Mesh, up: str = "y", front: float = 0.0, scale: float = 1.0) -> Mesh:
    """The mesh turned by `turn_to_stand` about the origin and scaled; itself where nothing is to be done."""
    check_range("scale", scale, 1e-9, 1e9)
    if up == "y" and front == 0 and scale == 1:
        return mesh
    turn = turn_to_stand(up, front).to(mesh.vertices)
    normals = None if mesh.normals is None else mesh.normals @ turn.T
    return mesh.replace(vertices=scale * mesh.vertices @ turn.T, normals=normals)
