"""Meshes that stand otherwise: turned as stated, or as it is seen how they stand."""

from __future__ import annotations

import pytest
import torch

from humannorm.body import load_body
from humannorm.body.shape import BodyShape
from humannorm.checks import InputError
from humannorm.cli import main
from humannorm.export.baked import BakedMesh
from humannorm.export.writers import write_ply
from humannorm.mesh import Mesh, mesh_volume
from humannorm.mesh_io import load_mesh
from humannorm.mesh_standing import UPS, stood_up, turn_to_stand
from humannorm.rigging.standing import doubt_of_standing, find_standing, stand


@pytest.fixture(scope="module")
def woman() -> Mesh:
    """Not the body that is laid in: another shape."""
    return load_body(BodyShape(sex=0.95, weight=0.8), "a-pose").to_mesh()


def laid(mesh: Mesh, up: str, front: float) -> Mesh:
    """As a file would have it that stands so."""
    turn = turn_to_stand(up, front)
    return Mesh(mesh.vertices @ turn, mesh.faces)


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize("front", [0.0, 90.0, -30.0])
def test_turns_are_rotations_that_stand_a_mesh_up(up, front, woman):
    turn = turn_to_stand(up, front)
    torch.testing.assert_close(turn @ turn.T, torch.eye(3), atol=1e-6, rtol=0)
    assert float(torch.linalg.det(turn)) == pytest.approx(1)
    upward = torch.zeros(3)
    upward["xyz".index(up[-1])] = -1.0 if up.startswith("-") else 1.0
    torch.testing.assert_close(turn @ upward, torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0)
    again = stood_up(laid(woman, up, front), up, front)
    torch.testing.assert_close(again.vertices, woman.vertices, atol=1e-5, rtol=0)


def test_fronts_are_azimuths_and_scale_is_of_lengths(woman):
    facing = turn_to_stand("y", 90.0) @ torch.tensor([1.0, 0, 0])  # who faced +X faces +Z
    torch.testing.assert_close(facing, torch.tensor([0.0, 0, 1]), atol=1e-6, rtol=0)
    facing = turn_to_stand("z", 0.0) @ torch.tensor([0.0, -1, 0])  # Blender's front
    torch.testing.assert_close(facing, torch.tensor([0.0, 0, 1]), atol=1e-6, rtol=0)
    volume = float(mesh_volume(woman.vertices, woman.faces))
    small = stood_up(woman, scale=0.01)
    assert float(mesh_volume(small.vertices, small.faces)) == pytest.approx(1e-6 * volume, rel=1e-4)
    assert stood_up(woman) is woman
    for wrong in ({"up": "w"}, {"front": 999}, {"scale": 0}, {"scale": float("nan")}):
        with pytest.raises(InputError):
            stood_up(woman, **wrong)


@pytest.mark.few(2)
@pytest.mark.parametrize(("up", "front"), [("y", 0.0), ("z", 0.0), ("y", 90.0), ("z", 180.0), ("x", 270.0)])
def test_how_a_human_stands_is_seen(up, front, woman):
    turned, found, note = stand(laid(woman, up, front))
    assert found.sure and (found.up, found.front, found.pose) == (up, front, "a-pose")
    torch.testing.assert_close(turned.vertices, woman.vertices, atol=1e-5, rtol=0)
    assert ("turned" in note) == ((up, front) != ("y", 0.0))


@pytest.mark.parametrize("pose", ["t-pose", "rest", "standing"])
def test_the_pose_is_seen(pose):
    mesh = load_body(BodyShape(sex=0.05, muscle=0.9), pose).to_mesh()
    assert find_standing(mesh, ups=("y",), fronts=(0.0,)).pose == pose


@pytest.mark.slow
def test_what_is_stated_is_not_guessed_and_what_is_no_human_is_said(woman):
    turned, found, note = stand(laid(woman, "z", 90.0), up="z", front=90.0)
    assert note == "" and (found.up, found.front) == ("z", 90.0)
    torch.testing.assert_close(turned.vertices, woman.vertices, atol=1e-5, rtol=0)
    ball = torch.nn.functional.normalize(woman.vertices - woman.vertices.mean(0), dim=1)
    mesh, found, note = stand(Mesh(ball, woman.faces))
    assert "how it stands cannot be told (distance" in note and "--up, --front and --start-pose say it" in note
    torch.testing.assert_close(mesh.vertices, ball)


@pytest.mark.slow
def test_a_human_that_stands_otherwise_is_told_of(woman, tmp_path, capsys):
    assert doubt_of_standing(woman) is None
    assert doubt_of_standing(load_body(pose="fight").to_mesh()) is None  # none of the poses that are laid in
    flat = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, 1]]), torch.tensor([[0, 1, 2]]))
    assert doubt_of_standing(flat) is None
    words = ["export", str(tmp_path / "aside.ply"), "--format", "ply", "--overwrite", "--out", str(tmp_path / "out")]
    for (up, front), said, turn in (
        (("x", 90.0), [], "--up=x --front=90 turns it"),
        (("z", 270.0), ["--up", "z"], "taken as y up and facing +Z, --front=270 turns it"),
    ):
        write_ply(tmp_path / "aside.ply", BakedMesh(laid(woman, up, front)), overwrite=True)
        assert main([*words, *said]) == 0
        printed = capsys.readouterr().err
        assert turn in printed and "(distance to a body 1." in printed
        assert main([*words, "--up", up, "--front", str(front)]) == 0
        assert capsys.readouterr().err == ""


def test_commands_turn_and_scale(woman, tmp_path):
    write_ply(tmp_path / "lying.ply", BakedMesh(laid(woman, "z", 90.0)))
    words = ["export", str(tmp_path / "lying.ply"), "--format", "ply", "--up", "z", "--front", "90", "--scale", "2"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    made = load_mesh(tmp_path / "out" / "lying.ply").vertices
    extent, wanted = made.amax(0) - made.amin(0), 2 * (woman.vertices.amax(0) - woman.vertices.amin(0))
    torch.testing.assert_close(extent, wanted, atol=1e-3, rtol=0)
