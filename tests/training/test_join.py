"""Several datasets as one: every picture and line of the sources, people apart, and what does not fit refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from humannorm.checks import InputError
from humannorm.cli import main
from humannorm.training.dataset import SMALL_MODEL_PLAN, DatasetSettings, describe_dataset
from humannorm.training.join import join_datasets
from humannorm.training.shards import Shards


@pytest.fixture
def sources(people_shards, tmp_path):
    """Two datasets of shards that hold the same people's names."""
    folders = []
    for name in ("a", "b"):
        folder = people_shards(shards=2, size=32).rename(tmp_path / name)
        (folder / "dataset.json").unlink(missing_ok=True)
        describe_dataset(folder, "people", DatasetSettings(size=32), SMALL_MODEL_PLAN)
        folders.append(folder)
    return folders


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_holds_every_picture_of_its_sources_in_their_order(sources, tmp_path, split):
    count = join_datasets(sources, tmp_path / "all")
    joined = Shards(tmp_path / "all", split=split)
    parts = [Shards(source, split=split) for source in sources]
    assert len(joined) == sum(map(len, parts)) and count >= len(joined)
    expected = [(index, part, row) for index, part in enumerate(parts) for row in range(len(part))]
    for row, (index, part, source_row) in enumerate(expected):
        shot, source = joined.shot(row), part.shot(source_row)
        assert shot == {**source, "person": f"{index}_{source['person']}"}
        for kind in ("normal", "depth", "color"):
            assert torch.equal(joined.image(row, kind), part.image(source_row, kind))
        assert torch.equal(joined.mask(row), part.mask(source_row))


def test_takes_the_camera_plan_along_and_tells_the_sources(sources, tmp_path):
    join_datasets(sources, tmp_path / "all")
    description = json.loads((tmp_path / "all" / "dataset.json").read_text(encoding="utf-8"))
    assert description["camera_plan"] == SMALL_MODEL_PLAN.to_dict()
    assert description["settings"] == [json.loads((source / "dataset.json").read_text()) for source in sources]


def test_the_sources_stay_as_they_are(sources, tmp_path):
    before = {path: path.read_bytes() for source in sources for path in source.iterdir()}
    join_datasets(sources, tmp_path / "all")
    assert {path: path.read_bytes() for source in sources for path in source.iterdir()} == before


def test_refuses_what_does_not_fit(sources, people_shards, tmp_path):
    first, second = sources
    with pytest.raises(InputError, match="expected at least one dataset"):
        join_datasets([], tmp_path / "all")
    with pytest.raises(InputError, match=r"dataset\.json: expected beside the shards"):
        join_datasets([first, tmp_path], tmp_path / "all")
    (second / "dataset.json").unlink()
    describe_dataset(second, "people", DatasetSettings(size=32), replace(SMALL_MODEL_PLAN, distance=(1.0, 2.0)))
    with pytest.raises(InputError, match="expected the camera plan of"):
        join_datasets(sources, tmp_path / "all")
    for path in second.glob("mask_*.npy"):
        np.save(path, np.zeros((1, 16, 16), dtype=np.uint8))
    (second / "dataset.json").write_text((first / "dataset.json").read_text())
    with pytest.raises(InputError, match="expected pictures of 32 pixels"):
        join_datasets(sources, tmp_path / "all")
    with pytest.raises(InputError, match="expected a new or empty folder"):
        join_datasets([first], second)


def test_the_command(sources, tmp_path, capsys):
    assert main(["dataset", "join", *map(str, sources), "--out", str(tmp_path / "all")]) == 0
    count = sum(len(Shards(tmp_path / "all", split=split)) for split in ("train", "held_out"))
    assert capsys.readouterr().out == f"{count} shots in {tmp_path / 'all'}\n"
