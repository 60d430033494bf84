"""What is exported: an unwrapped surface with its textures."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from humannorm.mesh import Mesh

__all__ = ["BakedMesh"]


@dataclass(frozen=True, eq=False)
class BakedMesh:
    """A surface that any 3D program shows as it is meant. Textures have row 0 at the top, v = 0 is the top."""

    mesh: Mesh
    """With normals, uvs (seams split) and the base colour as its texture; or with vertex colours only."""
    tangents: Float[Tensor, "V 4"] | None = None
    """Unit tangent along +u and handedness, as glTF wants them."""
    normal_map: Float[Tensor, "H W 3"] | None = None
    """Tangent space, (n + 1) / 2, +Y up."""
    occlusion: Float[Tensor, "H W 1"] | None = None
    """Ambient occlusion, 1 open and 0 hidden, linear."""
