"""`humannorm paint` from a file to pictures, a coloured mesh and a report."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import trimesh

from humannorm.cli import main
from humannorm.commands import paint
from humannorm.commands.paint_views import chosen_settings
from humannorm.mesh_io import load_mesh
from humannorm.texture.multiview import MultiviewSettings


@pytest.fixture
def statue(tmp_path: Path) -> Path:
    path = tmp_path / "statue.obj"
    trimesh.creation.capsule(height=100.0, radius=30.0, count=[12, 12]).export(path)  # lies along z, in centimetres
    return path


@pytest.mark.slow
def test_paint_writes_what_it_names(
    statue: Path, tiny_sd: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["paint", str(statue), "a ball", "--models", str(tiny_sd("epsilon")), "--steps", "5", "--method", "distil"]
    words += ["--out", str(out)]
    assert main(words) == 0
    written = {path.name for path in out.iterdir()}
    assert {"paint.glb", "paint.ply", "sheet_paint.png", "preview.png", "state.safetensors", "paint.json"} <= written
    painted, before = load_mesh(out / "paint.ply"), load_mesh(statue)
    assert painted.colors is not None
    assert painted.num_faces == before.num_faces
    assert load_mesh(out / "paint.glb").texture is not None
    assert float((painted.vertices.amax(0) - before.vertices.amax(0)).abs().max()) < 0.01
    facts = json.loads((out / "paint.json").read_text("utf-8"))
    assert facts["steps"] == 5 and set(facts["mean_chroma"]) == {"coarse", "fine", "model"}
    assert "mean chroma: coarse" in capsys.readouterr().out
    resume = ["--resume", str(out / "state.safetensors")]
    assert main([*words, *resume]) == 0  # nothing left to do but the files
    edit = ["--edit", str(out / "state.safetensors")]
    assert main([*words[:2], "a red ball", *words[3:-1], str(tmp_path / "edited"), *edit]) == 0
    assert json.loads((tmp_path / "edited" / "paint.json").read_text("utf-8"))["steps"] == 5
    capsys.readouterr()
    for wrong, said in (
        (["--only", "top"], "--only: expected --edit FILE"),
        ([*edit, "--only", "nose"], "--only: expected one of head, face, top, bottom, shoes, hands, got 'nose'"),
        ([*edit, *resume], "--edit: expected no --resume"),
    ):
        assert main([*words, *wrong]) == 1
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_errors_are_one_sentence(
    statue: Path, tiny_sd: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")]
    models = ["--models", str(tiny_sd("epsilon")), "--method", "distil"]
    assert main(["paint", str(tmp_path / "none.glb"), "a man", *models, *out]) == 1
    assert main(["paint", str(statue), "a man", "--perceptual", "vgg16", *models, *out]) == 1
    assert main(["paint", str(statue), "a man", "--uv", "64", *models, *out]) == 1
    said = capsys.readouterr().err
    assert "none.glb" in said and "torchvision's vgg16 weights" in said and "a mesh without uvs" in said
    assert "Traceback" not in said
    for option in (["--delight"], ["--control", "depth"], ["--add-control", "depth=x"]):
        assert main(["paint", str(statue), "a man", *option, *models, *out]) == 1
        assert f"--method: expected views with {option[0]}, got distil" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_paint_from_all_sides_at_once(
    statue: Path, tiny_sd: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["paint", str(statue), "a ball", "--models", str(tiny_sd("epsilon")), "--steps", "2", "--views", "2"]
    words += ["--framing", "plain", "--texture-size", "64", "--out", str(out)]
    assert main(words) == 0
    written = {path.name for path in out.iterdir()}
    assert {"paint.glb", "paint.ply", "sheet_paint.png", "sheet_views.png", "texture.png", "preview.png"} <= written
    facts = json.loads((out / "paint.json").read_text("utf-8"))
    assert facts["method"] == "views" and facts["forwards"] == 2 * 2 * 6
    painted, before = load_mesh(out / "paint.glb"), load_mesh(statue)
    assert painted.texture is not None and painted.texture.shape[0] == 64
    assert float((painted.vertices.amax(0) - before.vertices.amax(0)).abs().max()) < 0.01
    first = (out / "paint.glb").read_bytes()
    assert main([*words, "--resume"]) == 0  # nothing left to do but the files
    assert (out / "paint.glb").read_bytes() == first
    capsys.readouterr()
    for wrong, said in (
        ([], "--out: expected a folder without a run"),
        (["--resume", "--vgg16", "file"], "--method: expected distil with --vgg16, got views"),
        (["--resume", "--level", "1.5"], "--level: expected 0.05 to 1, got 1.5"),
        (["--resume", "--control", "pose"], "--control: expected one of normal, depth, none"),
        (["--resume", "--add-control", "depth"], "--add-control: expected KIND=DIR, got 'depth'"),
        (["--resume", "--add-control", f"depth={tmp_path}"], "config.json"),
    ):
        assert main([*words, *wrong, "--method", "views"]) == 1
        assert said in capsys.readouterr().err


@pytest.mark.slow
def test_other_controls_and_light_taken_out(tiny_sd: Any, tmp_path: Path) -> None:
    models, out, plain = tiny_sd("epsilon"), tmp_path / "out", tmp_path / "plain"
    words = ["paint", "body", "a man", "--models", str(models), "--steps", "1", "--views", "1", "--texture-size", "32"]
    words += ["--framing", "plain"]
    extra = ["--control", "openpose", "--add-control", f"depth={models / 'controlnet'}", "--delight"]
    assert main([*words, *extra, "--out", str(out)]) == 0
    facts = json.loads((out / "paint.json").read_text("utf-8"))
    assert facts["control"] == ["openpose", "depth"] and facts["light"] > 0
    assert main([*words, "--control", "none", "--out", str(plain)]) == 0
    facts = json.loads((plain / "paint.json").read_text("utf-8"))
    assert facts["control"] == ["none"] and "light" not in facts


def test_few_steps_are_for_those_who_ask_for_no_others() -> None:
    def painted_with(*words: str) -> MultiviewSettings:
        parser = argparse.ArgumentParser()
        paint.add_arguments(parser)
        return chosen_settings(parser.parse_args(["body", "a man", "--out", "out", *words]))

    own = painted_with()
    assert own.few_steps and own.guidance_scale == 1.0 and own.walk.steps == 4
    assert painted_with("--level", "0.5").walk.steps == 2
    for words in (["--steps", "10"], ["--negative", "hats"], ["--preset", "standard"], ["--models", "elsewhere"]):
        guided = painted_with(*words)
        assert not guided.few_steps and guided.guidance_scale > 1.0
