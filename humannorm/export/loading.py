"""A mesh file with the whole of its look: what `load_mesh` reads, and the maps of the file's material."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from humannorm.checks import InputError, reading
from humannorm.export.baked import BakedMesh, Material
from humannorm.export.tangents import vertex_tangents
from humannorm.mesh import Mesh
from humannorm.mesh_formats.gltf import MAPS, Surface, read_gltf_surfaces
from humannorm.mesh_formats.parts import mesh_of_parts
from humannorm.mesh_io import load_mesh

__all__ = ["load_baked"]


def load_baked(path: str | os.PathLike[str]) -> BakedMesh:
    """The content of a mesh file with normal, occlusion, metallic-roughness and emissive maps and their factors.

    See `load_mesh` for what is read and refused. The merged mesh has one layout of its own, that of the base colour;
    maps that do not lie in it are left out, as are those of files with several materials; a warning names them.
    """
    mesh = load_mesh(path)
    if Path(path).suffix.lower() not in (".glb", ".gltf"):
        return BakedMesh(mesh)
    with reading(path, "a whole glTF file"):
        surfaces = [each for each in read_gltf_surfaces(Path(path)) if len(each.part.faces)]
        materials = {id(each.material): each.material for each in surfaces}
        named = {name for each in surfaces for name in each.maps}
        if len(materials) != 1:
            _tell_left_out(path, named, f"maps of one material are read, and it has {len(materials)}")
            return BakedMesh(mesh)
        maps = {name: found for name in sorted(named) if (found := _laid_out_map(mesh, surfaces, name)) is not None}
        _tell_left_out(path, named - maps.keys(), "maps have to lie where the base colour does")
        (material,) = materials.values()
        if not material:
            return BakedMesh(mesh)
        normal_map, occlusion = maps.get("normalTexture"), maps.get("occlusionTexture")
        tangents = None
        if normal_map is not None and mesh.normals is not None and mesh.uvs is not None:
            tangents = vertex_tangents(mesh.vertices, mesh.faces, mesh.normals, mesh.uvs)
        look = _material(material, maps)
    return BakedMesh(mesh, tangents, normal_map, None if occlusion is None else occlusion[..., :1], look)


def _tell_left_out(path: str | os.PathLike[str], names: set[str], why: str) -> None:
    if names:
        named = ", ".join(MAPS[name] for name in MAPS if name in names)
        warnings.warn(f"{path}: loaded without its {named}; {why}", stacklevel=3)


def _laid_out_map(mesh: Mesh, surfaces: Sequence[Surface], name: str) -> Tensor | None:
    """A map in the merged mesh's own coordinates, by the steps that laid out its base colour; None where it does not
    lie there."""
    if mesh.uvs is None or any(name not in each.maps for each in surfaces):
        return None
    if mesh.texture is None:  # nothing was laid out
        same = all(each.part.uvs is not None and (each.part.uvs == each.maps[name].uvs).all() for each in surfaces)
        return torch.from_numpy(surfaces[0].maps[name].texture) if same else None
    laid = mesh_of_parts([replace(each.maps[name], colors=None, tint=None) for each in surfaces])
    if laid.uvs is None or laid.uvs.shape != mesh.uvs.shape or not torch.allclose(laid.uvs, mesh.uvs, atol=1e-6):
        return None
    return laid.texture


def _material(said: Mapping[str, Any], maps: Mapping[str, Tensor]) -> Material:
    """The factors of a file's material."""
    extensions, rough = said.get("extensions", {}), said.get("pbrMetallicRoughness")
    older = extensions.get("KHR_materials_pbrSpecularGlossiness")
    if rough is None and older is not None:
        rough = {"metallicFactor": 0.0, "roughnessFactor": 1.0 - _share(older.get("glossinessFactor", 1.0))}
    rough = rough or {}
    red, green, blue = (_share(part) for part in said.get("emissiveFactor", (0.0, 0.0, 0.0)))
    return Material(
        metallic=_share(rough.get("metallicFactor", 1.0)),
        roughness=_share(rough.get("roughnessFactor", 1.0)),
        metallic_roughness=maps.get("metallicRoughnessTexture"),
        emissive=maps.get("emissiveTexture"),
        emissive_factor=(red, green, blue),
        emissive_strength=_number(extensions.get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1.0)),
        normal_scale=_number(said.get("normalTexture", {}).get("scale", 1.0)),
        occlusion_strength=_share(said.get("occlusionTexture", {}).get("strength", 1.0)),
        double_sided=said.get("doubleSided"),
        unlit="KHR_materials_unlit" in extensions,
    )


def _share(value: float) -> float:
    return min(max(_number(value), 0.0), 1.0)


def _number(value: float) -> float:
    if not math.isfinite(value):
        raise InputError(f"expected a finite factor of a material, got {value}")
    return float(value)
