"""The nodes begin a human as the command and the library do: the same bytes, the same words, the same skin."""

from __future__ import annotations

import dataclasses
import importlib
import types

import graphs
import pytest
import torch

from humannorm.body import load_body, shape_of_words
from humannorm.export import ExportSettings
from humannorm.geometry import settings as geometry_settings
from humannorm.geometry.state import load_state, save_state
from humannorm.guidance.diffusers_denoiser import DiffusersDenoiser
from humannorm.models import bundled_folder
from humannorm.request import HumanRequest, job_of
from humannorm.rings import body_rings
from humannorm.stages import begin_painting, begin_sculpture_of, paint_views_of, place_start
from humannorm.texture import settings as texture_settings
from humannorm.texture.multiview import QUICK
from humannorm.texture.state import load_state as load_painting

PROMPT = "an African man with long hair, in a long coat"
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


@pytest.mark.parametrize("few_steps", [True, False])
def test_a_sculpture_is_painted_as_the_library_paints_it(host, few_steps):
    """The same body and colours by the prompt's words, the same skin and views; what is left are the host's own
    roundings. With cfg and steps left to the model, it draws with its LoRA in few steps."""
    cfg, steps, level = (0.0, 0, 0.5) if few_steps else (3.0, 3, 0.6)
    graph = {
        "models": graphs.node("HumanNormBundledModels"),
        "prompts": {**graphs.prompts("image"), "inputs": graphs.prompts("image")["inputs"] | {"prompt": PROMPT}},
        "guidance": graphs.guidance(2, "prompts", cfg, control_net=["models", 5]),
        "body": graphs.node("HumanNormBody", **SLIDERS, pose="a-pose", person=PROMPT),
        "start": graphs.node(
            "HumanNormGeometryStart",
            **{"body": ["body", 0], "preset": "quick", "field": "dense", "resolution": 64, "seed": 4},
            **{"hold_hands": True, "hold_face": True, "wears": PROMPT},
        ),
        "paint": graphs.node(
            "HumanNormMultiviewPainter",
            **{
                "guidance": ["guidance", 0],
                "geometry": ["start", 0],
                "preset": "quick",
                "steps": steps,
                "level": level,
            },
            **{
                "framing": "body",
                "views": 2,
                "elevations": "0",
                "seed": 4,
                "texture_size": 128,
                "start_body": ["body", 0],
            },
        ),
        "sculpture": graphs.node("HumanNormSaveState", geometry=["start", 0], filename_prefix="tests/doors_sculpture"),
        "painting": graphs.node("HumanNormSaveState", texture=["paint", 1], filename_prefix="tests/doors_painting"),
    }
    outputs = host.run(graph)["outputs"]
    files = {name: host.output("tests").parent / outputs[name]["text"][0] for name in ("sculpture", "painting")}
    geometry, painted = load_state(files["sculpture"]), load_painting(files["painting"])

    job, guide = job_of(HumanRequest(PROMPT, seed=4)), DiffusersDenoiser.load(control=True)
    for unet in (guide.unet, guide.in_few_steps().unet):
        unet.register_to_config(sample_size=16)  # at 64 pixels, as the graph
    assert geometry.hold.shape == job.body.shape
    own = job.settings.texture if few_steps else dataclasses.replace(QUICK, plan=job.settings.texture.plan)
    walk = own.walk if few_steps else dataclasses.replace(QUICK.walk, steps=2, level=level)
    assert own.few_steps is few_steps
    texture = dataclasses.replace(own, rings=body_rings(2, 2, 2, 2), texture_size=128, walk=walk)
    settings = dataclasses.replace(job.settings, texture=texture, export=ExportSettings(texture_size=128))
    expected = paint_views_of(dataclasses.replace(job, settings=settings), geometry, guide).state
    assert painted.folds is not None and float(painted.folds.abs().max()) > 0.1
    assert torch.equal(painted.mesh.vertices, expected.mesh.vertices)
    points = expected.mesh.vertices[::5]
    assert float((painted.field.at(points) - expected.field.at(points)).abs().mean()) < 0.01
