"""Reading mesh files: GLB, glTF, OBJ, PLY and STL as one `Mesh` with its colours. The readers are in `mesh_formats`.

Node transforms are applied and all triangles of a scene become one mesh. Colours are kept, in this order of
preference: texture (several are packed into one), vertex colours, face colours, the material's plain colour; where a
format says that they multiply, they do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from humannorm.checks import InputError, reading
from humannorm.mesh import Mesh, check_mesh
from humannorm.mesh_formats.gltf import read_gltf
from humannorm.mesh_formats.obj import read_obj
from humannorm.mesh_formats.parts import Part, mesh_of_parts, unit_or_none, with_face_colors
from humannorm.mesh_formats.ply import read_ply
from humannorm.mesh_formats.stl import read_stl

__all__ = ["MESH_SUFFIXES", "convert_trimesh", "load_mesh"]

_READERS: dict[str, Callable[[Path], list[Part]]] = {
    ".glb": read_gltf,
    ".gltf": read_gltf,
    ".obj": read_obj,
    ".ply": read_ply,
    ".stl": read_stl,
}
MESH_SUFFIXES = tuple(_READERS)


def load_mesh(path: str | os.PathLike[str]) -> Mesh:
    """The whole content of a mesh file as one checked float32 mesh, in the file's own frame and units.

    Raises `InputError` for a file that is unreadable, truncated, empty or without triangles, `OSError` for one that
    cannot be opened. Normals are those of the file; where it has none and vertices are split at seams, they are
    computed across the seams; else None. Textures go on outside 0..1 as the file says, or repeat.
    """
    source = Path(path)
    suffix = source.suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise InputError(f"{source}: expected a file ending in {', '.join(MESH_SUFFIXES)}, got {suffix or 'no ending'}")
    with source.open("rb") as stream:
        if not stream.read(1):
            raise InputError(f"{source}: expected a mesh, got an empty file")
    # Infinite and undefined numbers are refused by `check_mesh`.
    with reading(source, f"a whole {suffix[1:].upper()} file"), np.errstate(all="ignore"):
        parts = [part for part in _READERS[suffix](source) if len(part.faces)]
        if not parts:
            raise InputError("expected triangles, got none")
        mesh = mesh_of_parts(parts)
        check_mesh(mesh)
    return mesh


def convert_trimesh(source: Any) -> Mesh:
    """A `trimesh.Trimesh` as a float32 `Mesh`; its colours are taken as sRGB, as trimesh shows them."""
    vertices, faces = np.asarray(source.vertices), np.asarray(source.faces)
    # trimesh computes normals on demand; those in its cache came with the file.
    normals = np.asarray(source.vertex_normals) if "vertex_normals" in source._cache else None
    return mesh_of_parts([_with_visual(Part(vertices, faces, unit_or_none(normals)), source.visual)])


def _with_visual(part: Part, visual: Any) -> Part:
    """The part with what trimesh knows of its look."""

    def srgb(color: Any) -> Any:
        return np.asarray(color, dtype=np.float64)[..., :3] / 255.0

    if visual.kind == "vertex":
        return replace(part, colors=srgb(visual.vertex_colors))
    if visual.kind == "face":
        return with_face_colors(part, srgb(visual.face_colors))
    if visual.kind != "texture":
        return part
    material = visual.material
    pbr = hasattr(material, "baseColorTexture")
    image = material.baseColorTexture if pbr else getattr(material, "image", None)
    factor = material.baseColorFactor if pbr else None  # a simple material's diffuse is trimesh's own grey by default
    uvs = None if visual.uv is None else np.asarray(visual.uv, dtype=np.float64)[:, :2] * (1, -1) + (0, 1)
    if image is not None and uvs is not None:
        texture = np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0
        return replace(part, uvs=uvs, texture=texture)
    by_vertex = visual.vertex_attributes.get("color")
    if by_vertex is not None and len(by_vertex) == len(part.vertices):
        values = np.asarray(by_vertex)[:, :3]
        return replace(
            part, uvs=uvs, colors=values if values.dtype.kind == "f" else values / np.iinfo(values.dtype).max
        )
    if factor is None and not pbr and uvs is None:
        factor = getattr(material, "diffuse", None)
    return replace(part, uvs=uvs, colors=None if factor is None else np.tile(srgb(factor), (len(part.vertices), 1)))
