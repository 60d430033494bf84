"""Write web/docs/*.md and locales/en/nodeDefs.json from the nodes' own descriptions and tooltips.

Run with COMFYUI_PATH set and an interpreter that can import ComfyUI. locales/zh is kept by hand; a test says what of it
is missing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from freeze_nodes import ROOT, node_infos

PAGES = ROOT / "tools" / "node_pages.json"  # what a page says beside the tables, by node id


def main() -> int:
    more = json.loads(PAGES.read_text("utf-8"))
    english: dict[str, Any] = {}
    for name, info in node_infos().items():
        english[name] = texts(info)
        page = ROOT / "web" / "docs" / f"{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(help_page(info, more[name]), encoding="utf-8")
    target = ROOT / "locales" / "en" / "nodeDefs.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(english, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(english)} nodes")
    return 0


def inputs_of(info: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def texts(info: dict[str, Any]) -> dict[str, Any]:
    """What a translation has to translate."""
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {
            name: {"name": name, "tooltip": options["tooltip"]} for name, (_, options) in inputs_of(info).items()
        },
        "outputs": {
            str(at): {"name": name, "tooltip": tooltip}
            for at, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True))
        },
    }


def help_page(info: dict[str, Any], more: list[str]) -> str:
    """A page of the host's help: what the node does, its sockets and widgets, and how it is used."""
    lines = [f"# {info['display_name']}", "", info["description"], "", "## Inputs", ""]
    given = inputs_of(info)
    if given:
        lines += ["| name | type | default | |", "|---|---|---|---|"]
        for name, (kind, options) in given.items():
            default = (
                "" if options.get("default") is None else f"`{options['default']}`" if options["default"] != "" else ""
            )
            optional = "" if name in info["input"].get("required", {}) else " (optional)"
            lines.append(f"| `{name}` | {kind}{optional} | {default} | {options['tooltip']} |")
    else:
        lines.append("None.")
    lines += ["", "## Outputs", "", "| name | type | |", "|---|---|---|"]
    for kind, name, tooltip in zip(info["output"], info["output_name"], info["output_tooltips"], strict=True):
        lines.append(f"| {name} | {kind} | {tooltip} |")
    lines += ["", "## Good to know", "", *(f"- {sentence}" for sentence in more), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
