"""The programs in examples/ run, small, and stay as short as they promise to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from humannorm.images import load_png
from humannorm.mesh_io import load_mesh

EXAMPLES = Path(__file__).parents[1] / "examples"
Run = Callable[..., dict[str, Any]]


def test_each_is_run_below_and_at_most_forty_lines_long() -> None:
    lines = {path.stem: len(path.read_text("utf-8").splitlines()) for path in EXAMPLES.glob("*.py")}
    assert set(lines) == {"generate", "sample_normal_map", "paint_my_mesh", "animate", "fine_tune"}
    assert max(lines.values()) <= 40


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_quick")
def test_generate(run_program: Run, tiny_sd: Callable[[str], Path], tmp_path: Path) -> None:
    run_program(EXAMPLES / "generate.py", "a man", "--models", str(tiny_sd("epsilon")), "--out", "man")
    assert load_mesh(tmp_path / "man" / "human.glb").texture is not None


@pytest.mark.slow
def test_sample_a_normal_map(run_program: Run, tmp_path: Path) -> None:
    run_program(EXAMPLES / "sample_normal_map.py", "a man in a suit", "--steps", "3", "--views", "front,left")
    assert load_png(tmp_path / "normals.png").shape[1] > 2 * 128


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_quick")
def test_paint_my_mesh(run_program: Run, tiny_sd: Callable[[str], Path], tmp_path: Path) -> None:
    words = ["--models", str(tiny_sd("epsilon")), "--levels", "1", "--texture-size", "64"]
    run_program(EXAMPLES / "paint_my_mesh.py", *words)
    painted = load_mesh(tmp_path / "painted.glb")
    assert painted.texture is not None and painted.texture.shape == (64, 64, 3)


@pytest.mark.slow
def test_animate(run_program: Run, tmp_path: Path) -> None:
    names = run_program(EXAMPLES / "animate.py", "--clips", "walk,wave", "--rig", "game_engine")
    assert len(names["clips"]) == 2 and b'"JOINTS_0"' in (tmp_path / "walking.glb").read_bytes()


@pytest.mark.slow
def test_fine_tune(run_program: Run, tiny_sd: Callable[[str], Path]) -> None:
    words = ["--base", str(tiny_sd("epsilon")), "--size", "64", "--shots", "4", "--steps", "1"]
    names = run_program(EXAMPLES / "fine_tune.py", *words)
    assert [path.suffix for path in names["lora"].iterdir()] == [".safetensors"]
