"""Humans against the people maker's renders: which pictures are taken, and what is made of their features."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from humannorm.checks import InputError
from humannorm.evaluation.gallery import Gallery, Judgements
from humannorm.evaluation.likeness import HUMANS, OTHERS, REFERENCE, add_likeness, likeness, likeness_table
from humannorm.evaluation.painted import painting_figures, painting_table
from humannorm.export import BakedMesh
from humannorm.mesh import Mesh


class People:
    """Shards of `count` persons with two whole bodies each; a picture's brightness is the person's number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def rows_of(self, part: str) -> list[int]:
        return list(range(2 * self.count))

    def shot(self, row: int) -> dict[str, Any]:
        camera = {"azimuth": 40.0 * row, "elevation": 5.0, "distance": 3.0, "zoom": 1.15, "fov": 42.0}
        attributes = {"pose": "running" if row // 2 % 2 else "standing"}
        return {"person": row // 2, "part": "full", "target": [0.0, 0.0, 0.0], "attributes": attributes, **camera}

    def image(self, row: int, kind: str) -> torch.Tensor:
        return torch.full((16, 16, 3), row // 2 / self.count)


def square() -> Mesh:
    corners = torch.tensor([[-0.5, -0.9, 0.0], [0.5, -0.9, 0.0], [0.5, 0.9, 0.0], [-0.5, 0.9, 0.0]])
    return Mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]), colors=torch.full((4, 3), 0.5))


@pytest.mark.usefixtures("as_user")
def test_humans_are_seen_from_the_cameras_of_the_first_half(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    add_likeness(gallery, {"a": BakedMesh(square()), "b": BakedMesh(square())}, People(8))  # type: ignore[arg-type]
    first, others, humans = (gallery.select(source=source, kind="color") for source in (REFERENCE, OTHERS, HUMANS))
    assert len(first) == len(others) == len(humans) == 8
    shades = [{round(float(gallery.image(picture.id).mean()), 2) for picture in half} for half in (first, others)]
    assert not shades[0] & shades[1]  # no person is in both
    assert sorted(picture.azimuth for picture in humans) == sorted(picture.azimuth for picture in first)
    assert all(picture.judges == ("features",) for picture in gallery.pictures)
    with pytest.raises(InputError, match="whole bodies of at least 4 held-out people, got 1"):
        add_likeness(Gallery(tmp_path / "few"), {"a": BakedMesh(square())}, People(1))  # type: ignore[arg-type]


@pytest.mark.usefixtures("as_user")
def test_humans_are_compared_with_people_in_their_pose(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    add_likeness(gallery, {"a": BakedMesh(square())}, People(16), poses={"running"})  # type: ignore[arg-type]
    seen = [*gallery.select(source=REFERENCE, kind="color"), *gallery.select(source=OTHERS, kind="color")]
    persons = {round(float(gallery.image(picture.id).mean()) * 16) for picture in seen}
    assert persons == {1, 3, 5, 7, 9, 11, 13, 15}
    with pytest.raises(InputError, match=r"held-out people \(sitting\), got 0"):
        add_likeness(gallery, {"a": BakedMesh(square())}, People(8), poses={"sitting"})  # type: ignore[arg-type]


@pytest.mark.usefixtures("as_user")
def test_the_same_features_are_at_no_distance(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    add_likeness(gallery, {"a": BakedMesh(square())}, People(8))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(8, 12, generator=generator)
    features = {}
    for picture in gallery.pictures:
        row = drawn[int(picture.id[-3:])]
        features[picture.id] = row + 3.0 if picture.source == OTHERS else row
    found = likeness(gallery, Judgements({}, features))
    # A shift of every feature by 3 is at the distance 9 * 12, of which the reference's main directions see a part.
    assert found["color"][0] == pytest.approx(0, abs=1e-6)
    assert 9 < found["color"][1] <= 9 * 12 + 1e-6
    assert "| colours | 0.0 |" in likeness_table(found)


def test_figures_of_a_painting_are_read_from_its_record(tmp_path: Path) -> None:
    record = {"stages": {"paint": {"faces": 3, "disagreement_last": 2.5, "leak": 0.0123}}}
    (tmp_path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert painting_figures(tmp_path) == {"disagreement_last": 2.5, "leak": 0.0123}
    table = painting_table({"a": painting_figures(tmp_path), "b": {}})
    assert "| a | 2.5 | 1.2 % |" in table and "| b |" not in table
    assert painting_table({"b": {}}) == ""
