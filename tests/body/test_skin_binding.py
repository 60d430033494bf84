"""Skins: closed forms of one bone, and a naive loop."""

from __future__ import annotations

import pytest
import torch

from humannorm.body.skeleton import axis_angle_to_matrix, local_rotations, rotation_between
from humannorm.body.skin_binding import JointMotion, SkinBinding
from humannorm.checks import InputError


def chain(generator: torch.Generator) -> tuple[SkinBinding, torch.Tensor]:
    joints = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    weights = torch.rand(50, 4, generator=generator)
    weights[:, 3] = 0
    index = torch.tensor([0, 1, 2, 0]).repeat(50, 1)
    skin = SkinBinding(("a", "b", "c"), (-1, 0, 1), joints, index, weights / weights.sum(1, keepdim=True))
    return skin, torch.rand(50, 3, generator=generator)


def test_identity_keeps_the_surface_and_a_moved_root_carries_it(generator):
    skin, vertices = chain(generator)
    way = torch.tensor([1.0, 2.0, 3.0])
    still = torch.eye(3).repeat(2, 3, 1, 1)
    motion = JointMotion("m", still, torch.stack([skin.joints[0], skin.joints[0] + way]), 0.1)
    transforms = skin.transforms(motion)
    torch.testing.assert_close(skin.moved(vertices, transforms[0]), vertices)
    torch.testing.assert_close(skin.moved(vertices, transforms[1]), vertices + way)


def test_one_turned_bone_moves_its_own_vertices_rigidly_about_its_head(generator):
    skin, vertices = chain(generator)
    bound = SkinBinding(skin.joint_names, skin.parents, skin.joints, torch.tensor([[1, 0, 0, 0]]).repeat(50, 1),
                 torch.tensor([[1.0, 0, 0, 0]]).repeat(50, 1))  # fmt: skip
    turn = axis_angle_to_matrix(torch.tensor([0.0, 0.0, torch.pi / 2]))
    rotations = torch.eye(3).repeat(1, 3, 1, 1)
    rotations[0, 1] = turn
    frame = bound.transforms(JointMotion("m", rotations, bound.joints[:1], 0.1))[0]
    x, y, z = vertices.unbind(1)
    torch.testing.assert_close(bound.moved(vertices, frame), torch.stack([1 - y, 1 + x, z], 1), atol=1e-6, rtol=0)


def test_against_a_naive_loop(generator):
    skin, vertices = chain(generator)
    rotations = axis_angle_to_matrix(torch.randn(3, 3, generator=generator))
    frame = skin.transforms(JointMotion("m", rotations[None], skin.joints[:1] + 0.3, 0.1))[0]
    worlds = []
    for joint, parent in enumerate(skin.parents):
        head = skin.joints[joint] if parent < 0 else skin.joints[joint] - skin.joints[parent]
        local = torch.eye(4)
        local[:3, :3], local[:3, 3] = rotations[joint], head + (0.3 if parent < 0 else 0)
        worlds.append(local if parent < 0 else worlds[parent] @ local)
    expected = torch.zeros_like(vertices)
    for vertex in range(len(vertices)):
        for slot in range(4):
            joint = int(skin.weight_joints[vertex, slot])
            inverse = torch.eye(4)
            inverse[:3, 3] = -skin.joints[joint]
            point = worlds[joint] @ inverse @ torch.cat([vertices[vertex], torch.ones(1)])
            expected[vertex] += skin.weights[vertex, slot] * point[:3]
    torch.testing.assert_close(skin.moved(vertices, frame), expected, atol=1e-5, rtol=0)


def test_local_rotations_undo_the_kinematics(generator):
    parents = (-1, 0, 1, 1)
    local = axis_angle_to_matrix(torch.randn(5, 4, 3, generator=generator))
    world = [local[:, 0]]
    for joint in range(1, 4):
        world.append(world[parents[joint]] @ local[:, joint])
    torch.testing.assert_close(local_rotations(torch.stack(world, 1), parents), local, atol=1e-5, rtol=1e-5)


def test_the_smallest_rotation_between_directions(generator):
    a, b = torch.randn(2, 20, 3, generator=generator).double()
    turn = rotation_between(a, b)
    unit = torch.nn.functional.normalize
    torch.testing.assert_close((turn @ unit(a, dim=1)[:, :, None])[:, :, 0], unit(b, dim=1))
    angle = torch.acos(((turn.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1))
    torch.testing.assert_close(angle, torch.acos((unit(a, dim=1) * unit(b, dim=1)).sum(1)), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(rotation_between(a, a), torch.eye(3).double().expand(20, 3, 3))
    with pytest.raises(InputError, match="not opposite"):
        rotation_between(a, -a)


def test_broken_skins_are_refused(generator):
    skin, _ = chain(generator)
    with pytest.raises(InputError, match="parents: expected one for each of 3 joints, got 2"):
        SkinBinding(skin.joint_names, (-1, 0), skin.joints, skin.weight_joints, skin.weights)
    with pytest.raises(InputError, match="weights: expected values of at least 0 that sum to 1"):
        SkinBinding(skin.joint_names, skin.parents, skin.joints, skin.weight_joints, skin.weights * 2)
