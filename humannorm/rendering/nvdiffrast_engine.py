"""nvdiffrast (Laine et al. 2020) as an engine, for those who have it and an NVIDIA GPU.

A thin wrapper around its public functions: rows are turned over (its row 0 is the bottom), and its (u, v, z/w, index +
1) is taken apart. nvdiffrast is licensed for research and evaluation; nothing of it is copied here. It has no CPU path,
so on a machine without an NVIDIA GPU neither this module nor its tests can run.

It differs from the other engines in that coverage follows nvdiffrast's own fixed-point grid, so pixels on edges may see
the neighbouring triangle, in that depths are compared at the precision of its own depth buffer, and in that faces
beyond its limits (16 million triangles, 2048 pixels with the CUDA rasteriser) raise its own errors.
"""

from __future__ import annotations

from typing import Any

import nvdiffrast.torch as nvdiffrast
import torch
from jaxtyping import Float, Int
from torch import Tensor

from humannorm.checks import InputError
from humannorm.rendering.fragments import Fragments

__all__ = ["antialias", "interpolate", "rasterize"]

_contexts: dict[torch.device, Any] = {}


def context(device: torch.device) -> Any:
    """nvdiffrast's CUDA rasteriser of a device; it holds buffers and is made once."""
    if device not in _contexts:
        _contexts[device] = nvdiffrast.RasterizeCudaContext(device=device)
    return _contexts[device]


def rasterize(
    clip: Float[Tensor, "B V 4"],
    faces: Int[Tensor, "F 3"],
    resolution: tuple[int, int],
    behind: Float[Tensor, "B H W"] | None = None,
) -> Fragments:
    """Visible triangle, barycentrics and depth of every pixel; see `humannorm.rendering.rasterize`."""
    if clip.device.type != "cuda":
        raise InputError(f'clip: expected a CUDA tensor for engine "nvdiffrast", got {clip.device}')
    if behind is not None:
        raise InputError(
            'behind: expected None for engine "nvdiffrast" (engine "warp" peels depth layers), got a tensor'
        )
    raster, _ = nvdiffrast.rasterize(context(clip.device), clip.contiguous(), faces.int().contiguous(), resolution)
    top_first = raster.flip(1)
    triangle = top_first[..., 3].detach().int() - 1
    depth = torch.where(triangle >= 0, top_first[..., 2].detach(), 1.0)
    return Fragments(triangle, top_first[..., :2], depth, "nvdiffrast", raster)


def interpolate(
    attributes: Float[Tensor, "V C"] | Float[Tensor, "B V C"], fragments: Fragments, faces: Int[Tensor, "F 3"]
) -> Float[Tensor, "B H W C"]:
    """Vertex attributes at the visible points, 0 on the background; see `humannorm.rendering.interpolate`."""
    image, _ = nvdiffrast.interpolate(attributes.contiguous(), _raster(fragments), faces.int().contiguous())
    return image.flip(1)


def antialias(
    color: Float[Tensor, "B H W C"], fragments: Fragments, clip: Float[Tensor, "B V 4"], faces: Int[Tensor, "F 3"]
) -> Float[Tensor, "B H W C"]:
    """Blends colours across silhouettes; see `humannorm.rendering.antialias`."""
    bottom_first = color.flip(1).contiguous()
    return nvdiffrast.antialias(bottom_first, _raster(fragments), clip.contiguous(), faces.int().contiguous()).flip(1)


def _raster(fragments: Fragments) -> Tensor:
    """nvdiffrast's own image of the fragments."""
    assert isinstance(fragments.scratch, Tensor)
    return fragments.scratch
