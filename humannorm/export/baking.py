"""Baking: what the full-resolution surface knows, written into the textures of a lighter, unwrapped one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from humannorm.checks import InputError
from humannorm.distance.signed_distance import SignedDistance
from humannorm.export.tangents import from_tangent_space, to_tangent_space, vertex_tangents
from humannorm.mesh import Mesh, leaning, welded_vertex_normals
from humannorm.rendering import sample_texture

__all__ = [
    "ColorField",
    "SurfacePoints",
    "bake_normals",
    "colors_at",
    "locate",
    "map_at",
]

ColorField: TypeAlias = Callable[[Tensor], Tensor]
"""Colours, sRGB 0..1 [N, 3], of points of the full-resolution surface [N, 3] in the mesh's own units."""

CHUNK = 2**18
"""Points of a field that are evaluated at once."""


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points on the full-resolution surface."""

    point: Float[Tensor, "N 3"]
    face: Int64[Tensor, " N"]
    barycentric: Float[Tensor, "N 3"]


def locate(surface: SignedDistance, points: Float[Tensor, "N 3"]) -> SurfacePoints:
    """The points of the full-resolution surface that are closest."""
    return SurfacePoints(*surface.closest(points))


def colors_at(source: Mesh, field: ColorField | None, places: SurfacePoints) -> Float[Tensor, "N 3"]:
    """Colour of the full-resolution surface: of the field, else its texture, else its vertex colours."""
    if field is not None:
        return torch.cat([_asked(field, points) for points in places.point.split(CHUNK)])
    corners = source.faces[places.face]
    if source.texture is not None and source.uvs is not None:
        uvs = _interpolate(source.uvs, corners, places.barycentric)
        return sample_texture(source.texture, uvs[None, None])[0, 0]
    if source.colors is not None:
        return _interpolate(source.colors, corners, places.barycentric)
    raise InputError("mesh: expected a field, a texture with uvs or vertex colours to bake, got none of them")


@torch.no_grad()
def _asked(field: ColorField, points: Tensor) -> Tensor:
    colors = field(points)
    if not isinstance(colors, Tensor) or colors.shape != points.shape:
        got = list(colors.shape) if isinstance(colors, Tensor) else type(colors).__name__
        raise InputError(f"field: expected colours {list(points.shape)} for points {list(points.shape)}, got {got}")
    if not bool(torch.isfinite(colors).all()):
        raise InputError("field: expected finite colours, got NaN or infinity")
    return colors.detach().to(points.dtype).clamp(0, 1)


def map_at(source: Mesh, picture: Float[Tensor, "H W C"], places: SurfacePoints) -> Float[Tensor, "N C"]:
    """Values of a picture in the full-resolution surface's own texture coordinates."""
    assert source.uvs is not None
    uvs = _interpolate(source.uvs, source.faces[places.face], places.barycentric)
    return sample_texture(picture, uvs[None, None])[0, 0]


def bake_normals(
    source: Mesh,
    places: SurfacePoints,
    normals: Float[Tensor, "N 3"],
    tangents: Float[Tensor, "N 4"],
    normal_map: Float[Tensor, "H W 3"] | None = None,
    scale: float = 1.0,
    lean: Float[Tensor, "N 3"] | None = None,
) -> Float[Tensor, "N 3"]:
    """Tangent-space normal map, (n + 1) / 2: x along +u in red, up in the picture in green, outwards in blue.

    normals, tangents: interpolated on the unwrapped surface. normal_map, scale: detail that the full surface has in a
    map of its own, in its own tangent space. lean: slopes that folds add, see `mesh.leaning`. Where the closest point
    lies on a side that faces away (a thin sheet), the surface's own normal stands.
    """
    detailed = welded_vertex_normals(source.vertices, source.faces) if source.normals is None else source.normals
    corners = source.faces[places.face]
    direction = F.normalize(_interpolate(detailed, corners, places.barycentric), dim=1)
    if normal_map is not None:
        assert source.uvs is not None
        along = vertex_tangents(source.vertices, source.faces, detailed, source.uvs)
        bent = (2 * map_at(source, normal_map, places) - 1) * direction.new_tensor([scale, scale, 1.0])
        direction = from_tangent_space(bent, direction, _interpolate(along, corners, places.barycentric))
    own = F.normalize(normals, dim=1)
    if lean is not None:
        direction = leaning(direction, lean)
    faces_away = (direction * own).sum(1, keepdim=True) <= 0
    return to_tangent_space(torch.where(faces_away, own, direction), normals, tangents) / 2 + 0.5


def _interpolate(values: Tensor, corners: Tensor, barycentric: Tensor) -> Tensor:
    result = values[corners[:, 0]] * barycentric[:, :1]
    for k in (1, 2):
        result = result + values[corners[:, k]] * barycentric[:, k : k + 1]
    return result
