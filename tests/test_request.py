"""A request in words becomes a job: body, pose, outfit, what is held, and what the networks hear."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from humannorm.body import BodyShape, Outfit
from humannorm.checks import InputError
from humannorm.models import camera_plan
from humannorm.request import HumanRequest, HumanSettings, StartSettings, job_of, parse_sliders, preset, settings_of


@pytest.fixture(scope="module")
def bodies(tiny_human: HumanSettings) -> dict[str, float]:
    """Depth and width of the start of a heavy man behind some words for the body and its pose."""

    def size(body: str, pose: str) -> torch.Tensor:
        vertices = job_of(HumanRequest("a heavy man", body=body, pose=pose), tiny_human).start.vertices
        return vertices.amax(0) - vertices.amin(0)

    asked = {"neutral": ("neutral", "a-pose"), "heavy": ("auto", "a-pose"), "spread": ("neutral", "t-pose")}
    return {name: size(*words).tolist() for name, words in asked.items()}


def test_start_bodies(bodies: dict[str, list[float]]) -> None:
    assert bodies["heavy"][2] > bodies["neutral"][2] + 0.01
    assert bodies["spread"][0] > bodies["neutral"][0] + 0.2


def test_sliders() -> None:
    shape = parse_sliders("sex=1, weight=0.25")
    assert (shape.sex, shape.weight, shape.muscle) == (1.0, 0.25, 0.5)
    for text, message in (("sex", "got 'sex'"), ("charm=1", "expected sliders sex, age"), ("sex=much", "sex=much")):
        with pytest.raises(InputError, match=message):
            parse_sliders(text)


def test_a_shape_is_as_good_as_its_sliders(tiny_human: HumanSettings) -> None:
    words, shape = (HumanRequest("a man", body=body) for body in ("sex=0.2", BodyShape(sex=0.2)))
    assert torch.equal(job_of(words, tiny_human).start.vertices, job_of(shape, tiny_human).start.vertices)


def test_what_is_held_is_the_presets_unless_asked_for(tiny_human: HumanSettings, tmp_path: Path) -> None:
    from humannorm.body import load_body
    from humannorm.mesh import to_trimesh

    quick, standard, paper = (preset(name).start for name in ("quick", "standard", "paper"))
    assert quick.dressed and quick.held == ("hands", "face") and quick.keeps_outfit and quick.completes
    assert standard == StartSettings(dressed=True) and paper == StartSettings(dressed=False)
    settings = dataclasses.replace(tiny_human, start=quick)
    assert job_of(HumanRequest("a man"), settings).settings.start.held == ("hands", "face")
    assert job_of(HumanRequest("a man", hold=()), settings).settings.start.held == ()
    to_trimesh(load_body().to_mesh()).export(tmp_path / "man.glb")
    own = HumanRequest("a man in a skirt", body=str(tmp_path / "man.glb"))
    start = job_of(own, settings).settings.start  # a file's hands and clothes are nobody's but its owner's
    assert start.held == () and not start.dressed and job_of(own, settings).outfit == Outfit()
    assert job_of(dataclasses.replace(own, hold=("hands",)), settings).settings.start.held == ("hands",)
    with pytest.raises(InputError, match="hold: expected one of head, face"):
        job_of(HumanRequest("a man", hold=("elbow",)), settings)
    with pytest.raises(InputError, match="pose: expected a-pose beside the mesh file"):
        job_of(dataclasses.replace(own, pose="sit"), settings)


def test_a_posed_body_comes_with_crops_that_follow_it(tiny_human: HumanSettings) -> None:
    job = job_of(HumanRequest("an old African man", pose="sit"), tiny_human)
    assert job.body is not None and job.network_prompt == "an old African man, sitting" and job.skin == "dark"
    assert torch.equal(job.start.vertices, job.body.vertices)
    for before, after in (
        (tiny_human.geometry.plan, job.settings.geometry.plan),
        (tiny_human.texture.plan, job.settings.texture.plan),
    ):
        assert after is not None and after != before
    assert job_of(HumanRequest("an African man", skin="model"), tiny_human).skin == ""


def test_the_start_body_wears_what_the_prompt_names(tiny_human: HumanSettings) -> None:
    def worn(start: StartSettings, **words: str) -> list[str]:
        request = HumanRequest("a woman with long hair, in a skirt", **words)
        return [piece.cut for piece in job_of(request, dataclasses.replace(tiny_human, start=start)).outfit.pieces]

    named = StartSettings(dressed=True)
    assert worn(named) == worn(named, body="neutral") == ["skirt", "long hair"]
    assert worn(dataclasses.replace(named, completes=True)) == ["shoes", "skirt", "blouse", "long hair"]
    assert worn(named, outfit="none") == worn(preset("paper").start) == []


def test_quick_leaves_a_dressed_start_as_it_is_unless_steps_are_asked_for() -> None:
    assert not job_of(HumanRequest("a man")).settings.start.sculpted
    assert job_of(HumanRequest("a man", sculpt_steps=5)).settings.start.sculpted
    assert job_of(HumanRequest("a man", preset="standard")).settings.start.sculpted


def test_standard_samples_all_views_and_either_method_can_be_asked_for() -> None:
    assert preset("quick").views is None and preset("paper").views is None
    views = preset("standard").views
    assert views is not None and views.plan == camera_plan("bundled")
    assert preset("standard", method="distil").views is None
    asked = job_of(HumanRequest("a man", method="views", sculpt_steps=20)).settings
    assert asked.start.sculpted and asked.views is not None and asked.views.walk.steps == 20
    assert asked.geometry.steps == preset("quick").geometry.steps
    with pytest.raises(InputError, match="method: expected one of auto, views, distil"):
        HumanRequest("a man", method="guess")


def test_the_networks_hear_a_pose_where_their_model_learnt_one(tiny_human: HumanSettings, tmp_path: Path) -> None:
    assert job_of(HumanRequest("a man"), tiny_human).network_prompt == "a man, standing"
    assert job_of(HumanRequest("a man sitting"), tiny_human).network_prompt == "a man sitting"
    published = HumanRequest("a man", models=str(tmp_path))  # a folder without a card
    assert job_of(published, tiny_human).network_prompt == "a man"


def test_numbers_of_the_request_are_in_the_settings() -> None:
    settings = settings_of(
        HumanRequest("a man", height_m=1.6, faces=500, texture_size=64, sculpt_steps=7, paint_steps=9)
    )
    assert (settings.export.height_m, settings.export.faces, settings.export.texture_size) == (1.6, 500, 64)
    assert (settings.geometry.steps, settings.texture.walk.steps, settings.texture.texture_size) == (7, 9, 64)
    assert not settings.texture.few_steps and settings_of(HumanRequest("a man")).texture.few_steps
    for wrong in ({"height_m": 0.0}, {"faces": 1}, {"texture_size": 9000}, {"sculpt_steps": 0}, {"preset": "slow"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            HumanRequest("a man", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", ["", " \n"])
def test_a_sentence_without_words_is_refused(prompt: str) -> None:
    with pytest.raises(InputError, match="prompt: expected words for the person, got none"):
        HumanRequest(prompt)
