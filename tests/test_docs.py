"""Every Python program of docs/ runs as printed, but for models and sizes; its pictures and links are there."""

from __future__ import annotations

import doctest
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from humannorm.export import BakedMesh, write_glb
from humannorm.images import load_png
from humannorm.labels import LABELS
from humannorm.mesh_io import load_mesh
from humannorm.pipeline import is_finished
from humannorm.request import HumanSettings

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "humannorm").glob("**/*.py"))
PAGES = sorted(ROOT.glob("docs/**/*.md"))
Run = Callable[..., dict[str, Any]]


def programs(name: str) -> list[str]:
    text = (ROOT / "docs" / name).read_text("utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_every_program_is_run_below_or_beside_its_room() -> None:
    found = {page.name: len(programs(str(page.relative_to(ROOT / "docs")))) for page in PAGES}
    run_here = {"animation.md": 1, "body.md": 1, "export.md": 1, "geometry.md": 1, "pipeline.md": 1, "rendering.md": 1}
    run_here["texture.md"] = 2  # the first by tests/texture/test_texture_docs.py
    assert {name: count for name, count in found.items() if count} == run_here


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            if not target.startswith(("http", "#")) and target != "nodes.md":  # made by tools/docs_hooks.py
                assert (page.parent / target.split("#")[0]).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize(
    "module", [str(path.relative_to(ROOT).with_suffix("")) for path in SOURCES if ">>> " in path.read_text("utf-8")]
)
def test_examples_of_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module.replace("/", ".")))
    assert result.attempted > 0 and result.failed == 0


def test_rendering(run_program: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_program(programs("rendering.md")[0])
    assert load_png(tmp_path / "painted.png").shape == (256, 256, 3)
    assert load_png(tmp_path / "body.png").shape[1] > 4 * 256
    assert float(capsys.readouterr().out.split(":")[1]) > 0


@pytest.mark.slow
def test_export(run_program: Run, tmp_path: Path) -> None:
    run_program(programs("export.md")[0])
    mesh = load_mesh(tmp_path / "human.glb")
    assert mesh.num_faces <= 5000 and mesh.texture is not None


@pytest.mark.slow
def test_animation(run_program: Run, tmp_path: Path) -> None:
    from humannorm.body import load_body

    write_glb(tmp_path / "human.glb", BakedMesh(load_body().to_mesh()))
    names = run_program(programs("animation.md")[0])
    assert b"mixamorig:Hips" in (tmp_path / "walking.glb").read_bytes()
    human, clip = names["human"], names["make_gait"]("walk", names["human"].body)
    assert human.posed(clip, 5).num_faces == human.mesh.num_faces


@pytest.mark.slow
def test_outfits(run_program: Run) -> None:
    dressed = run_program(programs("body.md")[0])["dressed"]
    assert {LABELS[number] for number in dressed.surface.labels.unique()} == {"skin", "hair", "top", "bottom", "shoes"}


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_quick")
def test_sculpting(run_program: Run, tiny_human: HumanSettings, tiny_sd: Callable[[str], Path]) -> None:
    names = run_program(with_model(programs("geometry.md")[0], tiny_sd("epsilon")))
    assert names["state"].step == tiny_human.geometry.steps and names["mesh"].num_faces > 100


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_quick")
def test_painting_all_views_at_once(run_program: Run, tiny_sd: Callable[[str], Path]) -> None:
    painting = run_program(with_model(programs("texture.md")[1], tiny_sd("epsilon")))["painting"]
    assert painting.mesh.texture.shape == (64, 64, 3) and len(painting.pictures) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_quick")
def test_the_main_job(run_program: Run, tmp_path: Path) -> None:
    run_program(programs("pipeline.md")[0])
    assert is_finished(tmp_path / "human")


def with_model(program: str, folder: Path) -> str:
    """The program with a model's folder in place of the bundled one."""
    assert '"bundled"' in program
    return program.replace('"bundled"', repr(str(folder)))
