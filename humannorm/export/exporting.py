"""From a sculpted, painted surface to a file: decimate, unwrap, bake, write."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError, check_choice, check_range
from humannorm.distance.signed_distance import SignedDistance
from humannorm.export.atlas import unwrap
from humannorm.export.baked import BakedMesh, Material
from humannorm.export.baking import ColorField, SurfacePoints, bake_normals, colors_at, locate, map_at
from humannorm.export.decimation import decimate
from humannorm.export.tangents import slopes_of, vertex_tangents
from humannorm.export.writers import write_glb, write_obj, write_ply
from humannorm.mesh import Mesh, check_mesh, welded_vertex_normals
from humannorm.rendering import sample_texture
from humannorm.rendering.texels import Texels, find_texels

__all__ = [
    "FORMATS",
    "ExportSettings",
    "bake",
    "bake_for",
    "color_vertices",
    "export_mesh",
    "left_out",
    "slopes_on",
    "to_metres",
    "unwrapped",
    "with_maps",
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
    whole: bool = True
    """A closed surface stays closed, or is refused; else few faces may leave it open here and there."""
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

    Colours come from `field`, evaluated at points of the full surface in the mesh's own units, else from the mesh's
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
    mesh: Mesh | BakedMesh,
    settings: ExportSettings = ExportSettings(),
    field: ColorField | None = None,
    progress: Progress | None = None,
) -> BakedMesh:
    """What a file of this kind ("glb", "obj" or "ply") holds: textures, or colours at the vertices.

    mesh: with the maps of its material, if it has some: a GLB keeps them all, and what the others have no place for is
    named in a warning.
    """
    if isinstance(mesh, BakedMesh) and (lost := left_out(kind, mesh)):
        warnings.warn(f"{', '.join(lost)}: left out, as a file of format {kind} has no place for them", stacklevel=2)
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


def left_out(kind: str, surface: BakedMesh) -> list[str]:
    """What of a surface's material a file of this kind ("glb", "obj" or "ply") cannot say."""
    if kind == "glb":
        return []
    found = {"normal map": surface.normal_map, "occlusion map": surface.occlusion} if kind == "ply" else {}
    look = surface.material
    found |= {"metallic-roughness map": look.metallic_roughness, "emissive map": look.emissive}
    lost = [name for name, picture in found.items() if picture is not None]
    plain = Material()
    factors = ("metallic", "roughness", "emissive_factor", "unlit")
    return lost + [name for name in factors if getattr(look, name) != getattr(plain, name)]


def bake(
    mesh: Mesh | BakedMesh,
    settings: ExportSettings = ExportSettings(),
    field: ColorField | None = None,
    progress: Progress | None = None,
) -> BakedMesh:
    """Unwrapped surface of at most `settings.faces` faces, with base colour, the maps requested, and those that the
    mesh brings in a layout of its own."""
    tell = progress or _say_nothing
    look = mesh if isinstance(mesh, BakedMesh) else BakedMesh(mesh)
    source, low = look.mesh.to(dtype=torch.float32), unwrapped(look.mesh, settings, tell)
    assert low.normals is not None and low.uvs is not None
    tangents = vertex_tangents(low.vertices, low.faces, low.normals, low.uvs)
    tell("find surface", 0.5)
    texels = find_texels(low, settings.texture_size)
    places = _places(source, low, texels)
    tell("bake colour", 0.65)
    colors = _colors(source, field, places)
    normal_map = occlusion = None
    if settings.normal_map:
        tell("bake normals", 0.8)
        normals, along = texels.interpolate(low, low.normals), texels.interpolate(low, tangents)
        encoded = bake_normals(source, places, normals, along, look.normal_map, look.material.normal_scale)
        normal_map = texels.image(encoded)

    def carried(picture: Tensor | None) -> Tensor | None:
        return None if picture is None else texels.image(map_at(source, picture, places))

    if look.occlusion is not None:
        occlusion = carried(look.occlusion)
    elif settings.occlusion:
        tell("bake occlusion", 0.85)
        occlusion = texels.image(texels.interpolate(low, _occlusion(low, settings)[:, None]))
    low = low.replace(texture=texels.image(colors))
    material = replace(
        look.material,
        metallic_roughness=carried(look.material.metallic_roughness),
        emissive=carried(look.material.emissive),
        normal_scale=1.0,
    )
    return BakedMesh(_sized(low, settings), tangents, normal_map, occlusion, material)


def unwrapped(mesh: Mesh, settings: ExportSettings = ExportSettings(), progress: Progress | None = None) -> Mesh:
    """The surface that `bake` puts textures on: at most `settings.faces` faces, with normals, and texture coordinates
    for textures of `settings.texture_size` texels."""
    tell = progress or _say_nothing
    surface = _reduced(mesh, settings, tell)[1]
    tell("unwrap", 0.1)
    atlas = unwrap(surface, settings.texture_size, settings.padding * settings.texture_size)
    low = Mesh(surface.vertices[atlas.vertex], atlas.faces, uvs=atlas.uvs)
    return low.replace(normals=welded_vertex_normals(low.vertices, low.faces))


def with_maps(
    painted: Mesh,
    settings: ExportSettings = ExportSettings(),
    source: Mesh | None = None,
    progress: Progress | None = None,
    slopes: Float[Tensor, "S S 3"] | None = None,
) -> BakedMesh:
    """A surface from `unwrapped` that wears its texture already, with the other maps that the settings request.

    source: the full surface that it was made of, in the same frame. slopes: of folds that are finer than the mesh, a
    picture on its uvs (`mesh.leaning`). Without either there is no normal map.
    """
    if painted.uvs is None or painted.texture is None:
        raise InputError("painted: expected texture coordinates and a texture, got a mesh without")
    _check_settings(settings)
    tell = progress or _say_nothing
    normals = welded_vertex_normals(painted.vertices, painted.faces) if painted.normals is None else painted.normals
    low = painted.replace(normals=normals)
    tangents = vertex_tangents(low.vertices, low.faces, normals, painted.uvs)
    normal_map = occlusion = None
    fine = settings.normal_map and (source is not None or slopes is not None)
    if fine or settings.occlusion:
        texels = find_texels(low, settings.texture_size)
    if fine:
        tell("bake normals", 0.8)
        full = low if source is None else source
        own, along = texels.interpolate(low, normals), texels.interpolate(low, tangents)
        uv = texels.interpolate(low, painted.uvs)[None, None]
        lean = None if slopes is None else sample_texture(slopes, uv)[0, 0]
        normal_map = texels.image(bake_normals(full, _places(full, low, texels), own, along, lean=lean))
    if settings.occlusion:
        tell("bake occlusion", 0.85)
        occlusion = texels.image(texels.interpolate(low, _occlusion(low, settings)[:, None]))
    return BakedMesh(_sized(low, settings), tangents, normal_map, occlusion)


def slopes_on(baked: BakedMesh) -> Float[Tensor, "S S 3"] | None:
    """A surface's normal map as `rendering.render` takes it, of the map's size; None where it has no map."""
    mesh, picture = baked.mesh, baked.normal_map
    if picture is None or mesh.uvs is None:
        return None
    normals = welded_vertex_normals(mesh.vertices, mesh.faces) if mesh.normals is None else mesh.normals
    tangents = baked.tangents
    if tangents is None:
        tangents = vertex_tangents(mesh.vertices, mesh.faces, normals, mesh.uvs)
    texels = find_texels(mesh, len(picture))
    bent = sample_texture(picture, texels.interpolate(mesh, mesh.uvs)[None, None])[0, 0] * 2 - 1
    scale = bent.new_tensor([baked.material.normal_scale, baked.material.normal_scale, 1.0])
    return texels.image(slopes_of(bent * scale, texels.interpolate(mesh, normals), texels.interpolate(mesh, tangents)))


def _places(source: Mesh, low: Mesh, texels: Texels) -> SurfacePoints:
    """Where on the full surface the texels are."""
    points = texels.interpolate(low, low.vertices)
    if low.num_faces == source.num_faces:  # nothing was taken away: the texel's own face is the closest one
        return SurfacePoints(points, texels.face, texels.barycentric)
    return locate(SignedDistance(source.vertices, source.faces, inside_out="flip"), points)


def color_vertices(
    mesh: Mesh | BakedMesh,
    settings: ExportSettings = ExportSettings(),
    field: ColorField | None = None,
    progress: Progress | None = None,
) -> BakedMesh:
    """Surface of at most `settings.faces` faces with a colour at each vertex, without textures."""
    tell = progress or _say_nothing
    source, low = _reduced(mesh.mesh if isinstance(mesh, BakedMesh) else mesh, settings, tell)
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
    """The checked mesh in single precision, and its reduction to the requested number of faces."""
    _check_settings(settings)
    check_mesh(mesh)
    source = mesh.to(dtype=torch.float32)
    tell("decimate", 0.0)
    return source, decimate(source, settings.faces, settings.whole)


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
