"""Writers: GLB, OBJ with MTL and PNG, PLY with vertex colours."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from humannorm.checks import InputError, check_tensor
from humannorm.export.baked import BakedMesh, Material
from humannorm.export.gltf import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, GlbBuilder
from humannorm.export.topology import Array
from humannorm.files import check_target, write_files
from humannorm.images import encode_image
from humannorm.labels import LABELS
from humannorm.mesh import Mesh, check_mesh, is_watertight, weld, welded_vertex_normals

__all__ = ["LABEL_NAMES", "add_mesh", "write_glb", "write_obj", "write_ply"]

LABEL_NAMES = "humannorm_labels"  # of a mesh's extras: names by number of its attribute _LABEL

Location = str | os.PathLike[str]


def write_glb(
    path: Location,
    baked: BakedMesh,
    *,
    extras: Mapping[str, str] | None = None,
    image_format: str = "png",
    overwrite: bool = False,
) -> Path:
    """One GLB file (glTF 2.0) with the textures inside.

    Base colour is sRGB, the rest as the baked mesh's material says; vertex colours, if there is no texture, are turned
    linear as glTF wants. extras: strings kept in asset.extras, such as a prompt or a ComfyUI workflow. image_format:
    "png" or "jpeg" for the base colour; maps that hold numbers are always PNG.
    """
    target = check_target(path, ".glb", overwrite)
    check_mesh(baked.mesh)
    for key, value in (extras or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InputError(f"extras: expected strings by name, got {type(value).__name__} for {key!r}")
    builder = GlbBuilder(dict(extras) if extras else None)
    node = builder.add("nodes", {"name": target.stem, "mesh": add_mesh(builder, baked, target.stem, image_format)})
    builder.add("scenes", {"nodes": [node]})
    builder.document["scene"] = 0
    write_files({target: builder.to_bytes()})
    return target


def add_mesh(builder: GlbBuilder, baked: BakedMesh, name: str, image_format: str = "png") -> int:
    """The mesh with its material and textures as a part of a larger document; its index."""
    mesh = baked.mesh
    attributes = {"POSITION": builder.add_accessor(_array(mesh.vertices), ARRAY_BUFFER, bounds=True)}
    attributes["NORMAL"] = builder.add_accessor(_unit(_array(_normals(mesh))), ARRAY_BUFFER)
    if mesh.uvs is not None:
        attributes["TEXCOORD_0"] = builder.add_accessor(_array(mesh.uvs), ARRAY_BUFFER)
    if baked.tangents is not None:
        attributes["TANGENT"] = builder.add_accessor(_array(baked.tangents), ARRAY_BUFFER)
    if mesh.colors is not None and mesh.texture is None:
        attributes["COLOR_0"] = builder.add_accessor(_linear(_array(mesh.colors)), ARRAY_BUFFER)
    described: dict[str, Any] = {"name": name}
    if baked.labels is not None:
        check_tensor("labels", baked.labels, f"{mesh.num_vertices}", dtype="int")
        attributes["_LABEL"] = builder.add_accessor(_array(baked.labels).astype(np.float32), ARRAY_BUFFER)
        described["extras"] = {LABEL_NAMES: list(LABELS)}
    material = _material(builder, baked, name, image_format)
    faces = _array(mesh.faces).astype(np.uint32).ravel()
    primitive = {
        "attributes": attributes,
        "indices": builder.add_accessor(faces, ELEMENT_ARRAY_BUFFER),
        "material": builder.add("materials", material),
    }
    return builder.add("meshes", {**described, "primitives": [primitive]})


def _material(builder: GlbBuilder, baked: BakedMesh, name: str, image_format: str) -> dict[str, Any]:
    """The document's description of the look; adds its textures. Maps are left out where there are no coordinates."""
    mesh, look = baked.mesh, baked.material
    surface: dict[str, Any] = {"metallicFactor": look.metallic, "roughnessFactor": look.roughness}
    described: dict[str, Any] = {"name": name, "pbrMetallicRoughness": surface}
    textured = mesh.uvs is not None

    def texture(picture: Tensor, called: str, kind: str = "png") -> dict[str, Any]:
        return {"index": builder.add_texture(encode_image(picture, kind), called)}

    if mesh.texture is not None and textured:
        surface["baseColorTexture"] = texture(mesh.texture, "base_color", image_format)
    if baked.normal_map is not None and textured:
        scale = {} if look.normal_scale == 1 else {"scale": look.normal_scale}
        described["normalTexture"] = texture(baked.normal_map, "normal") | scale
    strength = {} if look.occlusion_strength == 1 else {"strength": look.occlusion_strength}
    if look.metallic_roughness is not None and textured:
        packed = look.metallic_roughness
        if baked.occlusion is not None and baked.occlusion.shape[:2] == packed.shape[:2]:  # occlusion in red
            packed = torch.cat([baked.occlusion, packed[..., 1:]], -1)
        surface["metallicRoughnessTexture"] = texture(packed, "occlusion_roughness_metallic")
        if packed is not look.metallic_roughness:
            described["occlusionTexture"] = {**surface["metallicRoughnessTexture"], **strength}
    if baked.occlusion is not None and textured and "occlusionTexture" not in described:
        described["occlusionTexture"] = texture(baked.occlusion.expand(-1, -1, 3), "occlusion") | strength
    _add_light(described, look, texture if textured else None)
    if look.unlit:
        _use_extension(builder, described, "KHR_materials_unlit", {})
    if look.emissive_strength != 1:
        strong = {"emissiveStrength": look.emissive_strength}
        _use_extension(builder, described, "KHR_materials_emissive_strength", strong)
    closed = is_watertight(_welded_faces(mesh)) if look.double_sided is None else not look.double_sided
    if not closed:
        described["doubleSided"] = True  # an open surface shows its inside
    return described


def _add_light(described: dict[str, Any], look: Material, texture: Callable[..., dict[str, Any]] | None) -> None:
    """What the surface emits; a map alone counts as it is, where glTF would multiply it by a factor of zero."""
    factor = look.emissive_factor
    if look.emissive is not None and texture is not None:
        described["emissiveTexture"] = texture(look.emissive, "emissive")
        factor = factor if any(factor) else (1.0, 1.0, 1.0)
    if any(factor):
        described["emissiveFactor"] = list(factor)


def _use_extension(builder: GlbBuilder, described: dict[str, Any], name: str, content: dict[str, Any]) -> None:
    described.setdefault("extensions", {})[name] = content
    used: list[str] = builder.document.setdefault("extensionsUsed", [])
    if name not in used:
        used.append(name)


def write_obj(path: Location, baked: BakedMesh, *, overwrite: bool = False) -> list[Path]:
    """NAME.obj with NAME.mtl and NAME.png (and NAME_normal.png, NAME_occlusion.png), all beside each other.

    Without a texture, colours stand behind the vertices (x y z r g b), as most programs read them.
    """
    target = check_target(path, ".obj", overwrite)
    mesh = baked.mesh
    check_mesh(mesh)
    name = target.stem
    pictures: dict[str, tuple[Path, Tensor]] = {}
    if mesh.texture is not None and mesh.uvs is not None:
        pictures["map_Kd"] = (target.with_name(f"{name}.png"), mesh.texture)
        if baked.normal_map is not None:
            pictures["norm"] = (target.with_name(f"{name}_normal.png"), baked.normal_map)
        if baked.occlusion is not None:
            pictures["map_Ka"] = (target.with_name(f"{name}_occlusion.png"), baked.occlusion)
    library = target.with_suffix(".mtl")
    if pictures:
        check_target(library, ".mtl", overwrite)
    for picture, _ in pictures.values():
        check_target(picture, ".png", overwrite)
    maps = "".join(f"{key} {picture.name}\n" for key, (picture, _) in pictures.items())
    files = {picture: encode_image(image) for picture, image in pictures.values()}
    if pictures:  # a material would outweigh vertex colours
        files[library] = f"newmtl surface\nKd 1 1 1\nKs 0 0 0\nillum 1\n{maps}".encode("utf-8", "surrogateescape")
    files[target] = _obj_text(mesh, library.name if pictures else None)
    write_files(files)
    return list(files)


def _obj_text(mesh: Mesh, library: str | None) -> bytes:
    colored = mesh.colors is not None and mesh.texture is None
    points = _array(
        torch.cat([mesh.vertices, mesh.colors], 1) if colored and mesh.colors is not None else mesh.vertices
    )
    lines = ["# humannorm, metres where a height was given, +Y up, +Z the front\n"]
    if library is not None:
        lines.append(f"mtllib {library}\n")
    lines.append(_rows("v " + " ".join(["%.7g"] * points.shape[1]), points))
    if mesh.uvs is not None:
        lines.append(_rows("vt %.7g %.7g", _array(mesh.uvs) * (1, -1) + (0, 1)))  # OBJ counts v from the bottom
    lines.append(_rows("vn %.5f %.5f %.5f", _unit(_array(_normals(mesh)))))
    parts, corner = (3, "%d/%d/%d") if mesh.uvs is not None else (2, "%d//%d")
    if library is not None:
        lines.append("usemtl surface\n")
    lines.append(_rows(f"f {corner} {corner} {corner}", np.repeat(_array(mesh.faces) + 1, parts, axis=1)))
    return "".join(lines).encode("utf-8", "surrogateescape")  # names of files may hold any letters


def _rows(pattern: str, values: Array) -> str:
    return (pattern + "\n") * len(values) % tuple(values.ravel().tolist())


def write_ply(path: Location, baked: BakedMesh, *, overwrite: bool = False) -> Path:
    """Binary little-endian PLY with normals and 8-bit vertex colours."""
    target = check_target(path, ".ply", overwrite)
    mesh = baked.mesh
    check_mesh(mesh)
    columns = [(axis, "<f4", _array(mesh.vertices)[:, k]) for k, axis in enumerate("xyz")]
    columns += [(f"n{axis}", "<f4", _unit(_array(_normals(mesh)))[:, k]) for k, axis in enumerate("xyz")]
    if mesh.colors is not None:
        bytes_ = np.rint(_array(mesh.colors).clip(0, 1) * 255).astype("u1")
        columns += [(channel, "u1", bytes_[:, k]) for k, channel in enumerate(("red", "green", "blue"))]
    vertices = np.empty(mesh.num_vertices, [(name, kind) for name, kind, _ in columns])
    for name, _, values in columns:
        vertices[name] = values
    faces = np.empty(mesh.num_faces, [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, _array(mesh.faces)
    properties = "".join(f"property {'float' if kind == '<f4' else 'uchar'} {name}\n" for name, kind, _ in columns)
    head = (
        "ply\nformat binary_little_endian 1.0\ncomment humannorm\n"
        f"element vertex {mesh.num_vertices}\n{properties}"
        f"element face {mesh.num_faces}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    write_files({target: head.encode("ascii") + vertices.tobytes() + faces.tobytes()})
    return target


def _normals(mesh: Mesh) -> Tensor:
    return welded_vertex_normals(mesh.vertices, mesh.faces) if mesh.normals is None else mesh.normals


def _welded_faces(mesh: Mesh) -> Tensor:
    return weld(mesh.vertices)[mesh.faces]


def _array(tensor: Tensor) -> Array:
    array = tensor.detach().cpu()
    return array.float().numpy() if array.is_floating_point() else array.numpy()


def _unit(normals: Array) -> Array:
    """Unit length; a vertex without a direction (no face around it) points up, as zero is not allowed in glTF."""
    length = np.linalg.norm(normals.astype(np.float64), axis=1, keepdims=True)
    up = np.array([[0.0, 1.0, 0.0]])
    return np.where(length > 1e-6, normals / np.maximum(length, 1e-6), up).astype(np.float32)


def _linear(colors: Array) -> Array:
    """IEC 61966-2-1 decoding: glTF's vertex colours are linear."""
    colors = colors.clip(0, 1).astype(np.float64)
    return np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4).astype(np.float32)
