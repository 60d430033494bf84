"""The first program of docs/rendering.md runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from humannorm.images import load_png

PAGE = Path(__file__).parents[2] / "docs" / "rendering.md"


def test_the_first_program_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert program is not None
    monkeypatch.chdir(tmp_path)
    exec(compile(program[1], str(PAGE), "exec"), {})
    assert load_png("painted.png").shape == (256, 256, 3)
    assert load_png("body.png").shape[1] > 4 * 256
    assert float(capsys.readouterr().out.split(":")[1]) > 0


def test_pictures_of_the_page_exist() -> None:
    names = re.findall(r"!\[.*?\]\((.*?)\)", PAGE.read_text(encoding="utf-8"))
    assert names and all((PAGE.parent / name).is_file() for name in names)
