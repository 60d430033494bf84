"""Linear blend skinning: a vertex follows the weighted mean of its joints' matrices."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from humannorm.checks import InputError, check_tensor

__all__ = ["check_weights", "limit_influences", "linear_blend_skinning"]


def linear_blend_skinning(
    vertices: Float[Tensor, "V 3"],
    transforms: Float[Tensor, "J 4 4"],
    weight_joints: Int64[Tensor, "V K"],
    weights: Float[Tensor, "V K"],
) -> Float[Tensor, "V 3"]:
    """v' = sum_k w_k G_{j_k} v (Magnenat-Thalmann et al. 1988).

    `transforms` are what `forward_kinematics` returns; each vertex has K influences, joint `weight_joints[v, k]` with
    weight `weights[v, k]`; the weights of a vertex sum to 1.
    """
    count = vertices.shape[0]
    check_tensor("vertices", vertices, "V 3")
    check_tensor("transforms", transforms, "J 4 4")
    check_tensor("weight_joints", weight_joints, f"{count} K", dtype="int")
    check_tensor("weights", weights, f"{count} {weight_joints.shape[-1]}")
    blended = torch.zeros(count, 3, 4, dtype=vertices.dtype, device=vertices.device)
    for influence in range(weights.shape[1]):
        blended = blended + weights[:, influence, None, None] * transforms[weight_joints[:, influence], :3]
    return torch.einsum("vij,vj->vi", blended[..., :3], vertices) + blended[..., 3]


def limit_influences(
    dense_weights: Float[Tensor, "V J"], count: int = 4
) -> tuple[Int64[Tensor, "V K"], Float[Tensor, "V K"]]:
    """Keep the `count` largest weights of each vertex, scaled to sum 1, heaviest first; an empty slot has joint 0."""
    check_tensor("dense_weights", dense_weights, "V J")
    if bool((dense_weights < 0).any()) or bool((dense_weights.sum(-1) <= 0).any()):
        raise InputError("dense_weights: expected values of at least 0 with a positive sum for each vertex")
    weights, joints = dense_weights.topk(count, dim=-1)
    weights = weights / weights.sum(-1, keepdim=True)
    return torch.where(weights > 0, joints, 0), weights


def check_weights(weight_joints: Int64[Tensor, "V K"], weights: Float[Tensor, "V K"], joint_count: int) -> None:
    """Raise `InputError` unless the weights are in 0..1, sum to 1 and point at joints that exist."""
    if bool((weight_joints < 0).any()) or bool((weight_joints >= joint_count).any()):
        raise InputError(f"weight_joints: expected indices 0 to {joint_count - 1}, got {weight_joints.aminmax()}")
    sums = weights.sum(-1)
    if bool((weights < 0).any()) or bool(((sums - 1).abs() > 1e-3).any()):
        raise InputError(f"weights: expected values of at least 0 that sum to 1, got sums {sums.aminmax()}")
