"""Shards: whole or absent, read back as written, the same bytes from the same seed, people kept apart."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from humannorm.cameras import CAMERA_PLANS, orbit, sample_cameras
from humannorm.checks import InputError
from humannorm.cli import main
from humannorm.training.assets import default_assets_dir, unpacked_dir
from humannorm.training.captions import Attributes, describe
from humannorm.training.dataset import (
    SMALL_MODEL_PLAN,
    DatasetSettings,
    Shots,
    count_shots,
    describe_dataset,
    narrowed,
    only_full_body,
    shoot,
    split_of,
    write_people,
    write_shard,
    write_shards,
)
from humannorm.training.people_render import Material, Surface, TextureSet, smooth_normals
from humannorm.training.shards import Shards

HAVE_PEOPLE = unpacked_dir(default_assets_dir()).is_dir() and importlib.util.find_spec("anny") is not None
needs_assets = pytest.mark.skipif(
    not HAVE_PEOPLE, reason="needs `humannorm dataset assets` and anny, which are not on this machine"
)


def pyramid() -> Surface:
    positions = torch.tensor([[0.0, 0.9, 0.0], [-0.4, -0.9, 0.3], [0.4, -0.9, 0.3], [0.0, -0.9, -0.5]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    return Surface(
        positions=positions,
        faces=faces,
        uvs=torch.zeros(1, 2),
        uv_faces=torch.zeros_like(faces),
        face_material=torch.zeros(4, dtype=torch.int64),
        materials=(Material(tint=(0.8, 0.2, 0.2)),),
        textures=TextureSet.pack([]),
        normals=smooth_normals(positions, faces),
    )


def some_shots(number: int, count: int = 3) -> Shots:
    cameras = orbit([40.0 * number + 90.0 * i for i in range(count)], distance=3.0, fov_y=42.0)
    facts = {"person": f"person{number}", "split": split_of(number), "attributes": None, "caption": f"pyramid {number}"}
    return shoot(pyramid(), cameras, 16, facts)


def test_a_shard_is_read_back_as_written(tmp_path: Path):
    shots = [some_shots(number) for number in (8, 9)]
    write_shard(tmp_path, 0, shots)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "color_00000.npy", "depth_00000.npy", "mask_00000.npy", "normal_00000.npy", "shots_00000.jsonl",
    ]  # fmt: skip
    assert np.load(tmp_path / "color_00000.npy").shape == (6, 16, 16, 3)
    assert np.load(tmp_path / "mask_00000.npy").dtype == np.uint8
    held_out = Shards(tmp_path, split="held_out")
    assert len(held_out) == 3 and {held_out.shot(i)["person"] for i in range(3)} == {"person9"}
    torch.testing.assert_close(held_out.image(1, "normal"), shots[1].pictures.normal[1].float() / 255.0)


def test_a_line_tells_the_camera_again(tmp_path: Path):
    cameras = sample_cameras(SMALL_MODEL_PLAN, 0, 6, torch.Generator().manual_seed(3))
    facts = {"person": "a", "split": "train", "attributes": None, "caption": "b"}
    for i, record in enumerate(shoot(pyramid(), cameras, 16, facts).records):
        assert record["part"] == cameras.part[i] and record["view"] == cameras.view_labels()[i]
        assert record["azimuth"] == pytest.approx(float(cameras.azimuth[i]), abs=1e-3)
        assert record["target"] == pytest.approx(cameras.target[i].tolist(), abs=1e-3)
        assert set(record) == {
            "person", "split", "attributes", "caption", "part", "view",
            "azimuth", "elevation", "fov", "zoom", "distance", "target",
        }  # fmt: skip


def test_a_person_is_wholly_on_one_side_of_the_split():
    sides = [split_of(person) for person in range(200)]
    assert sides.count("held_out") == 20 and set(sides) == {"train", "held_out"}


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path):
    asked: list[int] = []

    def shots(numbers: range):
        for number in numbers:
            if number == 5 and 5 not in asked:
                asked.append(number)
                raise KeyboardInterrupt
            asked.append(number)
            yield some_shots(number, count=1)

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path, 6, 2, shots)
    assert sorted(path.name for path in tmp_path.glob("shots_*")) == ["shots_00000.jsonl", "shots_00001.jsonl"]
    write_shards(tmp_path, 6, 2, shots)
    assert asked == [0, 1, 2, 3, 4, 5, 4, 5] and count_shots(tmp_path) == 6


def test_two_recipes_are_not_mixed_in_one_folder(tmp_path: Path):
    settings = DatasetSettings(size=16, people=2)
    describe_dataset(tmp_path, "people", settings, SMALL_MODEL_PLAN)
    describe_dataset(tmp_path, "people", settings, SMALL_MODEL_PLAN)
    with pytest.raises(InputError, match="was made with other settings"):
        describe_dataset(tmp_path, "people", DatasetSettings(size=16, people=3), SMALL_MODEL_PLAN)
    with pytest.raises(InputError, match="was made with other settings"):
        describe_dataset(tmp_path, "people", settings, CAMERA_PLANS["full_body"])


def test_the_small_models_plan_draws_its_parts_and_can_be_reduced_to_the_full_body():
    cameras = sample_cameras(SMALL_MODEL_PLAN, 0, 2000, torch.Generator().manual_seed(0))
    share = cameras.part.count("full") / 2000
    assert share == pytest.approx(0.4, abs=0.04)
    assert float(cameras.distance.min()) >= 3.0 and float(cameras.distance.max()) <= 3.2
    full = sample_cameras(only_full_body(SMALL_MODEL_PLAN), 0, 20, torch.Generator().manual_seed(0))
    assert set(full.part) == {"full"}
    with pytest.raises(InputError, match="parts of the camera plan 'head_only': expected one of head, got 'full'"):
        only_full_body(CAMERA_PLANS["head_only"])


def test_a_narrowed_plan_shows_the_parts_and_sides_asked_for_as_often_as_before():
    narrow = narrowed(SMALL_MODEL_PLAN, DatasetSettings(parts=("head", "full"), front_within=22.0))
    cameras = sample_cameras(narrow, 0, 2000, torch.Generator().manual_seed(0))
    assert set(cameras.part) == {"head", "full"}
    assert cameras.part.count("head") / 2000 == pytest.approx(1 / 3, abs=0.04)  # 0.2 against 0.4
    assert 21.0 < float(cameras.azimuth.abs().max()) <= 22.0
    assert narrowed(SMALL_MODEL_PLAN, DatasetSettings()) == SMALL_MODEL_PLAN
    wrong = "parts of the camera plan 'small_model': expected one of full, head, upper, lower, got 'hand'"
    with pytest.raises(InputError, match=wrong):
        narrowed(SMALL_MODEL_PLAN, DatasetSettings(parts=("hand",)))


@pytest.mark.parametrize("wrong", [{"size": 4}, {"people": 0}, {"shots_per_person": -1}, {"front_within": 181.0}])
def test_senseless_settings_are_refused(wrong: dict[str, int]):
    with pytest.raises(InputError, match=next(iter(wrong))):
        DatasetSettings(**wrong)


def test_an_empty_shard_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="expected at least one subject"):
        write_shard(tmp_path, 0, [])


@pytest.mark.slow
@needs_assets
def test_one_seed_gives_the_same_bytes(tmp_path: Path):
    settings = DatasetSettings(size=64, people=2, shots_per_person=3, people_per_shard=1, seed=5)
    for name in ("a", "b"):
        assert write_people(tmp_path / name, default_assets_dir(), settings) == 6
    first = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert len(first) == 2 * 5 + 1
    lines = (tmp_path / "a" / "shots_00001.jsonl").read_text(encoding="utf-8").splitlines()
    record = json.loads(lines[0])
    assert record["caption"] == describe(Attributes.from_dict(record["attributes"]))


@pytest.mark.slow
@needs_assets
def test_the_command_takes_parts_poses_and_sides(tmp_path: Path):
    words = ["dataset", "people", "--people", "2", "--shots", "3", "--size", "32", "--seed", "3"]
    narrow = ["--parts", "head", "--poses", "standing,in T-pose", "--front-within", "10"]
    assert main([*words, *narrow, "--out", str(tmp_path / "heads")]) == 0
    shots = Shards(tmp_path / "heads")
    for shot in map(shots.shot, range(len(shots))):
        assert shot["part"] == "head" and shot["view"] == "front" and abs(shot["azimuth"]) <= 10.0
        assert shot["attributes"]["pose"] in ("standing", "in T-pose")


@pytest.mark.slow
@needs_assets
def test_parts_that_a_pose_moves_away_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["dataset", "people", "--people", "1", "--shots", "1", "--size", "32", "--out", str(tmp_path / "out")]
    assert main([*words, "--parts", "head", "--poses", "sitting"]) == 1
    assert "poses: expected some that leave head in place, such as standing, got sitting" in capsys.readouterr().err


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["dataset", "people", "--out", str(tmp_path / "out"), "--assets", str(tmp_path), "--people", "1"]
    assert main(words) == 1
    assert "fetch them with `humannorm dataset assets`" in capsys.readouterr().err
