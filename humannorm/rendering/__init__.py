"""Differentiable rendering of triangle meshes."""

from __future__ import annotations

from humannorm.rendering.engines import (
    ENGINES,
    Engine,
    antialias,
    available_engines,
    interpolate,
    rasterize,
)
from humannorm.rendering.fragments import Fragments

__all__ = ["ENGINES", "Engine", "Fragments", "antialias", "available_engines", "interpolate", "rasterize"]
