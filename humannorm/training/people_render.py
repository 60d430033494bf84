"""Draw a textured surface (a dressed person, a scan) as the pictures that the networks are trained on.

The pictures follow the project's conventions: colour on white, camera-space normals on black, inverse depth (near 1,
far 0, background 0), mask. See `warp_people` for why this is not `humannorm.rendering`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from humannorm.cameras import Cameras
from humannorm.checks import InputError, check_range, check_tensor

__all__ = ["Material", "Pictures", "Surface", "TextureSet", "draw_pictures", "smooth_normals"]

SUPERSAMPLING = 2
MIP_LEVELS = 6
BUMP_STRENGTH = 1.6
"""Normal maps are averaged away at small picture sizes; this much steeper they still show as wrinkles."""


@dataclass(frozen=True, eq=False)
class TextureSet:
    """All textures with their mip levels in one array of RGBA texels."""

    texels: UInt8[Tensor, "N 4"]
    levels: Int[Tensor, "T L 3"]
    """First texel, width and height of each texture's levels."""

    @classmethod
    def pack(cls, images: Sequence[UInt8[np.ndarray, "H W 4"]]) -> TextureSet:
        """Build the mip levels (2 x 2 box filter) of each image; row 0 is v = 0. Without any, one white texel."""
        images = images or [np.full((1, 1, 4), 255, dtype=np.uint8)]
        texels: list[UInt8[np.ndarray, "N 4"]] = []
        levels = np.zeros((len(images), MIP_LEVELS, 3), dtype=np.int32)
        first = 0
        for index, image in enumerate(images):
            level = image
            for mip in range(MIP_LEVELS):
                height, width = level.shape[:2]
                levels[index, mip] = (first, width, height)
                texels.append(level.reshape(-1, 4))
                first += height * width
                level = _halve(level)
        return cls(torch.from_numpy(np.concatenate(texels)), torch.from_numpy(levels))


@dataclass(frozen=True)
class Material:
    """How the triangles of one layer are painted."""

    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Multiplies the texture; sRGB, may exceed 1."""
    color_texture: int = -1
    normal_texture: int = -1
    uses_vertex_colors: bool = False
    alpha_threshold: float = 0.0
    """Fragments with less alpha are not drawn; 0 draws all without looking."""
    depth_bias: float = 0.0
    """World units by which this layer wins over others that lie nearer, so that no layer pokes through cloth."""
    label: int = 0
    """What the layer is, for label maps: a place in `hints.LABELS`."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A triangle mesh whose corners have positions and UVs of their own index."""

    positions: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    uvs: Float[Tensor, "U 2"]
    uv_faces: Int[Tensor, "F 3"]
    face_material: Int[Tensor, " F"]
    materials: tuple[Material, ...]
    textures: TextureSet
    normals: Float[Tensor, "V 3"]
    colors: Float[Tensor, "V 3"] | None = None


@dataclass(frozen=True, eq=False)
class Pictures:
    """B training pictures of one surface, as stored."""

    color: UInt8[Tensor, "B S S 3"]
    normal: UInt8[Tensor, "B S S 3"]
    depth: UInt8[Tensor, "B S S"]
    mask: UInt8[Tensor, "B S S"]


def smooth_normals(positions: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "V 3"]:
    """Area-weighted unit vertex normals, as `humannorm.mesh.vertex_normals`, fast for many small meshes."""
    from humannorm.training import warp_people as kernels

    wp = kernels.wp
    normals = torch.zeros_like(positions)
    out = wp.from_torch(normals, dtype=wp.vec3)
    device = wp.device_from_torch(positions.device)
    inputs = [
        wp.from_torch(positions.contiguous(), dtype=wp.vec3),
        wp.from_torch(faces.int().contiguous(), dtype=wp.vec3i),
        out,
    ]
    kernels.launch(kernels.add_face_normals, len(faces), inputs, device)
    kernels.launch(kernels.normalize_all, len(positions), [out], device)
    return normals


def draw_pictures(surface: Surface, cameras: Cameras, size: int, *, supersampling: int = SUPERSAMPLING) -> Pictures:
    """Render colour, normal, depth and mask of a surface from each camera at `size` x `size` pixels."""
    return _shade(_rasterise(surface, cameras, size, supersampling))


def draw_start(
    surface: Surface, cameras: Cameras, size: int, *, supersampling: int = SUPERSAMPLING
) -> tuple[UInt8[Tensor, "B S S 3"], UInt8[Tensor, "B S S"]]:
    """The normal map of a surface without its layers' normal textures, and which layer's label each pixel shows.

    A pixel that is more than half empty has label 0; of others the nearest sample's layer counts.
    """
    from humannorm.training import warp_people as kernels

    plain = tuple(replace(material, normal_texture=-1) for material in surface.materials)
    drawn = _rasterise(replace(surface, materials=plain), cameras, size, supersampling)
    labels = torch.zeros((drawn.count, size, size), dtype=torch.int32, device=surface.positions.device)
    inputs = [drawn.mesh, drawn.materials, drawn.keys, supersampling, kernels.wp.from_torch(labels)]
    kernels.launch(kernels.label, (drawn.count, size, size), inputs, drawn.device)
    return _shade(drawn).normal, labels.to(torch.uint8)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A surface in the z-buffers of some cameras: warp's arrays, and what shading needs of the cameras."""

    mesh: Any
    materials: Any
    screen: Any
    keys: Any
    device: Any
    to_camera: Float[Tensor, "B 4 4"]
    size: int
    supersampling: int

    @property
    def count(self) -> int:
        return len(self.to_camera)


def _rasterise(surface: Surface, cameras: Cameras, size: int, supersampling: int) -> _Drawn:
    from humannorm.training import warp_people as kernels

    wp = kernels.wp
    check_range("size", size, 8, 4096)
    check_tensor("positions", surface.positions, "V 3", finite=True)
    device = wp.device_from_torch(surface.positions.device)
    count, fine = len(cameras), size * supersampling
    cameras = cameras.to(surface.positions.device)
    to_camera = cameras.world_to_camera()
    if bool((surface.positions @ to_camera[:, 2, :3].T + to_camera[:, 2, 3] > -cameras.near).any()):
        raise InputError("surface: expected all vertices in front of every camera's near plane, some are behind it")
    to_clip = cameras.projection() @ to_camera

    mesh, materials = _to_kernel_structs(surface, kernels)
    screen = wp.empty((count, len(surface.positions)), dtype=wp.vec3, device=device)
    keys = wp.full((count, fine, fine), kernels.EMPTY, dtype=wp.uint64, device=device)
    clip_matrices = wp.from_torch(to_clip.contiguous(), dtype=wp.mat44)
    inputs = [mesh.positions, clip_matrices, float(fine), float(fine), screen]
    kernels.launch(kernels.project, (count, len(surface.positions)), inputs, device)
    kernels.launch(kernels.draw, (count, len(surface.faces)), [mesh, materials, screen, keys], device)
    return _Drawn(mesh, materials, screen, keys, device, to_camera.contiguous(), size, supersampling)


def _shade(drawn: _Drawn) -> Pictures:
    from humannorm.training import warp_people as kernels

    wp, count, size = kernels.wp, drawn.count, drawn.size
    device = drawn.to_camera.device

    def image(channels: int) -> Tensor:
        return torch.empty((count, size, size) + ((channels,) if channels > 1 else ()), device=device)

    color, normal, coverage, inverse_depth = image(3), image(3), image(1), image(1)
    nearest = torch.zeros(count, device=device)
    farthest = torch.full((count,), torch.finfo(torch.float32).max, device=device)
    outputs = [wp.from_torch(color, dtype=wp.vec3), wp.from_torch(normal, dtype=wp.vec3)]
    outputs += [wp.from_torch(tensor) for tensor in (coverage, inverse_depth, nearest, farthest)]
    matrices = wp.from_torch(drawn.to_camera, dtype=wp.mat44)
    inputs = [drawn.mesh, drawn.materials, matrices, drawn.screen, drawn.keys, drawn.supersampling, BUMP_STRENGTH]
    kernels.launch(kernels.shade, (count, size, size), [*inputs, *outputs], drawn.device)

    span = (nearest - farthest).clamp_min(1e-12)[:, None, None]
    depth = (inverse_depth - coverage * farthest[:, None, None]).clamp_min(0.0) / span
    return Pictures(_to_bytes(color), _to_bytes(normal), _to_bytes(depth), _to_bytes(coverage))


def _to_bytes(image: Float[Tensor, "..."]) -> UInt8[Tensor, "..."]:
    return (image.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)


def _halve(image: UInt8[np.ndarray, "H W 4"]) -> UInt8[np.ndarray, "h w 4"]:
    """Half the size by averaging; an odd last row or column is dropped, a side of one stays."""
    height, width = image.shape[:2]
    if height > 1:
        pair = image[: height // 2 * 2].reshape(height // 2, 2, width, 4).astype(np.uint16)
        image = ((pair.sum(axis=1) + 1) // 2).astype(np.uint8)
    if width > 1:
        pair = image[:, : width // 2 * 2].reshape(image.shape[0], width // 2, 2, 4).astype(np.uint16)
        image = ((pair.sum(axis=2) + 1) // 2).astype(np.uint8)
    return image


def _to_kernel_structs(surface: Surface, kernels: Any) -> tuple[Any, Any]:
    wp = kernels.wp
    device = surface.positions.device

    def table(values: list[object], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    mesh = kernels.Surface()
    mesh.positions = wp.from_torch(surface.positions.contiguous(), dtype=wp.vec3)
    mesh.normals = wp.from_torch(surface.normals.contiguous(), dtype=wp.vec3)
    colors = surface.colors if surface.colors is not None else torch.ones(1, 3, device=device)
    mesh.colors = wp.from_torch(colors.contiguous(), dtype=wp.vec3)
    mesh.faces = wp.from_torch(surface.faces.int().contiguous(), dtype=wp.vec3i)
    mesh.uvs = wp.from_torch(surface.uvs.contiguous(), dtype=wp.vec2)
    mesh.uv_faces = wp.from_torch(surface.uv_faces.int().contiguous(), dtype=wp.vec3i)
    mesh.face_material = wp.from_torch(surface.face_material.int().contiguous())
    paint = kernels.Materials()
    paint.color_texture = wp.from_torch(table([m.color_texture for m in surface.materials], torch.int32))
    paint.normal_texture = wp.from_torch(table([m.normal_texture for m in surface.materials], torch.int32))
    paint.tint = wp.from_torch(table([m.tint for m in surface.materials], torch.float32), dtype=wp.vec3)
    paint.uses_vertex_colors = wp.from_torch(table([m.uses_vertex_colors for m in surface.materials], torch.int32))
    paint.alpha_threshold = wp.from_torch(table([m.alpha_threshold for m in surface.materials], torch.float32))
    paint.depth_bias = wp.from_torch(table([m.depth_bias for m in surface.materials], torch.float32))
    paint.label = wp.from_torch(table([m.label for m in surface.materials], torch.int32))
    paint.texels = wp.from_torch(surface.textures.texels.to(device))
    paint.levels = wp.from_torch(surface.textures.levels.to(device), dtype=wp.vec3i)
    return mesh, paint
