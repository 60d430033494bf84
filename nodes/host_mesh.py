"""The host's MESH and the library's `Mesh`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from humannorm.checks import InputError
from humannorm.mesh import Mesh, check_mesh


def from_host(value: Any, name: str = "mesh") -> Mesh:
    """The first mesh of a MESH payload, with its texture coordinates, colours and texture if it has them.

    A payload that is no native MESH (other packs use the same socket name) is refused by name.
    """
    vertices, faces = getattr(value, "vertices", None), getattr(value, "faces", None)
    if not isinstance(vertices, Tensor) or not isinstance(faces, Tensor):
        raise InputError(
            f"{name}: expected ComfyUI's native MESH (vertices [B, N, 3], faces [B, M, 3]), got"
            f" {type(value).__module__}.{type(value).__name__}; a TRIMESH goes through HumanNorm Trimesh to Mesh"
        )
    if vertices.dim() != 3 or faces.dim() != 3 or vertices.shape[-1] != 3 or faces.shape[-1] != 3:
        raise InputError(
            f"{name}: expected vertices [B, N, 3] and faces [B, M, 3], got {list(vertices.shape)} and"
            f" {list(faces.shape)}"
        )
    if not len(vertices) or not len(faces):
        raise InputError(f"{name}: expected at least one mesh, got an empty batch")
    points, corners = _count(value, "vertex_counts", vertices), _count(value, "face_counts", faces)

    def attribute(field: str, width: int) -> Tensor | None:
        values = getattr(value, field, None)
        return None if values is None else values[0, :points, :width].detach().float().clone()

    texture = getattr(value, "texture", None)
    uvs = attribute("uvs", 2)
    colors = attribute("vertex_colors", 3)
    mesh = Mesh(
        vertices[0, :points].detach().float().clone(),
        faces[0, :corners].detach().long().clone(),
        normals=attribute("normals", 3),
        uvs=uvs,
        colors=None if colors is None else linear_to_srgb(colors),
        texture=None if texture is None or uvs is None else texture[0, ..., :3].detach().float().clone(),
    )
    check_mesh(mesh)
    return mesh


def normal_map_of(value: Any) -> Tensor | None:
    """The tangent-space normal map [H, W, 3] that `to_host` put on a MESH."""
    found = getattr(value, "normal_map", None)
    return found[0].detach().float().clone() if isinstance(found, Tensor) and found.dim() == 4 else None


def to_host(mesh: Mesh, normal_map: Tensor | None = None) -> Any:
    """A MESH of one mesh in the class that this host has; what the class has no field for is put on it all the same."""
    extra = {
        "uvs": mesh.uvs,
        "vertex_colors": None if mesh.colors is None else srgb_to_linear(mesh.colors),
        "texture": mesh.texture,
        "normals": mesh.normals,
        "normal_map": normal_map,
    }
    batched = {name: value.detach().cpu()[None] for name, value in extra.items() if value is not None}
    geometry = {"vertices": mesh.vertices.detach().cpu()[None], "faces": mesh.faces.cpu()[None]}
    made = _mesh_class()
    try:
        return made(**geometry, **batched)
    except TypeError:  # the older class: vertices and faces only
        value = made(**geometry)
        for name, tensor in batched.items():
            setattr(value, name, tensor)
        return value


def _mesh_class() -> Any:
    import comfy_api.latest

    types: Any = getattr(comfy_api.latest, "Types", None)
    if hasattr(types, "MESH"):
        return types.MESH
    from comfy_extras.nodes_hunyuan3d import MESH

    return MESH


def _count(value: Any, field: str, tensor: Tensor) -> int:
    """How many entries of the first mesh of a zero-padded batch are real."""
    counts = getattr(value, field, None)
    return int(tensor.shape[1] if counts is None else counts[0])


def srgb_to_linear(colors: Tensor) -> Tensor:
    """The sRGB curve undone: glTF's and the host's vertex colours are linear, the library's are sRGB."""
    return torch.where(colors <= 0.04045, colors / 12.92, ((colors.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(colors: Tensor) -> Tensor:
    return torch.where(colors <= 0.0031308, colors * 12.92, 1.055 * colors.clamp_min(0) ** (1 / 2.4) - 0.055)
