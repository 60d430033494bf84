"""Multi-resolution hash grid encoding of points (Mueller et al. 2022, "Instant neural graphics primitives", section 3).

Sixteen grids of growing resolution hold two numbers at each vertex; a point's features are the trilinear interpolations
in all of them. Grids that fit their table are stored row by row, finer ones share 2^19 entries by a spatial hash.
`encode_reference` is the plain torch form; the Warp kernels of `warp_hash_grid` are eight to nine times faster (CPU).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from humannorm.checks import InputError, check_choice, check_range, check_tensor

__all__ = ["FEATURES", "Engine", "GridLayout", "HashGridEncoding", "encode_reference"]

FEATURES = 2  # per level, as published
_PRIMES = (1, 2654435761, 805459861)  # equation 4

Engine = Literal["warp", "torch"]


@dataclass(frozen=True)
class GridLayout:
    """Sizes of the levels. The defaults are the published geometry configuration (finest level 2048).

    The conventions are tiny-cuda-nn's: level l has base * growth^l - 1 cells to the unit and is shifted by half a cell
    against the coarser ones, so that their faces do not coincide.
    """

    levels: int = 16
    log2_table: int = 19  # entries of a hashed level
    base: int = 16  # resolution of the coarsest level
    growth: float = 1.38191  # of the resolution from level to level

    def __post_init__(self) -> None:
        check_range("levels", self.levels, 1, 32)
        check_range("log2_table", self.log2_table, 4, 24)
        check_range("base", self.base, 2, 4096)
        check_range("growth", self.growth, 1.0, 4.0)

    @cached_property
    def scales(self) -> tuple[float, ...]:
        """Cells per unit length of each level."""
        return tuple(self.base * self.growth**level - 1.0 for level in range(self.levels))

    @cached_property
    def sides(self) -> tuple[int, ...]:
        """Vertices per axis of a level stored row by row, 0 for a hashed one."""
        vertices = [math.ceil(scale) + 2 for scale in self.scales]  # one more than cells, one more for the shift
        return tuple(side if side**3 <= 1 << self.log2_table else 0 for side in vertices)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Table entries of each level."""
        return tuple(side**3 if side else 1 << self.log2_table for side in self.sides)


def encode_reference(
    points: Float[Tensor, "N 3"], tables: Sequence[Float[Tensor, "_ 2"]], layout: GridLayout
) -> Float[Tensor, "N D"]:
    """The encoding in plain torch, level by level; D = 2 * levels, levels whose tables are not given are zero."""
    features = [points.new_zeros(len(points), FEATURES)] * layout.levels
    corners = torch.tensor([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)], device=points.device)
    for level, table in enumerate(tables):
        place = points * layout.scales[level] + 0.5
        cell = place.floor()
        vertices = cell.long()[:, None] + corners  # [N, 8, 3]
        side = layout.sides[level]
        if side:
            index = vertices[..., 0] + side * (vertices[..., 1] + side * vertices[..., 2])
        else:
            x, y, z = (vertices[..., axis] * prime for axis, prime in enumerate(_PRIMES))
            index = (x ^ y ^ z) & (layout.sizes[level] - 1)
        fraction = (place - cell)[:, None]
        weights = torch.where(corners.bool(), fraction, 1.0 - fraction).prod(2)  # [N, 8]
        features[level] = (table[index] * weights[..., None]).sum(1)
    return torch.cat(features, 1)


class _WarpEncoding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, layout: GridLayout, *tables: Tensor) -> Tensor:
        from humannorm.fields import warp_hash_grid

        ctx.save_for_backward(points)
        ctx.layout = layout
        features = points.new_empty(FEATURES * layout.levels, len(points))
        features[FEATURES * len(tables) :] = 0.0
        warp_hash_grid.encode(points, [table.detach() for table in tables], layout, features)
        ctx.tables = len(tables)
        return features

    @staticmethod
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, ...]:
        from humannorm.fields import warp_hash_grid

        (points,) = ctx.saved_tensors
        active = gradients[: FEATURES * ctx.tables].contiguous()
        table_gradients = warp_hash_grid.encode_gradient(points, active, ctx.layout, ctx.tables)
        return None, None, *table_gradients


class HashGridEncoding(nn.Module):
    """Trainable features over the unit cube; points outside it take the features of the nearest wall.

    Gradients go to the tables only: the geometry moves values at fixed points, never the points. Each level has its
    table, and one that is not active gets no gradient at all, so that an optimiser passes over it.
    """

    def __init__(self, layout: GridLayout, generator: torch.Generator, engine: Engine = "warp") -> None:
        super().__init__()
        check_choice("engine", engine, ("warp", "torch"))
        self.layout = layout
        self.engine = engine
        self.tables = nn.ParameterList(_start_table(size, generator) for size in layout.sizes)

    def forward(self, points: Float[Tensor, "N 3"], active_levels: int | None = None) -> Float[Tensor, "N D"]:
        """Features [N, 2 * levels] of points in [0, 1]^3; those of levels past `active_levels` (all: None) are zero."""
        check_tensor("points", points, "N 3")
        if points.requires_grad:
            raise InputError("points: expected no gradient wanted (the encoding gives none), got requires_grad")
        levels = self.layout.levels if active_levels is None else active_levels
        check_range("active_levels", levels, 0, self.layout.levels)
        points = points.clamp(0.0, 1.0)
        if self.engine == "torch":
            return encode_reference(points, list(self.tables)[:levels], self.layout)
        features: Tensor = _WarpEncoding.apply(points.contiguous(), self.layout, *list(self.tables)[:levels])
        return features.t()


def _start_table(size: int, generator: torch.Generator) -> nn.Parameter:
    """Uniform in +- 1e-4 (Mueller et al. 2022 section 4)."""
    start = torch.rand(size, FEATURES, generator=generator, device=generator.device)
    return nn.Parameter((start * 2.0 - 1.0) * 1e-4)
