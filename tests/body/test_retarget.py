"""Motion files of other skeletons: directions arrive, rest poses do not matter."""

from __future__ import annotations

import pytest
import torch

from humannorm.body import Body, load_body, named_pose
from humannorm.body.bvh import parse_bvh
from humannorm.body.clips import clip_transforms
from humannorm.body.retarget import clip_of_bvh, retarget
from humannorm.body.skeleton import transform_points
from humannorm.checks import InputError

LIMBS = {
    "Shoulder": "clavicle", "Arm": "upperarm01", "ForeArm": "lowerarm01", "Hand": "wrist",
    "UpLeg": "upperleg01", "Leg": "lowerleg01", "Foot": "foot", "HandMiddle1": "finger3-1",
}  # fmt: skip
SIDED = {f"{s}{n}": f"{ours}.{s[0]}" for s in ("Left", "Right") for n, ours in LIMBS.items()}
ENDS = {"Neck": "neck01", "Head": "head", **SIDED}
MIXAMO = {"Hips": "root", "Spine": "spine04", "Spine1": "spine02", "Spine2": "spine01", **ENDS}
CMU = {"Hips": "root", "LowerBack": "spine04", "Spine": "spine03", "Spine1": "spine01", **ENDS}


def bvh_of(body: Body, table: dict[str, str], pose: str, turned: dict[str, str], prefix: str = "") -> str:
    """A file whose joints bear the table's names and whose rest is `pose`, 100 times as large as the body; in its
    second frame the `turned` joints have these three angles."""
    places = {theirs: body.joints[body.joint_names.index(ours)] * 100 for theirs, ours in table.items()}
    children: dict[str, list[str]] = {}
    for theirs, ours in table.items():
        above = body.parents[body.joint_names.index(ours)]
        while above >= 0 and body.joint_names[above] not in table.values():
            above = body.parents[above]
        if above >= 0:
            parent = next(name for name, own in table.items() if own == body.joint_names[above])
            children.setdefault(parent, []).append(theirs)
    order: list[str] = []

    def block(name: str, origin: torch.Tensor, word: str) -> str:
        order.append(name)
        offset = " ".join(f"{value:.6f}" for value in (places[name] - origin).tolist())
        position = "6 Xposition Yposition Zposition " if word == "ROOT" else "3 "
        inner = "".join(block(child, places[name], "JOINT") for child in children.get(name, []))
        inner = inner or "End Site { OFFSET 0 1 0 } "
        return f"{word} {prefix}{name} {{ OFFSET {offset} CHANNELS {position}Zrotation Xrotation Yrotation {inner}}} "

    hierarchy = block("Hips", torch.zeros(3), "ROOT")
    home = " ".join(f"{value:.6f}" for value in places["Hips"].tolist())
    frames = [[home], [f"{places['Hips'][0]:.6f} {places['Hips'][1]:.6f} {places['Hips'][2] + 50:.6f}"]]
    for name in order:
        frames[0].append("0 0 0")
        frames[1].append(turned.get(name, "0 0 0"))
    lines = "\n".join(" ".join(frame) for frame in frames)
    return f"HIERARCHY\n{hierarchy}\nMOTION\nFrames: 2\nFrame Time: 0.0333333\n{lines}\n"


def direction(joints: torch.Tensor, body: Body, start: str, end: str) -> torch.Tensor:
    a, b = (joints[:, body.joint_names.index(name)] for name in (start, end))
    return torch.nn.functional.normalize(b - a, dim=-1)


@pytest.mark.parametrize(("table", "prefix"), [(MIXAMO, "mixamorig:"), (MIXAMO, ""), (CMU, "")])
def test_bones_take_the_direction_that_the_file_gives_them(table, prefix):
    t_pose = load_body(pose="t-pose")
    text = bvh_of(t_pose, table, "t-pose", {"LeftArm": "-90 0 0", "RightLeg": "0 60 0"}, prefix)
    body = load_body(pose="rest")
    clip = retarget(parse_bvh(text), body)
    joints = transform_points(clip_transforms(clip, body), body.rest_joints.expand(clip.num_frames, -1, -1))
    for start, end in (("upperarm01", "lowerarm01"), ("lowerarm01", "wrist"), ("upperleg01", "lowerleg01")):
        for side in (".L", ".R"):
            found = direction(joints[:1], body, start + side, end + side)[0]
            wanted = direction(t_pose.joints[None], t_pose, start + side, end + side)[0]
            torch.testing.assert_close(found, wanted, atol=2e-3, rtol=0)
    # Turned by -90 degrees about z, the left arm hangs; the right shin swings back about x.
    arm = direction(t_pose.joints[None], t_pose, "upperarm01.L", "lowerarm01.L")[0]
    wanted = torch.stack([arm[1], -arm[0], arm[2]])
    torch.testing.assert_close(
        direction(joints[1:], body, "upperarm01.L", "lowerarm01.L")[0], wanted, atol=2e-3, rtol=0
    )
    shin = direction(joints, body, "lowerleg01.R", "foot.R")
    assert float(torch.rad2deg(torch.acos((shin[0] * shin[1]).sum()))) == pytest.approx(60, abs=0.5)
    assert float(shin[1, 2]) < -0.5
    # The way is the file's, in sizes of the body's legs.
    moved = clip.root_translations[1] - clip.root_translations[0]
    torch.testing.assert_close(moved, torch.tensor([0.0, 0.0, 0.5]), atol=5e-3, rtol=0)


def test_makehumans_own_files_are_taken_to_the_letter(tmp_path, adult):
    names = adult.joint_names
    pose = named_pose("run")
    # z up, as MakeHuman writes: one joint after the other, all under the root, is enough for a file of the right names.
    change = torch.tensor([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
    blocks, numbers = [], ["0 0 0"]
    for index, name in enumerate(names):
        turn = change.T @ pose[index] @ change
        y = torch.asin(turn[0, 2].clamp(-1, 1))
        x, z = torch.atan2(-turn[1, 2], turn[2, 2]), torch.atan2(-turn[0, 1], turn[0, 0])
        numbers.append(" ".join(f"{float(torch.rad2deg(angle)):.6f}" for angle in (x, y, z)))
        place = " ".join(f"{value:.5f}" for value in (change.T @ adult.rest_joints[index]).tolist())
        channels = "6 Xposition Yposition Zposition" if index == 0 else "3"
        kind = "ROOT" if index == 0 else "JOINT"
        head = f"{kind} {name} {{ OFFSET {place} CHANNELS {channels} Xrotation Yrotation Zrotation"
        blocks.append(head + (" " if index == 0 else " End Site { OFFSET 0 0 0 } } "))
    text = f"HIERARCHY {''.join(blocks)} }} MOTION Frames: 1 Frame Time: 0.1\n{' '.join(numbers)}\n"
    (tmp_path / "run.bvh").write_text(text, "utf-8")
    clip = clip_of_bvh(tmp_path / "run.bvh", adult)
    assert clip.name == "run"
    torch.testing.assert_close(clip.rotations[0], pose, atol=1e-4, rtol=0)


def test_unknown_names_are_refused(adult):
    text = "HIERARCHY ROOT a { OFFSET 0 0 0 CHANNELS 3 Xrotation Yrotation Zrotation End Site { OFFSET 0 1 0 } } "
    motion = parse_bvh(text + "MOTION Frames: 1 Frame Time: 0.1\n0 0 0\n")
    with pytest.raises(InputError, match="motion: expected joints for root, upperarm01.L, lowerarm01.L, got none in a"):
        retarget(motion, adult)
