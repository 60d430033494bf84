"""The host's MESH and 3D files, and the library's `Mesh` with its look (`BakedMesh`)."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from humannorm.checks import InputError, reading
from humannorm.export import BakedMesh, Material, load_baked
from humannorm.images import linear_from_srgb, srgb_from_linear
from humannorm.mesh import Mesh, check_mesh
from humannorm.mesh_io import MESH_SUFFIXES

__all__ = [
    "baked_from_host",
    "baked_to_host",
    "description_of",
    "file_content",
    "file_to_host",
    "from_host",
    "is_file",
    "mesh_class",
    "to_host",
]


def from_host(value: Any, name: str = "mesh") -> Mesh:
    """The one mesh of a MESH payload or 3D file, with its texture coordinates, colours and texture if it has them.

    name: of the socket. What is neither (other packs use the same socket name), and a batch of several, is refused.
    """
    return baked_from_host(value, name).mesh


def baked_from_host(value: Any, name: str = "mesh") -> BakedMesh:
    """The same with tangents, normal, occlusion, metallic-roughness and emissive maps and their factors."""
    if is_file(value):
        return file_content(value, name)
    with reading(name, "a MESH in the form of ComfyUI's own"):
        return _from_payload(value, name)


def _from_payload(value: Any, name: str) -> BakedMesh:
    _check_payload(value, name)
    points, corners = _count(value, "vertex_counts", value.vertices), _count(value, "face_counts", value.faces)

    def attribute(field: str, width: int) -> Tensor | None:
        values: Any = getattr(value, field, None)
        return None if values is None else values[0, :points, :width].detach().float().cpu().clone()

    def picture(field: str) -> Tensor | None:
        found = getattr(value, field, None)
        if not isinstance(found, Tensor) or found.dim() != 4 or uvs is None:
            return None
        return found[0, ..., :3].detach().float().cpu().clone()

    uvs = attribute("uvs", 2)
    colors = attribute("vertex_colors", 3)
    _warn_of_alpha(value, name)
    mesh = Mesh(
        value.vertices[0, :points].detach().float().cpu().clone(),
        value.faces[0, :corners].detach().long().cpu().clone(),
        normals=attribute("normals", 3),
        uvs=uvs,
        colors=None if colors is None else srgb_from_linear(colors),
        texture=picture("texture"),
    )
    said = getattr(value, "material", None) or {}
    mesh = _tinted(mesh, said.get("base_color_factor"))
    check_mesh(mesh)
    packed = picture("metallic_roughness")
    occlusion = packed[..., :1] if packed is not None and getattr(value, "occlusion_in_mr", False) else None
    look = _material(said, packed, picture("emissive"), bool(getattr(value, "unlit", False)))
    return BakedMesh(mesh, attribute("tangents", 4), picture("normal_map"), occlusion, look)


def to_host(mesh: Mesh, normal_map: Tensor | None = None) -> Any:
    """A MESH of one mesh in the class that this host has."""
    return baked_to_host(BakedMesh(mesh, normal_map=normal_map))


def baked_to_host(baked: BakedMesh) -> Any:
    """The same with tangents, maps and factors; what the host's class has no field for is put on it all the same.

    Occlusion goes into the red channel of the metallic-roughness map, as the host packs it.
    """
    mesh, look = baked.mesh, baked.material
    packed = look.metallic_roughness
    if baked.occlusion is not None:
        others = _plain_roughness(baked.occlusion) if packed is None else packed[..., 1:]
        packed = torch.cat([_sized(baked.occlusion, others), others], -1)
    extra = {
        "uvs": mesh.uvs,
        "vertex_colors": None if mesh.colors is None else linear_from_srgb(mesh.colors),
        "texture": mesh.texture,
        "normals": mesh.normals,
        "tangents": baked.tangents,
        "normal_map": baked.normal_map,
        "metallic_roughness": packed,
        "emissive": look.emissive,
    }
    fields: dict[str, Any] = {name: value.detach().cpu()[None] for name, value in extra.items() if value is not None}
    if baked.occlusion is not None:
        fields["occlusion_in_mr"] = True
    if look.unlit:
        fields["unlit"] = True
    if not look.is_plain or packed is not None:  # beside a map the host's own factors are 1
        fields["material"] = _described(look)
    geometry = {"vertices": mesh.vertices.detach().cpu()[None], "faces": mesh.faces.cpu()[None]}
    made = mesh_class()
    try:
        return made(**geometry, **fields)
    except TypeError:  # the older class: vertices and faces only
        value = made(**geometry)
        for name, content in fields.items():
            setattr(value, name, content)
        return value


def is_file(value: Any) -> bool:
    """Is it what travels on the newer hosts' FILE_3D sockets?"""
    return all(hasattr(value, name) for name in ("format", "get_source", "get_bytes"))


def file_content(value: Any, name: str = "model_3d") -> BakedMesh:
    """The mesh in a FILE_3D, be it a file on disk or bytes in memory."""
    suffix = f".{str(value.format).lower().lstrip('.')}"
    if suffix not in MESH_SUFFIXES:
        raise InputError(f"{name}: expected a 3D file of kind {', '.join(MESH_SUFFIXES)}, got {suffix}")
    source = value.get_source()
    if isinstance(source, str) and Path(source).suffix.lower() == suffix:
        return load_baked(source)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        path.write_bytes(value.get_bytes())
        try:
            return load_baked(path)
        except InputError as error:  # a place that nobody knows
            raise InputError(str(error).replace(str(path), name)) from error


def file_to_host(path: Path) -> Any:
    """A file as FILE_3D; on hosts without that type its path."""
    import comfy_api.v0_0_2

    made = getattr(getattr(comfy_api.v0_0_2, "Types", None), "File3D", None)
    return str(path) if made is None else made(str(path))


def _check_payload(value: Any, name: str) -> None:
    vertices, faces = getattr(value, "vertices", None), getattr(value, "faces", None)
    if not isinstance(vertices, Tensor) or not isinstance(faces, Tensor):
        raise InputError(
            f"{name}: expected ComfyUI's native MESH (vertices [B, N, 3], faces [B, M, 3]) or a 3D file, got"
            f" {type(value).__module__}.{type(value).__name__}; a TRIMESH goes through HumanNorm Trimesh to Mesh"
        )
    if vertices.dim() != 3 or faces.dim() != 3 or vertices.shape[-1] != 3 or faces.shape[-1] != 3:
        raise InputError(
            f"{name}: expected vertices [B, N, 3] and faces [B, M, 3], got {list(vertices.shape)} and"
            f" {list(faces.shape)}"
        )
    if not len(vertices) or not len(faces):
        raise InputError(f"{name}: expected a mesh, got an empty batch")
    if len(vertices) > 1:
        raise InputError(
            f"{name}: expected one mesh, got a batch of {len(vertices)}; hand them over one by one, for example each"
            " from a file of its own"
        )


def _count(value: Any, field: str, tensor: Tensor) -> int:
    """How many entries of the first mesh of a zero-padded batch are real."""
    counts = getattr(value, field, None)
    return int(tensor.shape[1] if counts is None else counts[0])


def _warn_of_alpha(value: Any, name: str) -> None:
    colors = getattr(value, "vertex_colors", None)
    if isinstance(colors, Tensor) and colors.shape[-1] > 3 and float(colors[..., 3].min()) < 1:
        warnings.warn(f"{name}: the transparency of its vertex colours is left out", stacklevel=3)


def _tinted(mesh: Mesh, factor: Any) -> Mesh:
    """The base colours times the material's linear factor, as a viewer shows them."""
    if factor is None or all(abs(float(part) - 1) < 1e-6 for part in factor[:3]):
        return mesh
    tint = torch.tensor([float(part) for part in factor[:3]])
    if mesh.texture is not None:
        return mesh.replace(texture=srgb_from_linear(linear_from_srgb(mesh.texture) * tint))
    colors = torch.ones_like(mesh.vertices) if mesh.colors is None else linear_from_srgb(mesh.colors)
    return mesh.replace(colors=srgb_from_linear(colors * tint))


def _material(said: dict[str, Any], packed: Tensor | None, emissive: Tensor | None, unlit: bool) -> Material:
    """The host's material; a factor below 0 is one that nobody chose: the map as it is, else plain cloth."""

    def factor(field: str, without_map: float) -> float:
        value = float(said.get(field, -1.0))
        return min(value, 1.0) if value >= 0 else 1.0 if packed is not None else without_map

    plain = Material()
    red, green, blue = (min(max(float(part), 0.0), 1.0) for part in said.get("emissive_factor", plain.emissive_factor))
    return Material(
        metallic=factor("metallic_factor", plain.metallic),
        roughness=factor("roughness_factor", plain.roughness),
        metallic_roughness=packed,
        emissive=emissive,
        emissive_factor=(red, green, blue),
        emissive_strength=float(said.get("emissive_strength", 1.0)),
        normal_scale=float(said.get("normal_scale", 1.0)),
        occlusion_strength=min(max(float(said.get("occlusion_strength", 1.0)), 0.0), 1.0),
        double_sided=said.get("double_sided"),
        unlit=unlit,
    )


def _described(look: Material) -> dict[str, Any]:
    """The factors by the host's names."""
    found = {
        "metallic_factor": look.metallic,
        "roughness_factor": look.roughness,
        "emissive_factor": list(look.emissive_factor),
        "emissive_strength": look.emissive_strength,
        "normal_scale": look.normal_scale,
        "occlusion_strength": look.occlusion_strength,
    }
    return found if look.double_sided is None else {**found, "double_sided": look.double_sided}


def _plain_roughness(occlusion: Tensor) -> Tensor:
    """Green and blue of a map [H, W, 2] that leaves the factors as they are."""
    return occlusion.new_ones(*occlusion.shape[:2], 2)


def _sized(picture: Tensor, like: Tensor) -> Tensor:
    """A picture [H, W, C] resized to another's height and width."""
    if picture.shape[:2] == like.shape[:2]:
        return picture
    size = (like.shape[0], like.shape[1])
    resized = torch.nn.functional.interpolate(picture.movedim(-1, 0)[None], size, mode="bilinear", antialias=True)
    return resized[0].movedim(0, -1)


def mesh_class() -> Any:
    import comfy_api.v0_0_2

    types: Any = getattr(comfy_api.v0_0_2, "Types", None)
    if hasattr(types, "MESH"):
        return types.MESH
    from comfy_extras.nodes_hunyuan3d import MESH

    return MESH


def description_of(baked: BakedMesh) -> str:
    """Counts, size and maps of a mesh as text for a node."""
    mesh, look = baked.mesh, baked.material
    size = (mesh.vertices.amax(0) - mesh.vertices.amin(0)).tolist()
    maps = {
        "texture": mesh.texture,
        "normal map": baked.normal_map,
        "occlusion": baked.occlusion,
        "metallic-roughness": look.metallic_roughness,
        "emissive": look.emissive,
    }
    found = [f"{name} {value.shape[1]} x {value.shape[0]}" for name, value in maps.items() if value is not None]
    parts = {"UVs": mesh.uvs, "normals": mesh.normals, "vertex colours": mesh.colors, "tangents": baked.tangents}
    found = [name for name, value in parts.items() if value is not None] + found
    return (
        f"{mesh.num_vertices:,} vertices, {mesh.num_faces:,} faces\n"
        f"{size[0]:.3g} wide, {size[1]:.3g} tall, {size[2]:.3g} deep\n"
        f"{', '.join(found) or 'no colours, no UVs'}"
    )
