"""docs/conventions.md: every statement names its test, and every named test exists."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "conventions.md").read_text("utf-8")
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def statements() -> list[str]:
    """The bullets of the page, continuation lines included."""
    return [match.group(0) for match in re.finditer(r"^- .*(?:\n  .*)*", PAGE, re.MULTILINE)]


def test_every_statement_names_a_test():
    assert len(statements()) > 10
    assert [text for text in statements() if not TEST_NAME.search(text)] == []


@functools.cache
def defined_in(path: str) -> set[str]:
    """Names of the functions of a file."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_named_test_exists():
    for path, name in TEST_NAME.findall(PAGE):
        assert name in defined_in(path), f"{path} has no {name}"
