"""An edit in words: whose person it is, what changes, and that the rest is painted as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import humannorm
from humannorm.checks import InputError
from humannorm.editing import asked_job, request_of_run
from humannorm.geometry.state import load_state
from humannorm.labels import label_number
from humannorm.request import HumanRequest, job_of
from humannorm.texture.state import load_state as load_painting

PROMPT = "an old dark-skinned man in a red sweater, blue jeans and white sneakers"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder as a run leaves it, as far as an edit's job reads it."""
    folder = tmp_path / "human"
    (folder / "work").mkdir(parents=True)
    request = {"prompt": PROMPT, "seed": 5, "hold": ["face"], "pose": "t-pose", "network_prompt": "..."}
    (folder / "run.json").write_text(json.dumps({"request": request}), encoding="utf-8")
    (folder / "work" / "paint.safetensors").write_bytes(b"")
    return folder


def test_the_person_is_the_runs_and_the_words_say_what_changes(run: Path) -> None:
    before = job_of(request_of_run(run))
    job = asked_job(HumanRequest("a green t-shirt and a hat", edits=str(run), texture_size=512))
    assert job.body is not None and before.body is not None
    assert job.body.shape == before.body.shape and job.body.pose == "t-pose"
    assert (job.skin, job.request.seed, job.request.hold) == (before.skin, 5, ("face",)) and job.skin == "dark"
    assert job.request.texture_size == 512
    assert job.outfit.of("bottom", "shoes") == before.outfit.of("bottom", "shoes")
    assert job.outfit.of("top")[0].colours == ("green",) and job.outfit.of("hat")
    assert job.kept is not None and label_number("top") in job.kept.changed and label_number("hat") in job.kept.changed
    assert not job.kept.changed & {label_number(name) for name in ("skin", "bottom", "shoes")}
    # The record holds the whole person: an edit of the edit, and going on with it, need no other words.
    again = asked_job(job.request)
    assert again.request == job.request and again.outfit == job.outfit


def test_what_cannot_be_edited_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prompt: expected clothes, shoes or hair that change"):
        asked_job(HumanRequest("more cheerful", edits=str(run)))
    with pytest.raises(InputError, match="expected a folder of `generate`"):
        asked_job(HumanRequest("a hat", edits=str(tmp_path)))
    for broken in ('{"request": "a man"}', '{"request": {"prompt": 3}}', '{"request": {}}', "[]", "{"):
        (tmp_path / "run.json").write_text(broken, encoding="utf-8")
        with pytest.raises(InputError, match="expected a folder of `generate`"):
            request_of_run(tmp_path)
    (run / "work" / "paint.safetensors").unlink()
    with pytest.raises(InputError, match="the run's painting, got none"):
        asked_job(HumanRequest("a hat", edits=str(run)))


@pytest.mark.slow
def test_only_what_is_named_is_painted_anew(tiny_sd: Callable[[str], Path], tmp_path: Path) -> None:
    sizes = {"faces": 4000, "texture_size": 128, "paint_steps": 1, "models": str(tiny_sd("epsilon")), "device": "cpu"}
    humannorm.generate(PROMPT, tmp_path / "before", seed=3, **sizes)
    humannorm.generate("a yellow t-shirt", tmp_path / "after", edits=str(tmp_path / "before"), **sizes)
    folders = [tmp_path / name / "work" for name in ("before", "after")]
    before, after = (load_painting(folder / "paint.safetensors") for folder in folders)
    labelled = [load_state(folder / "sculpt.safetensors").labelled for folder in folders]
    points = after.mesh.vertices
    assert labelled[0] is not None and labelled[1] is not None
    was, now = (each.labels_at(points) for each in labelled if each is not None)
    near = before.mesh.vertices[torch.cdist(points, before.mesh.vertices).argmin(1)]
    at_home = (near - points).norm(dim=1) < 0.02
    gone = (after.field.at(points) - before.field.at(points)).abs().mean(1)
    for name, kept in (("bottom", True), ("top", False)):
        rows = at_home & (now == label_number(name)) & (was == label_number(name))
        assert int(rows.sum()) > 50
        assert (float(gone[rows].median()) < 0.05) == kept, name
