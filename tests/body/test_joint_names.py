"""Joints of the families that people have, found by name and place."""

from __future__ import annotations

import pytest

from humannorm.body.joint_names import NEEDED, match_joints, plain_names, read_joint_table
from humannorm.checks import InputError

# Trunk from the hips to the head, one arm, one leg, both with {s} for the side; the words for left and right.
FAMILIES = {
    "mixamo": ("mixamorig:Hips Spine Spine1 Spine2 Neck Head", "{s}Shoulder {s}Arm {s}ForeArm {s}Hand",
               "{s}UpLeg {s}Leg {s}Foot {s}ToeBase", ("Left", "Right"), "mixamorig:"),
    "mixamo, no colon": ("Hips Spine Spine1 Spine2 Neck Head", "{s}Shoulder {s}Arm {s}ForeArm {s}Hand",
               "{s}UpLeg {s}Leg {s}Foot {s}ToeBase", ("Left", "Right"), "mixamorig"),
    "motionbuilder": ("Hips Spine Spine1 Neck Head", "{s}Shoulder {s}Arm {s}ForeArm {s}Hand",
               "{s}UpLeg {s}Leg {s}Foot {s}ToeBase", ("Left", "Right"), "Character1_"),
    "bandai": ("Hips Spine Chest Neck Head", "Shoulder_{s} UpperArm_{s} LowerArm_{s} Hand_{s}",
               "UpperLeg_{s} LowerLeg_{s} Foot_{s} Toes_{s}", ("L", "R"), ""),
    "rokoko": ("Hips Spine1 Spine2 Spine3 Spine4 Neck Head", "{s}Shoulder {s}Arm {s}ForeArm {s}Hand",
               "{s}Thigh {s}Shin {s}Foot {s}Toe", ("Left", "Right"), ""),
    "xsens": ("Hips Chest Chest2 Chest3 Chest4 Neck Head", "{s}Collar {s}Shoulder {s}Elbow {s}Wrist",
               "{s}Hip {s}Knee {s}Ankle {s}Toe", ("Left", "Right"), ""),
    "xsens segments": ("Pelvis L5 L3 T12 T8 Neck Head", "{s}Shoulder {s}UpperArm {s}ForeArm {s}Hand",
               "{s}UpperLeg {s}LowerLeg {s}Foot {s}Toe", ("Left", "Right"), ""),
    "classic": ("Hips Chest Neck Head", "{s}Collar {s}Shoulder {s}Elbow {s}Wrist", "{s}Hip {s}Knee {s}Ankle",
               ("Left", "Right"), ""),
    "feet for toes": ("Pelvis Spine1 Spine2 Spine3 Neck Head", "{s}_Collar {s}_Shoulder {s}_Elbow {s}_Wrist",
               "{s}_Hip {s}_Knee {s}_Ankle {s}_Foot", ("L", "R"), ""),
    "biped": ("Pelvis|Spine|Spine1|Neck|Head", "{s} Clavicle|{s} UpperArm|{s} Forearm|{s} Hand",
               "{s} Thigh|{s} Calf|{s} Foot|{s} Toe0", ("L", "R"), "Bip01 "),
    "engine": ("pelvis spine_01 spine_02 spine_03 neck_01 head", "clavicle_{s} upperarm_{s} lowerarm_{s} hand_{s}",
               "thigh_{s} calf_{s} foot_{s} ball_{s}", ("l", "r"), ""),
    "acclaim": ("root lowerback upperback thorax lowerneck head", "{s}clavicle {s}humerus {s}radius {s}wrist",
               "{s}hipjoint {s}femur {s}tibia {s}foot {s}toes", ("l", "r"), ""),
    "optical": ("Hip Ab Chest Neck Head", "{s}Shoulder {s}UArm {s}FArm {s}Hand", "{s}Thigh {s}Shin {s}Foot {s}Toe",
               ("L", "R"), ""),
    "daz": ("hip abdomen chest neck head", "{s}Collar {s}Shldr {s}ForeArm {s}Hand", "{s}Thigh {s}Shin {s}Foot",
               ("l", "r"), ""),
    "rigify": ("spine spine.001 spine.002 spine.003 spine.004 head",
               "shoulder.{s} upper_arm.{s} forearm.{s} hand.{s}", "thigh.{s} shin.{s} foot.{s} toe.{s}",
               ("L", "R"), ""),
    "vrm": ("C_Hips C_Spine C_Chest C_Neck C_Head", "{s}_Shoulder {s}_UpperArm {s}_LowerArm {s}_Hand",
               "{s}_UpperLeg {s}_LowerLeg {s}_Foot", ("L", "R"), "J_Bip_"),
}  # fmt: skip


def skeleton(family: str, wrapped: str = "") -> tuple[list[str], list[int]]:
    """Names and parents: legs on the hips, arms on the last joint below the neck."""
    trunk, arm, leg, sides, prefix = FAMILIES[family]

    def parts(text: str) -> list[str]:
        return text.split("|") if "|" in text else text.split()

    names, parents = ([wrapped], [-1]) if wrapped else ([], [])

    def chain(texts: list[str], parent: int) -> list[int]:
        found = []
        for text in texts:
            names.append(prefix + text.removeprefix(prefix))
            parents.append(parent)
            parent = len(names) - 1
            found.append(parent)
        return found

    spine = chain(parts(trunk), len(names) - 1)
    for side in sides:
        chain([word.format(s=side) for word in parts(leg)], spine[0])
        chain([word.format(s=side) for word in parts(arm)], spine[-3])
    return names, parents


@pytest.mark.parametrize("wrapped", ["", "Reference", "joint_Root"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_joint_of_a_family_is_found(family, wrapped):
    names, parents = skeleton(family, wrapped)
    table = match_joints(names, parents)
    trunk, arm, leg, sides, prefix = FAMILIES[family]
    arms, legs = ["clavicle", "upperarm01", "lowerarm01", "wrist"], ["upperleg01", "lowerleg01", "foot", "toes"]
    for side, letter in zip(sides, "LR", strict=True):
        for text, ours in ((arm, arms), (leg, legs)):
            words = (text.split("|") if "|" in text else text.split())[-4 if "femur" in text else 0 :]
            for word, joint in zip(words, ours, strict=False):
                assert names[table[f"{joint}.{letter}"]] == prefix + word.format(s=side)
    words = trunk.split("|") if "|" in trunk else trunk.split()
    for joint, word in (("root", words[0]), ("head", words[-1]), ("neck01", words[-2])):
        assert names[table[joint]] == prefix + word.removeprefix(prefix)
    spines = sorted((joint for joint in table if joint.startswith("spine")), reverse=True)
    assert [names[table[joint]] for joint in spines] == [prefix + word for word in words[1:-2]]


def test_fingers_are_found_in_either_order_of_words():
    for word in (
        "LeftHandIndex2",
        "index_02_l",
        "LIndex2",
        "f_index.02.L",
        "LeftInHandIndex2",
        "LeftIndexIntermediate",
    ):
        names, parents = skeleton("mixamo" if word.startswith("Left") else "engine")
        table = match_joints([*names, word], [*parents, 0])
        assert table["finger2-2.L"] == len(names), word


def test_shared_beginnings_are_taken_off():
    assert plain_names(["P01_Hips", "P01_Spine", "P01_Head", "P01_LeftArm", "Scene"])[:2] == ["Hips", "Spine"]
    assert plain_names(["Hips", "Head"]) == ["Hips", "Head"]
    assert plain_names(["a", "a", "a", "a"]) == ["a", "a", "a", "a"]


def test_what_is_missing_is_named_with_the_remedy():
    names, parents = skeleton("mixamo")
    names[names.index("mixamorig:RightLeg")] = "mixamorig:Stump"
    with pytest.raises(InputError, match=r"joints for lowerleg01.R, got none in .*--explain FILE.bvh"):
        match_joints(names, parents)
    assert match_joints(["a", "b"], [-1, 0], partly=True) == {}
    assert "root" in NEEDED


def test_a_table_of_the_users_own(tmp_path):
    path = tmp_path / "joints.json"
    path.write_text('{"file": "x.bvh", "joints": {"a": "root", "b": null, "c": ""}}', "utf-8")
    assert read_joint_table(path) == {"a": "root"}
    for text in ("{", "[]", '{"joints": []}', "{}"):
        path.write_text(text, "utf-8")
        with pytest.raises(InputError, match='joints.json: expected JSON with "joints"'):
            read_joint_table(path)
