from __future__ import annotations

import math

import pytest
import torch

from humannorm.body.skeleton import (
    axis_angle_to_matrix,
    forward_kinematics,
    matrix_to_quaternion,
    quaternion_to_matrix,
    transform_points,
)
from humannorm.checks import InputError

CHAIN = (-1, 0, 1)  # three joints on the x axis, one unit apart
CHAIN_JOINTS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]], dtype=torch.float64)


def random_rotations(generator: torch.Generator, *batch: int) -> torch.Tensor:
    return axis_angle_to_matrix(torch.randn(*batch, 3, generator=generator, dtype=torch.float64))


def test_quarter_turns_about_each_axis_are_the_textbook_ones():
    turn = math.pi / 2
    vectors = torch.tensor([[turn, 0, 0], [0, turn, 0], [0, 0, turn]], dtype=torch.float64)
    images = axis_angle_to_matrix(vectors) @ torch.tensor([1.0, 2, 3], dtype=torch.float64)
    expected = torch.tensor([[1.0, -3, 2], [3, 2, -1], [-2, 1, 3]], dtype=torch.float64)
    torch.testing.assert_close(images, expected, atol=1e-12, rtol=0)


def test_rotations_are_orthogonal_with_determinant_one_and_zero_is_the_identity(generator):
    rotations = random_rotations(generator, 20)
    identity = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(rotations @ rotations.mT, identity.expand(20, 3, 3), atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(20, dtype=torch.float64))
    assert torch.equal(axis_angle_to_matrix(torch.zeros(3)), torch.eye(3))


def test_quaternions_round_trip_also_at_half_turns(generator):
    half_turns = torch.tensor([[math.pi, 0, 0], [0, math.pi, 0], [0, 0, math.pi], [1e-9, 0, 0]], dtype=torch.float64)
    rotations = torch.cat((random_rotations(generator, 50), axis_angle_to_matrix(half_turns)))
    quaternions = matrix_to_quaternion(rotations)
    assert bool((quaternions[:, 0] >= 0).all())
    torch.testing.assert_close(quaternion_to_matrix(quaternions), rotations, atol=1e-12, rtol=0)


def test_no_rotation_is_the_identity_whatever_the_joints(generator):
    joints = torch.randn(3, 3, generator=generator)
    transforms = forward_kinematics(torch.eye(3).repeat(3, 1, 1), joints, CHAIN)
    torch.testing.assert_close(transforms, torch.eye(4).repeat(3, 1, 1))


def test_a_bent_chain_in_closed_form():
    rotations = torch.eye(3, dtype=torch.float64).repeat(3, 1, 1)
    rotations[1] = axis_angle_to_matrix(torch.tensor([0, 0, math.pi / 2], dtype=torch.float64))
    tip = torch.tensor([[2.5, 0, 0]], dtype=torch.float64).expand(3, 3)
    moved = transform_points(forward_kinematics(rotations, CHAIN_JOINTS, CHAIN), tip)
    expected = torch.tensor([[2.5, 0, 0], [1, 1.5, 0], [1, 1.5, 0]], dtype=torch.float64)
    torch.testing.assert_close(moved, expected, atol=1e-12, rtol=0)


def test_a_rotation_of_the_root_composes_with_every_joint(generator):
    """G(root turned by Q) = Q about the root joint, after G(root at rest)."""
    joints = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    rotations = random_rotations(generator, 3)
    rotations[0] = torch.eye(3, dtype=torch.float64)
    turn = random_rotations(generator, 1)[0]
    turned = rotations.clone()
    turned[0] = turn
    about_root = torch.eye(4, dtype=torch.float64)
    about_root[:3, :3] = turn
    about_root[:3, 3] = joints[0] - turn @ joints[0]
    expected = about_root @ forward_kinematics(rotations, joints, CHAIN)
    torch.testing.assert_close(forward_kinematics(turned, joints, CHAIN), expected)


def test_bones_keep_their_length_and_joints_stay_with_their_parents(generator):
    joints = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    parents = (-1, 0, 0, 1, 3, 2)
    transforms = forward_kinematics(random_rotations(generator, 4, 6), joints.expand(4, 6, 3), parents)
    posed = transform_points(transforms, joints.expand(4, 6, 3))
    for joint, parent in enumerate(parents[1:], start=1):
        before = (joints[joint] - joints[parent]).norm()
        torch.testing.assert_close((posed[:, joint] - posed[:, parent]).norm(dim=-1), before.expand(4))
        by_parent = transform_points(transforms[:, parent], joints[joint].expand(4, 3))
        torch.testing.assert_close(by_parent, posed[:, joint])


def test_root_translation_moves_everything():
    shift = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    transforms = forward_kinematics(torch.eye(3, dtype=torch.float64).repeat(3, 1, 1), CHAIN_JOINTS, CHAIN, shift)
    torch.testing.assert_close(transform_points(transforms, CHAIN_JOINTS), CHAIN_JOINTS + shift)


def test_gradients_of_the_chain(generator):
    vectors = torch.randn(3, 3, generator=generator, dtype=torch.float64, requires_grad=True)

    def tip(vectors):
        return forward_kinematics(axis_angle_to_matrix(vectors), CHAIN_JOINTS, CHAIN)[2, :3]

    assert torch.autograd.gradcheck(tip, vectors)


@pytest.mark.parametrize("parents", [(0, 0, 1), (-1, 2, 0), (-1, -1, 0)])
def test_parents_must_come_first(parents):
    with pytest.raises(InputError, match=r"parents\[[01]\]: expected"):
        forward_kinematics(torch.eye(3).repeat(3, 1, 1), torch.zeros(3, 3), parents)


def test_joint_count_must_match(as_user):
    with pytest.raises(InputError, match=r"rotations: expected float tensor \[\*, 3, 3, 3\]"):
        forward_kinematics(torch.eye(3).repeat(2, 1, 1), torch.zeros(3, 3), CHAIN)
