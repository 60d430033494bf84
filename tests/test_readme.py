"""README's Python examples run as printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from humannorm.evaluation.pictures import color_silhouette
from humannorm.images import load_png
from humannorm.pipeline import is_finished, prompt_of

README = Path(__file__).parents[1] / "README.md"


def example(name: str) -> str:
    """The program between README's marker of that name and the next end."""
    found = re.search(
        rf"<!-- {name} -->\n```python\n(.*?)```\n<!-- end -->", README.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found is not None, f"README.md: no Python example marked {name}"
    return found[1]


@pytest.mark.slow
def test_two_pictures_of_a_person(run_program: Callable[..., Any]) -> None:
    run_program(example("python-picture"))
    front, back = load_png("front.png"), load_png("back.png")
    assert front.shape == back.shape == (128, 128, 3)
    for picture in (front, back):
        covered = color_silhouette(picture, tolerance=0.15)
        assert 0.04 < float(covered.float().mean()) < 0.5  # a person, not a full or an empty picture
        rows = covered.any(1).nonzero()
        assert int(rows[-1] - rows[0]) > 80  # from head to foot
        red, green, blue = picture[64, 60:68].mean(0)  # her dress
        assert float(red) > 0.5 and float(max(green, blue)) < 0.35
    assert (front - back).abs().max() > 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_quick")
def test_a_human(run_program: Callable[..., Any], tmp_path: Path) -> None:
    run_program(example("python-human"))
    assert is_finished(tmp_path / "man") and prompt_of(tmp_path / "man") == "an old man in a long coat"
