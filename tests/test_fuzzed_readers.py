"""Broken files of every format lead to a sentence or a result: no other error, no hang."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fuzzed_readers

FEW, MANY = 12, 200  # broken copies of each format; `python tests/fuzzed_readers.py 20000` is the longer run
NAMES = (
    "glb", "skinned glb", "gltf", "obj", "ply ascii", "ply binary", "stl", "bvh", "png", "png 16 bits", "jpeg",
    "texture state", "geometry state", "walk", "model folder", "tokenizer", "captions", "run.json", "joints.json",
    "workflow mesh", "workflow 3d file", "workflow viewer",
)  # fmt: skip


@pytest.fixture(scope="module")
def formats():
    made = fuzzed_readers.formats()
    assert tuple(made) == NAMES
    return made


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_broken_copies_are_refused_with_words(name, count, formats, tmp_path):
    draw = random.Random(f"gate {name}")
    for number in range(count):
        fault = fuzzed_readers.attempt(formats[name], tmp_path, draw)
        assert fault is None, f"broken copy {number} of {name}: {fault}"


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"run.json", "model folder"}))
def test_whole_files_are_read(name, formats, tmp_path):
    form = formats[name]
    for file, content in form.files.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    form.read(tmp_path / next(iter(form.files)))
