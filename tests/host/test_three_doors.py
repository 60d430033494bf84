"""The nodes begin a human as the command and the library do: the same bytes, the same words, the same skin."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
import types
from pathlib import Path
from typing import Any

import graphs
import pytest
import torch
from server import Host

from humannorm.body import load_body, shape_of_words
from humannorm.checks import InputError
from humannorm.editing import asked_job
from humannorm.export import ExportSettings
from humannorm.geometry import settings as geometry_settings
from humannorm.geometry.state import load_state, save_state
from humannorm.guidance.diffusers_denoiser import DiffusersDenoiser
from humannorm.labels import label_number
from humannorm.models import bundled_folder
from humannorm.request import HumanJob, HumanRequest, job_of
from humannorm.rings import body_rings
from humannorm.stages import begin_painting, begin_sculpture_of, paint_views_of, place_start
from humannorm.texture import settings as texture_settings
from humannorm.texture.multiview import QUICK
from humannorm.texture.state import TextureState
from humannorm.texture.state import load_state as load_painting

LEVEL = 0.6  # where the guided walk begins
PROMPT = "an African man with long hair, in a long coat"
CHANGE = "a green hoodie and black boots"
SLIDERS = {"sex": 0.5, "age": 0.667, "weight": 0.5, "muscle": 0.5, "height": 0.5, "proportions": 0.5}


def node(pack, room: str, name: str):
    return getattr(importlib.import_module(f"{pack.__name__}.{room}"), name)


def test_nodes_begin_as_the_library_does(pack, tiny_human, tmp_path, monkeypatch):
    monkeypatch.setitem(geometry_settings.PRESETS, "quick", tiny_human.geometry)
    monkeypatch.setitem(texture_settings.PRESETS, "quick", tiny_human.texture)
    job = job_of(HumanRequest(PROMPT, seed=4))
    begun = begin_sculpture_of(job, place_start(job.start, job.body), torch.Generator().manual_seed(4))
    save_state(begun.state, tmp_path / "library.safetensors")

    build_clip = node(pack, "host_models", "build_clip")
    with torch.inference_mode():  # as the host runs nodes
        clip = build_clip(bundled_folder())
        (prompts,) = node(pack, "prompts", "HumanNormPrompts").execute(clip, PROMPT, "", "image", "paper").result
        body = load_body(shape_of_words(PROMPT))
        start = node(pack, "geometry", "HumanNormGeometryStart")
        start.hidden = types.SimpleNamespace(unique_id=None)
        (geometry,) = start.execute(
            "quick", "preset", 0, 4, body=body, hold_hands=True, hold_face=True, wears=PROMPT
        ).result
        payload = node(pack, "payloads", "GuidancePayload")
        guidance = payload(None, prompts, None, 3.0, 128)  # its words are all that is asked for here
        texture_start = node(pack, "texture", "HumanNormTextureStart")
        (texture,) = texture_start.execute("quick", "preset", 64, 4, geometry=geometry, guidance=guidance).result
    assert prompts.prompts.prompt == job.network_prompt == f"{PROMPT}, standing"
    save_state(geometry, tmp_path / "node.safetensors")
    assert (tmp_path / "node.safetensors").read_bytes() == (tmp_path / "library.safetensors").read_bytes()

    sculpted = load_state(tmp_path / "library.safetensors")
    expected = begin_painting(texture.mesh, tiny_human.texture, 4, hold=sculpted.hold, skin=job.skin)
    points = texture.mesh.vertices[::7]
    assert torch.equal(texture.field.at(points), expected.field.at(points))
    assert float((texture.field.at(points) - 0.5).abs().max()) > 0.1  # skin has been painted


def test_prompts_name_the_pose_of_a_connected_body(pack):
    build_clip = node(pack, "host_models", "build_clip")
    with torch.inference_mode():
        clip = build_clip(bundled_folder())
        make = node(pack, "prompts", "HumanNormPrompts").execute
        for pose, said in (("sit", "a man, sitting"), ("t-pose", "a man, in T-pose")):
            (prompts,) = make(clip, "a man", "", "normal", "paper", body=load_body(pose=pose)).result
            assert prompts.prompts.prompt == said
        clip.cond_stage_model.humannorm_names_poses = False  # as of a model without a card of ours
        (plain,) = make(clip, "a man", "", "normal", "paper").result
    assert plain.prompts.prompt == "a man"


def sampled(body: list[Any], said: str | list[Any], *, few_steps: bool = True, **more: Any) -> graphs.Graph:
    """A dressed start of the words, painted from all sides at 64 pixels, and both saved. few_steps: cfg and steps are
    left to the model, which draws with its LoRA. more: of the painter."""
    prompts = graphs.prompts("image")
    cfg, steps, level = (0.0, 0, 0.5) if few_steps else (3.0, 3, LEVEL)
    small = {"steps": steps, "level": level, "framing": "body", "views": 2, "elevations": "0", "texture_size": 128}
    return {
        "models": graphs.node("HumanNormBundledModels"),
        "prompts": {**prompts, "inputs": prompts["inputs"] | {"prompt": said}},
        "guidance": graphs.guidance(2, "prompts", cfg, control_net=["models", 5]),
        "start": graphs.node(
            "HumanNormGeometryStart",
            **{"body": body, "preset": "quick", "field": "dense", "resolution": 64, "seed": 4},
            **{"hold_hands": True, "hold_face": True, "wears": said},
        ),
        "paint": graphs.node(
            "HumanNormMultiviewPainter",
            **{"guidance": ["guidance", 0], "geometry": ["start", 0], "preset": "quick", "seed": 4},
            **{"start_body": body, **small, **more},
        ),
        "sculpture": graphs.node("HumanNormSaveState", geometry=["start", 0], filename_prefix="tests/doors_sculpture"),
        "painting": graphs.node("HumanNormSaveState", texture=["paint", 1], filename_prefix="tests/doors_painting"),
    }


def saved(host: Host, graph: graphs.Graph) -> tuple[Path, Path]:
    """Files of the sculpture and of the painting."""
    outputs = host.run(graph)["outputs"]
    sculpture, painting = (outputs[name]["text"][0] for name in ("sculpture", "painting"))
    return host.output(sculpture), host.output(painting)


def painted_by_the_library(job: HumanJob, sculpture: Path, *, few_steps: bool = True) -> TextureState:
    """What `sampled` paints, by the library."""
    guide = DiffusersDenoiser.load(control=True)
    for unet in (guide.unet, guide.in_few_steps().unet):
        unet.register_to_config(sample_size=16)  # at 64 pixels, as the graph
    own = job.settings.texture
    assert own.few_steps
    if not few_steps:
        walk = dataclasses.replace(QUICK.walk, steps=2, level=LEVEL)
        own = dataclasses.replace(QUICK, plan=own.plan, walk=walk)
    texture = dataclasses.replace(own, rings=body_rings(2, 2, 2, 2), texture_size=128)
    settings = dataclasses.replace(job.settings, texture=texture, export=ExportSettings(texture_size=128))
    return paint_views_of(dataclasses.replace(job, settings=settings), load_state(sculpture), guide).state


@pytest.fixture(scope="module")
def human(host: Host) -> tuple[Path, Path]:
    """A sculpture and its painting, saved."""
    body = {"body": graphs.node("HumanNormBody", **SLIDERS, pose="a-pose", person=PROMPT)}
    return saved(host, {**sampled(["body", 0], PROMPT), **body})


def same_painting(painted: TextureState, expected: TextureState) -> bool:
    points = expected.mesh.vertices[::5]
    return torch.equal(painted.mesh.vertices, expected.mesh.vertices) and (
        float((painted.field.at(points) - expected.field.at(points)).abs().mean()) < 0.01
    )


def test_a_sculpture_is_painted_as_the_library_paints_it(human):
    """The same body and colours by the prompt's words, the same skin and views; what is left are the host's own
    roundings."""
    job, painted = job_of(HumanRequest(PROMPT, seed=4)), load_painting(human[1])
    assert load_state(human[0]).hold.shape == job.body.shape
    expected = painted_by_the_library(job, human[0])
    assert painted.folds is not None and float(painted.folds.abs().max()) > 0.1
    assert same_painting(painted, expected) and painted.person == expected.person


def test_with_cfg_and_steps_it_is_painted_as_the_library_paints_guided(host):
    body = {"body": graphs.node("HumanNormBody", **SLIDERS, pose="a-pose", person=PROMPT)}
    sculpture, painting = saved(host, {**sampled(["body", 0], PROMPT, few_steps=False), **body})
    expected = painted_by_the_library(job_of(HumanRequest(PROMPT, seed=4)), sculpture, few_steps=False)
    assert same_painting(load_painting(painting), expected)


def test_clothes_are_changed_as_the_command_changes_them(host, human, tmp_path):
    change = {
        "painted": graphs.node("HumanNormLoadState", file=str(human[1])),
        "change": graphs.node("HumanNormChangeClothes", texture=["painted", 1], prompt=CHANGE),
    }
    edited = saved(host, {**sampled(["change", 1], ["change", 0], kept=["painted", 1]), **change})

    (tmp_path / "work").mkdir()
    (tmp_path / "run.json").write_text(json.dumps({"request": {"prompt": PROMPT, "seed": 4}}), encoding="utf-8")
    shutil.copy(human[1], tmp_path / "work" / "paint.safetensors")
    job = asked_job(HumanRequest(CHANGE, edits=str(tmp_path)))
    dressed = load_state(edited[0]).labelled
    worn = {label_number(piece.label) for piece in job.outfit.pieces}
    seen = set(dressed.labels.unique().tolist())  # the hoodie is beneath the coat
    assert seen == worn - {label_number("top")} | {label_number("skin")}

    before, painted = load_painting(human[1]), load_painting(edited[1])
    expected = painted_by_the_library(job, edited[0])
    assert same_painting(painted, expected) and painted.person == expected.person
    points = before.mesh.vertices
    labels = dressed.labels_at(points)
    apart = (painted.field.at(points) - before.field.at(points)).abs().mean(1)
    assert float(apart[labels == label_number("hair")].median()) < 0.02
    assert float(apart[labels == label_number("shoes")].median()) > 0.1


def test_what_cannot_be_changed_is_refused(pack, human):
    change = node(pack, "clothes", "HumanNormChangeClothes")
    painting = load_painting(human[1])
    with torch.inference_mode():
        with pytest.raises(InputError, match="texture: expected a painting of a dressed human"):
            change.execute(dataclasses.replace(painting, person=None), CHANGE)
        with pytest.raises(InputError, match="prompt: expected clothes, shoes or hair that change"):
            change.execute(painting, "more cheerful")


def test_an_undressed_child_is_refused(pack):
    build_clip = node(pack, "host_models", "build_clip")
    with torch.inference_mode():
        clip = build_clip(bundled_folder())
        with pytest.raises(InputError, match="prompt: expected adults, who are dressed, got a child"):
            node(pack, "prompts", "HumanNormPrompts").execute(clip, "a nude child", "", "image", "paper")
