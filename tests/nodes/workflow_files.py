"""Reading workflow files of the canvas: their links, their widgets, and the same graph in API format.

Widgets stand in `widgets_values` by position, in the order of the node's inputs; a seed takes one more place for what
happens to it after a run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "LOAD_3D"}
NOTES = {"MarkdownNote", "Note"}  # nodes of the canvas alone
MUTED, BYPASSED = 2, 4
# What only a browser can make (Load 3D takes pictures of its viewer): output number -> what API graphs have for it.
BROWSER_ONLY: dict[str, dict[int, Any]] = {"Load3D": {2: "3d/person.glb"}}

Node = dict[str, Any]


def known_nodes() -> dict[str, Node]:
    """Inputs and outputs of our nodes, as frozen, and of the host's nodes that the workflows use."""
    ours = json.loads((HERE / "inventory.json").read_text("utf-8"))["nodes"]
    hosts = json.loads((HERE / "core_nodes.json").read_text("utf-8"))
    return {**hosts, **ours}


def widgets(known: Node) -> list[tuple[str, Node | None]]:
    """Name of each place in `widgets_values` and its input (None: the place after a seed)."""
    places: list[tuple[str, Node | None]] = []
    for entry in known["inputs"]:
        if entry["type"] in WIDGET_TYPES:
            places.append((entry["id"], entry))
            if entry.get("control_after_generate"):
                places.append((f"{entry['id']} after generate", None))
    return places


def to_api(workflow: dict[str, Any], known: dict[str, Node]) -> dict[str, Any]:
    """The graph in API format, as the canvas would send it."""
    by_id = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}

    def source(link_id: int | None) -> Any:
        if link_id is None:
            return None
        _, origin, slot, *_ = links[link_id]
        node = by_id[origin]
        if node["mode"] == BYPASSED:  # passes the first input of the output's type on
            kind = node["outputs"][slot]["type"]
            passed = next(entry for entry in node["inputs"] if entry["type"] == kind)
            return source(passed["link"])
        if node["type"] in BROWSER_ONLY:
            return BROWSER_ONLY[node["type"]][slot]
        return [str(origin), slot]

    graph = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES or node["type"] in BROWSER_ONLY or node["mode"] in (MUTED, BYPASSED):
            continue
        places = widgets(known[node["type"]])
        inputs = {
            name: value
            for (name, entry), value in zip(places, node["widgets_values"], strict=True)
            if entry is not None
        }
        for entry in node["inputs"]:
            value = source(entry["link"])
            if value is not None:
                inputs[entry["name"]] = value
        graph[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": inputs,
            "_meta": {"title": node.get("title", known[node["type"]]["display_name"])},
        }
    return graph
