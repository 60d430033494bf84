"""Every shipped workflow is whole: links, slots, types, widgets, nodes that exist; needs no ComfyUI."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from workflow_files import BYPASSED, NOTES, REROUTE, flat, known_nodes, to_api, widgets

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "example_workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
NAMES = {
    "normal_maps_2d", "text_to_human", "text_to_human_sd15", "paint_my_mesh", "paint_any_mesh", "paint_generated_mesh",
    "remix", "remix_mesh", "edit", "edit_clothes", "pose_and_animate", "sculpt_in_a_pose",
}  # fmt: skip
KNOWN = known_nodes()
SCREEN, BARS, READABLE = (1920, 1080), (70, 90), 0.6  # pixels, of the side and tool bar; least scale that draws text


def faults(workflow: dict) -> list[str]:
    """What a canvas or a host would stumble over, also in the graphs inside of nodes."""
    definitions = {entry["id"]: entry for entry in workflow.get("definitions", {}).get("subgraphs", [])}
    found = graph_faults(workflow, definitions)
    if workflow["nodes"] and max(node["id"] for node in workflow["nodes"]) > workflow["last_node_id"]:
        found.append("node ids")
    for inner in definitions.values():
        found += [f"{inner['name']}: {fault}" for fault in graph_faults(inner, definitions)]
    if not found:  # links can be followed
        nodes, links = flat(workflow)
        for name, node in nodes.items():
            if node["type"] not in NOTES | {REROUTE}:
                before = name.rpartition(":")[0]
                found += [f"{name}: {fault}" for fault in unconnected(node, before, links)]
    return found


def graph_faults(graph: dict, definitions: dict[str, dict]) -> list[str]:
    found = []
    ends = {
        -10: {"outputs": [{**entry, "links": entry["linkIds"]} for entry in graph.get("inputs", [])]},
        -20: {"inputs": [{**entry, "link": entry["linkIds"][0]} for entry in graph.get("outputs", [])]},
    }
    nodes = {node["id"]: node for node in graph["nodes"]}
    if len(nodes) != len(graph["nodes"]):
        found.append("node ids")
    rows = [link if isinstance(link, list) else list(link.values()) for link in graph["links"]]
    links = {row[0]: row for row in rows}
    if len(links) != len(rows):
        found.append("link ids")
    for link_id, origin, slot, target, place, kind in rows:
        try:
            output = (nodes | ends)[origin]["outputs"][slot]
            entry = (nodes | ends)[target]["inputs"][place]
        except (KeyError, IndexError):
            found.append(f"link {link_id}: no such end")
            continue
        if link_id not in output["links"] or entry["link"] != link_id:
            found.append(f"link {link_id}: not in both ends")
        taken = set(entry["type"].split(","))
        if output["type"] != kind or (not {kind, "*"} & taken and kind != "*"):
            found.append(f"link {link_id}: {output['type']} to {entry['type']} as {kind}")
    for node in graph["nodes"]:
        found += [f"node {node['id']}: {fault}" for fault in node_faults(node, set(links), definitions)]
    return found


def node_faults(node: dict, links: set[int], definitions: dict[str, dict]) -> list[str]:
    if node["type"] in NOTES | {REROUTE}:
        return []
    inner = definitions.get(node["type"])
    if inner is None and node["type"] not in KNOWN:
        return [f"unknown {node['type']}"]
    known = KNOWN[node["type"]] if inner is None else inner
    ids = [(entry["id" if inner is None else "name"], entry["type"]) for entry in known["inputs"]]
    found = []
    if [(entry["name"], entry["type"]) for entry in node["inputs"]] != ids:
        found.append("inputs")
    if [(o["name"], o["type"]) for o in node["outputs"]] != [(o["name"], o["type"]) for o in known["outputs"]]:
        found.append("outputs")
    used = {link for entry in node["inputs"] if (link := entry["link"]) is not None}
    used |= {link for output in node["outputs"] for link in output["links"]}
    if not used <= links:
        found.append("links that are not there")
    return found if inner is not None else found + widget_faults(node, known)


def widget_faults(node: dict, known: dict) -> list[str]:
    found = []
    places = widgets(known)
    if len(places) != len(node["widgets_values"]):
        return [f"{len(node['widgets_values'])} widget values for {len(places)} widgets"]
    for (name, entry), value in zip(places, node["widgets_values"], strict=True):
        options = ["fixed", "randomize", "increment", "decrement"] if entry is None else entry.get("options")
        if isinstance(options, list) and value not in options:
            found.append(f"{name}: {value!r} is none of its options")
        if entry is not None and entry["type"] in ("INT", "FLOAT") and not entry["min"] <= value <= entry["max"]:
            found.append(f"{name}: {value} is out of range")
    return found


def unconnected(node: dict, before: str, links: dict) -> list[str]:
    """Required inputs that neither a wire nor a widget feeds."""
    fed = {
        entry["name"]
        for entry in node["inputs"]
        if entry["link"] is not None
        and links[f"{before}:{entry['link']}" if before else str(entry["link"])]["from"] is not None
    }
    known = KNOWN[node["type"]]
    named = {name for name, _ in widgets(known)}
    wanted = [entry["id"] for entry in known["inputs"] if entry["group"] == "required"]
    return [f"{name} is not connected" for name in wanted if name not in fed | named]


def test_all_are_there():
    assert {path.stem for path in FILES} == NAMES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_workflow_is_whole(path):
    assert faults(json.loads(path.read_text("utf-8"))) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_workflow_is_explained_grouped_and_has_a_square_thumbnail(path):
    workflow = json.loads(path.read_text("utf-8"))
    (note,) = (node for node in workflow["nodes"] if node["type"] in NOTES)
    (text,) = note["widgets_values"]
    assert len(text) > 100 and len(text.strip().splitlines()) <= 6
    boxes = [group["bounding"] for group in workflow["groups"]]
    for node in workflow["nodes"]:
        if node["type"] == REROUTE:
            continue
        (x, y), (width, height) = node["pos"], node["size"]
        inside = [
            b for b in boxes if b[0] <= x and b[1] <= y and x + width <= b[0] + b[2] and y + height <= b[1] + b[3]
        ]
        assert len(inside) == 1, node["type"]
        if node["type"] not in NOTES:
            assert node["properties"]["cnr_id"] in ("humannorm", "comfy-core")
    with Image.open(path.with_suffix(".jpg")) as picture:
        assert picture.width == picture.height >= 256


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_all_of_a_workflow_is_legible_on_a_common_screen(path):
    """In 1920 x 1080 pixels at a scale at which the canvas draws text, clear of its bars."""
    workflow = json.loads(path.read_text("utf-8"))
    boxes = [group["bounding"] for group in workflow["groups"]]
    width = max(box[0] + box[2] for box in boxes) - min(box[0] for box in boxes)
    height = max(box[1] + box[3] for box in boxes) - min(box[1] for box in boxes)
    assert min((SCREEN[0] - BARS[0]) / width, (SCREEN[1] - BARS[1]) / height) >= READABLE
    view = workflow["extra"]["ds"]
    first = workflow["groups"][0]["bounding"]
    corner = [(first[axis] + view["offset"][axis]) * view["scale"] for axis in (0, 1)]
    assert view["scale"] >= READABLE and corner[0] >= BARS[0] and corner[1] >= BARS[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_node_lies_on_another(path):
    title = 30  # pixels above a node's place
    workflow = json.loads(path.read_text("utf-8"))
    boxes = [(*node["pos"], *node["size"]) for node in workflow["nodes"] if node["type"] != REROUTE]
    for number, (x, y, width, height) in enumerate(boxes):
        for left, top, across, down in boxes[:number]:
            beside = x >= left + across or left >= x + width
            assert beside or y - title >= top + down or top - title >= y + height


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_is_one_node_and_its_graph(path):
    blueprint = json.loads(path.read_text("utf-8"))
    (node,) = blueprint["nodes"]
    (inner,) = blueprint["definitions"]["subgraphs"]
    assert node["type"] == inner["id"] and inner["name"] == path.stem and inner["description"]
    found = [fault for fault in faults(blueprint) if "is not connected" not in fault]
    assert found == []


def test_three_blueprints():
    assert {path.stem.partition(" (")[0] for path in BLUEPRINTS} == {"Text to human", "Sculpt", "Paint"}


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
    workflow = json.loads((ROOT / "example_workflows" / "text_to_human_sd15.json").read_text("utf-8"))
    models = [entry for node in workflow["nodes"] for entry in node["properties"].get("models", [])]
    assert {entry["directory"] for entry in models} == {"diffusion_models", "controlnet", "checkpoints"}
    for node in workflow["nodes"]:
        for entry in node["properties"].get("models", []):
            assert entry["name"] in node["widgets_values"]
            assert entry["url"].startswith(("https://huggingface.co/xanderhuang/", "https://huggingface.co/Comfy-Org/"))
            assert entry["url"].rpartition(".")[2] == entry["name"].rpartition(".")[2]


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda w: w["links"].pop(), "links that are not there"),
        (lambda w: w["links"][0].__setitem__(5, "MASK"), "as MASK"),
        (lambda w: w["nodes"][1].__setitem__("type", "HumanNormMissing"), "unknown HumanNormMissing"),
        (lambda w: w["nodes"][2]["widgets_values"].append(1), "widget values for"),
        (lambda w: w["nodes"][4]["inputs"][0].__setitem__("link", None), "not in both ends"),
        (lambda w: next(n for n in w["nodes"] if n["type"] == "HumanNormBody")["widgets_values"].__setitem__(6, "dab"),
         "none of its options"),
    ],
)  # fmt: skip
def test_the_validator_sees_what_is_wrong(spoil, fault):
    workflow = json.loads((ROOT / "example_workflows" / "text_to_human.json").read_text("utf-8"))
    spoil(workflow)
    assert any(fault in said for said in faults(workflow)), faults(workflow)
