"""Differentiable rendering of triangle meshes.

Three operations carry everything (`engines`): `rasterize` finds the visible triangle of every pixel and the place on
it, `interpolate` brings vertex attributes there, `antialias` blends across silhouettes, which makes outlines
differentiable. `render` draws normal, depth, mask and colour passes with them.

- `clipping`: from clip space to the fixed-point screen, shared by the engines so that they agree on every pixel.
- `torch_engine` and `antialias_reference`: the reference, slow and obvious; read these to learn what is computed.
- `warp_engine` and its kernels: the default, in single precision on CPU and CUDA, tested against the reference.
- `nvdiffrast_engine`: a wrapper for CUDA machines that have nvdiffrast.

Coverage is decided in integers (corners snapped to 1/256 pixel, 64-bit edge functions, top-left rule) and visibility by
one 64-bit key of depth and triangle: there are no cracks, no double hits, and no dependence on order. Places on
triangles are computed from the exact positions in double precision.
"""

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
