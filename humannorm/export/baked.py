"""What is exported: an unwrapped surface with its textures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from humannorm.checks import InputError
from humannorm.mesh import Mesh

__all__ = ["BakedMesh", "Material"]


@dataclass(frozen=True, eq=False)
class Material:
    """How a surface answers light beside its base colour: glTF 2.0 section 3.9, metallic-roughness model. The maps lie
    in the mesh's own texture coordinates, row 0 at the top."""

    metallic: float = 0.0
    """Factor on the map's blue channel; the whole metalness without a map. 0..1."""
    roughness: float = 1.0
    """Factor on the map's green channel; the whole roughness without a map. 0..1."""
    metallic_roughness: Float[Tensor, "H W 3"] | None = None
    """Linear: green roughness, blue metalness; red is not read."""
    emissive: Float[Tensor, "H W 3"] | None = None
    """Light that the surface gives by itself, sRGB 0..1."""
    emissive_factor: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Linear factor on the map; the whole light without a map. 0..1."""
    emissive_strength: float = 1.0
    """Beyond 1 by KHR_materials_emissive_strength."""
    normal_scale: float = 1.0
    """How far the normal map bends normals sideways."""
    occlusion_strength: float = 1.0
    """How far the occlusion map darkens, 0..1."""
    double_sided: bool | None = None
    """None: as an open surface needs it."""
    unlit: bool = False
    """Colours as they are, without light (KHR_materials_unlit)."""

    def __post_init__(self) -> None:
        for name in ("metallic", "roughness", "occlusion_strength"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InputError(f"material {name}: expected 0 to 1, got {value}")

    @property
    def is_plain(self) -> bool:
        """Is it what a surface has that nobody gave a material?"""
        plain = Material()
        return all(getattr(self, f.name) == getattr(plain, f.name) for f in dataclasses.fields(self))


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
    material: Material = dataclasses.field(default_factory=Material)
    """The rest of its look."""
    labels: Int64[Tensor, " V"] | None = None
    """Numbers of `humannorm.labels`: what each vertex is of (a GLB keeps them as the attribute _LABEL)."""
