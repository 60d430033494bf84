"""Tangents as glTF wants them, and normals in tangent space.

glTF 2.0 section 3.7.2.1: TANGENT is (x, y, z, w), the bitangent is cross(normal, tangent) * w. The tangent points along
+u, the bitangent up in the picture (against v, which grows downwards). MikkTSpace (Mikkelsen 2008): a vertex gets the
mean of its faces' tangents in the plane of its normal, weighted by the angle of the corner.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["from_tangent_space", "slopes_of", "to_tangent_space", "vertex_tangents"]


def vertex_tangents(
    vertices: Float[Tensor, "V 3"],
    faces: Int64[Tensor, "F 3"],
    normals: Float[Tensor, "V 3"],
    uvs: Float[Tensor, "V 2"],
) -> Float[Tensor, "V 4"]:
    """Unit tangent and handedness (+1 or -1) of each vertex; vertices are split where the texture has a seam."""
    points, texels = vertices.double()[faces], uvs.double()[faces]
    normals = normals.double()
    e1, e2 = points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]
    (du1, dv1), (du2, dv2) = (texels[:, 1] - texels[:, 0]).unbind(1), (texels[:, 2] - texels[:, 0]).unbind(1)
    determinant = du1 * dv2 - du2 * dv1
    sign = torch.sign(determinant)[:, None]
    along_u = sign * (dv2[:, None] * e1 - dv1[:, None] * e2)
    upright = -sign * (du1[:, None] * e2 - du2[:, None] * e1)  # against v
    sums = torch.zeros_like(normals)
    hands = torch.zeros_like(normals[:, 0])
    areas = torch.linalg.cross(e1, e2).norm(dim=1)
    for corner in range(3):
        index = faces[:, corner]
        normal = normals[index]
        flat = F.normalize(_in_plane(along_u, normal), dim=1, eps=1e-30)
        after, before = (
            F.normalize(_in_plane(points[:, (corner + k) % 3] - points[:, corner], normal), dim=1, eps=1e-30)
            for k in (1, 2)
        )
        angle = torch.arccos((after * before).sum(1).clamp(-1, 1))
        sums.index_add_(0, index, flat * angle[:, None])
        hand = torch.sign((torch.linalg.cross(normal, flat) * upright).sum(1))
        hands.index_add_(0, index, hand * areas)
    tangents = _in_plane(sums, normals)
    lost = tangents.norm(dim=1) < 1e-12
    if lost.any():  # no texture direction, or opposite ones that cancel: any direction across the normal
        axis = F.one_hot(normals[lost].abs().argmin(1), 3).to(normals)
        tangents[lost] = _in_plane(axis, normals[lost])
    hand = torch.where(hands < 0, -1.0, 1.0)[:, None]
    return torch.cat([F.normalize(tangents, dim=1), hand], dim=1).to(vertices.dtype)


def _in_plane(vectors: Tensor, normals: Tensor) -> Tensor:
    return vectors - (vectors * normals).sum(1, keepdim=True) * normals


def to_tangent_space(
    directions: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"], tangents: Float[Tensor, "N 4"]
) -> Float[Tensor, "N 3"]:
    """Unit directions in the frame (tangent, bitangent, normal) of interpolated normals and tangents."""
    t, b, n = _frame(normals, tangents)
    # Interpolated frames are not quite orthogonal: the dual basis makes this the exact inverse of `from_tangent_space`.
    x, y, z = torch.linalg.cross(b, n), torch.linalg.cross(n, t), torch.linalg.cross(t, b)
    hand = torch.sign((n * z).sum(1, keepdim=True))  # a left-handed frame has a negative determinant
    return F.normalize(hand * torch.stack([(directions * axis).sum(1) for axis in (x, y, z)], dim=1), dim=1)


def from_tangent_space(
    directions: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"], tangents: Float[Tensor, "N 4"]
) -> Float[Tensor, "N 3"]:
    """What a viewer does with a normal map: x t + y b + z n, normalised."""
    frame = torch.stack(_frame(normals, tangents), dim=1)
    return F.normalize((directions[:, :, None] * frame).sum(1), dim=1)


def slopes_of(
    bent: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"], tangents: Float[Tensor, "N 4"]
) -> Float[Tensor, "N 3"]:
    """What a tangent-space map's unit normals add to the surface's own: `mesh.leaning` gives them back."""
    direction, unit = from_tangent_space(bent, normals, tangents), F.normalize(normals, dim=1)
    upright = (direction * unit).sum(1, keepdim=True).clamp_min(1e-2)  # steeper than 89 degrees counts as 89
    return direction / upright - unit


def _frame(normals: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n, t = F.normalize(normals, dim=1), F.normalize(tangents[:, :3], dim=1)
    return t, F.normalize(torch.linalg.cross(n, t) * torch.sign(tangents[:, 3:]), dim=1), n
