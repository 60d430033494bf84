"""Ablations leave out what they say and nothing else, and run from one command."""

from __future__ import annotations

import dataclasses

import pytest

from humannorm.cli import main
from humannorm.evaluation import ablations
from humannorm.evaluation.ablations import ABLATIONS
from humannorm.geometry import settings as geometry_settings
from humannorm.geometry.fields import DenseFieldSettings
from humannorm.geometry.settings import PAPER, PRESETS, QUICK, GeometrySettings
from humannorm.schedules import constant

CHANGES = {
    "full": set(),
    "no_depth": {"depth_weight"},
    "no_progression": {"active_levels", "resolution"},
    "no_sdf_loss": {"sdf_record_step"},
    "plain": {"depth_weight", "normal_text"},
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", ABLATIONS)
def test_only_that_idea_is_left_out(preset: str, name: str) -> None:
    before = PRESETS[preset]
    after = ABLATIONS[name].change(before)
    changed = {
        field.name
        for field in dataclasses.fields(GeometrySettings)
        if getattr(before, field.name) != getattr(after, field.name)
    }
    assert changed == CHANGES[name]


def test_what_they_are_left_with() -> None:
    progressive = ABLATIONS["no_progression"].change(PAPER)
    assert [progressive.active_levels(at) for at in (0, 15000)] == [16, 16]
    assert [progressive.resolution(at) for at in (0, 15000)] == [512, 512]
    assert not any(ABLATIONS["no_depth"].change(PAPER).depth_weight(at) for at in (0, 3000, 15000))


@pytest.mark.slow
def test_one_command_runs_them(tiny_sd, tmp_path, monkeypatch, capsys) -> None:
    small = dataclasses.replace(
        QUICK,
        steps=2,
        views=1,
        render_size=64,
        field=DenseFieldSettings((8, 16, 32)),
        active_levels=constant(3),
        resolution=constant(32),
        sdf_record_step=1,
    )
    monkeypatch.setattr(geometry_settings, "PRESETS", {**PRESETS, "quick": small})
    out = tmp_path / "out"
    words = ["evaluate", "ablations", "a man", "--models", str(tiny_sd("v_prediction")), "--out", str(out)]
    assert main([*words, "--only", "full,no_depth,plain"]) == 0
    names = {"full.glb", "no_depth.glb", "plain.glb", "sheet_ablations.png", "ablations.md"}
    assert {path.name for path in out.iterdir()} == names
    rows = (out / "ablations.md").read_text("utf-8").splitlines()
    assert [row.split("|")[1].strip() for row in rows[-3:]] == [
        ABLATIONS[name].title for name in ("full", "no_depth", "plain")
    ]
    assert len({row.split("|")[2] for row in rows[-3:]}) > 1, "the runs are not the same"
    assert ablations.ablation_table([]).count("\n") == 1
    assert main([*words, "--only", "everything"]) == 1
    assert "--only: expected one of full, no_depth" in capsys.readouterr().err
