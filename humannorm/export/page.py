"""A web page of one file that shows a GLB in any browser, with no network and no server."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from humannorm.checks import InputError
from humannorm.files import write_files

__all__ = ["write_page"]

TEMPLATE = Path(__file__).with_name("viewer.html")


def write_page(path: Path, glb: Path, title: str, details: str = "") -> None:
    """Put a GLB of ours, title and details into the viewer: one mesh without nodes' transforms, textures inside.

    The viewer (`viewer.html`, WebGL 2) is our own and needs nothing else.
    """
    content = glb.read_bytes()
    if content[:4] != b"glTF":
        raise InputError(f"{glb}: expected a GLB file, got one of another kind")
    page = TEMPLATE.read_text(encoding="utf-8")
    parts = {
        "TITLE": html.escape(title),
        "DETAILS": html.escape(details),
        "GLB": base64.b64encode(content).decode("ascii"),
    }
    for name, value in parts.items():
        page = page.replace(f"@{name}@", value)
    write_files({path: page.encode("utf-8")})
