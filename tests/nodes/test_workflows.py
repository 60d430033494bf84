"""Every shipped workflow is whole: links, slots, types, widgets, nodes that exist; needs no ComfyUI."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from workflow_files import BYPASSED, NOTES, known_nodes, to_api, widgets

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "workflows").glob("*.json"))
# It needs the published weights to be run.
NOT_DRAWN_YET = {"text_to_human_sd15"}
NAMES = {
    "normal_maps_2d", "text_to_human", "text_to_human_sd15", "paint_my_mesh", "remix", "edit", "pose_and_animate",
    "edit_clothes",
}  # fmt: skip
KNOWN = known_nodes()


def faults(workflow: dict) -> list[str]:
    """What a canvas or a host would stumble over."""
    found = []
    nodes = {node["id"]: node for node in workflow["nodes"]}
    if len(nodes) != len(workflow["nodes"]) or max(nodes) > workflow["last_node_id"]:
        found.append("node ids")
    links = {link[0]: link for link in workflow["links"]}
    if len(links) != len(workflow["links"]) or max(links, default=0) > workflow["last_link_id"]:
        found.append("link ids")
    for link_id, origin, slot, target, place, kind in workflow["links"]:
        try:
            output, entry = nodes[origin]["outputs"][slot], nodes[target]["inputs"][place]
        except (KeyError, IndexError):
            found.append(f"link {link_id}: no such end")
            continue
        if link_id not in output["links"] or entry["link"] != link_id:
            found.append(f"link {link_id}: not in both ends")
        if not {output["type"], entry["type"], kind} - {"*"} <= {kind}:
            found.append(f"link {link_id}: {output['type']} to {entry['type']} as {kind}")
    for node in workflow["nodes"]:
        found += [f"node {node['id']}: {fault}" for fault in node_faults(node, set(links))]
    return found


def node_faults(node: dict, links: set[int]) -> list[str]:
    if node["type"] in NOTES:
        return []
    if node["type"] not in KNOWN:
        return [f"unknown {node['type']}"]
    known = KNOWN[node["type"]]
    found = []
    if [(entry["name"], entry["type"]) for entry in node["inputs"]] != [(e["id"], e["type"]) for e in known["inputs"]]:
        found.append("inputs")
    if [(o["name"], o["type"]) for o in node["outputs"]] != [(o["name"], o["type"]) for o in known["outputs"]]:
        found.append("outputs")
    used = {link for entry in node["inputs"] if (link := entry["link"]) is not None}
    used |= {link for output in node["outputs"] for link in output["links"]}
    if not used <= links:
        found.append("links that are not there")
    places = widgets(known)
    if len(places) != len(node["widgets_values"]):
        return [*found, f"{len(node['widgets_values'])} widget values for {len(places)} widgets"]
    for (name, entry), value in zip(places, node["widgets_values"], strict=True):
        options = ["fixed", "randomize", "increment", "decrement"] if entry is None else entry.get("options")
        if isinstance(options, list) and value not in options:
            found.append(f"{name}: {value!r} is none of its options")
        if entry is not None and entry["type"] in ("INT", "FLOAT") and not entry["min"] <= value <= entry["max"]:
            found.append(f"{name}: {value} is out of range")
    linked = {entry["name"] for entry in node["inputs"] if entry["link"] is not None}
    named = {name for name, _ in places}
    for entry in known["inputs"]:
        if entry["group"] == "required" and entry["id"] not in linked | named:
            found.append(f"{entry['id']} is not connected")
    return found


def test_all_are_there():
    assert {path.stem for path in FILES} == NAMES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_workflow_is_whole(path):
    assert faults(json.loads(path.read_text("utf-8"))) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_workflow_is_explained_grouped_and_has_a_thumbnail(path):
    workflow = json.loads(path.read_text("utf-8"))
    (note,) = (node for node in workflow["nodes"] if node["type"] in NOTES)
    assert len(note["widgets_values"][0]) > 100
    boxes = [group["bounding"] for group in workflow["groups"]]
    for node in workflow["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        inside = [
            b for b in boxes if b[0] <= x and b[1] <= y and x + width <= b[0] + b[2] and y + height <= b[1] + b[3]
        ]
        assert len(inside) == 1, node["type"]
        if node["type"] not in NOTES:
            assert node["properties"]["cnr_id"] in ("humannorm", "comfy-core")
    assert path.with_suffix(".jpg").is_file() != (path.stem in NOT_DRAWN_YET)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_api_twin_is_the_same_graph(path):
    twin = json.loads((Path(__file__).parent / "api" / path.name).read_text("utf-8"))
    workflow = json.loads(path.read_text("utf-8"))
    assert twin == to_api(workflow, KNOWN)
    asleep = {str(node["id"]) for node in workflow["nodes"] if node["mode"] == BYPASSED}
    for node in twin.values():
        for value in node["inputs"].values():
            if isinstance(value, list):
                assert value[0] in twin and value[0] not in asleep


def test_published_weights_are_named_for_the_missing_model_dialog():
    workflow = json.loads((ROOT / "workflows" / "text_to_human_sd15.json").read_text("utf-8"))
    models = [entry for node in workflow["nodes"] for entry in node["properties"].get("models", [])]
    assert {entry["directory"] for entry in models} == {"diffusion_models", "controlnet", "text_encoders", "vae"}
    for node in workflow["nodes"]:
        for entry in node["properties"].get("models", []):
            assert entry["name"] in node["widgets_values"]
            assert entry["url"].startswith("https://huggingface.co/xanderhuang/") and entry["url"].endswith(
                ".safetensors"
            )


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda w: w["links"].pop(), "links that are not there"),
        (lambda w: w["links"][0].__setitem__(5, "MASK"), "as MASK"),
        (lambda w: w["nodes"][1].__setitem__("type", "HumanNormMissing"), "unknown HumanNormMissing"),
        (lambda w: w["nodes"][2]["widgets_values"].append(1), "widget values for"),
        (lambda w: w["nodes"][3]["inputs"][0].__setitem__("link", None), "not in both ends"),
        (lambda w: next(n for n in w["nodes"] if n["type"] == "HumanNormBody")["widgets_values"].__setitem__(6, "dab"),
         "none of its options"),
    ],
)  # fmt: skip
def test_the_validator_sees_what_is_wrong(spoil, fault):
    workflow = json.loads((ROOT / "workflows" / "text_to_human.json").read_text("utf-8"))
    spoil(workflow)
    assert any(fault in said for said in faults(workflow)), faults(workflow)
