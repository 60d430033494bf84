"""Reading mesh files: GLB, glTF, OBJ, PLY and STL through trimesh, as one `Mesh` with its colours.

Node transforms are applied and all triangles of a scene become one mesh. Colours are kept, in this order of
preference: texture (several are packed into one), vertex colours, face colours, the material's plain colour.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from humannorm.checks import InputError
from humannorm.mesh import Mesh, check_mesh, welded_vertex_normals

__all__ = ["MESH_SUFFIXES", "convert_trimesh", "load_mesh"]

MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl")
_MAX_TEXELS = 2**27  # of one merged texture: 1.5 GiB as float32 RGB
_ATLAS_PADDING = 8  # texels repeated around each packed texture: three mip levels without bleeding

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


def load_mesh(path: str | os.PathLike[str]) -> Mesh:
    """The whole content of a mesh file as one checked float32 mesh, in the file's own frame and units.

    Raises `InputError` for a file that is unreadable, truncated, empty or without triangles, `OSError` for one that
    cannot be opened. Normals are those of the file; where it has none and vertices are split at seams, they are
    computed across the seams; else None. Textures are taken to repeat outside 0..1, as is the default of the formats.
    """
    import trimesh

    source = Path(path)
    suffix = source.suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise InputError(f"{source}: expected a file ending in {', '.join(MESH_SUFFIXES)}, got {suffix or 'no ending'}")
    with source.open("rb") as stream:
        head = stream.read(12)
    if not head:
        raise InputError(f"{source}: expected a mesh, got an empty file")
    if suffix == ".glb":
        _check_glb_header(source, head)
    if suffix == ".obj":
        _warn_of_missing_materials(source)
    options = {"maintain_order": True} if suffix == ".obj" else {}
    try:
        scene = trimesh.load_scene(str(source), process=False, **options)
        if suffix == ".stl":  # three corners of its own for every triangle
            for geometry in scene.geometry.values():
                geometry.merge_vertices()
        linear = suffix in (".glb", ".gltf")  # glTF factors and vertex colours are linear, its textures sRGB
        parts = _scene_parts(scene, linear)
    except Exception as error:  # trimesh's readers raise whatever a broken file leads them to
        raise InputError(
            f"{source}: expected a whole {suffix[1:].upper()} file, got one that fails: {error}"
        ) from error
    if not parts:
        raise InputError(f"{source}: expected triangles, got none")
    try:
        mesh = _to_mesh(_merge(parts))
        check_mesh(mesh)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    return mesh


def convert_trimesh(source: Any) -> Mesh:
    """A `trimesh.Trimesh` as a float32 `Mesh`; its colours are taken as sRGB, as trimesh shows them."""
    return _to_mesh(_part_of(source, np.eye(4), linear=False))


@dataclass(frozen=True)
class _Part:
    """One geometry in world coordinates; colours sRGB 0..1, v = 0 at the top."""

    vertices: Array  # [V, 3]
    faces: Array  # [F, 3]
    normals: Array | None = None  # [V, 3]
    uvs: Array | None = None  # [V, 2]
    colors: Array | None = None  # [V, 3]
    texture: Array | None = None  # [H, W, 3]


def _check_glb_header(path: Path, head: bytes) -> None:
    if head[:4] != b"glTF":
        raise InputError(f"{path}: expected a GLB file, got one that does not begin with 'glTF'")
    stated, size = int.from_bytes(head[8:12], "little"), path.stat().st_size
    if stated > size:
        raise InputError(f"{path}: expected {stated} bytes as its header says, got {size}: the file is truncated")


def _warn_of_missing_materials(path: Path) -> None:
    """An OBJ file is often passed on without its MTL file or textures; its shape is still worth having."""
    for library in re.findall(r"^mtllib\s+(.+?)\s*$", path.read_text("utf-8", "replace"), re.MULTILINE):
        named = path.parent / library
        if not named.is_file():
            warnings.warn(f"{path}: its material file {library} is missing; loaded without it", stacklevel=3)
            continue
        for image in re.findall(r"^\s*map_Kd\s+.*?(\S+)\s*$", named.read_text("utf-8", "replace"), re.MULTILINE):
            if not (path.parent / image).is_file():
                warnings.warn(f"{path}: its texture {image} is missing; loaded without it", stacklevel=3)


def _scene_parts(scene: Any, linear: bool) -> list[_Part]:
    parts = []
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        if len(getattr(geometry, "faces", ())):  # point clouds and paths have none
            parts.append(_part_of(geometry, transform, linear))
    return parts


def _part_of(source: Any, transform: Array, linear: bool) -> _Part:
    vertices, faces = np.asarray(source.vertices), np.asarray(source.faces)
    # trimesh computes normals on demand; those in its cache came with the file.
    normals = np.asarray(source.vertex_normals) if "vertex_normals" in source._cache else None
    linear_part, offset = transform[:3, :3], transform[:3, 3]
    vertices = vertices @ linear_part.T + offset
    volume_scale = float(np.linalg.det(linear_part))
    if volume_scale < 0:  # a mirrored instance
        faces = faces[:, ::-1]
    if normals is not None:
        normals = normals @ np.linalg.inv(linear_part) if volume_scale else None
    return _with_colors(_Part(vertices, faces, _unit_or_none(normals)), source.visual, linear)


def _unit_or_none(normals: Array | None) -> Array | None:
    if normals is None:
        return None
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / lengths if np.isfinite(lengths).all() and (lengths > 0).all() else None


def _with_colors(part: _Part, visual: Any, linear: bool) -> _Part:
    """The part with what trimesh knows of its look."""

    def srgb(color: Any) -> Array:
        values = np.asarray(color, dtype=np.float64)[..., :3] / 255.0
        return _srgb_from_linear(values) if linear else values

    if visual.kind == "vertex":
        return replace(part, colors=srgb(visual.vertex_colors))
    if visual.kind == "face":
        return _with_face_colors(part, srgb(visual.face_colors))
    if visual.kind != "texture":
        return part
    image, factor = _material(visual.material)
    count = len(part.vertices)
    uvs = None if visual.uv is None else np.asarray(visual.uv, dtype=np.float64)[:, :2] * (1, -1) + (0, 1)
    if image is not None and uvs is not None:
        texture = np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0
        if factor is not None and linear and (np.asarray(factor)[:3] < 255).any():
            texture = _srgb_from_linear(_linear_from_srgb(texture) * np.asarray(factor)[:3] / 255.0)
        return _tiled(replace(part, uvs=uvs, texture=texture))
    by_vertex = visual.vertex_attributes.get("color")
    if by_vertex is not None and len(by_vertex) == count:
        by_vertex = np.asarray(by_vertex)[:, :3]
        values = by_vertex if by_vertex.dtype.kind == "f" else by_vertex / np.iinfo(by_vertex.dtype).max
        values = values * (1.0 if factor is None else np.asarray(factor)[:3] / 255.0)
        return replace(part, uvs=uvs, colors=_srgb_from_linear(values) if linear else values)
    return replace(part, uvs=uvs, colors=None if factor is None else np.tile(srgb(factor), (count, 1)))


def _material(material: Any) -> tuple[Any, Any]:
    """Base colour image or None, and RGBA factor 0..255 or None, of a glTF or OBJ material."""
    if hasattr(material, "baseColorTexture"):
        return material.baseColorTexture, material.baseColorFactor
    return getattr(material, "image", None), getattr(material, "diffuse", None)


def _with_face_colors(part: _Part, colors: Array) -> _Part:
    """One vertex for every (vertex, colour) pair that occurs, so that smooth shading survives inside a colour."""
    _, color_ids = np.unique(colors, axis=0, return_inverse=True)
    corners = np.stack([part.faces.ravel(), np.repeat(color_ids.ravel(), 3)], axis=1)
    _, first, faces = np.unique(corners, axis=0, return_index=True, return_inverse=True)
    origin = corners[first, 0]
    return _Part(
        vertices=part.vertices[origin],
        faces=faces.reshape(-1, 3),
        normals=_seam_normals(part)[origin] if part.normals is None else part.normals[origin],
        colors=colors[first // 3],
    )


def _seam_normals(part: _Part) -> Array:
    return welded_vertex_normals(torch.tensor(part.vertices), torch.tensor(part.faces.astype(np.int64))).numpy()


def _tiled(part: _Part) -> _Part:
    """The part with its coordinates moved into 0..1, its texture repeated where they span several tiles."""
    assert part.uvs is not None and part.texture is not None
    slack = 1e-4  # coordinates that leave the picture by rounding only
    uvs = part.uvs - np.floor(part.uvs.min(axis=0) + slack)
    columns, rows = np.maximum(np.ceil(uvs.max(axis=0) - slack), 1).astype(int)
    _check_texels(part.texture.shape[0] * int(rows), part.texture.shape[1] * int(columns), "a repeated texture")
    return replace(part, uvs=uvs / (columns, rows), texture=np.tile(part.texture, (rows, columns, 1)))


def _merge(parts: Sequence[_Part]) -> _Part:
    if len(parts) == 1:
        return parts[0]
    if any(part.texture is not None for part in parts):
        parts = _share_one_texture(parts)
    counts = [len(part.vertices) for part in parts]
    starts = np.cumsum([0, *counts[:-1]])
    seams = any(part.normals is not None or part.uvs is not None for part in parts)

    def joined(name: str, missing: Any) -> Array | None:
        values = [getattr(part, name) for part in parts]
        if all(value is None for value in values):
            return None
        return np.concatenate(
            [missing(part) if value is None else value for value, part in zip(values, parts, strict=True)]
        )

    return _Part(
        vertices=np.concatenate([part.vertices for part in parts]),
        faces=np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)]),
        normals=np.concatenate([_seam_normals(p) if p.normals is None else p.normals for p in parts])
        if seams
        else None,
        uvs=joined("uvs", lambda part: np.zeros((len(part.vertices), 2))),
        colors=joined("colors", lambda part: np.ones((len(part.vertices), 3))),
        texture=parts[0].texture,
    )


def _share_one_texture(parts: Sequence[_Part]) -> list[_Part]:
    """All parts with coordinates into one atlas; a part of one plain colour gets a texel of its own."""
    textures: dict[bytes, tuple[int, Array]] = {}
    places = []
    for part in parts:
        texture = part.texture
        if texture is None:
            colors = np.ones((1, 3)) if part.colors is None else np.unique(part.colors, axis=0)
            if len(colors) > 1:
                raise InputError("scene: expected all parts textured or all vertex-coloured, got a mixture of both")
            texture = colors[None]
        key = repr(texture.shape).encode() + np.ascontiguousarray(texture, dtype=np.float32).tobytes()
        places.append(textures.setdefault(key, (len(textures), texture))[0])
    atlas, boxes = _pack([texture for _, texture in textures.values()])
    shared = []
    for part, place in zip(parts, places, strict=True):
        top, left, height, width = boxes[place]
        middle = np.full((len(part.vertices), 2), 0.5)
        inner = middle if part.uvs is None or part.texture is None else part.uvs
        uvs = (inner * (width, height) + (left, top)) / (atlas.shape[1], atlas.shape[0])
        shared.append(replace(part, uvs=uvs, texture=atlas, colors=None))
    return shared


def _pack(textures: Sequence[Array]) -> tuple[Array, list[tuple[int, int, int, int]]]:
    """Shelf packing, tallest first: the atlas and each texture's (top, left, height, width) in it, in texels."""
    pad = _ATLAS_PADDING
    order = sorted(range(len(textures)), key=lambda i: -textures[i].shape[0])
    area = sum((t.shape[0] + 2 * pad) * (t.shape[1] + 2 * pad) for t in textures)
    limit = max(math.isqrt(area), *(t.shape[1] + 2 * pad for t in textures), 1)
    boxes = [(0, 0, 0, 0)] * len(textures)
    left = top = shelf = 0
    for i in order:
        height, width = textures[i].shape[:2]
        if left + width + 2 * pad > limit:
            left, top, shelf = 0, top + shelf, 0
        boxes[i] = (top + pad, left + pad, height, width)
        left, shelf = left + width + 2 * pad, max(shelf, height + 2 * pad)
    _check_texels(top + shelf, limit, "the textures of one scene")
    atlas = np.zeros((top + shelf, limit, 3), dtype=np.float32)
    for (y, x, height, width), texture in zip(boxes, textures, strict=True):
        padded = np.pad(texture, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
        atlas[y - pad : y + height + pad, x - pad : x + width + pad] = padded
    return atlas, boxes


def _check_texels(height: int, width: int, what: str) -> None:
    if height * width > _MAX_TEXELS:
        raise InputError(f"texture: expected {what} of at most {_MAX_TEXELS} texels, got {width} x {height}")


def _to_mesh(part: _Part) -> Mesh:
    normals = part.normals
    if normals is None and part.uvs is not None:
        normals = _seam_normals(part)

    def tensor(array: Array | None) -> Any:
        return None if array is None else torch.tensor(np.ascontiguousarray(array, dtype=np.float32))

    return Mesh(
        vertices=tensor(part.vertices),
        faces=torch.tensor(np.ascontiguousarray(part.faces, dtype=np.int64)),
        normals=tensor(normals),
        uvs=tensor(part.uvs),
        colors=tensor(part.colors),
        texture=tensor(part.texture),
    )


def _srgb_from_linear(values: Array) -> Array:
    """IEC 61966-2-1 encoding."""
    values = np.clip(values, 0.0, 1.0)
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


def _linear_from_srgb(values: Array) -> Array:
    """IEC 61966-2-1 decoding."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
