"""Digests of the sources that define the nodes' schemas, so that a change is noticed where no host is installed."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

NODES = Path(__file__).parents[2] / "nodes"
SCHEMA_CALLS = ("Input", "Output", "schema", "advanced")
SCHEMA_ENDINGS = ("_input", "_inputs", "_outputs", "_schema")  # names of functions that share parts of schemas


def schema_digests() -> dict[str, str]:
    """For every module of `nodes/` that has part in a schema: digest of the functions that make them."""
    digests = {}
    for path in sorted(NODES.glob("*.py")):
        source = path.read_text("utf-8")
        functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
        makers = [ast.get_source_segment(source, function) or "" for function in functions if _makes_schema(function)]
        if makers:
            text = "".join("".join(maker.split()) for maker in makers)  # spaces aside; the same on every Python
            digests[path.stem] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return digests


def _makes_schema(function: ast.FunctionDef) -> bool:
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    names = {getattr(call, "attr", getattr(call, "id", "")) for call in calls}
    shared = any(isinstance(call, ast.Name) and call.id.endswith(SCHEMA_ENDINGS) for call in calls)
    return shared or bool(names & set(SCHEMA_CALLS))
