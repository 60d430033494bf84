"""The nodes begin a human as the command and the library do: the same bytes, the same words, the same skin."""

from __future__ import annotations

import importlib
import types

import torch

from humannorm.body import load_body, shape_of_words
from humannorm.geometry import settings as geometry_settings
from humannorm.geometry.state import load_state, save_state
from humannorm.models import bundled_folder
from humannorm.request import HumanRequest, job_of
from humannorm.stages import begin_painting, begin_sculpture, place_start
from humannorm.texture import settings as texture_settings

PROMPT = "an African man with long hair, in a long coat"


def node(pack, room: str, name: str):
    return getattr(importlib.import_module(f"{pack.__name__}.{room}"), name)


def test_nodes_begin_as_the_library_does(pack, tiny_human, tmp_path, monkeypatch):
    monkeypatch.setitem(geometry_settings.PRESETS, "quick", tiny_human.geometry)
    monkeypatch.setitem(texture_settings.PRESETS, "quick", tiny_human.texture)
    job = job_of(HumanRequest(PROMPT, seed=4))
    begun = begin_sculpture(
        place_start(job.start, job.body),
        job.settings.geometry,
        job.settings.start,
        torch.Generator().manual_seed(4),
        body=job.body,
        outfit=job.outfit,
    )
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
