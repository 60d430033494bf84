from __future__ import annotations

import math

import pytest
import torch

from humannorm.body.bvh import load_bvh, parse_bvh, rotations_for
from humannorm.checks import InputError

FILE = """HIERARCHY
ROOT hips
{
  OFFSET 0 1 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT knee
  {
    OFFSET 0 -0.5 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 -0.5 0
    }
  }
  JOINT spine
  {
    OFFSET 0 0.5 0.25
    CHANNELS 3 Xrotation Yrotation Zrotation
  }
}
MOTION
Frames: 2
Frame Time: 0.04
0 1 0  0 0 0  0 0 0  0 0 0
1 2 3  90 0 0  0 90 0  30 40 50
"""


def about(axis: int, degrees: float) -> torch.Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = torch.eye(3)
    i, j = [k for k in range(3) if k != axis]
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = (-s, s) if axis != 1 else (s, -s)
    return matrix


def test_hierarchy_and_frames():
    motion = parse_bvh(FILE)
    assert motion.joint_names == ("hips", "knee", "spine")
    assert motion.parents == (-1, 0, 0)
    assert motion.num_frames == 2
    assert motion.frame_time == 0.04
    assert motion.offsets.tolist() == [[0, 1, 0], [0, -0.5, 0], [0, 0.5, 0.25]]
    assert motion.root_positions.tolist() == [[0, 1, 0], [1, 2, 3]]


def test_channels_multiply_in_file_order():
    rotations = parse_bvh(FILE).rotations
    torch.testing.assert_close(rotations[0], torch.eye(3).repeat(3, 1, 1))
    torch.testing.assert_close(rotations[1, 0], about(2, 90))
    torch.testing.assert_close(rotations[1, 1], about(0, 90))
    torch.testing.assert_close(rotations[1, 2], about(0, 30) @ about(1, 40) @ about(2, 50))


def test_z_up_files_are_turned_to_y_up():
    """(x, y, z) -> (x, z, -y): what turned about the file's z now turns about y."""
    motion = parse_bvh(FILE, up="z")
    assert motion.offsets[0].tolist() == [0, 0, -1]
    torch.testing.assert_close(motion.rotations[1, 0], about(1, 90), atol=1e-6, rtol=0)


def test_joints_are_matched_by_name_and_others_rest():
    rotations = rotations_for(parse_bvh(FILE), ("wing", "knee"), frame=1)
    torch.testing.assert_close(rotations, torch.stack((torch.eye(3), about(0, 90))))


def test_a_file_on_disk(tmp_path):
    path = tmp_path / "walk.bvh"
    path.write_text(FILE, encoding="utf-8")
    assert load_bvh(path).num_frames == 2
    path.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(InputError, match="walk.bvh: expected a text file"):
        load_bvh(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FILE[:60], "ends too early"),
        (FILE.replace("ROOT", "TREE"), "with ROOT at this place, got 'TREE'"),
        (FILE.replace("Zrotation", "Wrotation", 1), "got 'Wrotation'"),
        (FILE.replace("30 40 50", "30 40"), r"2 frames of 12 channels \(24 numbers\), got 23"),
        (FILE.replace("30 40 50", "30 40 nan"), "finite numbers"),
        (FILE.replace("Frames: 2", "Frames: 0"), "at least one frame"),
        (FILE.replace("0.5 0.25", "0.5 far"), "with a number at this place, got 'far'"),
    ],
)
def test_broken_files_say_what_is_wrong(text, message):
    with pytest.raises(InputError, match=message):
        parse_bvh(text)


def test_wrong_frame_up_axis_or_skeleton():
    motion = parse_bvh(FILE)
    with pytest.raises(InputError, match="frame: expected 0 to 1, got 2"):
        rotations_for(motion, ("hips",), frame=2)
    with pytest.raises(InputError, match="up: expected one of y, z, x, -y, -z, -x, got 'w'"):
        parse_bvh(FILE, up="w")
    with pytest.raises(InputError, match="motion: expected joints such as 'tail', got hips, knee, spine"):
        rotations_for(motion, ("tail",))
