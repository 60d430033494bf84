"""`humannorm animate`: a GLB that moves, a film and a sheet for each clip; wrong calls end before long work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from humannorm.body import load_body
from humannorm.cli import main
from humannorm.export import BakedMesh, write_glb
from humannorm.export.decimation import decimate
from humannorm.export.skinned import read_skinned_glb


@pytest.mark.slow
def test_a_run_folder_gets_its_moving_human(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mesh = decimate(load_body().to_mesh(), 3000)
    write_glb(tmp_path / "run" / "human.glb", BakedMesh(mesh.replace(colors=mesh.vertices / 2 + 0.5)))
    out = tmp_path / "out"
    words = ["animate", str(tmp_path / "run"), "--clip", "walk,sit", "--rig", "game_engine", "--out", str(out)]
    assert main(words) == 0
    assert {path.name for path in out.iterdir()} == {
        "animated.glb", "animate.json", "film_walk.webp", "sheet_walk.png", "film_sit.webp", "sheet_sit.png",
    }  # fmt: skip
    found = read_skinned_glb(out / "animated.glb")
    assert len(found.skin.joint_names) == 53 and [motion.name for motion in found.motions] == ["walk", "sit"]
    walk = found.motions[0].root_positions
    assert float((walk[-1] - walk[0]).norm()) < 1e-4  # in place
    facts = json.loads((out / "animate.json").read_text("utf-8"))
    assert facts["clips"]["walk"] == pytest.approx(32 / 30, abs=1e-3)
    assert main(words) == 1
    assert "animated.glb" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["body", "--clip", "fly"], "--clip: expected walk, idle, wave, turn"),
        (["body", "--clip", ","], "--clip: expected at least one clip"),
        (["body", "--clip", "none.bvh"], "none.bvh: no such file"),
        (["body", "--start-pose", "handstand"], "pose: expected one of a-pose"),
        (["nothing.glb"], "nothing.glb: no such file"),
    ],
)
def test_wrong_calls_are_one_sentence(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["animate", *words, "--out", str(out)]) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()
    (tmp_path / "empty").mkdir()
    assert main(["animate", str(tmp_path / "empty"), "--out", str(out)]) == 1
    assert "HUMAN: expected a folder with human.glb" in capsys.readouterr().err
