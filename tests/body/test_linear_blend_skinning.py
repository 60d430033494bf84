from __future__ import annotations

import pytest
import torch

from humannorm.body.linear_blend_skinning import check_weights, limit_influences, linear_blend_skinning
from humannorm.body.skeleton import axis_angle_to_matrix, forward_kinematics
from humannorm.checks import InputError


def random_rig(generator: torch.Generator, vertices: int = 40, joints: int = 5):
    points = torch.randn(vertices, 3, generator=generator, dtype=torch.float64)
    heads = torch.randn(joints, 3, generator=generator, dtype=torch.float64)
    rotations = axis_angle_to_matrix(torch.randn(joints, 3, generator=generator, dtype=torch.float64))
    transforms = forward_kinematics(rotations, heads, tuple(range(-1, joints - 1)))
    weight_joints = torch.stack([torch.randperm(joints, generator=generator)[:4] for _ in range(vertices)])
    weights = torch.rand(vertices, 4, generator=generator, dtype=torch.float64)
    return points, transforms, weight_joints, weights / weights.sum(-1, keepdim=True)


def test_equals_a_loop_over_vertices_and_influences(generator):
    points, transforms, weight_joints, weights = random_rig(generator)
    expected = torch.zeros_like(points)
    for v in range(len(points)):
        for k in range(4):
            matrix = transforms[weight_joints[v, k]]
            expected[v] += weights[v, k] * (matrix[:3, :3] @ points[v] + matrix[:3, 3])
    torch.testing.assert_close(linear_blend_skinning(points, transforms, weight_joints, weights), expected)


def test_one_common_matrix_moves_the_body_rigidly(generator):
    points, transforms, weight_joints, weights = random_rig(generator)
    common = transforms[3].expand(5, 4, 4)
    moved = linear_blend_skinning(points, common, weight_joints, weights)
    torch.testing.assert_close(torch.cdist(moved, moved), torch.cdist(points, points))


def test_gradients(generator):
    points, transforms, weight_joints, weights = random_rig(generator, vertices=4)
    points.requires_grad_()
    transforms = transforms.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, t: linear_blend_skinning(p, t, weight_joints, weights), (points, transforms)
    )


def test_the_heaviest_influences_are_kept_and_sum_to_one():
    dense = torch.tensor([[0.1, 0.0, 0.4, 0.2, 0.3, 0.05], [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    joints, weights = limit_influences(dense)
    assert joints.tolist() == [[2, 4, 3, 0], [1, 0, 0, 0]]
    torch.testing.assert_close(weights, torch.tensor([[0.4, 0.3, 0.2, 0.1], [1.0, 0, 0, 0]]))


def test_hostile_weights():
    with pytest.raises(InputError, match="dense_weights: expected"):
        limit_influences(torch.zeros(2, 5))
    with pytest.raises(InputError, match="weight_joints: expected indices 0 to 2"):
        check_weights(torch.tensor([[3, 0]]), torch.tensor([[0.5, 0.5]]), 3)
    with pytest.raises(InputError, match="sum to 1"):
        check_weights(torch.tensor([[1, 0]]), torch.tensor([[0.5, 0.1]]), 3)
