"""Reading workflow files of the canvas: their links, their widgets, and the same graph in API format.

Widgets stand in `widgets_values` by position, in the order of the node's inputs; a seed takes one more place for what
happens to it after a run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"  # a list whose choice brings widgets of its own, here those of the first choice
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "LOAD_3D", DYNAMIC}
NOTES = {"MarkdownNote", "Note"}  # nodes of the canvas alone
REROUTE = "Reroute"  # another of them: a corner of a wire
MUTED, BYPASSED = 2, 4
# What only a browser can make (Load 3D takes pictures of its viewer): output number -> what API graphs have for it.
BROWSER_ONLY: dict[str, dict[int, Any]] = {}

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
        if entry["type"].split(",")[0] in WIDGET_TYPES:
            places.append((entry["id"], entry))
            if entry.get("control_after_generate"):
                places.append((f"{entry['id']} after generate", None))
    return places


def flat(workflow: dict[str, Any]) -> tuple[dict[str, Node], dict[str, dict[str, Any]]]:
    """All nodes that do something, and all links, of a workflow with the graphs inside of its nodes unfolded.

    Ids are those of API graphs: `5`, and `5:2` for node 2 of the graph in node 5. A link's origin is a node of the
    first kind, behind graphs and corners; links: id -> origin and slot.
    """
    definitions = {entry["id"]: entry for entry in workflow.get("definitions", {}).get("subgraphs", [])}
    nodes: dict[str, Node] = {}
    origins: dict[str, tuple[str, int]] = {}  # of links, by their own id in their graph
    given: dict[str, dict[str, Any]] = {}

    def unfold(graph: dict[str, Any], before: str) -> None:
        for link in graph["links"]:
            link_id, origin, slot, target, place, _ = link if isinstance(link, list) else link.values()
            origins[f"{before}{link_id}"] = (f"{before}{origin}", slot)
            if target == -20:
                given.setdefault(before, {})[str(place)] = f"{before}{link_id}"
        for node in graph["nodes"]:
            name = f"{before}{node['id']}"
            if node["type"] in definitions:
                unfold(definitions[node["type"]], f"{name}:")
                nodes[name] = node
            else:
                nodes[name] = node

    unfold(workflow, "")

    def behind(name: str, link_id: int | None) -> tuple[str, int] | None:
        """What a link to a node comes from."""
        graph = name.rpartition(":")[0]
        return None if link_id is None else source(f"{graph}:{link_id}" if graph else str(link_id))

    def source(link: str) -> tuple[str, int] | None:
        """Node and slot that a link comes from at last."""
        origin, slot = origins[link]
        before = origin.rpartition(":")[0]
        if origin.endswith(":-10"):  # an input of the graph: what is linked to the node that stands for it
            entry = nodes[before]["inputs"][slot]
            return behind(before, entry["link"])
        node = nodes[origin]
        if node["type"] in definitions:
            return source(given[f"{origin}:"][str(slot)])
        passes = node["type"] == REROUTE or node["mode"] == BYPASSED
        if passes:  # the first input of the output's type, or its only one
            kind = node["outputs"][slot]["type"]
            entry = next(each for each in node["inputs"] if each["type"] in (kind, "*"))
            return behind(origin, entry["link"])
        return origin, slot

    resolved = {link: {"from": source(link)} for link in origins}
    return {name: node for name, node in nodes.items() if node["type"] not in definitions}, resolved


def to_api(workflow: dict[str, Any], known: dict[str, Node]) -> dict[str, Any]:
    """The graph in API format, as the canvas would send it."""
    nodes, links = flat(workflow)

    def value_of(name: str, link_id: int | None) -> Any:
        if link_id is None:
            return None
        before = name.rpartition(":")[0]
        found = links[f"{before}:{link_id}" if before else str(link_id)]["from"]
        if found is None:
            return None
        origin, slot = found
        if nodes[origin]["type"] in BROWSER_ONLY:
            return BROWSER_ONLY[nodes[origin]["type"]][slot]
        return [origin, slot]

    graph = {}
    for name, node in nodes.items():
        silent = NOTES | {REROUTE} | set(BROWSER_ONLY)
        if node["type"] in silent or node["mode"] in (MUTED, BYPASSED):
            continue
        places = widgets(known[node["type"]])
        inputs = {
            place: value
            for (place, entry), value in zip(places, node["widgets_values"], strict=True)
            if entry is not None
        }
        for entry in node["inputs"]:
            value = value_of(name, entry["link"])
            if value is not None:
                inputs[entry["name"]] = value
        graph[name] = {
            "class_type": node["type"],
            "inputs": inputs,
            "_meta": {"title": node.get("title", known[node["type"]]["display_name"])},
        }
    return graph
