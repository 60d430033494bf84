"""A mesh file with the whole of its look: what `load_mesh` reads, and the maps of the file's material."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from humannorm.export.baked import BakedMesh, Material
from humannorm.export.tangents import vertex_tangents
from humannorm.mesh import Mesh
from humannorm.mesh_io import load_mesh

__all__ = ["load_baked"]

MAPS = {
    "normalTexture": "normal map",
    "metallicRoughnessTexture": "metallic-roughness map",
    "occlusionTexture": "occlusion map",
    "emissiveTexture": "emissive map",
}


def load_baked(path: str | os.PathLike[str]) -> BakedMesh:
    """The content of a mesh file with normal, occlusion, metallic-roughness and emissive maps and their factors.

    See `load_mesh` for what is read and refused. Maps of files with several materials are left out, as the merged mesh
    has one layout of its own; a warning names them. Scale of the normal map and strength of the other maps are 1.
    """
    mesh = load_mesh(path)
    found = _glossy_materials(Path(path)) if Path(path).suffix.lower() in (".glb", ".gltf") else []
    maps = [name for material in found for name in MAPS if getattr(material, name) is not None]
    if len(found) != 1 or mesh.uvs is None:
        if maps:
            named = ", ".join(MAPS[name] for name in dict.fromkeys(maps))
            warnings.warn(f"{path}: of {len(found)} materials the {named} are left out", stacklevel=2)
        return BakedMesh(mesh)
    (material,) = found
    repeats = _repeats(mesh, material)

    def read(name: str) -> Tensor | None:
        picture = getattr(material, name)
        return None if picture is None else _values(picture).tile((*repeats, 1))

    normal_map, occlusion = read("normalTexture"), read("occlusionTexture")
    tangents = None
    if normal_map is not None and mesh.normals is not None:
        tangents = vertex_tangents(mesh.vertices, mesh.faces, mesh.normals, mesh.uvs)
    look = Material(
        metallic=_factor(material.metallicFactor, 1.0),
        roughness=_factor(material.roughnessFactor, 1.0),
        metallic_roughness=read("metallicRoughnessTexture"),
        emissive=read("emissiveTexture"),
        emissive_factor=_light(material.emissiveFactor),
        double_sided=material.doubleSided,
    )
    return BakedMesh(mesh, tangents, normal_map, None if occlusion is None else occlusion[..., :1], look)


def _glossy_materials(path: Path) -> list[Any]:
    """The glTF materials of a file's triangles, one for each piece of the scene."""
    import trimesh

    scene = trimesh.load_scene(str(path), process=False)
    visuals = [getattr(scene.geometry[scene.graph[node][1]], "visual", None) for node in scene.graph.nodes_geometry]
    materials = [getattr(visual, "material", None) for visual in visuals]
    return [material for material in materials if isinstance(material, trimesh.visual.material.PBRMaterial)]


def _repeats(mesh: Mesh, material: Any) -> tuple[int, int]:
    """How often `load_mesh` laid the base colour beside itself, down and across, for coordinates beyond 0..1."""
    base = material.baseColorTexture
    if base is None or mesh.texture is None:
        return 1, 1
    return mesh.texture.shape[0] // base.height, mesh.texture.shape[1] // base.width


def _values(picture: Any) -> Tensor:
    """[H, W, 3] in 0..1."""
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0)


def _factor(value: Any, default: float) -> float:
    return default if value is None else min(max(float(value), 0.0), 1.0)


def _light(value: Any) -> tuple[float, float, float]:
    red, green, blue = (0.0, 0.0, 0.0) if value is None else np.asarray(value, dtype=float)[:3].clip(0, 1).tolist()
    return red, green, blue
