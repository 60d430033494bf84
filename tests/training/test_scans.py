"""The user's own scans: found with captions, turned to the front, drawn in their own colours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from humannorm.checks import InputError
from humannorm.cli import main
from humannorm.mesh import Mesh
from humannorm.training.scans import ScanSettings, find_scans, scan_surface, stand_up, write_scans
from humannorm.training.shards import Shards


def box(size: tuple[float, float, float], nose: int = 2) -> Mesh:
    """A box with a small pyramid on the positive side of axis `nose`, so that its front shows."""
    import trimesh

    body = trimesh.creation.box(extents=size)
    vertices = np.asarray(body.vertices)
    direction = np.zeros(3)
    direction[nose] = size[nose] / 2 + 0.2
    tip = len(vertices)
    others = [axis for axis in range(3) if axis != nose]
    corners = []
    for sign in ((0.05, 0.0), (-0.05, 0.05), (-0.05, -0.05)):
        corner = np.zeros(3)
        corner[nose] = size[nose] / 2
        corner[others] = sign
        corners.append(corner)
    faces = np.concatenate([body.faces, [[tip, tip + 1, tip + 2], [tip, tip + 2, tip + 3], [tip, tip + 3, tip + 1]]])
    points = np.concatenate([vertices, [direction], corners])
    return Mesh(torch.tensor(points, dtype=torch.float32), torch.tensor(faces, dtype=torch.int64))


def save_ply(mesh: Mesh, path: Path, rgb: tuple[int, int, int] | None = None) -> None:
    import trimesh

    colors = None if rgb is None else np.tile([*rgb, 255], (mesh.num_vertices, 1)).astype(np.uint8)
    trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), vertex_colors=colors, process=False).export(path)


@pytest.mark.parametrize(
    ("nose", "up", "front"),
    [(2, "y", 0.0), (0, "y", 90.0), (0, "z", 90.0)],
    ids=["already", "faces +X", "z up, faces +X"],
)
def test_a_scan_is_turned_to_the_front_and_scaled(nose: int, up: str, front: float):
    size = (0.3, 1.5, 0.3) if up == "y" else (0.3, 0.3, 1.5)
    positions = stand_up(box(size, nose).vertices, up, front)
    low, high = positions.amin(dim=0), positions.amax(dim=0)
    assert float(high[1]) == pytest.approx(0.9) and float(low[1]) == pytest.approx(-0.9)
    torch.testing.assert_close(low + high, torch.zeros(3), atol=1e-5, rtol=0)
    tip = positions[8]
    assert float(tip[2]) == pytest.approx(float(high[2])) and abs(float(tip[0])) < 1e-5


def test_captions_come_from_json_or_from_a_text_beside_the_mesh(tmp_path: Path):
    for name in ("anna", "ben", "carl"):
        save_ply(box((0.3, 1.5, 0.3)), tmp_path / f"{name}.ply")
    (tmp_path / "captions.json").write_text(
        json.dumps({"anna.ply": "a woman", "ben.ply": {"caption": "a man", "front": 90}}), encoding="utf-8"
    )
    (tmp_path / "carl.txt").write_text("another\nman\n", encoding="utf-8")
    scans = find_scans(tmp_path)
    assert [(scan.path.stem, scan.caption, scan.front) for scan in scans] == [
        ("anna", "a woman", None),
        ("ben", "a man", 90.0),
        ("carl", "another man", None),
    ]


def test_missing_captions_and_meshes_are_named(tmp_path: Path):
    with pytest.raises(InputError, match="expected meshes"):
        find_scans(tmp_path)
    with pytest.raises(InputError, match="expected a folder of meshes"):
        find_scans(tmp_path / "nowhere")
    save_ply(box((0.3, 1.5, 0.3)), tmp_path / "anna.ply")
    save_ply(box((0.3, 1.5, 0.3)), tmp_path / "ben.ply")
    with pytest.raises(InputError, match=r"found none for anna\.ply, ben\.ply"):
        find_scans(tmp_path)
    (tmp_path / "captions.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"captions\.json: expected JSON"):
        find_scans(tmp_path)
    (tmp_path / "captions.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match="expected an object of file names and captions, got list"):
        find_scans(tmp_path)


def test_scans_become_a_dataset_in_their_own_colours(tmp_path: Path):
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    save_ply(box((0.4, 1.7, 0.3)), scans / "green.ply", (20, 200, 40))
    save_ply(box((0.4, 1.7, 0.3)), scans / "plain.ply")
    (scans / "captions.json").write_text(json.dumps({"green.ply": "a green box", "plain.ply": "a box"}))
    settings = ScanSettings(size=32, shots_per_scan=4, seed=1)
    assert write_scans(find_scans(scans), out, settings) == 8
    shards = Shards(out)
    assert shards.shot(0)["caption"] == "a green box" and shards.shot(0)["attributes"] is None
    for index in range(8):
        inside = shards.mask(index) == 1.0
        red, green, blue = shards.image(index, "color")[inside].median(dim=0).values.tolist()
        if shards.shot(index)["person"] == "green":
            assert green > 0.55 and red < 0.15 and blue < 0.25
        else:
            assert red == green == blue and 0.5 < red < 0.75


def test_a_textured_scan_keeps_its_texture():
    mesh = box((0.4, 1.7, 0.3)).replace(
        uvs=torch.full((12, 2), 0.5), texture=torch.tensor([0.1, 0.2, 0.9]).expand(8, 8, 3)
    )
    surface = scan_surface(mesh, ScanSettings())
    assert surface.materials[0].color_texture == 0
    assert surface.textures.texels[0].tolist() == [26, 51, 230, 255]


@pytest.mark.parametrize("size", [(1.5, 0.0, 0.3), (9.0, 0.5, 0.3)], ids=["flat", "lying"])
def test_what_cannot_be_a_standing_person_is_refused(size: tuple[float, float, float]):
    with pytest.raises(InputError, match=r"expected some height|expected a standing person"):
        scan_surface(box(size), ScanSettings())


def test_the_command_makes_a_dataset_of_full_bodies(tmp_path: Path):
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    save_ply(box((0.4, 1.7, 0.3)), scans / "box.ply")
    (scans / "box.txt").write_text("a box", encoding="utf-8")
    words = ["dataset", "scans", str(scans), "--out", str(out), "--size", "16", "--shots", "5", "--only-full"]
    assert main(words) == 0
    assert {Shards(out).shot(i)["part"] for i in range(5)} == {"full"}
