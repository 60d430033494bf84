"""Procedural clips: feet that stand do not slide, loops close, legs keep their lengths."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from humannorm.body import Body, BodyShape, load_body
from humannorm.body.clips import Clip, clip_transforms, still
from humannorm.body.gait import GAITS, make_gait
from humannorm.body.linear_blend_skinning import linear_blend_skinning
from humannorm.body.skeleton import transform_points
from humannorm.checks import InputError

SHAPES = {
    "neutral": BodyShape(),
    "short woman": BodyShape(sex=1.0, height=0.0, weight=0.9),
    "tall": BodyShape(height=1),
}


def joint_tracks(clip: Clip, body: Body) -> Tensor:
    """Joints in every frame [T, B, 3]."""
    return transform_points(clip_transforms(clip, body), body.rest_joints.expand(clip.num_frames, -1, -1))


def foot_tracks(clip: Clip, body: Body, side: str) -> Tensor:
    """Skinned vertices of one foot in every frame [T, N, 3]."""
    own = torch.tensor([name.startswith(("foot", "toe")) and name.endswith(side) for name in body.joint_names])
    chosen = own[body.weight_joints[:, 0]].nonzero()[:, 0]
    return torch.stack(
        [
            linear_blend_skinning(body.rest_vertices[chosen], frame, body.weight_joints[chosen], body.weights[chosen])
            for frame in clip_transforms(clip, body)
        ]
    )


def longest_slide(tracks: Tensor, ground: float, touch: float) -> float:
    """The longest way along the ground that a vertex covers while it touches it without leaving it."""
    touching = tracks[..., 1] < ground + touch
    way, longest = torch.zeros(tracks.shape[1]), 0.0
    for before, after, both in zip(tracks[:-1], tracks[1:], touching[1:] & touching[:-1], strict=True):
        way = torch.where(both, way + (after - before)[:, [0, 2]].norm(dim=1), torch.zeros_like(way))
        longest = max(longest, float(way.max()))
    return longest


@pytest.mark.few(3)
@pytest.mark.parametrize("name", ["walk", "turn", "idle"])
@pytest.mark.parametrize("shape", SHAPES)
def test_feet_that_stand_do_not_slide(name, shape):
    body = load_body(SHAPES[shape], "rest")
    clip = make_gait(name, body)
    for side in (".L", ".R"):
        tracks = foot_tracks(clip, body, side)
        lowest = tracks[..., 1].amin(1)
        assert float(lowest.min()) > -0.005 * body.height_m  # nor do they sink
        assert float(tracks[lowest.argmax(), :, 1].min()) > (0.02 * body.height_m if name == "walk" else -1)
        # Two per cent is asked for; measured: 1.7 % walking, of which most is skinning where the sole bends.
        assert longest_slide(tracks, 0.0, 0.002 * body.height_m) < 0.02 * body.height_m


def test_a_walk_in_place_or_sliding_is_told_apart():
    """The measure of the test above, on a walk whose feet do slide."""
    body = load_body(pose="rest")
    clip = make_gait("walk", body).in_place()
    assert longest_slide(foot_tracks(clip, body, ".L"), 0.0, 0.002 * body.height_m) > 0.1 * body.height_m
    assert float((clip.root_translations[-1] - clip.root_translations[0]).norm()) < 1e-5


@pytest.mark.parametrize("name", GAITS)
def test_loops_close_and_move_evenly(name, adult):
    clip = make_gait(name, adult).in_place()
    frames = clip_transforms(clip, adult)
    torch.testing.assert_close(frames[0], frames[-1], atol=1e-4, rtol=0)
    joints = joint_tracks(clip, adult)
    steps = (joints[1:] - joints[:-1]).norm(dim=-1)
    assert float(steps.max()) < 0.09 * adult.height_m  # no joint jumps within a thirtieth of a second
    assert float(steps.max()) > 1e-4


def test_walking_covers_two_steps_a_cycle_and_legs_are_not_stretched():
    body = load_body(pose="rest")
    clip = make_gait("walk", body)
    covered = clip.root_translations[-1] - clip.root_translations[0]
    assert float(covered[2]) == pytest.approx(2 * 0.32 * body.height_m, rel=1e-4)
    joints = joint_tracks(clip, body)
    names = [body.joint_names.index(joint) for joint in ("upperleg01.L", "lowerleg01.L", "foot.L")]
    hip, knee, ankle = joints[:, names].unbind(1)
    straight = (ankle - hip).norm(dim=1) / ((knee - hip).norm(dim=1) + (ankle - knee).norm(dim=1))
    assert float(straight.max()) <= 0.9951
    forward = torch.linalg.cross(ankle - hip, knee - hip)[:, 0]
    assert bool((forward < 1e-3).all())  # knees bend forward


def test_turning_goes_round_once_to_the_left():
    clip = make_gait("turn", load_body(pose="rest"))
    root = clip.rotations[:, 0]
    quarter = root[clip.num_frames // 4]
    torch.testing.assert_close(
        quarter @ torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0]), atol=0.05, rtol=0
    )
    torch.testing.assert_close(root[-1], torch.eye(3), atol=1e-5, rtol=0)


def test_waving_raises_the_right_hand_only(adult):
    clip = make_gait("wave", adult)
    joints = joint_tracks(clip, adult)
    height = {name: joints[:, adult.joint_names.index(name), 1] for name in ("wrist.R", "wrist.L", "head")}
    assert bool((height["wrist.R"] > height["head"] - 0.1).all())
    assert bool((height["wrist.L"] < 0.6 * adult.height_m).all())


def test_a_named_pose_as_a_clip_stands_on_the_ground(adult):
    from humannorm.body import named_pose

    clip = still("sit", named_pose("sit"), adult)
    frame = clip_transforms(clip, adult)[0]
    vertices = linear_blend_skinning(adult.rest_vertices, frame, adult.weight_joints, adult.weights)
    assert float(vertices[:, 1].min()) == pytest.approx(float(adult.rest_vertices[:, 1].min()), abs=1e-5)


def test_unknown_clip_is_refused(adult):
    with pytest.raises(InputError, match="clip: expected one of walk, idle, wave, turn, got 'fly'"):
        make_gait("fly", adult)
