"""Files that open anywhere: decimation, texture atlas, baking, and GLB, OBJ and PLY writers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humannorm.export.atlas import Atlas, UnwrapSettings, unwrap
    from humannorm.export.baked import BakedMesh, Material
    from humannorm.export.decimation import decimate
    from humannorm.export.detail import level_of_detail, write_levels
    from humannorm.export.exporting import (
        FORMATS,
        ExportSettings,
        bake,
        bake_for,
        color_vertices,
        export_mesh,
        slopes_on,
        to_metres,
        unwrapped,
        with_maps,
        write_baked,
    )
    from humannorm.export.gltf import GlbBuilder
    from humannorm.export.loading import load_baked
    from humannorm.export.materials import with_materials
    from humannorm.export.tangents import vertex_tangents
    from humannorm.export.writers import add_mesh, write_glb, write_obj, write_ply

# Name -> module, imported on first use: unwrapping needs scipy, which importing the library must not cost.
_HOMES = {
    **dict.fromkeys(("Atlas", "UnwrapSettings", "unwrap"), "atlas"),
    **dict.fromkeys(("BakedMesh", "Material"), "baked"),
    "decimate": "decimation",
    **dict.fromkeys(("level_of_detail", "write_levels"), "detail"),
    **dict.fromkeys(
        (
            "FORMATS",
            "ExportSettings",
            "bake",
            "bake_for",
            "color_vertices",
            "export_mesh",
            "slopes_on",
            "to_metres",
            "unwrapped",
            "with_maps",
            "write_baked",
        ),
        "exporting",
    ),
    "GlbBuilder": "gltf",
    "load_baked": "loading",
    "with_materials": "materials",
    "vertex_tangents": "tangents",
    **dict.fromkeys(("add_mesh", "write_glb", "write_obj", "write_ply"), "writers"),
}

__all__ = [
    "FORMATS",
    "Atlas",
    "BakedMesh",
    "ExportSettings",
    "GlbBuilder",
    "Material",
    "UnwrapSettings",
    "add_mesh",
    "bake",
    "bake_for",
    "color_vertices",
    "decimate",
    "export_mesh",
    "level_of_detail",
    "load_baked",
    "slopes_on",
    "to_metres",
    "unwrap",
    "unwrapped",
    "vertex_tangents",
    "with_maps",
    "with_materials",
    "write_baked",
    "write_glb",
    "write_levels",
    "write_obj",
    "write_ply",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
