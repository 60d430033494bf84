"""Finished humans before the judges: what they are shown, which colours were asked for, what is made of the answers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from humannorm.body import BodyShape, load_body
from humannorm.body.painted_skin import skin_picture
from humannorm.checks import InputError
from humannorm.cli import main
from humannorm.evaluation.gallery import Gallery, Judgements, find_judge, run_judges
from humannorm.evaluation.painted import add_human, human_figures, human_table, requested_colours
from humannorm.evaluation.sculpted import AZIMUTHS
from humannorm.mesh import Mesh
from humannorm.pipeline import prompt_of

JUDGE = os.environ.get("HUMANNORM_JUDGE")
RED, BLUE = (217, 25, 25), (25, 51, 178)
# MediaPipe's landmarks of the body in A-pose from in front, where they matter.
PLACES = {11: (0.57, 0.24), 12: (0.43, 0.24), 23: (0.535, 0.47), 24: (0.465, 0.47), 25: (0.55, 0.68), 26: (0.45, 0.68)}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a woman wearing a red t-shirt, blue jeans and white shoes", {"top": "red", "bottom": "blue"}),
        ("a slim woman in a yellow dress and white shoes", {"top": "yellow", "bottom": "yellow"}),
        ("a man in a dark blue suit", {"top": "navy", "bottom": "navy"}),
        ("a man with red hair, wearing a burgundy leather jacket", {"top": "maroon"}),
        ("a woman with black hair, a sky blue blouse and a skirt", {"top": "light blue"}),
        ("a man in a burgundy coat over blue jeans", {"top": "maroon", "bottom": "maroon"}),
        ("a man in a red jacket over a white shirt, black shorts", {"top": "red", "bottom": "black"}),
        ("a woman in a jacket over a white shirt, a skirt that is green", {"bottom": "green"}),
        ("a man", {}),
    ],
)
def test_the_requested_colours_are_those_of_the_outermost_pieces(prompt: str, expected: dict[str, str]) -> None:
    assert requested_colours(prompt) == expected


@pytest.fixture(scope="module")
def human() -> Mesh:
    """The body with a face, red above the waist and blue below."""
    body = load_body(BodyShape(sex=0.05)).in_working_box()
    mesh = Mesh(body.vertices[body.uv_vertices], body.uv_faces, uvs=body.uvs, texture=skin_picture(body.shape, "fair"))
    texels = (mesh.uvs * 512).long().clamp(0, 511)  # type: ignore[operator]
    skin = mesh.texture[texels[:, 1], texels[:, 0]]  # type: ignore[index]
    y = mesh.vertices[:, 1:2]
    dressed = torch.where(y > 0.05, torch.tensor(RED) / 255.0, torch.tensor(BLUE) / 255.0)
    return Mesh(mesh.vertices, mesh.faces, colors=torch.where(y > 0.62, skin, dressed))


def said(gallery: Gallery, name: str, missed: int = 0) -> Judgements:
    landmarks = [[*PLACES.get(number, (0.5, 0.5)), 1.0] for number in range(33)]
    answers = {}
    for number, picture in enumerate(gallery.select(source=name)):
        if picture.part == "head":
            answers[picture.id] = {"face": 0.9 if picture.azimuth == 0 else None}
        else:  # only the front's landmarks fit the picture: the others are read as turned away
            azimuth = picture.azimuth + (0 if picture.azimuth == 0 else 100)
            answers[picture.id] = {"pose": None if number < missed else {"azimuth": azimuth, "landmarks": landmarks}}
    return Judgements(answers, {})


def test_figures_tell_colours_pieces_and_sides(human: Mesh, tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    add_human(gallery, "one", human)
    assert len(gallery.select(source="one", part="full")) == len(AZIMUTHS) == 12
    row = human_figures(gallery, said(gallery, "one"), "one", human, "a man in a red sweater and green trousers")
    assert (row.found, row.turned_right, row.face_front, row.face_back) == (12, 1, True, False)
    assert row.is_human and row.worn == {"top": "red", "bottom": "blue"} and row.right_colours == 1
    assert row.stray < 1e-6
    text = human_table([row])
    assert "| one | 12 | 1 | yes | no | red, red | green, blue |" in text
    assert "1 of 2 garments" in text and "1 of 1 are seen as a person" in text
    few = human_figures(gallery, said(gallery, "one", missed=3), "one", human, "a man")
    assert few.found == 9 and not few.is_human and few.requested == {}


def test_stray_pieces_and_holes_are_told(human: Mesh, tmp_path: Path) -> None:
    triangle = torch.tensor([[0.8, 0.8, 0.0], [0.95, 0.8, 0.0], [0.8, 0.95, 0.0]])
    more = Mesh(
        torch.cat([human.vertices, triangle]),
        torch.cat([human.faces, torch.tensor([[0, 1, 2]]) + human.num_vertices]),
        colors=torch.cat([human.colors, torch.ones(3, 3)]),  # type: ignore[list-item]
    )
    gallery = Gallery(tmp_path)
    add_human(gallery, "more", more)
    row = human_figures(gallery, said(gallery, "more"), "more", more, "a man")
    assert not row.closed and 0.002 < row.stray < 0.02


def test_bad_input_is_refused(human: Mesh, tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    with pytest.raises(InputError, match="expected a painted mesh"):
        add_human(gallery, "plain", Mesh(human.vertices, human.faces))
    add_human(gallery, "twice", human)
    with pytest.raises(InputError, match="each name once"):
        add_human(gallery, "twice", human)
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="expected a folder of `generate`"):
        prompt_of(tmp_path)
    assert main(["evaluate", "humans", str(tmp_path), "--judge", "no/such/python", "--out", str(tmp_path)]) == 1


@pytest.mark.skipif(JUDGE is None, reason="HUMANNORM_JUDGE names no python with the judges")
def test_the_judges_see_a_painted_body(human: Mesh, tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    add_human(gallery, "body", human)
    gallery.save()
    assert JUDGE is not None
    judged = run_judges(tmp_path, find_judge(JUDGE))
    row = human_figures(gallery, judged, "body", human, "a man in a red sweater and blue trousers")
    assert row.found >= 10 and row.face_front and not row.face_back
    assert row.worn == {"top": "red", "bottom": "blue"}
