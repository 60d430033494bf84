from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from humannorm.checks import InputError
from humannorm.evaluation import gallery as gallery_module
from humannorm.evaluation import judges
from humannorm.evaluation.figures import AIMS, figures_of, table
from humannorm.evaluation.gallery import Gallery, Judgements, Picture, find_judge

SIZE = 32


def figure_on_white(color: tuple[float, float, float]) -> torch.Tensor:
    image = torch.ones(SIZE, SIZE, 3)
    image[4:28, 10:22] = torch.tensor(color)
    return image


def normal_of_figure() -> torch.Tensor:
    image = torch.zeros(SIZE, SIZE, 3)
    image[4:28, 10:22] = torch.tensor([0.5, 0.5, 1.0])
    return image


LANDMARKS = [[0.5, 0.1, 1.0] for _ in range(33)]
for _index, (_x, _y) in {11: (20, 6), 12: (12, 6), 23: (19, 16), 24: (13, 16), 25: (19, 22), 26: (13, 22)}.items():
    LANDMARKS[_index] = [_x / SIZE, _y / SIZE, 1.0]


@pytest.fixture
def judged_gallery(tmp_path):
    """Four model pictures a kind: one unseen, one turned round; heads with a face on every side; two renders."""
    gallery = Gallery(tmp_path)
    said = {}
    worn = {"top_colour": "red", "bottom_colour": "red"}
    for source in ("reference", "render", "model"):
        for index, azimuth in enumerate((0.0, 90.0, 180.0, -90.0)):
            for kind, image in (("normal", normal_of_figure()), ("color", figure_on_white((0.8, 0.1, 0.1)))):
                picture = Picture(
                    id=f"{source}_{kind}_full_{index}",
                    source=source,
                    kind=kind,
                    part="full",
                    azimuth=azimuth,
                    judges=("pose", "features"),
                    attributes=worn,
                    pair=f"{source}_normal_full_{index}" if kind == "color" else "",
                )
                gallery.add(picture, image)
                seen = azimuth if index < 2 or source != "model" else azimuth + 170
                pose = {"azimuth": seen, "landmarks": LANDMARKS}
                said[picture.id] = {"pose": None if source == "model" and index == 3 else pose}
    for view, azimuth in (("front", 0.0), ("back", 180.0)):
        picture = Picture(f"model_normal_head_{view}", "model", "normal", "head", azimuth, ("face",))
        gallery.add(picture, normal_of_figure())
        said[picture.id] = {"face": 0.9}
    gallery.save()
    generator = np.random.default_rng(0)
    ids = [p.id for p in gallery.pictures if "features" in p.judges]
    np.savez(tmp_path / "features.npz", ids=np.array(ids), features=generator.normal(size=(len(ids), 8)))
    (tmp_path / "judgements.json").write_text(json.dumps({"judgements": said}), encoding="utf-8")
    return tmp_path


def test_manifest_round_trip(judged_gallery):
    gallery = Gallery.load(judged_gallery)
    assert len(gallery.pictures) == 26
    assert gallery.select(source="model", part="head", kind="normal")[0].judges == ("face",)
    entries = json.loads((judged_gallery / "manifest.json").read_text(encoding="utf-8"))["pictures"]
    assert {entry["on_white"] for entry in entries if entry["kind"] == "normal" and entry["part"] == "full"} == {True}
    assert {entry["on_white"] for entry in entries if entry["part"] == "head"} == {False}
    torch.testing.assert_close(gallery.image("model_normal_full_0"), normal_of_figure(), atol=0.003, rtol=0)


def test_figures_count_what_the_judges_said(judged_gallery):
    figures = figures_of(Gallery.load(judged_gallery), Judgements.load(judged_gallery))
    values = {(figure.name, figure.source): (figure.value, figure.count) for figure in figures}
    assert values["person found, full-body normals", "model"] == (0.75, 4)
    assert values["azimuth within 45 degrees, of those", "model"] == (pytest.approx(2 / 3), 3)
    assert values["azimuth within 45 degrees, of those", "render"] == (1, 4)
    assert values["face on head normals, front", "model"] == (1, 1)
    assert values["face on head normals, back", "model"] == (1, 1)
    assert values["silhouette of colours against normals, IoU", "model"] == (pytest.approx(1.0), 4)
    assert values["top worn in the named colour", "render"] == (1, 4)
    assert values["top worn in the named colour", "model"] == (1, 3)  # of those that the pose judge found
    assert values["fid64 of normals", "render"][1] == 4
    ratio = values["fid64 of normals", "model"][0] / values["fid64 of normals", "render"][0]
    assert values["fid64 of normals over its floor", "model"][0] == pytest.approx(ratio)
    assert all(figure.name in AIMS for figure in figures)


def test_table_sets_aims_beside_figures(judged_gallery):
    lines = table(figures_of(Gallery.load(judged_gallery), Judgements.load(judged_gallery))).splitlines()
    assert len(lines) == 2 + len(AIMS)
    row = {line.split(" | ")[0].removeprefix("| "): line for line in lines[2:]}
    assert row["person found, full-body normals"].endswith("| >= 90 % | 75 % (4) | no | 100 % (4) | - |")
    assert row["face on head normals, back"].endswith("| <= 10 % | 100 % (1) | no | - | - |")
    assert "| - |  | - |" in row["VAE copy keeps the garment's named colour"]


def test_azimuth_of_world_landmarks():
    """Facing the camera, the subject's left is at the image's right (+x); seen from its left, that side is nearer."""
    points = [(0.0, 0.0, 0.0)] * 33

    def azimuth(left: tuple[float, float, float]) -> float:
        right = tuple(-value for value in left)
        placed = list(points)
        for index, place in ((11, left), (12, right), (23, left), (24, right)):
            placed[index] = place
        return judges.azimuth_from_landmarks(placed)

    assert azimuth((1.0, 0.0, 0.0)) == pytest.approx(0)
    assert azimuth((0.0, 0.0, -1.0)) == pytest.approx(90)
    assert azimuth((0.0, 0.0, 1.0)) == pytest.approx(-90)
    assert abs(azimuth((-1.0, 0.0, 0.0))) == pytest.approx(180)


def test_pictures_are_fed_on_white(tmp_path):
    gallery = Gallery(tmp_path)
    gallery.add(Picture("a", "model", "normal", "full", 0.0), normal_of_figure())
    shown = judges.load_picture(tmp_path / "a.png", on_white=True)
    assert shown.shape == (512, 512, 3)
    assert shown[0, 0].tolist() == [255, 255, 255]
    assert abs(shown[256, 256].astype(int) - [128, 128, 255]).max() <= 1
    assert judges.load_picture(tmp_path / "a.png", on_white=False)[0, 0].tolist() == [0, 0, 0]


def test_judges_script_stands_alone():
    """It runs where neither torch nor this package is installed: nothing of either is imported."""
    script = Path(gallery_module.JUDGES_SCRIPT)
    code = f"import runpy, sys; runpy.run_path({str(script)!r}); print({{'torch', 'humannorm'}} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_a_wrong_judge_or_gallery_is_refused(tmp_path):
    with pytest.raises(InputError, match="--judge: expected the python of the judges' environment"):
        find_judge(str(tmp_path / "no-such-python"))
    with pytest.raises(InputError, match="--judge: expected an environment with the judges .* No module named"):
        find_judge(sys.executable)
    with pytest.raises(InputError, match=r"manifest.json: expected the manifest of a gallery"):
        Gallery.load(tmp_path)
    with pytest.raises(InputError, match=r"judgements.json: expected what the judges wrote"):
        Judgements.load(tmp_path)
