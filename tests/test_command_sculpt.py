"""`humannorm sculpt`: everything that is promised stands in the folder, and a run can go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from humannorm.body import load_body
from humannorm.cli import main
from humannorm.distance.signed_distance import SignedDistance
from humannorm.fields.hash_grid import GridLayout
from humannorm.geometry.fields import HashFieldSettings
from humannorm.geometry.fitting import FitSettings
from humannorm.geometry.multiview import NORMAL_PRESETS
from humannorm.geometry.settings import PRESETS, QUICK
from humannorm.geometry.start import prepare_start
from humannorm.geometry.state import extract_mesh, load_state, save_state, start_state
from humannorm.mesh import is_watertight
from humannorm.mesh_io import load_mesh
from humannorm.rings import Ring
from humannorm.schedules import constant

SMALL = replace(
    QUICK,
    field=HashFieldSettings(GridLayout(levels=6, log2_table=13, base=8, growth=1.5), hidden=16),
    fit=FitSettings(steps=40, points=2048, pool=20_000),
    active_levels=constant(6),
    resolution=constant(48),
)
"""The quick run on a small field and a coarse lattice."""

PROMISED = {"state.safetensors", "sculpt.glb", "sheet_sculpt.png", "losses.png", "turntable.webp", "sculpt.json"}


@pytest.mark.slow
def test_sculpt_and_go_on(
    tiny_sd: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "quick", SMALL)  # type: ignore[arg-type]
    models = str(tiny_sd("v_prediction"))
    first, second = tmp_path / "first", tmp_path / "second"
    person = "a woman with long hair, in a skirt"
    assert main(["sculpt", person, "--models", models, "--steps", "2", "--out", str(first)]) == 0
    assert {path.name for path in first.iterdir()} == PROMISED
    assert is_watertight(load_mesh(first / "sculpt.glb").faces)
    hold = load_state(first / "state.safetensors").hold
    assert hold is not None and hold.worn is not None and bool(hold.share.any())  # quick: hands, face and outfit
    resume = ["--resume", str(first / "state.safetensors"), "--steps", "3"]
    assert main(["sculpt", "a woman", "--models", models, *resume, "--out", str(second)]) == 0
    assert "going on after step 2" in capsys.readouterr().out
    facts = json.loads((second / "sculpt.json").read_text("utf-8"))
    assert facts["steps"] == 3
    assert facts["rejected_steps"] == 0
    # Killed between its last step and its files, it only writes them.
    made = (second / "sculpt.glb").read_bytes()
    (second / "sculpt.glb").unlink()
    again = ["--resume", str(second / "state.safetensors"), "--steps", "3"]
    assert main(["sculpt", "a woman", "--models", models, *again, "--out", str(second)]) == 0
    assert (second / "sculpt.glb").read_bytes() == made


@pytest.mark.slow
def test_quick_writes_the_dressed_start_where_no_steps_are_asked_for(
    tiny_sd: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "quick", SMALL)  # type: ignore[arg-type]
    models = str(tiny_sd("v_prediction"))
    assert main(["sculpt", "a man", "--models", models, "--out", str(tmp_path)]) == 0
    assert "no steps" in capsys.readouterr().out
    state = load_state(tmp_path / "state.safetensors")
    mesh = load_mesh(tmp_path / "sculpt.glb")
    assert state.untouched and state.labelled is not None
    torch.testing.assert_close(mesh.vertices, state.labelled.mesh.vertices)
    edited = ["--edit", str(tmp_path / "state.safetensors"), "--only", "top", "--steps", "1"]
    assert main(["sculpt", "a man in a red jumper", "--models", models, *edited, "--out", str(tmp_path / "edit")]) == 0
    changed = load_state(tmp_path / "edit" / "state.safetensors")
    assert not changed.untouched and changed.labelled is not None


@pytest.mark.slow
def test_all_views_together(tiny_sd: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = replace(NORMAL_PRESETS["quick"], levels=(0.2,), rings=(Ring(3),), fit=SMALL.fit, resolution=48)
    monkeypatch.setitem(PRESETS, "quick", SMALL)  # type: ignore[arg-type]
    monkeypatch.setitem(NORMAL_PRESETS, "quick", few)  # type: ignore[arg-type]
    words = ["--method", "views", "--steps", "10", "--outfit", "none", "--hold", "hands"]
    assert main(["sculpt", "a man", "--models", str(tiny_sd("v_prediction")), *words, "--out", str(tmp_path)]) == 0
    facts = json.loads((tmp_path / "sculpt.json").read_text("utf-8"))
    assert facts["steps"] == 2 and facts["forwards"] == 2 * 2 * 3 and facts["disagreement_last"] >= 0
    assert facts["pieces"] - facts["pieces_dropped"] == 1
    assert is_watertight(load_mesh(tmp_path / "sculpt.glb").faces)
    assert {path.name for path in tmp_path.iterdir()} == PROMISED - {"losses.png"}


def test_wrong_calls_are_one_sentence(
    tiny_sd: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = str(tiny_sd("v_prediction"))
    assert main(["sculpt", " ", "--models", models, "--steps", "1", "--out", str(tmp_path)]) == 1
    assert "prompt: expected words for the person" in capsys.readouterr().err
    broken = tmp_path / "state.safetensors"
    broken.write_bytes(b"no state")
    assert main(["sculpt", "a man", "--models", models, "--resume", str(broken), "--out", str(tmp_path)]) == 1
    assert "expected a geometry state" in capsys.readouterr().err


@pytest.mark.slow
def test_a_posed_start_with_held_hands(
    tiny_sd: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "quick", SMALL)  # type: ignore[arg-type]
    words = ["--models", str(tiny_sd("v_prediction")), "--steps", "1", "--pose", "sit", "--hold", "hands"]
    assert main(["sculpt", "a man", *words, "--out", str(tmp_path)]) == 0
    found = load_mesh(tmp_path / "sculpt.glb").vertices
    assert 0.8 < float(found[:, 1].max() - found[:, 1].min()) < 1.5  # it sits
    assert load_state(tmp_path / "state.safetensors").hold is not None


@pytest.mark.slow
def test_an_edit_of_one_part(
    tiny_sd: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--models", str(tiny_sd("v_prediction")), "--steps", "1"]
    small = SMALL.with_steps(1)
    finished, _ = start_state(prepare_start(load_body().to_mesh()), small, torch.Generator().manual_seed(0))
    save_state(finished, tmp_path / "finished.safetensors")
    edit = ["--edit", str(tmp_path / "finished.safetensors"), "--only", "shoes"]
    out = tmp_path / "out"
    assert main(["sculpt", "a man in boots", *models, *edit, "--out", str(out)]) == 0
    assert "editing" in capsys.readouterr().out
    before, after = extract_mesh(finished).mesh, extract_mesh(load_state(out / "state.safetensors")).mesh
    above = after.vertices[after.vertices[:, 1] > -0.6]
    away = SignedDistance(before.vertices, before.faces)(above).abs()
    assert float(away.max()) < 0.5 * (2 / 48) and float(away.mean()) < 0.1 * (2 / 48)  # cells: marched twice
    for words, message in (
        (["--only", "shoes"], "--only: expected --edit FILE"),
        (["--hold", "elbows"], "--hold: expected one of head, face, top, bottom, shoes, hands, got 'elbows'"),
        (["--pose", "handstand"], "pose: expected one of a-pose"),
        ([*edit, "--hold", "hands"], "--hold: expected a run from its start"),
    ):
        assert main(["sculpt", "a man", *models, *words, "--out", str(tmp_path / "no")]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
