"""What mkdocs is told beside mkdocs.yml: the page of all nodes, made of their help pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: Any) -> Files:
    """nodes.md: the help pages that ComfyUI shows beside each node, one after the other."""
    pages = sorted((ROOT / "web" / "docs").glob("HumanNorm*.md"))
    text = "# Nodes\n\nThe help page of each node, as ComfyUI shows it. [In ComfyUI](comfyui.md) has the workflows.\n"
    for page in pages:
        body = re.sub(r"^(#+) ", r"#\1 ", page.read_text("utf-8"), flags=re.MULTILINE)
        body = re.sub(r"(?<=[A-Z0-9]),(?=[A-Z])", ", ", body)  # lists of types may break in their narrow column
        text += f"\n{body.strip()}\n"
    files.append(File.generated(config, "nodes.md", content=text))
    return files
