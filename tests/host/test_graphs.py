"""Graphs through the HTTP API of a running ComfyUI."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import graphs
import numpy as np
import pytest
import torch
from graphs import SAMPLING, changed, node, prompts, sampler
from PIL import Image
from safetensors.torch import load_file, save_file
from server import Host

INVENTORY = Path(__file__).parents[1] / "nodes" / "inventory.json"


def newest(host: Host, pattern: str) -> Path:
    return max((host.base / "output").glob(pattern), key=lambda path: path.name)


def surface_field(host: Host, graph: graphs.Graph) -> dict[str, torch.Tensor]:
    """The numbers of the sculpture that a graph saves."""
    entry = host.run(graph)
    (path,) = entry["outputs"]["save"]["text"]
    return {name: value for name, value in load_file(host.output(path)).items() if name.startswith("field.")}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def human(host):
    """The history of a whole run, with a workflow as the canvas sends it."""
    return host.run(graphs.whole_human(), extra_data={"extra_pnginfo": {"workflow": {"nodes": [], "version": 0.4}}})


def test_the_host_knows_every_node_as_frozen(host):
    frozen = json.loads(INVENTORY.read_text("utf-8"))["nodes"]
    known = {name: info for name, info in host.get("/object_info").items() if name.startswith("HumanNorm")}
    assert set(known) == set(frozen)
    for name, info in known.items():
        assert info["output"] == [output["type"] for output in frozen[name]["outputs"]], name
        order = [entry for group in ("required", "optional") for entry in info["input_order"].get(group, [])]
        assert order == [entry["id"] for entry in frozen[name]["inputs"]], name


def test_help_translations_and_templates_are_served(host):
    import urllib.request

    for name in json.loads(INVENTORY.read_text("utf-8"))["nodes"]:
        with urllib.request.urlopen(f"{host.url}/extensions/humannorm-test-pack/docs/{name}.md") as page:
            assert page.status == 200 and b"## Inputs" in page.read()
    assert host.get("/i18n")["zh"]["nodeDefs"]["HumanNormBody"]["display_name"]
    listed = host.get("/workflow_templates")["humannorm-test-pack"]
    assert set(listed) == {path.stem for path in (Path(__file__).parents[2] / "example_workflows").glob("*.json")}


def test_every_stage_gives_its_files(host, human):
    (path,) = human["outputs"]["export"]["text"]
    glb = host.output(path).read_bytes()
    length, kind = struct.unpack_from("<II", glb, 12)
    document = json.loads(glb[20 : 20 + length])
    assert glb[:4] == b"glTF" and kind == 0x4E4F534A and 20 + length < 2**20
    assert json.loads(document["asset"]["extras"]["workflow"]) == {"nodes": [], "version": 0.4}
    assert "HumanNormMeshExporter" in document["asset"]["extras"]["prompt"]
    assert {"TEXCOORD_0", "NORMAL"} <= set(document["meshes"][0]["primitives"][0]["attributes"])
    assert "baseColorTexture" in document["materials"][0]["pbrMetallicRoughness"]
    for node_id, count in (("sculpt", 4), ("refine", 4), ("save_normals_0", 2), ("save_aligned_0", 2)):
        assert len(human["outputs"][node_id]["images"]) == count
    picture = np.asarray(Image.open(newest(host, "tests/render_0_*.png")))
    assert picture.shape == (64, 64, 3) and picture.max() > 200 and picture[0, 0].max() == 0


def test_the_same_prompt_again_is_all_from_the_cache(host, human):
    again = host.run(graphs.whole_human())
    assert host.executed(again) == set()


def test_a_changed_seed_reruns_only_what_depends_on_it(host, human):
    entry = host.run(changed(graphs.whole_human(), refine__seed=5))
    assert host.executed(entry) == {
        "refine", "save_paint", "export", "render", "save_render_0", "save_render_2"
    }  # fmt: skip


def test_saved_states_go_on(host, human):
    (path,) = human["outputs"]["save"]["text"]
    graph = graphs.sculpting()
    graph["start"] = node("HumanNormLoadState", file=path)
    del graph["body"]
    graph = changed(graph, sculpt__begin=0.5)
    before = surface_field(host, graphs.sculpting())
    assert not same(before, surface_field(host, graph))

    (painted,) = human["outputs"]["save_paint"]["text"]
    graph = {
        "load": node("HumanNormLoadState", file=painted),
        "sculpture": node("HumanNormSaveState", geometry=["load", 0], filename_prefix="tests/no_sculpture"),
        "painting": node("HumanNormSaveState", texture=["load", 1], filename_prefix="tests/a_painting"),
    }
    host.wait(host.queue(graph))
    assert [path.name[:10] for path in host.output("tests").glob("*a_painting*")] == ["a_painting"]
    assert not list(host.output("tests").glob("no_sculpture*"))


@pytest.mark.parametrize("skin", ["fair", "dark", "model"])
def test_a_held_face_wears_the_skin_that_is_asked_for(host, skin):
    graph = {name: graphs.sculpting()[name] for name in ("body", "start")}
    graph = changed(graph, start__hold_face=True)
    graph["paint_start"] = node(
        "HumanNormTextureStart", geometry=["start", 0], preset="quick", field="hash", uv_size=256, seed=0, skin=skin
    )
    graph["render"] = node(
        "HumanNormRenderViews",
        texture=["paint_start", 0],
        views="front",
        part="head",
        framing="bundled",
        elevation=0.0,
        size=96,
    )
    graph["save"] = node("SaveImage", images=["render", 2], filename_prefix=f"tests/skin_{skin}")
    host.run(graph)
    face = np.asarray(Image.open(newest(host, f"tests/skin_{skin}_*.png")))[40:60, 40:56] / 255.0
    red, _, blue = face.reshape(-1, 3).mean(0)
    if skin == "model":  # nothing is painted yet
        assert float(np.abs(face - 0.5).max()) < 0.02
    else:
        assert red > blue + 0.05 and (red > 0.6 if skin == "fair" else red < 0.5)
        assert face.std() > 0.02  # eyes, nose, mouth


def test_a_surface_is_sculpted_by_all_views_together(host):
    graph = changed(graphs.sculpting(4), sculpt__method="views", sculpt__begin=0.5)  # one level of the last round
    assert not same(surface_field(host, graphs.sculpting()), surface_field(host, graph))
    assert not list((host.output("humannorm") / "unfinished").glob("geometry_*_round*"))


def test_two_prompts_queued_are_both_done(host):
    ids = [host.queue(changed(graphs.sculpting(), sculpt__seed=seed)) for seed in (11, 12)]
    for prompt_id in ids:
        assert host.wait(prompt_id)["status"]["status_str"] == "success"


def test_a_lora_and_a_cfg_patch_change_the_mesh(host):
    width = 160
    name = "lora_unet_down_blocks_2_attentions_0_transformer_blocks_0_attn2_to_v"
    generator = torch.Generator().manual_seed(0)
    folder = host.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            f"{name}.lora_down.weight": torch.randn(4, 192, generator=generator),
            f"{name}.lora_up.weight": torch.randn(width, 4, generator=generator),
        },
        folder / "loud.safetensors",
    )
    plain = surface_field(host, graphs.sculpting())
    with_lora = graphs.sculpting()
    with_lora["lora"] = node(
        "LoraLoaderModelOnly", model=["models", 0], lora_name="loud.safetensors", strength_model=1.0
    )
    with_lora = changed(with_lora, normal_guidance__model=["lora", 0])
    assert not same(plain, surface_field(host, with_lora))

    rescaled = graphs.sculpting()
    rescaled["rescale"] = node("RescaleCFG", model=["models", 0], multiplier=1.0)  # by set_model_sampler_cfg_function
    rescaled = changed(rescaled, normal_guidance__model=["rescale", 0])
    assert not same(plain, surface_field(host, rescaled))
    # The models are as they were: nothing that acted on them has stayed.
    fresh = changed(graphs.sculpting(), save__filename_prefix="tests/again", body__height=0.5)
    fresh["sculpt_again"] = fresh.pop("sculpt")
    fresh["save"]["inputs"]["geometry"] = ["sculpt_again", 0]
    assert same(plain, surface_field(host, fresh))


def test_interrupted_and_queued_again_it_goes_on_and_ends_the_same(host):
    steps = 12
    graph = changed(graphs.sculpting(steps), sculpt__seed=77, save__filename_prefix="tests/interrupted")
    unfinished = host.output("humannorm/unfinished")
    for patience in (2.0, 8.0, 32.0):  # seconds: a busy machine may not have done a step after the first
        entry, waited = interrupted(host, graph, patience)
        (left,) = unfinished.glob("geometry_*.safetensors")
        head = left.read_bytes()
        kept = json.loads(head[8 : 8 + struct.unpack("<Q", head[:8])[0]])["__metadata__"]
        if (step := json.loads(kept["state"])["step"]) > 0:
            break
    kinds = [kind for kind, _ in entry["status"]["messages"]]
    assert "execution_interrupted" in kinds, kinds
    assert waited < 30
    assert 0 < step < steps
    resumed = surface_field(host, graph)
    assert not list(unfinished.glob("geometry_*.safetensors"))

    unbroken = changed(graph, save__filename_prefix="tests/unbroken")
    unbroken["other"] = unbroken.pop("sculpt")
    unbroken["save"]["inputs"]["geometry"] = ["other", 0]
    assert same(resumed, surface_field(host, unbroken))


def interrupted(host: Host, graph: graphs.Graph, patience: float) -> tuple[dict, float]:
    """A prompt that is interrupted so long after its optimiser has its models, and how long it took to hear of it.

    The models are seen in the log, as plain HTTP has no progress messages.
    """

    def loaded() -> int:
        return (host.base / "server.log").read_text("utf-8", "replace").count("Requested to load AutoencoderKL")

    before, prompt_id = loaded(), host.queue(graph)
    end = time.monotonic() + 120
    while loaded() == before and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(patience)
    host.post("/interrupt")
    begin = time.monotonic()
    entry = host.wait(prompt_id)
    return entry, time.monotonic() - begin


def test_a_ksampler_on_a_picked_prompt_draws_what_our_sampler_draws(host):
    ours = sampler("HumanNormNormalSampler", 0, "normal_prompts", views="back", part="full")
    theirs = node(
        "KSampler",
        model=["models", 0],
        positive=["pick", 0],
        negative=["pick", 1],
        latent_image=["empty", 0],
        denoise=1.0,
        **SAMPLING,
    )
    host.run(
        {
            "models": node("HumanNormBundledModels"),
            "normal_prompts": prompts("normal"),
            "ours": ours,
            "pick": node("HumanNormPickPrompt", prompts=["normal_prompts", 0], part="full", view="back"),
            "empty": node("EmptyLatentImage", width=128, height=128, batch_size=1),
            "theirs": theirs,
            "decode": node("VAEDecode", samples=["theirs", 0], vae=["models", 4]),
            "save_ours": node("SaveImage", images=["ours", 0], filename_prefix="tests/ours"),
            "save_theirs": node("SaveImage", images=["decode", 0], filename_prefix="tests/theirs"),
        }
    )
    mine, other = (np.asarray(Image.open(newest(host, f"tests/{name}_*.png"))) for name in ("ours", "theirs"))
    assert mine.shape == (64, 64, 3) and np.array_equal(mine, other)


def part_of_human(*names: str, **made: dict) -> graphs.Graph:
    """Some nodes of the whole graph, and others."""
    whole = graphs.whole_human()
    return {name: whole[name] for name in names} | made


def from_hostile_nodes() -> dict[str, tuple[graphs.Graph, str]]:
    """What comes over good wires and is not what it should be."""
    rendering = part_of_human("render", "save_render_0")
    larger = part_of_human("models", "normal_prompts", "normals", "save_normals_0", made=node("HostileSDXL"))
    exporting = part_of_human("body", "export")
    del exporting["export"]["inputs"]["texture"]
    exporting["export"]["inputs"]["mesh"] = ["body", 1]
    return {
        "SDXL model": (
            changed(larger, normals__model=["made", 0]),
            "prompts: expected prompts encoded by the CLIP that belongs to the model (2048 channels), got 192",
        ),
        "empty mesh": (
            changed(rendering | {"made": node("HostileEmptyMesh")}, render__mesh=["made", 0]),
            "mesh: expected vertices and faces, got 0 and 0",
        ),
        "foreign mesh": (
            changed(rendering | {"made": node("HostileForeignMesh")}, render__mesh=["made", 0]),
            "mesh: expected ComfyUI's native MESH",
        ),
        "two subjects": (
            changed(exporting | part_of_human("start"), export__geometry=["start", 0]),
            "texture, geometry, mesh: expected just one of them to be connected, got geometry and mesh",
        ),
        "climbing export": (
            changed(exporting, export__filename_prefix="../../climbed"),
            "filename_prefix: expected a place inside",
        ),
    }


def hostile() -> dict[str, tuple[graphs.Graph, str]]:
    """Graphs that must be refused on the node, and what the node must say."""
    base = graphs.whole_human()
    alpha = base | {"rgba": node("JoinImageWithAlpha", image=["normals", 0], alpha=["normals", 1])}
    return {
        "four channels": (changed(alpha, aligned__normal_maps=["rgba", 0]), "normal_maps: expected 3 channels"),
        "zero views": (changed(base, normals__views=" , "), "views: expected at least one"),
        "views for no picture": (changed(base, aligned__views="front,left,back"), "views: expected one for each"),
        "climbing prefix": (
            changed(base, save__filename_prefix="../../climbed"),
            "filename_prefix: expected a place inside",
        ),
        "empty prompt": (changed(base, normal_prompts__prompt="  "), "prompt: expected a description"),
        "wrong kind": (
            changed(base, sculpt__normal_guidance=["depth_guidance", 0]),
            "normal_guidance: expected prompts of kind normal",
        ),
        "no steps": (changed(base, sculpt__begin=1.0), "begin, end: expected at least one step"),
        "no control net": (
            changed(base, paint__guidance=["bare_guidance", 0]),
            "expected one with the normal ControlNet",
        ),
        "a size of nothing": (changed(base, normals__size=8), "size: expected 0 or 32 to 512 pixels a side"),
        "a size of hours": (changed(base, depths__size=2048), "size: expected 0 or 32 to 512 pixels a side"),
        "a guide that sees nothing": (
            changed(base, normal_guidance__resolution=8),
            "resolution: expected 0 or 32 to 512 pixels a side",
        ),
        "oblong maps": (
            changed(
                base | {"oblong": node("EmptyImage", width=96, height=64, batch_size=2, color=0)},
                aligned__normal_maps=["oblong", 0],
            ),
            "normal_maps: expected square pictures, got 96 x 64",
        ),
        "pictures for normals": (
            changed(base, sculpt__normal_guidance=["image_guidance", 0]),
            "normal_guidance: expected prompts of kind normal, got kind image",
        ),
        "missing file": ({"load": node("HumanNormLoadState", file="nothing.safetensors")}, "which is in neither"),
        "file outside": ({"load": node("HumanNormLoadState", file="../../etc/passwd")}, "expected a place inside"),
    }


@pytest.mark.parametrize("case", list(hostile() | from_hostile_nodes()))
def test_hostile_values_are_refused_on_the_node_and_the_server_lives_on(host, case):
    graph, said = (hostile() | from_hostile_nodes())[case]
    if case == "no control net":
        graph["bare_guidance"] = graphs.guidance(2, "image_prompts", 7.5)
    if "load" in graph:
        graph["save"] = node("HumanNormSaveState", geometry=["load", 0], filename_prefix="tests/never")
    entry = host.wait(host.queue(graph))
    assert entry["status"]["status_str"] == "error"
    message = host.error(entry)
    assert said in message.splitlines()[0], message
    assert host.get("/system_stats")["system"]
    assert not list(host.base.parent.glob("climbed*"))
