"""Joint sliders do what their names say, on both sides alike, whatever the pose before them."""

from __future__ import annotations

import pytest
import torch

from humannorm.body import POSES, Body, load_body, named_pose
from humannorm.body.turns import JOINT_TURNS, turned
from humannorm.checks import InputError


def moved(body: Body, joint: str, **turns: float) -> torch.Tensor:
    """How far a joint goes by these sliders, in metres."""
    rotations = named_pose(body.pose)
    before, after = (body.posed(each, grounded=False) for each in (rotations, turned(body, rotations, turns)))
    return after.joint(joint) - before.joint(joint)


@pytest.mark.parametrize(
    ("name", "joint", "axis"),
    [
        ("head_nod", "eye.L", -1), ("body_bend", "head", 2), ("left_arm_raise", "wrist.L", 1),
        ("left_arm_forward", "wrist.L", 2), ("left_elbow", "wrist.L", 2), ("left_leg_forward", "foot.L", 2),
        ("left_leg_out", "foot.L", 0), ("left_knee", "foot.L", -3),
    ],
)  # fmt: skip
def test_a_slider_moves_its_limb_where_it_says(name: str, joint: str, axis: int) -> None:
    body = load_body(pose="a-pose")
    way = {-1: (0.0, -1.0, 0.0), -3: (0.0, 0.0, -1.0)}.get(axis, tuple(float(at == axis) for at in range(3)))
    went = moved(body, joint, **{name: 25.0})
    assert float(went @ torch.tensor(way)) > 0.6 * float(went.norm()) > 0.02
    if name.startswith("left_"):
        right = moved(body, joint.replace(".L", ".R"), **{name.replace("left", "right"): 25.0})
        torch.testing.assert_close(right * torch.tensor([-1.0, 1.0, 1.0]), went, atol=2e-3, rtol=0)


def test_head_and_trunk_turn_to_the_persons_left() -> None:
    body = load_body(pose="standing")
    for name, joint in (("head_turn", "eye.L"), ("body_turn", "eye.L")):
        assert float(moved(body, joint, **{name: 30.0})[2]) < -0.005  # the left eye goes back


@pytest.mark.parametrize("pose", POSES)
def test_nothing_turned_is_the_pose(pose: str) -> None:
    body = load_body(pose=pose)
    rotations = named_pose(pose)
    assert torch.equal(turned(body, rotations, dict.fromkeys(JOINT_TURNS, 0.0)), rotations)


def test_what_is_out_of_reach_or_unknown_is_refused() -> None:
    body = load_body()
    with pytest.raises(InputError, match="left_knee: expected -5 to 130, got 200"):
        turned(body, named_pose("rest"), {"left_knee": 200.0})
    with pytest.raises(InputError, match="turns: expected one of head_turn"):
        turned(body, named_pose("rest"), {"tail": 1.0})
