"""The program of docs/export.md runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from humannorm.mesh_io import load_mesh

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.mark.slow
def test_the_program_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert program is not None
    monkeypatch.chdir(tmp_path)
    exec(compile(program[1], str(PAGE), "exec"), {})
    mesh = load_mesh("human.glb")
    assert mesh.num_faces <= 5000 and mesh.texture is not None
