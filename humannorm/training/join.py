"""Several datasets as one: their shards, numbered on, in a new folder that training reads like any other."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from humannorm.checks import InputError
from humannorm.training.dataset import IMAGE_KINDS, count_shots, read_description
from humannorm.training.hints import HINT_KINDS

__all__ = ["join_datasets"]


def join_datasets(sources: Sequence[Path], folder: Path) -> int:
    """Make the dataset `folder` of the whole shards of `sources`, in their order; returns its number of shots.

    Pictures are linked where the disk allows it and copied where not. People keep their split; their names get the
    number of their source before them, since two sources may have used one. Sources must agree in the pictures' size
    and in the camera plan, which is the one that a model trained on them takes along.
    """
    if not sources:
        raise InputError("sources: expected at least one dataset, got none")
    descriptions = [read_description(source) for source in sources]
    sizes = [_size(source) for source in sources]
    for source, description, size in zip(sources, descriptions, sizes, strict=True):
        if description["camera_plan"] != descriptions[0]["camera_plan"]:
            raise InputError(f"{source}: expected the camera plan of {sources[0]}, got another")
        if size != sizes[0]:
            raise InputError(f"{source}: expected pictures of {sizes[0]} pixels as in {sources[0]}, got {size}")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InputError(f"{folder}: expected a new or empty folder, got files in it")
    kinds = [*IMAGE_KINDS]  # and hints, where all sources have them
    kinds += [kind for kind in HINT_KINDS if all(any(source.glob(f"{kind}_*.npy")) for source in sources)]
    number = 0
    for index, source in enumerate(sources):
        for lines in sorted(source.glob("shots_*.jsonl")):
            name = lines.stem.removeprefix("shots_")
            for kind in kinds:
                _link(source / f"{kind}_{name}.npy", folder / f"{kind}_{number:05d}.npy")
            _write_lines(lines, folder / f"shots_{number:05d}.jsonl", index)
            number += 1
    joined = {"source": "joined", "settings": descriptions, "camera_plan": descriptions[0]["camera_plan"]}
    (folder / "dataset.json").write_text(json.dumps(joined, indent=2) + "\n", encoding="utf-8")
    return count_shots(folder)


def _size(source: Path) -> int:
    """Side of the pictures, pixels."""
    first = next(iter(sorted(source.glob("shots_*.jsonl"))), None)
    if first is None:
        raise InputError(f"{source}: expected at least one whole shard (shots_*.jsonl), got none")
    name = first.stem.removeprefix("shots_")
    return int(np.load(source / f"mask_{name}.npy", mmap_mode="r").shape[1])


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def _write_lines(source: Path, target: Path, index: int) -> None:
    with open(source, encoding="utf-8") as lines, open(target, "w", encoding="utf-8") as stream:
        for line in lines:
            record = json.loads(line)
            stream.write(json.dumps({**record, "person": f"{index}_{record['person']}"}) + "\n")
