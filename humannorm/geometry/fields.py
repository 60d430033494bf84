"""Signed distance fields with parameters: the published hash grid with a small network, and a dense grid.

Both map world points in [-1, 1]^3 to one value, negative inside, and both have levels from coarse to fine of which the
first `active_levels` count (the progressive mask). A field knows nothing of grids, bands or meshes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from humannorm.checks import InputError, check_range, check_tensor
from humannorm.fields.hash_grid import GridLayout
from humannorm.fields.hash_network import HashNetwork

__all__ = [
    "DeformationField",
    "DenseFieldSettings",
    "DenseGridField",
    "FieldSettings",
    "HashFieldSettings",
    "HashGridField",
    "SdfField",
    "field_settings_from_dict",
    "field_settings_to_dict",
    "make_field",
]


@dataclass(frozen=True)
class HashFieldSettings:
    """The published field: Mueller et al. 2022 hash grid and one hidden layer of 64 ReLU units without biases."""

    layout: GridLayout = field(default_factory=GridLayout)  # source: humannorm-geometry-full.yaml
    hidden: int = 64  # source: humannorm-geometry-full.yaml


@dataclass(frozen=True)
class DenseFieldSettings:
    """A pyramid of dense grids whose trilinear interpolations add up; the plain grid is a pyramid of one."""

    resolutions: tuple[int, ...] = (16, 32, 64, 128)  # cells per side of the box, coarse to fine; our choice


FieldSettings = HashFieldSettings | DenseFieldSettings


class SdfField(nn.Module):
    """What all fields share: levels, and values at world points."""

    settings: FieldSettings
    levels: int

    def forward(self, points: Float[Tensor, "N 3"], active_levels: int | None = None) -> Float[Tensor, " N"]:
        """Field values [N] at world points; levels past `active_levels` (None: all count) are left out."""
        raise NotImplementedError

    def _check(self, points: Tensor, active_levels: int | None) -> int:
        check_tensor("points", points, "N 3")
        levels = self.levels if active_levels is None else active_levels
        check_range("active_levels", levels, 1, self.levels)
        return levels


class HashGridField(HashNetwork, SdfField):
    """f(x) = W2 relu(W1 encode(x)), the published implicit surface (`reference` section 2.1 of the paper's code)."""

    def __init__(self, settings: HashFieldSettings, generator: torch.Generator) -> None:
        super().__init__(settings.layout, settings.hidden, 1, generator)
        self.settings = settings
        self.levels = settings.layout.levels

    def forward(self, points: Float[Tensor, "N 3"], active_levels: int | None = None) -> Float[Tensor, " N"]:
        return self.network(points, self._check(points, active_levels))[:, 0]


class DenseGridField(SdfField):
    """f(x) = sum over levels of the trilinear interpolation of a grid; zero until it is fitted."""

    def __init__(self, settings: DenseFieldSettings, generator: torch.Generator) -> None:
        super().__init__()
        if not settings.resolutions or list(settings.resolutions) != sorted(settings.resolutions):
            raise InputError(f"resolutions: expected at least one, coarse to fine, got {settings.resolutions}")
        check_range("resolutions", settings.resolutions[0], 1, math.inf)
        check_range("resolutions", settings.resolutions[-1], 1, 1024)
        self.settings = settings
        self.levels = len(settings.resolutions)
        sides = [resolution + 1 for resolution in settings.resolutions]
        self.grids = nn.ParameterList(
            nn.Parameter(torch.zeros(1, 1, side, side, side, device=generator.device)) for side in sides
        )

    def forward(self, points: Float[Tensor, "N 3"], active_levels: int | None = None) -> Float[Tensor, " N"]:
        places = points[None, None, None]  # grid_sample reads (x, y, z) with x the last axis of the grid
        values = [
            nn.functional.grid_sample(grid, places, padding_mode="border", align_corners=True).flatten()
            for grid in list(self.grids)[: self._check(points, active_levels)]
        ]
        return torch.stack(values).sum(0)


class DeformationField(HashNetwork):
    """Offsets of lattice vertices, bounded as in DMTet (Shen et al. 2021): half an edge at most, zero at the start.

    A function of the place and not a list per vertex, so that it stays when band or lattice change.
    """

    def __init__(self, layout: GridLayout, hidden: int, generator: torch.Generator) -> None:
        super().__init__(layout, hidden, 3, generator, zero=True)

    def forward(self, points: Float[Tensor, "N 3"], bound: float, active_levels: int) -> Float[Tensor, "N 3"]:
        """World offsets [N, 3] of these lattice vertices, each coordinate within +- bound (world units)."""
        return torch.tanh(self.network(points, min(active_levels, self.layout.levels))) * bound


def make_field(settings: FieldSettings, generator: torch.Generator) -> SdfField:
    """An unfitted field with these settings, on the generator's device."""
    if isinstance(settings, HashFieldSettings):
        return HashGridField(settings, generator)
    return DenseGridField(settings, generator)


def field_settings_to_dict(settings: FieldSettings) -> dict[str, Any]:
    """Plain numbers for a checkpoint's JSON."""
    return {"kind": "hash" if isinstance(settings, HashFieldSettings) else "dense"} | asdict(settings)


def field_settings_from_dict(plain: dict[str, Any]) -> FieldSettings:
    """The settings that `field_settings_to_dict` wrote."""
    values = {key: value for key, value in plain.items() if key != "kind"}
    if plain.get("kind") == "hash":
        return HashFieldSettings(layout=GridLayout(**values["layout"]), hidden=values["hidden"])
    if plain.get("kind") == "dense":
        return DenseFieldSettings(resolutions=tuple(values["resolutions"]))
    raise InputError(f"field settings: expected kind hash or dense, got {plain.get('kind')!r}")
