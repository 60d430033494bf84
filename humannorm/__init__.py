"""From a sentence to a dressed, textured, rigged 3D human (HumanNorm, CVPR 2024, arXiv 2310.01406).

`humannorm.generate("an old man in a long coat", out="man")` does what the command of that name does. Import the room
you need for more, for example ``from humannorm.mesh import Mesh``; importing the package itself loads nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humannorm.pipeline import generate

__all__ = ["__version__", "generate"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name != "generate":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from humannorm.pipeline import generate

    return generate
