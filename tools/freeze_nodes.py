"""Write tests/nodes/inventory.json: ids, inputs, outputs and defaults of all nodes, as the host named by COMFYUI_PATH
sees them. Run with an interpreter that can import ComfyUI.

What is frozen may be added to at the end, but not changed: users' workflows hang on it. `--break` overrides that.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "nodes"))
FROZEN = ROOT / "tests" / "nodes" / "inventory.json"
HOST_LISTS = {"sampler_name", "scheduler", "file"}  # whose options are the host's own, or its files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--break", dest="breaking", action="store_true", help="change what was frozen")
    args = parser.parse_args()
    from schema_sources import schema_digests

    nodes = inventory()
    old = json.loads(FROZEN.read_text("utf-8"))["nodes"] if FROZEN.exists() else {}
    broken = [] if args.breaking else broken_promises(old, nodes)
    if broken:
        print("refused, these would break saved workflows:", *broken, sep="\n  ")
        return 1
    text = json.dumps({"nodes": nodes, "sources": schema_digests()}, indent=1, sort_keys=True)
    FROZEN.write_text(text + "\n", encoding="utf-8")
    print(f"{len(nodes)} nodes in {FROZEN.relative_to(ROOT)}")
    return 0


def inventory() -> dict[str, Any]:
    """Every node of the pack by id."""
    return {name: describe(info) for name, info in node_infos().items()}


def node_infos() -> dict[str, Any]:
    """What the host would tell a canvas of every node of the pack."""
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    from comfy.cli_args import args

    args.cpu = True
    pack = types.ModuleType("humannorm_pack")
    pack.__path__ = [str(ROOT)]
    sys.modules["humannorm_pack"] = pack
    extension = importlib.import_module("humannorm_pack.nodes.extension")
    return {kind.define_schema().node_id: kind.GET_NODE_INFO_V1() for kind in extension.NODES}


def describe(info: dict[str, Any]) -> dict[str, Any]:
    """The part of a node's description that is frozen."""
    inputs = []
    for group in ("required", "optional"):
        for name, (kind, options) in info["input"].get(group, {}).items():
            entry = {"id": name, "group": group, "type": kind}
            entry |= {key: options[key] for key in ("default", "min", "max", "options", "multiline") if key in options}
            entry |= {"control_after_generate": True} if options.get("control_after_generate") else {}
            if name in HOST_LISTS and "options" in entry:
                entry["options"] = "host"
            inputs.append(entry)
    outputs = [{"type": kind, "name": label} for kind, label in zip(info["output"], info["output_name"], strict=True)]
    return {
        "display_name": info["display_name"],
        "category": info["category"],
        "output_node": info["output_node"],
        "inputs": inputs,
        "outputs": outputs,
    }


def broken_promises(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What of the old inventory the new one does not keep."""
    broken = [f"{name} is gone" for name in old if name not in new]
    for name in old.keys() & new.keys():
        for part in ("inputs", "outputs"):
            kept = new[name][part][: len(old[name][part])]
            if len(kept) < len(old[name][part]) or not all(map(keeps, old[name][part], kept)):
                broken.append(f"{name}: {part} changed")
    return broken


def keeps(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Does every saved workflow that fits the old socket or widget fit the new one? It may take more types, and a list
    may have more at its end; a text that became a list of files may open on another of them."""
    wider = set(old["type"].split(",")) <= set(new["type"].split(","))
    picked = new.get("options") == "host" and "STRING" in new["type"].split(",")
    own = {"type", "multiline", "options"} | ({"default"} if picked else set())
    return (
        wider
        and all(old.get(key) == new.get(key) for key in (old.keys() | new.keys()) - own)
        and (picked or longer(old.get("options"), new.get("options")))
    )


def longer(old: Any, new: Any) -> bool:
    """Whether a list of choices begins with the old one; what is no list stays as it is."""
    if isinstance(old, list) and isinstance(new, list):
        return bool(new[: len(old)] == old)
    return bool(old == new)


if __name__ == "__main__":
    raise SystemExit(main())
