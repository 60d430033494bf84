"""Colours of a finished painting that an edit keeps."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from humannorm.checks import InputError
from humannorm.distance.signed_distance import SignedDistance
from humannorm.labels import LABELS
from humannorm.rendering.textures import sample_texture
from humannorm.texture.fields import UvColorField
from humannorm.texture.state import TextureState

__all__ = ["KEPT_WITHIN", "Kept", "kept_colors"]

KEPT_WITHIN = 0.01  # world units from the painted surface

Kept = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Of points [N, 3] of the working box with labels [N]: colours [N, 3], and which of them stay [N]."""


def kept_colors(painting: TextureState, changed: Collection[int]) -> Kept:
    """What a painting on a texture with labels shows at places of a surface that lies on it for the most part.

    changed: labels that are not kept. A place keeps its colour where it is of the label that it was of.
    """
    mesh, field, labels = painting.mesh, painting.field, painting.labels
    if labels is None or mesh.uvs is None or not isinstance(field, UvColorField):
        raise InputError("painting: expected a texture with labels, as sampling all views leaves it, got another")
    texture, uvs = field.texture().detach(), mesh.uvs
    size = torch.tensor(labels.shape).flip(0) - 1
    stays = torch.tensor([number not in changed for number in range(len(LABELS))])
    surface = SignedDistance(mesh.vertices, mesh.faces, inside_out="flip")

    def kept(points: Float[Tensor, "N 3"], now: Int[Tensor, " N"]) -> tuple[Float[Tensor, "N 3"], Bool[Tensor, " N"]]:
        closest = surface.closest(points)
        uv = (uvs[mesh.faces[closest.face]] * closest.barycentric[..., None].to(uvs)).sum(1)
        column, row = (uv * labels.new_tensor(labels.shape, dtype=uv.dtype).flip(0)).long().clamp_min(0).unbind(1)
        before = labels[row.clamp_max(int(size[1])), column.clamp_max(int(size[0]))].long()
        same = (before == now.long()) & stays.to(before.device)[before]
        same &= (closest.point - points).norm(dim=1) < KEPT_WITHIN
        return sample_texture(texture, uv[None, None])[0, 0], same

    return kept
