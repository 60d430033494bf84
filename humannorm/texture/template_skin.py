"""The painted skin of a template body at any points on or near it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError
from humannorm.distance.signed_distance import SignedDistance
from humannorm.mesh import Mesh
from humannorm.rendering.textures import sample_texture

__all__ = ["TemplateSkin"]

SKIN_REACH = 0.025  # world units from a template at which a surface no longer wears its skin
SKIN_FADE = 0.015  # ... over which it loses it


@dataclass(frozen=True, eq=False)
class TemplateSkin:
    """Colours and how far they are worn; a painter's `held`."""

    template: Mesh  # with uvs and its skin as the texture
    opacity: Float[Tensor, "S S"]  # where the skin is worn, in the same layout, 0..1

    def __post_init__(self) -> None:
        if self.template.uvs is None or self.template.texture is None:
            raise InputError("template: expected texture coordinates and a texture, got a mesh without")

    @cached_property
    def distance(self) -> SignedDistance:
        return SignedDistance(self.template.vertices, self.template.faces, inside_out="flip")

    @cached_property
    def picture(self) -> Float[Tensor, "S S 4"]:
        assert self.template.texture is not None
        return torch.cat([self.template.texture, self.opacity[..., None].to(self.template.texture)], -1)

    def __call__(self, points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N 3"], Float[Tensor, " N"]]:
        """Colour and opacity of the template at its places closest to the points, fading with the distance to them."""
        assert self.template.uvs is not None
        closest = self.distance.closest(points)
        corners = self.template.uvs[self.template.faces[closest.face.long()]]
        uv = (corners * closest.barycentric.to(corners)[..., None]).sum(1)
        found = sample_texture(self.picture.to(points), uv[None, None])[0, 0]
        away = (closest.point - points).norm(dim=1)
        return found[:, :3], found[:, 3] * ((SKIN_REACH - away) / SKIN_FADE).clamp(0, 1)
