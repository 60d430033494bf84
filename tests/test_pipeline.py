"""From a sentence to a human: what a run leaves, and that it goes on from wherever it was stopped."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from humannorm.body import BodyShape, shape_of_words, with_pose
from humannorm.checks import InputError
from humannorm.geometry.multiview import NormalSculptSettings
from humannorm.geometry.settings import QUICK as SCULPT
from humannorm.guidance import StageGuides, find_guides
from humannorm.guidance.synchronised import SynchronisedSettings
from humannorm.mesh import is_watertight, weld
from humannorm.mesh_io import load_mesh
from humannorm.models import camera_plan
from humannorm.pipeline import SAME_BYTES, STAGES, Progress, is_finished, make_human
from humannorm.request import HumanJob, HumanRequest, HumanSettings, job_of, network_prompt, preset
from humannorm.rings import Ring
from humannorm.texture.multiview import MULTIVIEW_PRESETS, QUICK_IN_FEW_STEPS
from humannorm.texture.settings import PAPER as PAPER_PAINTING


@pytest.fixture(scope="module")
def guides(tiny_sd: Callable[[str], Path]) -> StageGuides:
    return find_guides(tiny_sd("v_prediction"), torch.device("cpu"))


@pytest.fixture(scope="module")
def job(tiny_human: HumanSettings) -> HumanJob:
    return job_of(HumanRequest("a man in a suit", seed=3, body="neutral"), tiny_human)


@pytest.fixture(scope="module")
def finished(job: HumanJob, guides: StageGuides, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run from beginning to end."""
    out = tmp_path_factory.mktemp("run") / "human"
    make_human(job, guides, out)
    return out


def test_a_run_leaves_what_it_promises(finished: Path, job: HumanJob) -> None:
    assert {path.name for path in finished.iterdir()} == {*SAME_BYTES, "run.json", "work"}
    human = load_mesh(finished / "human.glb")
    low, high = human.vertices.amin(0), human.vertices.amax(0)
    assert float(high[1] - low[1]) == pytest.approx(1.75, abs=1e-4) and abs(float(low[1])) < 1e-5
    assert human.texture is not None and is_watertight(weld(human.vertices)[human.faces])
    assert human.num_faces <= 800 < load_mesh(finished / "sculpt.glb").num_faces
    record = json.loads((finished / "run.json").read_text("utf-8"))
    assert record["request"]["prompt"] == job.request.prompt and record["request"]["seed"] == 3
    assert record["request"]["settings"]["geometry"]["steps"] == 5
    assert set(record["stages"]) == set(record["measured"]["seconds"]) == set(STAGES)
    assert record["stages"]["export"]["closed"] and record["versions"]["torch"] == torch.__version__
    assert is_finished(finished) and not is_finished(finished / "work")


def test_the_page_holds_the_very_file_and_asks_for_nothing_else(finished: Path) -> None:
    page = (finished / "index.html").read_text("utf-8")
    (content,) = re.findall(r'<script id="glb"[^>]*>([^<]*)</script>', page)
    assert base64.b64decode(content) == (finished / "human.glb").read_bytes()
    assert "<title>a man in a suit</title>" in page
    assert not re.search(r"https?:|\bsrc=|\bhref=|@[A-Z]+@", page)


@pytest.mark.slow
def test_stopped_in_every_stage_it_ends_in_the_same_bytes(
    finished: Path, job: HumanJob, guides: StageGuides, tmp_path: Path
) -> None:
    out = tmp_path / "human"
    stops = {"sculpt": 3, "paint": 4, "export": 50, "show": 2}
    for stage, step in stops.items():

        def stop(progress: Progress, stage: str = stage, step: int = step) -> None:
            if progress.stage == stage and progress.step >= step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            make_human(job, guides, out, resume=True, callback=stop)
        assert not is_finished(out)
    (out / ".human.glb.77.partial").write_bytes(b"half a file")  # what a kill leaves
    seen: list[Progress] = []
    record = make_human(job, guides, out, resume=True, callback=seen.append)
    assert {progress.stage for progress in seen} == {"show"}
    assert record["measured"]["resumed"] == len(stops)
    for name in SAME_BYTES:
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name
    unbroken = json.loads((finished / "run.json").read_text("utf-8"))
    assert {**record, "measured": None} == {**unbroken, "measured": None}
    assert {path.name for path in out.iterdir()} == {path.name for path in finished.iterdir()}


@pytest.mark.slow
def test_sampled_views_sculpt_and_a_stopped_run_ends_in_the_same_bytes(
    job: HumanJob, guides: StageGuides, tmp_path: Path
) -> None:
    walk = SynchronisedSettings(steps=8, level=1.0, batch=4)
    views = NormalSculptSettings(levels=(0.25, 0.12), walk=walk, rings=(Ring(4),), fit=job.settings.geometry.fit)
    settings = dataclasses.replace(job.settings, views=dataclasses.replace(views, resolution=40))
    job = dataclasses.replace(job, settings=settings)

    def stop_at(stage: str, step: int) -> Callable[[Progress], None]:
        def stop(progress: Progress) -> None:
            if progress.stage == stage and progress.step >= step:
                raise KeyboardInterrupt

        return stop

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for out, stops in ((whole, [("paint", 0)]), (broken, [("sculpt", 1), ("sculpt", 3), ("paint", 0)])):
        for stage, step in stops:
            with pytest.raises(KeyboardInterrupt):
                make_human(job, guides, out, resume=True, callback=stop_at(stage, step))
    assert (whole / "sculpt.glb").read_bytes() == (broken / "sculpt.glb").read_bytes()
    figures = json.loads((whole / "run.json").read_text("utf-8"))["measured"]["sculpting"]
    assert figures["forwards"] == 2 * 3 * 4 and figures["moved"] > 0


def test_only_the_same_request_is_resumed(finished: Path, job: HumanJob, guides: StageGuides) -> None:
    with pytest.raises(InputError, match="expected a folder without a run"):
        make_human(job, guides, finished)
    other = dataclasses.replace(job, request=dataclasses.replace(job.request, prompt="a woman in a dress"))
    with pytest.raises(InputError, match=r"prompt \('a man in a suit' before, 'a woman in a dress' now\)"):
        make_human(other, guides, finished, resume=True)
    longer = dataclasses.replace(job.settings, geometry=dataclasses.replace(job.settings.geometry, sdf_points=7))
    with pytest.raises(InputError, match=r"another settings\.geometry\.sdf_points \(5000 before, 7 now\)"):
        make_human(dataclasses.replace(job, settings=longer), guides, finished, resume=True)


@pytest.mark.slow
def test_unfinished_stages_may_be_asked_for_something_else(
    finished: Path, job: HumanJob, guides: StageGuides, tmp_path: Path
) -> None:
    def stopped_after(stage: str) -> Path:
        """A copy of the run as it was when this stage had ended and the next one was at work."""
        out = shutil.copytree(finished, tmp_path / stage)
        record = json.loads((out / "run.json").read_text("utf-8"))
        record["stages"] = {name: record["stages"][name] for name in STAGES[: STAGES.index(stage) + 1]}
        (out / "run.json").write_text(json.dumps(record), encoding="utf-8")
        return out

    seen: list[Progress] = []
    export = dataclasses.replace(job.settings.export, faces=400)
    fewer = dataclasses.replace(job, settings=dataclasses.replace(job.settings, export=export))
    record = make_human(fewer, guides, stopped_after("paint"), resume=True, callback=seen.append)
    assert {progress.stage for progress in seen} == {"export", "show"}
    assert load_mesh(tmp_path / "paint" / "human.glb").num_faces <= 400
    assert record["request"]["settings"]["export"]["faces"] == 400

    def stop(progress: Progress) -> None:
        seen.append(progress)
        if progress.stage == "paint" and progress.step:
            raise KeyboardInterrupt

    painting = dataclasses.replace(job.settings.texture, guidance_scale=2.0)
    other = dataclasses.replace(job, settings=dataclasses.replace(job.settings, texture=painting))
    with pytest.raises(KeyboardInterrupt):
        make_human(other, guides, stopped_after("sculpt"), resume=True, callback=stop)
    assert (seen[-1].stage, seen[-1].step) == ("paint", 1)  # from its beginning
    with pytest.raises(InputError, match=r"another settings\.texture\.guidance_scale"):
        make_human(other, guides, tmp_path / "paint", resume=True)


def test_bad_input_is_refused_before_anything_is_written(job: HumanJob, guides: StageGuides, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prompt: expected words for the person"):
        blank = dataclasses.replace(job.request, prompt="  ")
        make_human(dataclasses.replace(job, request=blank), guides, tmp_path / "human")
    sheet = job.start.replace(faces=job.start.faces[:20])
    with pytest.raises(InputError, match="mesh: expected"):
        make_human(dataclasses.replace(job, start=sheet), guides, tmp_path / "human")
    assert not (tmp_path / "human").exists()
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="expected a record of the format"):
        make_human(job, guides, tmp_path, resume=True)


def test_presets_are_those_of_the_stages(tmp_path) -> None:
    quick = preset("quick")
    own = camera_plan("bundled")  # the bundled model's own cameras
    assert own is not None and own.name != PAPER_PAINTING.plan.name
    assert quick.geometry == dataclasses.replace(SCULPT, plan=own) and quick.export.height_m == 1.75
    assert quick.texture == dataclasses.replace(QUICK_IN_FEW_STEPS, plan=own)  # for which the bundled model has weights
    assert preset("quick", few_steps=False).texture == dataclasses.replace(MULTIVIEW_PRESETS["quick"], plan=own)
    assert preset("quick", tmp_path).texture == MULTIVIEW_PRESETS["quick"]
    assert preset("standard").texture == dataclasses.replace(MULTIVIEW_PRESETS["standard"], plan=own)
    assert preset("paper").texture == dataclasses.replace(PAPER_PAINTING, plan=own)
    with pytest.raises(InputError, match="preset: expected one of quick, standard, paper"):
        preset("slow")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a statue", BodyShape()),
        ("a young woman with a man's hat", BodyShape(sex=0.95)),
        ("an old, heavy man", BodyShape(sex=0.05, age=0.96, weight=0.92, muscle=0.4)),
        ("A muscular middle-aged Lady", BodyShape(sex=0.95, age=0.81, weight=0.57, muscle=0.92)),
        ("a 30 year old man", BodyShape(sex=0.05)),
        ("a woman, aged 45, in an old coat", BodyShape(sex=0.95, age=0.81)),
        ("a lady in her late 60s", BodyShape(sex=0.95, age=0.96)),
        ("a five-year-old girl", BodyShape(sex=0.95)),
    ],
)
def test_the_start_body_is_the_one_that_the_prompt_names(prompt: str, expected: BodyShape) -> None:
    assert shape_of_words(prompt) == expected


@pytest.mark.parametrize("prompt", ["a nude child", "a topless 12-year-old", "Naked teenagers"])
def test_a_child_is_not_undressed(prompt: str) -> None:
    with pytest.raises(InputError, match="prompt: expected adults, who are dressed, got a child"):
        network_prompt(prompt, "bundled")
    assert network_prompt("a woman in nude heels and a baby blue dress", "bundled")


def test_the_pose_of_the_body_is_said_unless_the_prompt_says_one():
    assert with_pose("a man in a suit.", "a-pose") == "a man in a suit, standing"
    assert with_pose("a man in a suit", "run") == "a man in a suit, running"
    for prompt in ("a woman sitting on air", "A boxer, fighting", "a man in T-pose", "a queen, her arms up"):
        assert with_pose(prompt, "a-pose") == prompt
    for prompt in ("a woman in a suit and running shoes", "a standard army uniform", "a boxy posh coat"):
        assert with_pose(prompt, "sit") == f"{prompt}, sitting"
    with pytest.raises(InputError, match="pose: expected one of"):
        with_pose("a man", "handstand")
