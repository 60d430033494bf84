"""What saved workflows hang on does not change unnoticed; needs no ComfyUI."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from schema_sources import NODES, schema_digests
from workflow_files import known_nodes

ROOT = NODES.parent
FROZEN = json.loads((Path(__file__).parent / "inventory.json").read_text("utf-8"))


def test_schemas_are_those_that_were_frozen():
    changed = {name for name, digest in schema_digests().items() if FROZEN["sources"].get(name) != digest}
    assert not changed, (
        f"nodes/{sorted(changed)}: a node's schema was changed; tools/freeze_nodes.py (with a ComfyUI) freezes it anew"
        " and refuses what would break saved workflows"
    )
    assert set(FROZEN["sources"]) == set(schema_digests())


def test_every_node_that_is_listed_is_frozen():
    listed = ast.parse((NODES / "extension.py").read_text("utf-8"))
    (nodes,) = (node.value for node in ast.walk(listed) if isinstance(node, ast.AnnAssign))
    assert {element.attr for element in nodes.elts} == set(FROZEN["nodes"])


def test_a_renamed_input_would_be_refused():
    sys.path.insert(0, str(ROOT / "tools"))
    from freeze_nodes import broken_promises

    old = FROZEN["nodes"]
    assert broken_promises(old, old) == []
    new = json.loads(json.dumps(old))
    new["HumanNormBody"]["inputs"][0]["id"] = "gender"
    new["HumanNormPrompts"]["inputs"].append({"id": "more", "group": "optional", "type": "INT"})
    new["HumanNormPickPrompt"]["inputs"][0]["type"] += ",STRING"  # takes more than before
    part = next(entry for entry in new["HumanNormPickPrompt"]["inputs"] if entry["id"] == "part")
    part["options"].append("feet")
    del new["HumanNormGuidance"]
    assert sorted(broken_promises(old, new)) == ["HumanNormBody: inputs changed", "HumanNormGuidance is gone"]


@pytest.mark.parametrize("name", sorted(FROZEN["nodes"]))
def test_help_page_names_every_input_and_output(name):
    page = (ROOT / "web" / "docs" / f"{name}.md").read_text("utf-8")
    for entry in FROZEN["nodes"][name]["inputs"]:
        assert f"| `{entry['id']}` |" in page, entry["id"]
    for output in FROZEN["nodes"][name]["outputs"]:
        assert f"| {output['name']} | {output['type']} |" in page, output["name"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_translations_are_whole(language):
    defined = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))
    assert set(defined) == set(FROZEN["nodes"])
    for name, texts in defined.items():
        assert texts["display_name"] and texts["description"], name
        assert list(texts["inputs"]) == [entry["id"] for entry in FROZEN["nodes"][name]["inputs"]], name
        assert len(texts["outputs"]) == len(FROZEN["nodes"][name]["outputs"]), name
        for entry in (*texts["inputs"].values(), *texts["outputs"].values()):
            assert entry["name"] and entry["tooltip"], (name, entry)
            if language == "zh":
                assert not entry["tooltip"].isascii(), (name, entry)


def test_nodes_alone_import_the_host():
    hosts = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "latent_preview", "server"}
    for path in (ROOT / "humannorm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.split(".")[0] for name in names} & hosts, path


def test_entry_has_nothing_but_the_entry_point_and_the_web_folder():
    tree = ast.parse((ROOT / "__init__.py").read_text("utf-8"))
    assigned = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}
    assert assigned == {"WEB_DIRECTORY", "__all__"}
    assert {type(node) for node in tree.body} == {ast.Expr, ast.ImportFrom, ast.Assign}
    assert "HumanNormBody" in known_nodes()
