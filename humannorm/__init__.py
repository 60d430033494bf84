"""From a sentence to a dressed, textured, rigged 3D human (HumanNorm, CVPR 2024, arXiv 2310.01406).

`humannorm.generate("an old man in a long coat", out="man")` does what the command of that name does. Import the room
you need for more, for example ``from humannorm.mesh import Mesh``; importing the package itself loads nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humannorm.pipeline import generate

    __version__: str

__all__ = ["__version__", "generate"]


def __getattr__(name: str) -> Any:
    if name == "generate":
        from humannorm.pipeline import generate

        return generate
    if name == "__version__":
        return _version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    """What pyproject.toml states: that beside these sources, else the one that the installed package was built from."""
    import importlib.metadata
    import re
    from pathlib import Path

    project = Path(__file__).parents[1] / "pyproject.toml"
    text = project.read_text("utf-8") if project.is_file() else ""
    stated = re.search(r'^name = "humannorm"\nversion = "([^"]+)"$', text, re.MULTILINE)
    return stated[1] if stated else importlib.metadata.version("humannorm")
