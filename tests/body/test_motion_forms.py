"""One motion written in many ways: joint axes, wrappers, units, up axes and loose spelling do not change it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from humannorm.body import load_body
from humannorm.body.bvh import parse_bvh
from humannorm.body.clips import clip_transforms
from humannorm.body.reference_pose import safe_rotation_between
from humannorm.body.retarget import clip_of_bvh
from humannorm.body.skeleton import axis_angle_to_matrix, transform_points
from humannorm.checks import InputError
from humannorm.cli import main
from humannorm.mesh_standing import UP_AXES

ARM = (("Shoulder", (6, 14, 0)), ("Arm", (12, 0, 0)), ("ForeArm", (28, 0, 0)), ("Hand", (26, 0, 0)))
LEG = (("UpLeg", (9, -5, 0)), ("Leg", (0, -42, 0)), ("Foot", (0, -41, 0)), ("ToeBase", (0, -6, 14)))
TRUNK = (
    ("Spine", (0, 10, 0)),
    ("Spine1", (0, 12, 0)),
    ("Spine2", (0, 12, 0)),
    ("Neck", (0, 18, 0)),
    ("Head", (0, 10, 0)),
)


@dataclass(frozen=True)
class Puppet:
    """A skeleton in a T-pose with y up, facing +z, and turns of its joints in every frame."""

    names: list[str]
    parents: list[int]
    offsets: Tensor  # [J, 3]
    turns: Tensor  # [T, J, 3, 3], in the axes of the parent
    hips: Tensor  # [T, 3]


def puppet(frames: int = 5) -> Puppet:
    names, parents, offsets = ["Hips"], [-1], [(0.0, 95.0, 0.0)]

    def chain(parts, parent, side="", mirror=1):
        for name, (x, y, z) in parts:
            names.append(side + name)
            parents.append(parent)
            offsets.append((mirror * x, y, z))
            parent = len(names) - 1

    chain(TRUNK, 0)
    for side, mirror in (("Left", 1), ("Right", -1)):
        chain(ARM, names.index("Spine2"), side, mirror)
        chain(LEG, 0, side, mirror)
    generator = torch.Generator().manual_seed(4)
    angles = torch.deg2rad(25 * torch.randn(frames, len(names), 3, generator=generator))
    for name in ("Spine", "Spine1", "Spine2", "Neck", "Head"):  # trunks bend to and fro
        angles[:, names.index(name)] *= 0.4
        angles[:, names.index(name)] -= angles[:, names.index(name)].mean(0)
    angles[:, 0] = 0
    angles[:, 0, 1] = torch.linspace(0, 0.5, frames)
    hips = torch.stack([torch.zeros(frames), 90 + torch.arange(frames) % 2 * 5.0, 12.0 * torch.arange(frames)], 1)
    return Puppet(names, parents, torch.tensor(offsets), axis_angle_to_matrix(angles), hips)


def with_axes(made: Puppet, names: list[str], seed: int = 0) -> Puppet:
    """The same motion with other axes C of the named joints: local turns C_parent^T R C, offsets C_parent^T o."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.eye(3).repeat(len(made.names), 1, 1)
    for name in names:
        axes[made.names.index(name)] = axis_angle_to_matrix(3 * torch.randn(3, generator=generator))
    above = torch.stack([torch.eye(3) if parent < 0 else axes[parent] for parent in made.parents])
    return replace(
        made,
        turns=above.mT @ made.turns @ axes,
        offsets=torch.einsum("jab,ja->jb", above, made.offsets),
    )


def in_world(made: Puppet, up: str, unit: float) -> Puppet:
    """With another vertical axis and unit."""
    change = torch.tensor(UP_AXES[up], dtype=torch.float32).T
    return replace(
        made,
        turns=change @ made.turns @ change.T,
        offsets=unit * made.offsets @ change.T,
        hips=unit * made.hips @ change.T,
    )


def angles_of(turns: Tensor) -> Tensor:
    """Degrees about z, x, y whose product in this order is the turn."""
    x = torch.asin(turns[..., 2, 1].clamp(-1, 1))
    z, y = torch.atan2(-turns[..., 0, 1], turns[..., 1, 1]), torch.atan2(-turns[..., 2, 0], turns[..., 2, 2])
    return torch.rad2deg(torch.stack([z, x, y], -1))


def write(made: Puppet, wrapper: str = "") -> str:
    """As BVH, in the order of the joints, which is depth first; a wrapper stands still above the hips."""
    angles = angles_of(made.turns)
    order: list[int] = []

    def block(joint: int) -> str:
        order.append(joint)
        word, channels = "JOINT", "3 Zrotation Xrotation Yrotation"
        if made.parents[joint] < 0:
            word, channels = (
                "JOINT" if wrapper else "ROOT",
                "6 Xposition Yposition Zposition Zrotation Xrotation Yrotation",
            )
        inner = "".join(block(child) for child, parent in enumerate(made.parents) if parent == joint)
        offset = " ".join(f"{value:.5f}" for value in made.offsets[joint].tolist())
        return (
            f"{word} {made.names[joint]}\n{{\nOFFSET {offset}\nCHANNELS {channels}\n"
            f"{inner or 'End Site {{ OFFSET 0 0 0 }}'.format()}\n}}\n"
        )

    inner = block(0)
    if wrapper:
        channels = "6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
        inner = f"ROOT {wrapper}\n{{\nOFFSET 0 0 0\nCHANNELS {channels}\n{inner}}}\n"
    rows = []
    for frame in range(len(made.turns)):
        values = [0.0] * 6 if wrapper else []
        values += made.hips[frame].tolist()
        for joint in order:
            values += angles[frame, joint].tolist()
        rows.append(" ".join(f"{value:.6f}" for value in values))
    return f"HIERARCHY\n{inner}MOTION\nFrames: {len(rows)}\nFrame Time: 0.04\n" + "\n".join(rows) + "\n"


PAIRS = (
    ("root", "neck01"), ("neck01", "head"), ("upperarm01.R", "upperarm01.L"), ("upperleg01.R", "upperleg01.L"),
    *((f"{a}.{s}", f"{b}.{s}") for s in "LR" for a, b in (
        ("upperarm01", "lowerarm01"), ("lowerarm01", "wrist"), ("upperleg01", "lowerleg01"), ("lowerleg01", "foot"))),
)  # fmt: skip


def directions(clip, body) -> Tensor:
    """[T, P, 3] of the body's own bones in the clip."""
    joints = transform_points(clip_transforms(clip, body), body.rest_joints.expand(clip.num_frames, -1, -1))
    at = body.joint_names.index
    return torch.nn.functional.normalize(
        torch.stack([joints[:, at(b)] - joints[:, at(a)] for a, b in PAIRS], 1), dim=-1
    )


def degrees(first: Tensor, second: Tensor) -> Tensor:
    return torch.rad2deg(torch.atan2(torch.linalg.cross(first, second).norm(dim=-1), (first * second).sum(-1)))


@pytest.fixture(scope="module")
def rested():
    return load_body(pose="rest")


@pytest.fixture
def read(rested, tmp_path):
    def clip(text: str):
        (tmp_path / "clip.bvh").write_text(text, "utf-8")
        return clip_of_bvh(tmp_path / "clip.bvh", rested)

    return clip


def test_limbs_take_the_directions_of_the_file(read, rested):
    made = puppet()
    motion = parse_bvh(write(made))
    places = motion.world()[..., :3, 3]
    found = directions(read(write(made)), rested)
    names = {"upperarm01": "Arm", "lowerarm01": "ForeArm", "wrist": "Hand", "upperleg01": "UpLeg", "lowerleg01": "Leg",
             "foot": "Foot"}  # fmt: skip
    for number, (a, b) in enumerate(PAIRS):
        if a.partition(".")[2] and a[-1] == b[-1]:
            side = "Left" if a[-1] == "L" else "Right"
            start, end = (motion.joint_names.index(side + names[name[:-2]]) for name in (a, b))
            assert float(degrees(found[:, number], places[:, end] - places[:, start]).max()) < 0.1


@pytest.mark.few(3)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("up", "unit", "wrapper"), [("y", 1.0, ""), ("z", 0.01, "Reference"), ("x", 0.3937, "")])
def test_axes_wrappers_units_and_up_do_not_change_a_motion(seed, up, unit, wrapper, read, rested):
    made = puppet()
    plain = read(write(made))
    other = read(write(in_world(with_axes(made, made.names, seed), up, unit), wrapper))
    assert float(degrees(directions(plain, rested), directions(other, rested)).max()) < 1
    torch.testing.assert_close(other.root_translations, plain.root_translations, atol=0.03, rtol=0)
    assert float(other.root_translations[-1, 2] - other.root_translations[0, 2]) == pytest.approx(
        48 / 83 * 0.86, abs=0.05
    )


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "names", [["Hips"], ["Spine"], ["Spine1", "Neck"], ["Spine", "Spine1", "Spine2", "Neck", "Head"]]
)
def test_any_joint_of_the_trunk_may_have_any_axes(names, read, rested):
    made = puppet()
    plain, other = read(write(made)), read(write(with_axes(made, names, 7)))
    assert float(degrees(directions(plain, rested), directions(other, rested)).max()) < 1


def test_a_standing_pose_in_one_frame_is_enough(read, rested):
    made = puppet(1)
    still = replace(made, turns=torch.eye(3).repeat(1, len(made.names), 1, 1))
    plain, other = read(write(still)), read(write(with_axes(still, made.names, 1)))
    assert float(degrees(directions(plain, rested), directions(other, rested)).max()) < 0.1


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("position", "Position").replace("rotation", "ROTATION"),
        lambda text: text.replace("HIERARCHY", "Hierarchy").replace("ROOT", "root").replace("MOTION", "Motion"),
        lambda text: text.replace("Frames: ", "Frames:").replace("Frame Time: ", "FRAME TIME:\t"),
        lambda text: text.replace(" ", "\t").replace("End\tSite", "End\t Site").replace("Frame\tTime", "Frame  Time"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("Hips", "mixamorigHips").replace("Left", "mixamorigLeft").replace(
            "Right", "mixamorigRight").replace("Spine", "mixamorigSpine").replace("Neck", "mixamorigNeck"),
        lambda text: text.replace("Left", "Bip01 Left").replace("Right", "Bip01 Right"),
        lambda text: text.replace("{\n", "{").replace("}\n", "}"),
        lambda text: text.replace(".", ","),
    ],
)  # fmt: skip
def test_loose_spelling_is_read(spoil, read):
    text = write(puppet())
    plain, other = read(text), read(spoil(text))
    torch.testing.assert_close(other.rotations, plain.rotations)
    torch.testing.assert_close(other.root_translations, plain.root_translations)


def test_other_encodings(rested, tmp_path):
    text = write(puppet())
    for encoding in ("utf-16", "latin-1", "shift-jis"):
        name = {"latin-1": "T\u00eate", "shift-jis": "\u982d"}.get(encoding, "Crown")
        (tmp_path / "clip.bvh").write_bytes(text.replace("Head", name).encode(encoding))
        assert clip_of_bvh(tmp_path / "clip.bvh", rested).num_frames == 5


def test_more_or_fewer_rows_than_stated_are_said(read):
    text = write(puppet())
    plain = read(text)
    with pytest.warns(UserWarning, match=r"clip.bvh: says Frames: 4 and has 5 rows; the first 4 are taken"):
        assert torch.equal(read(text.replace("Frames: 5", "Frames: 4")).rotations, plain.rotations[:4])
    with pytest.warns(UserWarning, match="says Frames: 9 and has 5 rows; the first 5 are taken"):
        assert torch.equal(read(text.replace("Frames: 5", "Frames: 9")).rotations, plain.rotations)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("0", "Frame Time: expected a positive number of seconds, got 0"),
        ("-0.0333", "Frame Time: expected a positive number of seconds, got -0.0333"),
        ("nan", "Frame Time: expected a positive number of seconds, got nan"),
        ("inf", "Frame Time: expected a positive number of seconds, got inf"),
        ("fast", "Frame Time: expected a positive number of seconds, got fast"),
        ("1e-30", "Frame Time: expected 0.0001 to 10 seconds, got 1e-30"),
        ("33.3", "Frame Time: expected 0.0001 to 10 seconds, got 33.3"),
    ],
)
def test_frame_times_that_are_none_leave_nothing_behind(word, message, tmp_path, capsys):
    (tmp_path / "clip.bvh").write_text(write(puppet()).replace("Frame Time: 0.04", f"Frame Time: {word}"), "utf-8")
    assert main(["animate", "body", "--clip", str(tmp_path / "clip.bvh"), "--out", str(tmp_path / "out")]) == 1
    assert f"clip.bvh: {message}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_positions_of_an_inner_joint_may_be_added_to_its_offset():
    head = "HIERARCHY ROOT Ref { OFFSET 0 0 0 CHANNELS 0 JOINT Hips { OFFSET 0 95 0 CHANNELS 3 Xposition Yposition "
    head += "Zposition } } MOTION Frames: 2 Frame Time: 0.1 "
    for rows in ("0 95 0  0 95 60", "0 0 0  0 0 60"):
        assert parse_bvh(head + rows).world()[:, 1, :3, 3].tolist() == [[0, 95, 0], [0, 95, 60]]


def test_rest_and_frames_that_disagree_are_said(read, rested):
    made = puppet()
    plain = read(write(made))
    lying = torch.tensor(UP_AXES["z"], dtype=torch.float32).T  # a rest that stands along z in a world of y
    turned = replace(
        made,
        offsets=made.offsets @ lying.T,
        turns=torch.cat([(made.turns[:, :1] @ lying.T), lying @ made.turns[:, 1:] @ lying.T], 1),
    )
    with pytest.warns(UserWarning, match="its rest stands along z, its frames along y; y is taken"):
        other = read(write(turned))
    assert float(degrees(directions(plain, rested), directions(other, rested)).max()) < 1


def test_a_motion_that_faces_aside_stays_so_and_is_not_twisted(read, rested):
    made = puppet()
    aside = axis_angle_to_matrix(torch.tensor([0.0, 1.5707964, 0.0]))  # rest and frames face +x
    turned = replace(made, offsets=made.offsets @ aside.T, turns=aside @ made.turns @ aside.T, hips=made.hips @ aside.T)
    expected = directions(read(write(made)), rested) @ aside.T
    assert float(degrees(expected, directions(read(write(turned)), rested)).max()) < 0.1


def test_the_users_own_table(rested, tmp_path, capsys):
    text = write(puppet())
    for number, name in enumerate(puppet().names):
        text = text.replace(f" {name}\n", f" joint{number}\n")
    path, out = tmp_path / "clip.bvh", tmp_path / "out"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"clip.bvh: motion: expected joints for .* --explain"):
        clip_of_bvh(path, rested)
    assert main(["animate", "--explain", str(path), "--out", str(out)]) == 0
    assert "not found: root" in capsys.readouterr().out
    plain = tmp_path / "plain.bvh"
    plain.write_text(write(puppet()), "utf-8")
    assert main(["animate", "--explain", str(plain), "--out", str(out)]) == 0
    assert "vertical axis y; its rest is a standing person" in capsys.readouterr().out
    from humannorm.body.joint_names import read_joint_table

    ours = read_joint_table(out / "joints.json")
    stated = {f"joint{puppet().names.index(theirs)}": joint for theirs, joint in ours.items()}
    clip = clip_of_bvh(path, rested, None, stated)
    torch.testing.assert_close(clip.rotations, clip_of_bvh(plain, rested).rotations)
    wrong = [
        ({"x": "root"}, "got 'x'"),
        ({"joint0": "tail"}, "got 'tail'"),
        ({"joint0": "root"}, "none for upperarm01.L"),
    ]
    for table, message in wrong:
        with pytest.raises(InputError, match=message):
            clip_of_bvh(path, rested, None, table)


def test_opposite_directions_have_a_rotation():
    source = torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    target = torch.cat([-source[:100], source[:50], source[100:150]])
    turn = safe_rotation_between(source, target)
    torch.testing.assert_close(torch.einsum("nij,nj->ni", turn, source), target, atol=1e-4, rtol=0)
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand(200, -1, -1), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(200))


def test_nothing_is_said_of_a_plain_file(read):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(write(puppet()))
