"""The baked skeletons: sound, on the body's own joints, and stiff in every pose."""

from __future__ import annotations

import re

import pytest
import torch

from humannorm.body import BodyShape, load_body
from humannorm.body.linear_blend_skinning import check_weights
from humannorm.body.rigs import RIGS, load_rig
from humannorm.body.skeleton import check_parents
from humannorm.checks import InputError

COUNTS = {"makehuman": 163, "game_engine": 53, "mixamo": 52}


@pytest.mark.parametrize("name", RIGS)
def test_joints_and_weights_are_sound(name, adult):
    rig = load_rig(name)
    assert len(rig.joint_names) == len(set(rig.joint_names)) == COUNTS[name]
    check_parents(rig.parents)
    check_weights(rig.weight_joints, rig.weights, COUNTS[name])
    assert len(rig.weights) == len(adult.vertices)
    torch.testing.assert_close(rig.head_weights.sum(1), torch.ones(COUNTS[name]), atol=1e-5, rtol=0)


def test_heads_lie_at_the_body_joints_that_they_name():
    same = {"game_engine": {"thigh_l": "upperleg01.L", "calf_r": "lowerleg01.R", "hand_l": "wrist.L"},
            "mixamo": {"mixamorig:LeftArm": "upperarm01.L", "mixamorig:RightForeArm": "lowerarm01.R",
                       "mixamorig:LeftUpLeg": "upperleg01.L"}}  # fmt: skip
    for shape, pose in ((BodyShape(), "rest"), (BodyShape(sex=1.0, weight=0.9, height=0.1), "sit")):
        body = load_body(shape, pose)
        for name, pairs in same.items():
            rig = load_rig(name)
            heads = rig.heads(body)
            for theirs, ours in pairs.items():
                head = heads[rig.joint_names.index(theirs)]
                torch.testing.assert_close(head, body.joint(ours), atol=2e-3, rtol=0)
    own = load_rig("makehuman").heads(load_body(pose="run"))
    torch.testing.assert_close(own, load_body(pose="run").joints, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["game_engine", "mixamo"])
def test_left_and_right_mirror_each_other(name):
    rig = load_rig(name)
    heads = rig.heads(load_body(pose="rest"))
    for index, joint in enumerate(rig.joint_names):
        if "Right" in joint or joint.endswith("_r"):
            continue
        twin = joint.replace("Left", "Right") if name == "mixamo" else re.sub("_l$", "_r", joint)
        other = heads[rig.joint_names.index(twin)] * torch.tensor([-1.0, 1.0, 1.0])
        # Heads that MPFB2 measures on the skin are fitted to within 1.5 cm.
        torch.testing.assert_close(heads[index], other, atol=0.015, rtol=0)


def test_unknown_rig_is_refused():
    with pytest.raises(InputError, match="rig: expected one of makehuman, game_engine, mixamo, got 'biped'"):
        load_rig("biped")
