"""`humannorm render` from the file to the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from humannorm.cli import main
from humannorm.images import load_png
from humannorm.mesh import Mesh
from humannorm.working_box import REACH, to_working_box

VIEWS = ("front", "left", "back", "right")
# One colour per quarter of the texture: top left red, top right green, bottom left blue, bottom right yellow.
QUARTERS = torch.tensor([[[1.0, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 1, 0]]])


def textured_quad(path: Path) -> Path:
    """A rectangle 0.9 wide and 1.8 tall, not centred, that faces +Z and shows a picture with four coloured quarters."""
    pixels = (QUARTERS.repeat_interleave(32, 0).repeat_interleave(32, 1).numpy() * 255).astype(np.uint8)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(pixels))
    corners = np.array([[3, 23, -2], [3, 5, -2], [12, 5, -2], [12, 23, -2]], float)
    uv = np.array([[0, 1], [0, 0], [1, 0], [1, 1]], float)  # trimesh counts v from the bottom
    visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False).export(path)
    return path


def colored_box(path: Path) -> Path:
    box = trimesh.creation.box(extents=(0.5, 1.8, 0.5))
    box.visual.vertex_colors = np.tile([255, 128, 0, 255], (8, 1))
    box.export(path)
    return path


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_a_textured_file_is_seen_upright(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    out = tmp_path / "out"
    mesh = textured_quad(folder / f"quad{suffix}")
    assert main(["render", str(mesh), "--views", "front", "--passes", "color", "--size", "64", "--out", str(out)]) == 0
    picture = load_png(out / "color_full_front_00.png")
    for row, top in ((20, 0), (44, 1)):
        for column, left in ((26, 0), (38, 1)):
            torch.testing.assert_close(picture[row, column], QUARTERS[top, left], rtol=0, atol=0.02)
    assert torch.equal(picture[:, :16], torch.ones(64, 16, 3))


def test_all_views_and_passes_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mesh = colored_box(tmp_path / "box.ply")
    out = tmp_path / "deep" / "out"
    assert main(["render", str(mesh), "--size", "48", "--out", str(out)]) == 0
    names = {f"{kind}_full_{view}_00.png" for kind in ("normal", "depth", "mask", "color") for view in VIEWS}
    assert {path.name for path in out.iterdir()} == names | {"sheet_full.png"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["box.ply", "deep"]
    for name in names:
        assert load_png(out / name).shape == (48, 48, 3)
    sheet = load_png(out / "sheet_full.png")
    assert sheet.shape[1] > 4 * 48 and sheet.shape[0] > 4 * 48
    normal = load_png(out / "normal_full_back_00.png")
    torch.testing.assert_close(normal[24, 24], torch.tensor([0.5, 0.5, 1.0]), rtol=0, atol=0.3)
    torch.testing.assert_close(load_png(out / "mask_full_left_00.png")[24, 24], torch.ones(3))
    color = load_png(out / "color_full_front_00.png")[24, 24]
    torch.testing.assert_close(color, torch.tensor([1.0, 128 / 255, 0.0]), rtol=0, atol=0.01)
    assert "16 pictures" in capsys.readouterr().out


@pytest.mark.slow
def test_degrees_part_and_elevation(tmp_path: Path) -> None:
    mesh, out = colored_box(tmp_path / "box.glb"), tmp_path / "out"
    options = ["--views", "30,-45,90", "--passes", "mask", "--part", "head", "--elevation", "20", "--size", "32"]
    assert main(["render", str(mesh), *options, "--engine", "torch", "--out", str(out)]) == 0
    names = {"mask_head_030_00.png", "mask_head_m045_00.png", "mask_head_left_00.png", "sheet_head.png"}
    assert {path.name for path in out.iterdir()} == names


def test_a_mesh_without_colours_is_grey_and_the_user_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plain.obj"
    trimesh.creation.box(extents=(1, 1, 1)).export(path)
    options = ["--views", "front", "--passes", "color", "--size", "32", "--out", str(tmp_path / "out")]
    assert main(["render", str(path), *options]) == 0
    assert "no colours" in capsys.readouterr().out
    picture = load_png(tmp_path / "out" / "color_full_front_00.png")
    torch.testing.assert_close(picture[16, 16], torch.full((3,), 0.7), rtol=0, atol=0.01)


def test_meshes_are_centred_and_scaled_unless_kept() -> None:
    vertices = torch.tensor([[3.0, 5.0, -2.0], [12.0, 23.0, -2.0], [7.0, 9.0, -1.0]])
    mesh = to_working_box(Mesh(vertices, torch.tensor([[0, 1, 2]])))
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    torch.testing.assert_close(high - low, torch.tensor([0.9, 1.8, 0.1]))
    torch.testing.assert_close(low, -high)
    wide = to_working_box(Mesh(vertices * torch.tensor([8.0, 1.0, 1.0]), torch.tensor([[0, 1, 2]])))
    assert float(wide.vertices[:, 0].amax()) == pytest.approx(REACH)


@pytest.mark.slow
def test_keep_frame(tmp_path: Path) -> None:
    mesh = tmp_path / "box.ply"
    trimesh.creation.box(extents=(0.2, 0.2, 0.2)).apply_translation((0, 0.8, 0)).export(mesh)
    areas = []
    for folder, flags in (("fitted", []), ("kept", ["--keep-frame"])):
        options = ["--views", "front", "--passes", "mask", "--size", "64", "--out", str(tmp_path / folder), *flags]
        assert main(["render", str(mesh), *options]) == 0
        mask = load_png(tmp_path / folder / "mask_full_front_00.png")[..., 0]
        areas.append(float(mask.sum()))
        assert (float(mask[32, 32]) == 1) == (folder == "fitted")
    assert areas[1] < areas[0] / 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--views", "sideways"], "--views: expected front, left, back, right or degrees, got 'sideways'"),
        (["--views", "nan"], "--views"),
        (
            ["--passes", "normal,albedo"],
            "openpose, labels, lit, got 'albedo'",
        ),
        (["--passes", ","], "--passes"),
        (["--size", "0"], "--size: expected 1 to 8192, got 0"),
        (["--size", "9000"], "--size"),
        (["--elevation", "90"], "--elevation"),
        (["--engine", "opengl"], "engine: expected one of"),
    ],
)
@pytest.mark.usefixtures("as_user")
def test_wrong_options_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    mesh = colored_box(tmp_path / "box.ply")
    assert main(["render", str(mesh), "--out", str(tmp_path / "out"), *options]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_unreadable_meshes_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = colored_box(tmp_path / "whole.glb").read_bytes()
    (tmp_path / "cut.glb").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "words.ply").write_text("not a mesh", encoding="utf-8")
    for name in ("cut.glb", "words.ply", "missing.obj", "picture.png"):
        assert main(["render", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 1
        error = capsys.readouterr().err
        assert name in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_pictures_for_controlnets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the body that comes along; each kind by its own name, all on the sheet."""
    out = tmp_path / "out"
    kinds = "normal,normal_bae,canny,openpose,labels"
    assert main(["render", "body", "--views", "front", "--passes", kinds, "--size", "64", "--out", str(out)]) == 0
    pictures = {kind: load_png(out / f"{kind}_full_front_00.png") for kind in kinds.split(",")}
    assert {path.name for path in out.iterdir()} == {
        *(f"{kind}_full_front_00.png" for kind in pictures), "sheet_full.png"
    }  # fmt: skip
    assert set(pictures["canny"].unique().tolist()) == {0.0, 1.0}
    assert len(pictures["labels"].flatten(0, 1).unique(dim=0)) == 5  # nothing, skin, top, bottom, shoes
    assert 0.01 < float((pictures["openpose"].amax(-1) > 0.3).float().mean()) < 0.2
    assert main(["render", "body", "--passes", "edges", "--out", str(tmp_path / "other")]) == 1
    assert "expected some of normal, depth, mask, color, normal_directx" in capsys.readouterr().err


@pytest.mark.slow
def test_a_lamp_shines_from_where_it_is_sent(tmp_path: Path) -> None:
    mesh, brightness = colored_box(tmp_path / "box.ply"), {}
    for side, light in (("left", "-80,0"), ("right", "80,0")):
        out = tmp_path / side
        arguments = ["--passes", "lit", "--views", "45", f"--light={light}", "--size", "48", "--out", str(out)]
        assert main(["render", str(mesh), *arguments]) == 0
        picture = load_png(out / "lit_full_045_00.png")
        brightness[side] = [float(picture[24, column].mean()) for column in (21, 27)]
    assert brightness["left"][0] > brightness["left"][1] + 0.1
    assert brightness["right"][1] > brightness["right"][0] + 0.1
