"""What a rasteriser hands on: for every pixel the visible triangle and the place on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int32
from torch import Tensor

__all__ = ["Fragments"]


@dataclass(frozen=True, eq=False)
class Fragments:
    """The visible surface point of every pixel of a batch of views; row 0 is the top, pixel centres lie at
    half-integers."""

    triangle: Int32[Tensor, "B H W"]
    """Index into ``faces``; -1 on the background."""
    barycentric: Float[Tensor, "B H W 2"]
    """Perspective-correct weights of the triangle's vertices 0 and 1 (vertex 2 has the rest), inside the triangle; 0 on
    the background. Differentiable with respect to the clip positions."""
    depth: Float[Tensor, "B H W"]
    """z/w in [-1, 1], smaller is nearer; 1 on the background. Carries no gradient: interpolate clip positions for
    that."""
    engine: str = "torch"
    """Name of the engine that made these fragments; `interpolate` and `antialias` go to the same one."""
    scratch: object = field(default=None, repr=False)
    """What that engine keeps for its own later steps; nobody else reads it."""

    @property
    def covered(self) -> Bool[Tensor, "B H W"]:
        """True where a triangle is visible."""
        return self.triangle >= 0

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.triangle.shape[1], self.triangle.shape[2]
