"""The program of docs/texture.md runs as printed, but for the model; its table says what the presets are."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from humannorm.texture.settings import PRESETS

PAGE = (Path(__file__).parents[2] / "docs" / "texture.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_first_program_runs(tiny_sd: Any, run_program: Callable[..., dict[str, Any]]) -> None:
    program = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert program is not None
    model = repr(str(tiny_sd("epsilon")))
    names = run_program(program[1].replace('"bundled"', model).replace("with_steps(10)", "with_steps(3)"))
    assert names["state"].step == 3 and names["mesh"].colors is not None


def test_the_table_of_presets() -> None:
    for name, settings in PRESETS.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}`"))
        denoising = int(settings.fine_t_range[1](0) * 1000) // settings.target_stride + 1
        assert f"{settings.coarse_steps} + {settings.steps - settings.coarse_steps}" in row
        assert f"{settings.render_size}, {settings.views} view" in row
        assert f"{settings.fine_views}, {denoising} " in row
