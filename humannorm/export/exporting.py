"""From a sculpted, painted surface to a file: decimate, unwrap, bake, write."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError, check_choice, check_range
from humannorm.distance.signed_distance import SignedDistance
from humannorm.export.atlas import unwrap
from humannorm.export.baked import BakedMesh
from humannorm.export.baking import ColorField, SurfacePoints, bake_normals, colors_at, find_texels, locate
from humannorm.export.decimation import decimate
from humannorm.export.tangents import vertex_tangents
from humannorm.export.writers import write_glb, write_obj, write_ply
from humannorm.mesh import Mesh, check_mesh, welded_vertex_normals

__all__ = [
    "FORMATS",
    "ExportSettings",
    "bake",
    "bake_for",
    "color_vertices",
    "export_mesh",
    "to_metres",
    "write_baked",
]

FORMATS = ("glb", "obj", "ply")
Progress = Callable[[str, float], None]
"""Told the name of the step that begins and the share of the work done, 0..1."""

PLAIN_GREY = 0.7  # sRGB of a mesh that brings no colours


@dataclass(frozen=True)
class ExportSettings:
    faces: int = 400_000
    """Most faces of the exported surface; the paper's number."""
    texture_size: int = 2048
    """Side of the square textures in texels, up to 8192; the published code bakes 2048."""
    padding: float = 1 / 256
    """Least distance between charts as a share of the texture's side: 8 texels of 2048, so that seen from afar (mip
    level 2) nothing bleeds across a seam."""
    normal_map: bool = True
    """Bake the full surface's normals into a tangent-space map."""
    occlusion: bool = False
    """Bake ambient occlusion."""
    occlusion_rays: int = 64
    """Rays per vertex for ambient occlusion."""
    occlusion_reach: float = 0.15
    """How far a surface hides the sky, as a share of the mesh's height."""
    height_m: float | None = None
    """Height of the exported mesh in metres, standing on y = 0; None leaves units and place as they are."""
    image_format: str = "png"
    """Of the base colour in a GLB: "png" or "jpeg"."""


def export_mesh(
    path: str | os.PathLike[str],
    mesh: Mesh,
    settings: ExportSettings = ExportSettings(),
    *,
    field: ColorField | None = None,
    extras: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Write `mesh` as GLB, OBJ or PLY, as the path ends; the files written, the named one last.

    Colours come from `field`, asked at points of the full surface in the mesh's own units, else from the mesh's
    texture, else from its vertex colours; without any it is plain grey. PLY has vertex colours instead of textures.
    """
    target = Path(path)
    kind = target.suffix.lower().removeprefix(".")
    check_choice("format", kind, FORMATS)
    _check_settings(settings)
    check_mesh(mesh)
    if target.exists() and not overwrite:  # before any long work; the writers look again
        raise InputError(f"path: expected a new file, got {target}, which exists (overwrite=True replaces it)")
    tell = progress or _say_nothing
    baked = bake_for(kind, mesh, settings, field, tell)
    tell("write", 0.9)
    done = write_baked(target, baked, extras=extras, image_format=settings.image_format, overwrite=overwrite)
    tell("done", 1.0)
    return done


def bake_for(
    kind: str,
    mesh: Mesh,
    settings: ExportSettings = ExportSettings(),
    field: ColorField | None = None,
    progress: Progress | None = None,
) -> BakedMesh:
    """What a file of this kind ("glb", "obj" or "ply") holds: textures, or colours at the vertices."""
    return (color_vertices if kind == "ply" else bake)(mesh, settings, field, progress)


def write_baked(
    target: Path,
    baked: BakedMesh,
    *,
    extras: Mapping[str, str] | None = None,
    image_format: str = "png",
    overwrite: bool = False,
) -> list[Path]:
    """Write a GLB, OBJ or PLY, as the path ends; the files written, the named one last."""
    kind = target.suffix.lower()
    if kind == ".glb":
        return [write_glb(target, baked, extras=extras, image_format=image_format, overwrite=overwrite)]
    if kind == ".obj":
        return write_obj(target, baked, overwrite=overwrite)
    return [write_ply(target, baked, overwrite=overwrite)]


def bake(
    mesh: Mesh,
    settings: ExportSettings = ExportSettings(),
    field: ColorField | None = None,
    progress: Progress | None = None,
) -> BakedMesh:
    """Unwrapped surface of at most `settings.faces` faces, with base colour and the maps asked for."""
    tell = progress or _say_nothing
    source, surface = _reduced(mesh, settings, tell)
    tell("unwrap", 0.1)
    atlas = unwrap(surface, settings.texture_size, settings.padding * settings.texture_size)
    low = Mesh(surface.vertices[atlas.vertex], atlas.faces, uvs=atlas.uvs)
    low = low.replace(normals=welded_vertex_normals(low.vertices, low.faces))
    assert low.normals is not None and low.uvs is not None
    tangents = vertex_tangents(low.vertices, low.faces, low.normals, low.uvs)
    tell("find surface", 0.5)
    texels = find_texels(low, settings.texture_size)
    points = texels.interpolate(low, low.vertices)
    if surface.num_faces == source.num_faces:  # nothing was taken away: the texel's own face is the closest one
        places = SurfacePoints(points, texels.face, texels.barycentric)
    else:
        places = locate(SignedDistance(source.vertices, source.faces, inside_out="flip"), points)
    tell("bake colour", 0.65)
    colors = _colors(source, field, places)
    normal_map = occlusion = None
    if settings.normal_map:
        tell("bake normals", 0.8)
        encoded = bake_normals(source, places, texels.interpolate(low, low.normals), texels.interpolate(low, tangents))
        normal_map = texels.image(encoded)
    if settings.occlusion:
        tell("bake occlusion", 0.85)
        occlusion = texels.image(texels.interpolate(low, _occlusion(low, settings)[:, None]))
    low = low.replace(texture=texels.image(colors))
    return BakedMesh(_sized(low, settings), tangents, normal_map, occlusion)


def color_vertices(
    mesh: Mesh,
    settings: ExportSettings = ExportSettings(),
    field: ColorField | None = None,
    progress: Progress | None = None,
) -> BakedMesh:
    """Surface of at most `settings.faces` faces with a colour at each vertex, without textures."""
    tell = progress or _say_nothing
    source, low = _reduced(mesh, settings, tell)
    tell("bake colour", 0.5)
    places = locate(SignedDistance(source.vertices, source.faces, inside_out="flip"), low.vertices)
    low = low.replace(colors=_colors(source, field, places), normals=welded_vertex_normals(low.vertices, low.faces))
    return BakedMesh(_sized(low, settings))


def to_metres(mesh: Mesh, height_m: float) -> Mesh:
    """The mesh `height_m` tall, its lowest point on y = 0, its middle over the origin."""
    if not (math.isfinite(height_m) and height_m > 0):
        raise InputError(f"height_m: expected a height in metres above 0, got {height_m}")
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    tall = float(high[1] - low[1])
    if tall <= 0:
        raise InputError("height_m: expected a mesh with a height, got a flat one")
    foot = torch.stack([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    return mesh.replace(vertices=(mesh.vertices - foot) * (height_m / tall))


def _sized(mesh: Mesh, settings: ExportSettings) -> Mesh:
    return mesh if settings.height_m is None else to_metres(mesh, settings.height_m)


def _colors(source: Mesh, field: ColorField | None, places: SurfacePoints) -> Float[Tensor, "N 3"]:
    if field is None and source.colors is None and (source.texture is None or source.uvs is None):
        return torch.full_like(places.point, PLAIN_GREY)
    return colors_at(source, field, places).clamp(0, 1)


def _occlusion(mesh: Mesh, settings: ExportSettings) -> Float[Tensor, " V"]:
    from humannorm.export.warp_occlusion import ambient_occlusion

    assert mesh.normals is not None
    extent = mesh.vertices.amax(0) - mesh.vertices.amin(0)
    return ambient_occlusion(
        mesh.vertices,
        mesh.faces,
        mesh.vertices,
        mesh.normals,
        settings.occlusion_rays,
        settings.occlusion_reach * float(extent[1]),
        1e-4 * float(extent.max()),
    )


def _reduced(mesh: Mesh, settings: ExportSettings, tell: Progress) -> tuple[Mesh, Mesh]:
    """The checked mesh in single precision, and its reduction to the faces asked for."""
    _check_settings(settings)
    check_mesh(mesh)
    source = mesh.to(dtype=torch.float32)
    tell("decimate", 0.0)
    return source, decimate(source, settings.faces)


def _check_settings(settings: ExportSettings) -> None:
    check_range("faces", settings.faces, 4, 10_000_000)
    check_range("texture_size", settings.texture_size, 16, 8192)
    check_range("padding", settings.padding, 0, 1 / 16)
    check_range("occlusion_rays", settings.occlusion_rays, 1, 4096)
    check_range("occlusion_reach", settings.occlusion_reach, 0, math.inf)
    check_choice("image_format", settings.image_format, ("png", "jpeg"))
    if settings.height_m is not None and not (math.isfinite(settings.height_m) and settings.height_m > 0):
        raise InputError(f"height_m: expected a height in metres above 0, got {settings.height_m}")


def _say_nothing(step: str, share: float) -> None:
    pass
