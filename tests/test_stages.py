"""Whichever door a request comes through, its first states are the same bytes; the third door stands in tests/host."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import humannorm
from humannorm.cli import main
from humannorm.geometry import settings as geometry_settings
from humannorm.geometry.state import load_state, save_state
from humannorm.mesh import Mesh
from humannorm.pipeline import SAME_BYTES
from humannorm.request import HumanJob, HumanRequest, HumanSettings, job_of
from humannorm.stages import begin_painting, begin_sculpture_of, place_start, worth_baking
from humannorm.texture import settings as texture_settings

PROMPT = "an African man with long hair, in a long coat"


class Stopped(Exception):
    """What a test ends a run with."""


@pytest.fixture
def tiny_presets(tiny_human: HumanSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick preset, so small that a human takes seconds."""
    monkeypatch.setitem(geometry_settings.PRESETS, "quick", tiny_human.geometry)  # type: ignore[arg-type]
    monkeypatch.setitem(texture_settings.PRESETS, "quick", tiny_human.texture)  # type: ignore[arg-type]


def saved(job: HumanJob, path: Path) -> bytes:
    """The file of the job's first sculpture."""
    start = place_start(job.start, job.body)
    generator = torch.Generator().manual_seed(job.request.seed)
    save_state(begin_sculpture_of(job, start, generator).state, path)
    return path.read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_presets")
def test_command_and_library_make_the_same_human(tiny_sd: Callable[[str], Path], tmp_path: Path) -> None:
    models = str(tiny_sd("epsilon"))
    sizes = {"faces": 600, "texture_size": 64, "sculpt_steps": 1, "paint_steps": 2}
    record = humannorm.generate(PROMPT, tmp_path / "library", models=models, seed=4, device="cpu", **sizes)
    options = [word for name, value in sizes.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    words = ["generate", PROMPT, "--models", models, "--seed", "4", "--device", "cpu", *options]
    assert main([*words, "--out", str(tmp_path / "command")]) == 0
    for name in SAME_BYTES:
        assert (tmp_path / "library" / name).read_bytes() == (tmp_path / "command" / name).read_bytes(), name
    other = json.loads((tmp_path / "command" / "run.json").read_text("utf-8"))
    assert {**record, "measured": None} == {**other, "measured": None}
    request = record["request"]
    assert request["painted_skin"] == "dark"
    assert "coat" in request["worn"] and "long hair" in request["worn"]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_presets")
def test_the_verb_sculpt_begins_as_the_library_does(
    tiny_sd: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = str(tiny_sd("epsilon"))
    job = job_of(HumanRequest(PROMPT, models=models, seed=4, sculpt_steps=1))
    expected = saved(job, tmp_path / "library.safetensors")
    heard = {}

    def stop(state: object, prompt: str, *_: object, **__: object) -> None:
        save_state(state, tmp_path / "verb.safetensors")  # type: ignore[arg-type]
        heard["prompt"] = prompt
        raise Stopped

    monkeypatch.setattr("humannorm.stages.sculpt", stop)
    with pytest.raises(Stopped):
        main(["sculpt", PROMPT, "--models", models, "--seed", "4", "--steps", "1", "--out", str(tmp_path)])
    assert (tmp_path / "verb.safetensors").read_bytes() == expected
    assert heard["prompt"] == job.network_prompt
    hold = load_state(tmp_path / "verb.safetensors").hold
    assert hold is not None and hold.worn is not None and bool(hold.share.any())


@pytest.mark.slow
def test_held_skin_is_painted_before_the_first_step(tiny_human: HumanSettings, tmp_path: Path) -> None:
    job = job_of(HumanRequest(PROMPT, hold=("face",)), tiny_human)
    begun = begin_sculpture_of(job, place_start(job.start, job.body), torch.Generator().manual_seed(0))
    assert job.body is not None
    high = job.body.vertices[job.body.vertices[:, 1] > 0.6]
    nose = high[high[:, 2].argmax()][None]
    mesh = begun.surface.mesh
    skin, grey = (
        begin_painting(mesh, job.settings.texture, 0, hold=begun.state.hold, skin=tone).field.at(nose)
        for tone in ("dark", "")
    )
    torch.testing.assert_close(grey, torch.full((1, 3), 0.5), atol=2e-3, rtol=0)
    assert float(skin[0, 0]) > float(skin[0, 2]) + 0.05  # skin is redder than it is blue


def test_a_normal_map_is_baked_where_faces_are_taken_away(tiny_human: HumanSettings) -> None:
    faces = torch.zeros((tiny_human.export.faces + 1, 3), dtype=torch.long)
    mesh = Mesh(torch.zeros(1, 3), faces)
    assert worth_baking(tiny_human.export, mesh).normal_map
    assert not worth_baking(tiny_human.export, Mesh(mesh.vertices, faces[1:])).normal_map
