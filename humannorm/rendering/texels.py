"""The texels of a texture as places on the surface that wears it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from humannorm.mesh import Mesh
from humannorm.rendering.engines import rasterize

__all__ = ["Texels", "fill_outside", "find_texels", "nearest_texel"]


@dataclass(frozen=True, eq=False)
class Texels:
    """The N texels whose centre a face covers, and where on the unwrapped surface they lie."""

    covered: Bool[Tensor, "H W"]
    face: Int64[Tensor, " N"]
    barycentric: Float[Tensor, "N 3"]

    def interpolate(self, mesh: Mesh, values: Float[Tensor, "V C"]) -> Float[Tensor, "N C"]:
        """Vertex values of the unwrapped mesh at the texels."""
        corners = mesh.faces[self.face]
        return sum(values[corners[:, k]] * self.barycentric[:, k : k + 1] for k in range(3))  # type: ignore[return-value]

    def image(self, values: Float[Tensor, "N C"]) -> Float[Tensor, "H W C"]:
        """Values in their places; texels outside the charts take the nearest covered one's."""
        picture = values.new_zeros(*self.covered.shape, values.shape[1])
        picture[self.covered] = values
        return fill_outside(picture, self.covered)


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


def fill_outside(image: Float[Tensor, "H W C"], covered: Bool[Tensor, "H W"]) -> Float[Tensor, "H W C"]:
    """Texels outside the charts take the colour of the nearest one inside, so that no filter meets a foreign one."""
    if bool(covered.all()) or not bool(covered.any()):
        return image
    rows, columns = _nearest_covered(covered)
    return image[rows, columns]


def nearest_texel(texels: Texels) -> Int64[Tensor, "H W"]:
    """For every place of the texture the number, 0 .. N - 1, of the covered texel that is nearest."""
    number = texels.covered.new_zeros(texels.covered.shape, dtype=torch.int64)
    number[texels.covered] = torch.arange(len(texels.face), device=number.device)
    if bool(texels.covered.all()):
        return number
    rows, columns = _nearest_covered(texels.covered)
    return number[rows, columns]


def _nearest_covered(covered: Bool[Tensor, "H W"]) -> tuple[Int64[Tensor, "H W"], Int64[Tensor, "H W"]]:
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(~covered.cpu().numpy(), return_distances=False, return_indices=True)
    return torch.from_numpy(rows).long().to(covered.device), torch.from_numpy(columns).long().to(covered.device)
