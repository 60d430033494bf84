"""Meshes before the judges: what they are shown, what is made of their answers, and the real ones on the real body."""

from __future__ import annotations

import os

import pytest
import torch
import trimesh

from humannorm.body import load_body
from humannorm.checks import InputError
from humannorm.cli import main
from humannorm.evaluation.gallery import Gallery, Judgements
from humannorm.evaluation.sculpted import AZIMUTHS, add_mesh, mesh_figures, mesh_table
from humannorm.mesh import Mesh

JUDGE = os.environ.get("HUMANNORM_JUDGE")


@pytest.fixture(scope="module")
def body() -> Mesh:
    return load_body().to_mesh()


@pytest.fixture(scope="module")
def gallery(body, tmp_path_factory) -> Gallery:
    gallery = Gallery(tmp_path_factory.mktemp("gallery"))
    add_mesh(gallery, "body", body)
    metres = body.replace(vertices=body.vertices * 100 + torch.tensor([5.0, 90.0, 0.0]))
    add_mesh(gallery, "far", metres)
    return gallery


def judgements(gallery: Gallery, missed=(), turned=(), faces=("000",)) -> Judgements:
    said = {}
    for picture in gallery.pictures:
        angle = picture.id[-3:]
        if picture.part == "head":
            said[picture.id] = {"face": 0.9 if angle in faces else None}
        else:
            azimuth = picture.azimuth + (170 if angle in turned else 20)
            said[picture.id] = {"pose": None if angle in missed else {"azimuth": azimuth, "landmarks": []}}
    return Judgements(said, {})


@pytest.mark.slow
def test_judges_see_the_body_from_all_sides_and_its_head_from_two(gallery):
    own = gallery.select(source="body")
    assert [round(picture.azimuth) % 360 for picture in own if picture.part == "full"] == list(AZIMUTHS)
    assert [picture.azimuth for picture in own if picture.part == "head"] == [0.0, 180.0]
    assert {picture.judges for picture in own} == {("pose",), ("face",)}
    assert not any(picture.on_white for picture in own)
    for picture in own:
        image = gallery.image(picture.id)
        covered = (image < 0.9).all(dim=2)
        assert image.shape == (512, 512, 3) and 0.02 < float(covered.float().mean()) < 0.6
        assert not bool(covered[0].any()), "nothing is cut off at the top"


@pytest.mark.slow
def test_a_mesh_of_any_size_is_shown_alike(gallery):
    for picture in gallery.select(source="body"):
        other = gallery.image(picture.id.replace("body", "far"))
        assert float((gallery.image(picture.id) - other).abs().mean()) < 5e-3


def test_figures_count_what_was_said(gallery, body):
    judged = judgements(gallery, missed=("030", "060"), turned=("090",))
    row = mesh_figures(gallery, judged, "body", body)
    assert (row.found, row.turned_right, row.face_front, row.face_back) == (10, 9, True, False)
    assert row.closed and row.pieces >= 1 and row.faces == body.num_faces
    assert row.is_human
    assert mesh_table([row]).splitlines()[-1].startswith("| body | 10 | 9 | yes | no | yes |")


@pytest.mark.parametrize(
    "answers",
    [{"missed": ("030", "060", "090")}, {"faces": ()}, {"faces": ("000", "180")}],
    ids=["missed too often", "no face", "a face behind"],
)
def test_what_is_no_human(gallery, body, answers):
    assert not mesh_figures(gallery, judgements(gallery, **answers), "body", body).is_human


def test_open_meshes_and_pieces_are_told(gallery, body):
    halves = Mesh(
        torch.cat([body.vertices, body.vertices + 3]), torch.cat([body.faces, body.faces + body.num_vertices])
    )
    whole = mesh_figures(gallery, judgements(gallery), "body", body)
    twice = mesh_figures(gallery, judgements(gallery), "body", halves)
    holed = mesh_figures(gallery, judgements(gallery), "body", body.replace(faces=body.faces[1:]))
    assert twice.pieces == 2 * whole.pieces and twice.closed
    assert not holed.closed


def test_a_name_is_used_once(gallery, body):
    with pytest.raises(InputError, match="meshes: expected each name once, got 'body' twice"):
        add_mesh(gallery, "body", body)


def test_wrong_calls(tmp_path, capsys):
    words = ["evaluate", "meshes", "body", "--judge", "no-such-python", "--out", str(tmp_path / "out")]
    assert main(words) == 1
    assert "--judge: expected the python of the judges' environment" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(JUDGE is None, reason="HUMANNORM_JUDGE names no judges")
def test_the_real_judges_know_a_body_from_a_ball(tmp_path):
    ball = tmp_path / "ball.ply"
    trimesh.creation.icosphere(3, 0.9).export(ball)
    assert main(["evaluate", "meshes", "body", str(ball), "--judge", str(JUDGE), "--out", str(tmp_path / "out")]) == 0
    table = (tmp_path / "out" / "figures.md").read_text("utf-8").splitlines()
    assert table[-2].endswith("| yes |") and table[-1].endswith("| no |")
    assert (tmp_path / "out" / "sheet_meshes.png").is_file()
