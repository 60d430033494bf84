"""From a sentence to a dressed, textured, rigged 3D human (HumanNorm, CVPR 2024, arXiv 2310.01406).

Import the room you need, for example ``from humannorm.mesh import Mesh``; importing the package itself loads nothing.
"""

from __future__ import annotations

__version__ = "0.1.0"
