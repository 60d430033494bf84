"""The three differentiable operations of the renderer and the table of engines that carry them out."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from humannorm.checks import InputError, check_choice, check_range, check_same_device, check_tensor
from humannorm.rendering.clipping import MAX_RESOLUTION
from humannorm.rendering.fragments import Fragments

__all__ = ["ENGINES", "Engine", "antialias", "available_engines", "interpolate", "rasterize"]


@dataclass(frozen=True)
class Engine:
    """One way to carry out the operations: a module with the functions `rasterize`, `interpolate` and `antialias`."""

    module: str
    requires: str
    """Python package that must be importable."""
    install: str
    """Command or address that brings the package."""

    @property
    def available(self) -> bool:
        return importlib.util.find_spec(self.requires) is not None

    def load(self) -> ModuleType:
        """The engine's module; a missing package raises the hint how to install it."""
        if not self.available:
            raise InputError(f"engine: {self.requires} is not installed; install it with: {self.install}")
        return importlib.import_module(self.module)


ENGINES: dict[str, Engine] = {
    "warp": Engine("humannorm.rendering.warp_engine", "warp", "pip install warp-lang"),
    "nvdiffrast": Engine(
        "humannorm.rendering.nvdiffrast_engine",
        "nvdiffrast",
        "pip install git+https://github.com/NVlabs/nvdiffrast (needs an NVIDIA GPU and a compiler; research licence)",
    ),
    "torch": Engine("humannorm.rendering.torch_engine", "torch", "pip install torch"),
}
"""Name -> engine. A missing one stays listed and raises its install hint when it is requested."""


def available_engines() -> tuple[str, ...]:
    """Names of the engines whose packages are installed."""
    return tuple(name for name, engine in ENGINES.items() if engine.available)


def choose_engine(name: str, device: torch.device) -> str:
    """What "auto" stands for: nvdiffrast on CUDA where it is installed, otherwise Warp. Any other name stands for
    itself."""
    check_choice("engine", name, ("auto", *ENGINES))
    if name != "auto":
        return name
    return "nvdiffrast" if device.type == "cuda" and ENGINES["nvdiffrast"].available else "warp"


def rasterize(
    clip: Float[Tensor, "B V 4"],
    faces: Int[Tensor, "F 3"],
    resolution: tuple[int, int],
    *,
    behind: Float[Tensor, "B H W"] | None = None,
    engine: str = "auto",
) -> Fragments:
    """Finds the visible triangle of every pixel, where on the triangle the pixel's centre lies, and how deep.

    Coverage is exact: corners are snapped to 1/256 pixel, and integer edge functions with the top-left rule give every
    pixel of a closed surface to one triangle per layer. The nearest fragment wins, ties go to the lowest triangle. Both
    sides of triangles are drawn. Triangles are clipped at the near and far plane; their barycentrics stay those of the
    whole triangle.

    Args:
        clip: clip-space positions of B views (OpenGL: -w <= x, y, z <= w, y up, z toward the far plane).
        faces: corner indices, shared by all views.
        resolution: height and width in pixels, 1 to 8192 each. Row 0 is the top (y = +1).
        behind: depth of a former pass; only fragments strictly behind it are kept (depth peeling, Everitt 2001).
        engine: "auto", "warp", "nvdiffrast" or "torch". Warp takes float32, torch any float type.

    Returns:
        fragments whose barycentrics are differentiable with respect to ``clip``.
    """
    check_tensor("clip", clip, "B V 4")
    if not bool(torch.isfinite(clip.detach().sum())):  # cheaper than a look at every value, which follows only now
        check_tensor("clip", clip, "B V 4", finite=True)
    check_tensor("faces", faces, "F 3", dtype="int")
    check_same_device(clip=clip, faces=faces, behind=behind)
    for side, size in zip(("height", "width"), resolution, strict=True):
        check_range(f"resolution {side}", size, 1, MAX_RESOLUTION)
    if 0 in clip.shape or 0 in faces.shape:
        raise InputError(
            f"mesh: expected vertices and faces, got clip {list(clip.shape)} and faces {list(faces.shape)}"
        )
    _check_indices(faces, clip.shape[1])
    if behind is not None:
        check_tensor("behind", behind, f"{clip.shape[0]} {resolution[0]} {resolution[1]}")
    return ENGINES[choose_engine(engine, clip.device)].load().rasterize(clip, faces, resolution, behind)


def interpolate(
    attributes: Float[Tensor, "V C"] | Float[Tensor, "B V C"], fragments: Fragments, faces: Int[Tensor, "F 3"]
) -> Float[Tensor, "B H W C"]:
    """Vertex attributes at the visible points, perspective correct; 0 on the background.

    Differentiable with respect to the attributes (shared by the views, or one set for each) and to the barycentrics.
    Several attributes are best concatenated and interpolated at once.
    """
    check_tensor("faces", faces, "F 3", dtype="int")
    check_tensor("attributes", attributes, "* V C")
    batch = len(fragments.triangle)
    check_tensor("attributes", attributes, "V C" if attributes.ndim == 2 else f"{batch} V C")
    check_same_device(attributes=attributes, fragments=fragments.triangle, faces=faces)
    _check_indices(faces, attributes.shape[-2])
    _check_fragments(fragments, faces)
    return ENGINES[fragments.engine].load().interpolate(attributes, fragments, faces)


def antialias(
    color: Float[Tensor, "B H W C"],
    fragments: Fragments,
    clip: Float[Tensor, "B V 4"],
    faces: Int[Tensor, "F 3"],
) -> Float[Tensor, "B H W C"]:
    """Blends colours across the silhouettes, by how far the silhouette reaches into each pixel (Laine et al. 2020,
    section 3.6; `antialias_reference` names the one difference: edges of triangles smaller than a pixel count as well).

    Differentiable with respect to the colours and, through the place of the silhouettes, to ``clip``: this is what
    moves an outline. ``clip`` and ``faces`` are those the fragments were made from.
    """
    batch, height, width = fragments.triangle.shape
    check_tensor("color", color, f"{batch} {height} {width} C")
    check_tensor("clip", clip, f"{batch} V 4")
    check_tensor("faces", faces, "F 3", dtype="int")
    check_same_device(color=color, fragments=fragments.triangle, clip=clip, faces=faces)
    _check_indices(faces, clip.shape[1])
    _check_fragments(fragments, faces)
    return ENGINES[fragments.engine].load().antialias(color, fragments, clip, faces)


def _check_indices(faces: Tensor, num_vertices: int) -> None:
    low, high = (int(bound) for bound in torch.aminmax(faces))
    if low < 0 or high >= num_vertices:
        raise InputError(f"faces: expected indices 0 to {num_vertices - 1}, got {low} to {high}")


def _check_fragments(fragments: Fragments, faces: Tensor) -> None:
    seen = int(fragments.triangle.max())
    if seen >= len(faces):
        raise InputError(f"faces: expected those the fragments were made from, got {len(faces)} without number {seen}")
