"""Rotations and forward kinematics of a joint hierarchy.

Letters: J joints, B any batch. A pose is one rotation per joint, `rotations[j]`, written in the axes of the world at
rest (not in a bone's own axes), so that the identity is the rest pose for every rig. Column vectors, right-handed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError, check_tensor

__all__ = [
    "axis_angle_to_matrix",
    "check_parents",
    "forward_kinematics",
    "local_rotations",
    "matrix_to_quaternion",
    "quaternion_to_matrix",
    "rotation_between",
    "transform_points",
]


def axis_angle_to_matrix(axis_angle: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Rodrigues' formula: R = I + sin(a) K + (1 - cos(a)) K^2, a = |v| in radians, K the cross matrix of v / a."""
    check_tensor("axis_angle", axis_angle, "* 3")
    angle = torch.linalg.vector_norm(axis_angle, dim=-1)[..., None, None]
    x, y, z = (axis_angle / angle[..., 0].clamp_min(torch.finfo(axis_angle.dtype).tiny)).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + torch.sin(angle) * cross + (1 - torch.cos(angle)) * (cross @ cross)


def rotation_between(source: Float[Tensor, "*#B 3"], target: Float[Tensor, "*#B 3"]) -> Float[Tensor, "*B 3 3"]:
    """The smallest rotation that turns one direction into another; lengths do not matter, opposite ones are refused."""
    check_tensor("source", source, "* 3")
    check_tensor("target", target, "* 3")
    a, b = torch.broadcast_tensors(
        torch.nn.functional.normalize(source, dim=-1), torch.nn.functional.normalize(target, dim=-1)
    )
    axis = torch.linalg.cross(a, b)
    cosine = (a * b).sum(-1)
    if bool((cosine < -0.9999).any()):
        raise InputError("target: expected a direction that is not opposite to the source, got one")
    sine = torch.linalg.vector_norm(axis, dim=-1)
    angle = torch.atan2(sine, cosine)
    return axis_angle_to_matrix(axis * (angle / sine.clamp_min(torch.finfo(sine.dtype).tiny))[..., None])


def quaternion_to_matrix(quaternions: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 3 3"]:
    """Rotation of each quaternion (w, x, y, z); need not be of unit length, must not be zero."""
    check_tensor("quaternions", quaternions, "* 4")
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def matrix_to_quaternion(rotations: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 4"]:
    """Unit quaternion (w, x, y, z), w >= 0, of each rotation.

    The matrix 4 q q^T has the entries below; its row of the largest diagonal entry, normalised, is q without loss of
    digits (Bar-Itzhack 2000 in the form of Shepperd 1978).
    """
    check_tensor("rotations", rotations, "* 3 3")
    r = rotations
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    wx, wy, wz = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    xy, xz, yz = r[..., 0, 1] + r[..., 1, 0], r[..., 0, 2] + r[..., 2, 0], r[..., 1, 2] + r[..., 2, 1]
    rows = torch.stack(
        (
            torch.stack((1 + xx + yy + zz, wx, wy, wz), dim=-1),
            torch.stack((wx, 1 + xx - yy - zz, xy, xz), dim=-1),
            torch.stack((wy, xy, 1 - xx + yy - zz, yz), dim=-1),
            torch.stack((wz, xz, yz, 1 - xx - yy + zz), dim=-1),
        ),
        dim=-2,
    )
    best = rows.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = torch.take_along_dim(rows, best[..., None, None], dim=-2).squeeze(-2)
    row = torch.nn.functional.normalize(row, dim=-1)
    return torch.where(row[..., :1] < 0, -row, row)


def check_parents(parents: Sequence[int]) -> None:
    """Raise `InputError` unless joint 0 is the one root (-1) and every parent comes before its child."""
    for joint, parent in enumerate(parents):
        if not (parent == -1 if joint == 0 else 0 <= parent < joint):
            wanted = "-1 (the root)" if joint == 0 else f"an index 0 to {joint - 1}"
            raise InputError(f"parents[{joint}]: expected {wanted}, got {parent}")


def forward_kinematics(
    rotations: Float[Tensor, "*B J 3 3"],
    joints: Float[Tensor, "*B J 3"],
    parents: Sequence[int],
    root_translation: Float[Tensor, "*B 3"] | None = None,
) -> Float[Tensor, "*B J 4 4"]:
    """Matrices that carry the rest body into the pose: G_j = G_parent T(joint_j) R_j T(-joint_j).

    `rotations` are in world axes at rest, `joints` the rest positions of the joint heads, `parents` as in
    `check_parents`. `root_translation` is added to everything. Points move by `transform_points(G[j], x)`.
    """
    count = len(parents)
    check_tensor("rotations", rotations, f"* {count} 3 3")
    check_tensor("joints", joints, f"* {count} 3")
    check_parents(parents)
    about_joint = torch.zeros(*rotations.shape[:-2], 4, 4, dtype=rotations.dtype, device=rotations.device)
    about_joint[..., :3, :3] = rotations
    about_joint[..., :3, 3] = joints - torch.einsum("...ij,...j->...i", rotations, joints)
    about_joint[..., 3, 3] = 1
    posed = [about_joint[..., 0, :, :]]
    for joint in range(1, count):
        posed.append(posed[parents[joint]] @ about_joint[..., joint, :, :])
    transforms = torch.stack(posed, dim=-3)
    if root_translation is not None:
        check_tensor("root_translation", root_translation, "* 3")
        shift = torch.zeros_like(transforms)
        shift[..., :3, 3] = root_translation[..., None, :]
        transforms = transforms + shift
    return transforms


def local_rotations(global_rotations: Float[Tensor, "*B J 3 3"], parents: Sequence[int]) -> Float[Tensor, "*B J 3 3"]:
    """The pose whose kinematics turn every joint so: R_j = G_parent^T G_j, the way back from `forward_kinematics`."""
    check_tensor("global_rotations", global_rotations, f"* {len(parents)} 3 3")
    check_parents(parents)
    above = torch.tensor([max(parent, 0) for parent in parents], device=global_rotations.device)
    local = global_rotations[..., above, :, :].transpose(-1, -2) @ global_rotations
    local[..., 0, :, :] = global_rotations[..., 0, :, :]
    return local


def transform_points(transforms: Float[Tensor, "*B 4 4"], points: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """One affine matrix for each point: A x + t."""
    check_tensor("transforms", transforms, "* 4 4")
    check_tensor("points", points, "* 3")
    return torch.einsum("...ij,...j->...i", transforms[..., :3, :3], points) + transforms[..., :3, 3]
