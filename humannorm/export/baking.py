"""Baking: what the full-resolution surface knows, written into the textures of a lighter, unwrapped one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from humannorm.checks import InputError
from humannorm.distance.signed_distance import SignedDistance
from humannorm.export.tangents import to_tangent_space
from humannorm.mesh import Mesh, welded_vertex_normals
from humannorm.rendering import rasterize, sample_texture

__all__ = [
    "ColorField",
    "SurfacePoints",
    "Texels",
    "bake_normals",
    "colors_at",
    "fill_outside",
    "find_texels",
    "locate",
]

ColorField: TypeAlias = Callable[[Tensor], Tensor]
"""Colours, sRGB 0..1 [N, 3], of points of the full-resolution surface [N, 3] in the mesh's own units."""

CHUNK = 2**18
"""Points asked of a field at once."""


@dataclass(frozen=True, eq=False)
class Texels:
    """The N texels whose centre a face covers, and where on the unwrapped surface they lie."""

    covered: Bool[Tensor, "H W"]
    face: Int64[Tensor, " N"]
    barycentric: Float[Tensor, "N 3"]

    def interpolate(self, mesh: Mesh, values: Float[Tensor, "V C"]) -> Float[Tensor, "N C"]:
        """Vertex values of the unwrapped mesh at the texels."""
        return _interpolate(values, mesh.faces[self.face], self.barycentric)

    def image(self, values: Float[Tensor, "N C"]) -> Float[Tensor, "H W C"]:
        """Values in their places; texels outside the charts take the nearest covered one's."""
        picture = values.new_zeros(*self.covered.shape, values.shape[1])
        picture[self.covered] = values
        return fill_outside(picture, self.covered)


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points on the full-resolution surface."""

    point: Float[Tensor, "N 3"]
    face: Int64[Tensor, " N"]
    barycentric: Float[Tensor, "N 3"]


def find_texels(mesh: Mesh, size: int) -> Texels:
    """Rasterise the layout of an unwrapped mesh at `size` x `size` texels."""
    assert mesh.uvs is not None
    u, v = mesh.uvs.unbind(1)
    clip = torch.stack([2 * u - 1, 1 - 2 * v, torch.zeros_like(u), torch.ones_like(u)], dim=1)
    seen = rasterize(clip[None], mesh.faces, (size, size))
    covered = seen.covered[0]
    weights = seen.barycentric[0][covered]
    return Texels(
        covered,
        seen.triangle[0][covered].long(),
        torch.cat([weights, 1 - weights.sum(1, keepdim=True)], dim=1),
    )


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


def bake_normals(
    source: Mesh, places: SurfacePoints, normals: Float[Tensor, "N 3"], tangents: Float[Tensor, "N 4"]
) -> Float[Tensor, "N 3"]:
    """Tangent-space normal map, (n + 1) / 2: x along +u in red, up in the picture in green, outwards in blue.

    normals, tangents: interpolated on the unwrapped surface. Where the closest point lies on a side that faces away (a
    thin sheet), the surface's own normal stands.
    """
    detailed = welded_vertex_normals(source.vertices, source.faces) if source.normals is None else source.normals
    direction = F.normalize(_interpolate(detailed, source.faces[places.face], places.barycentric), dim=1)
    own = F.normalize(normals, dim=1)
    faces_away = (direction * own).sum(1, keepdim=True) <= 0
    return to_tangent_space(torch.where(faces_away, own, direction), normals, tangents) / 2 + 0.5


def fill_outside(image: Float[Tensor, "H W C"], covered: Bool[Tensor, "H W"]) -> Float[Tensor, "H W C"]:
    """Texels outside the charts take the colour of the nearest one inside, so that no filter meets a foreign one."""
    from scipy.ndimage import distance_transform_edt

    if bool(covered.all()) or not bool(covered.any()):
        return image
    rows, columns = distance_transform_edt(~covered.cpu().numpy(), return_distances=False, return_indices=True)
    return image[torch.from_numpy(rows).long().to(image.device), torch.from_numpy(columns).long().to(image.device)]


def _interpolate(values: Tensor, corners: Tensor, barycentric: Tensor) -> Tensor:
    result = values[corners[:, 0]] * barycentric[:, :1]
    for k in (1, 2):
        result = result + values[corners[:, k]] * barycentric[:, k : k + 1]
    return result
