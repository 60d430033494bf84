"""`humannorm sculpt`: everything that is promised stands in the folder, and a run can go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from humannorm.cli import main
from humannorm.geometry.state import load_state
from humannorm.mesh import is_watertight
from humannorm.mesh_io import load_mesh

PROMISED = {"state.safetensors", "sculpt.glb", "sheet_sculpt.png", "losses.png", "turntable.gif", "sculpt.json"}


def test_sculpt_and_go_on(tiny_sd: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = str(tiny_sd("v_prediction"))
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["sculpt", "a man", "--models", models, "--steps", "2", "--out", str(first)]) == 0
    assert {path.name for path in first.iterdir()} == PROMISED
    assert is_watertight(load_mesh(first / "sculpt.glb").faces)
    resume = ["--resume", str(first / "state.safetensors"), "--steps", "3"]
    assert main(["sculpt", "a woman", "--models", models, *resume, "--out", str(second)]) == 0
    assert "going on after step 2" in capsys.readouterr().out
    facts = json.loads((second / "sculpt.json").read_text("utf-8"))
    assert facts["steps"] == 3
    assert facts["rejected_steps"] == 0


def test_wrong_calls_are_one_sentence(
    tiny_sd: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = str(tiny_sd("v_prediction"))
    assert main(["sculpt", " ", "--models", models, "--steps", "1", "--out", str(tmp_path)]) == 1
    assert "prompt: expected a description" in capsys.readouterr().err
    broken = tmp_path / "state.safetensors"
    broken.write_bytes(b"no state")
    assert main(["sculpt", "a man", "--models", models, "--resume", str(broken), "--out", str(tmp_path)]) == 1
    assert "expected a geometry state" in capsys.readouterr().err


def test_a_posed_start_with_held_hands_and_an_edit_of_one_part(
    tiny_sd: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--models", str(tiny_sd("v_prediction")), "--steps", "1"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["sculpt", "a man", *models, "--pose", "sit", "--hold", "hands", "--out", str(first)]) == 0
    start = load_mesh(first / "sculpt.glb").vertices
    assert 0.8 < float(start[:, 1].max() - start[:, 1].min()) < 1.5  # it sits
    edit = ["--edit", str(first / "state.safetensors"), "--only", "shoes", "--pose", "sit"]
    assert main(["sculpt", "a man in boots", *models, *edit, "--out", str(second)]) == 0
    assert "editing" in capsys.readouterr().out
    assert load_state(second / "state.safetensors").hold is not None
    for words, message in (
        (["--only", "shoes"], "--only: expected --edit FILE"),
        (["--hold", "elbows"], "--hold: expected one of head, face, top, bottom, shoes, hands, got 'elbows'"),
        (["--pose", "handstand"], "pose: expected one of a-pose"),
        ([*edit, "--hold", "hands"], "--hold: expected a run from its start"),
    ):
        assert main(["sculpt", "a man", *models, *words, "--out", str(tmp_path / "no")]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
