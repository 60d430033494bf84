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
from humannorm.rendering.passes import PASSES, PassEncoding, RenderedPasses, render
from humannorm.rendering.textures import sample_texture

__all__ = [
    "ENGINES",
    "PASSES",
    "Engine",
    "Fragments",
    "PassEncoding",
    "RenderedPasses",
    "antialias",
    "available_engines",
    "interpolate",
    "rasterize",
    "render",
    "sample_texture",
]
