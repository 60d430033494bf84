"""A moving human as one GLB file: surface, joints, skin weights and clips (glTF 2.0 sections 3.7.3 and 3.11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from humannorm.body.skeleton import matrix_to_quaternion, quaternion_to_matrix
from humannorm.body.skin_binding import JointMotion, SkinBinding
from humannorm.checks import InputError, reading
from humannorm.export.baked import BakedMesh
from humannorm.export.gltf import ARRAY_BUFFER, GlbBuilder
from humannorm.export.topology import Array
from humannorm.export.writers import Location, add_mesh
from humannorm.files import check_target, write_files
from humannorm.mesh import Mesh, check_mesh

__all__ = ["SkinnedFile", "read_skinned_glb", "surface_of_glb", "write_skinned_glb"]

STILL = 1e-6  # a joint whose rotation matrices differ from the identity by less gets no track


def write_skinned_glb(
    path: Location,
    surface: Mesh | BakedMesh | GlbBuilder,
    skin: SkinBinding,
    motions: Sequence[JointMotion] = (),
    *,
    extras: Mapping[str, str] | None = None,
    image_format: str = "png",
    overwrite: bool = False,
) -> Path:
    """One GLB with a skeleton, the surface bound to it in the pose it is in, and a clip for each motion.

    surface: a mesh, a baked one, or a file's document from `surface_of_glb`, whose materials, textures and notes then
    stay as they are. extras: strings for asset.extras. image_format: of the base colour of a surface that is no such
    document.
    """
    target = check_target(path, ".glb", overwrite)
    builder = _document(surface, target.stem, image_format)
    if extras:
        builder.document["asset"].setdefault("extras", {}).update(extras)
    primitive = _only_primitive(builder, str(target))
    count = len(builder.accessor(primitive["attributes"]["POSITION"]))
    if count != len(skin.weights):
        raise InputError(f"skin: expected weights for {count} vertices, got {len(skin.weights)}")
    names = [motion.name for motion in motions]
    if len(set(names)) < len(names):
        raise InputError(f"motions: expected a name of its own for each, got {', '.join(names)}")
    _add_weights(builder, primitive, skin)
    first = _add_joints(builder, skin)
    for motion in motions:
        _add_clip(builder, motion, skin, first)
    write_files({target: builder.to_bytes()})
    return target


def surface_of_glb(path: Location) -> tuple[GlbBuilder, Mesh]:
    """A GLB's document to write a skin into, and its surface: plain vertices and faces, in the order of the file.

    Only for files with one mesh of one piece that is not skinned yet and stands where its numbers say; others are
    refused with `InputError`.
    """
    source = Path(path)
    with reading(source, "a plain GLB file"):
        return _surface(source)


def _surface(source: Path) -> tuple[GlbBuilder, Mesh]:
    builder = GlbBuilder.parse(source.read_bytes(), str(source))
    primitive = _only_primitive(builder, str(source))
    for node in builder.document.get("nodes", []):
        if {"matrix", "translation", "rotation", "scale", "skin"} & set(node):
            raise InputError(f"{source}: expected a mesh that is neither moved nor skinned, got a node that is")
    if primitive.get("mode", 4) != 4 or "indices" not in primitive:
        raise InputError(f"{source}: expected indexed triangles, got another kind of primitive")
    position = builder.accessor(primitive["attributes"]["POSITION"])
    if position.dtype != np.float32:
        raise InputError(f"{source}: expected positions as numbers of 32 bits, got {position.dtype}")
    vertices = torch.from_numpy(position.copy())
    faces = torch.from_numpy(builder.accessor(primitive["indices"]).astype(np.int64)).reshape(-1, 3)
    return builder, Mesh(vertices, faces)


@dataclass(frozen=True, eq=False)
class SkinnedFile:
    """What `read_skinned_glb` finds."""

    mesh: Mesh  # plain, in the bind pose
    skin: SkinBinding
    motions: tuple[JointMotion, ...]


def read_skinned_glb(path: Location) -> SkinnedFile:
    """The way back from `write_skinned_glb`; for files that it wrote."""
    source = Path(path)
    with reading(source, "a GLB file of `write_skinned_glb`"):
        return _skinned(source)


def _skinned(source: Path) -> SkinnedFile:
    builder = GlbBuilder.parse(source.read_bytes(), str(source))
    document = builder.document
    if len(document.get("skins", [])) != 1:
        raise InputError(f"{source}: expected one skin, got {len(document.get('skins', []))}")
    order: list[int] = document["skins"][0]["joints"]
    nodes = document["nodes"]
    parents = [-1] * len(order)
    for index, node in enumerate(order):
        for child in nodes[node].get("children", []):
            parents[order.index(child)] = index
    offsets = torch.tensor([nodes[node].get("translation", [0.0, 0.0, 0.0]) for node in order])
    joints: list[Tensor] = []
    for index, parent in enumerate(parents):
        joints.append(offsets[index] if parent < 0 else joints[parent] + offsets[index])
    primitive = _only_primitive(builder, str(source))
    attributes = {name: builder.accessor(index) for name, index in primitive["attributes"].items()}
    skin = SkinBinding(
        tuple(nodes[node]["name"] for node in order),
        tuple(parents),
        torch.stack(joints),
        torch.from_numpy(attributes["JOINTS_0"].astype(np.int64)),
        torch.from_numpy(attributes["WEIGHTS_0"].copy()),
    )
    faces = torch.from_numpy(builder.accessor(primitive["indices"]).astype(np.int64)).reshape(-1, 3)
    mesh = Mesh(torch.from_numpy(attributes["POSITION"].copy()), faces)
    return SkinnedFile(
        mesh, skin, tuple(_read_clip(builder, clip, order, skin) for clip in document.get("animations", []))
    )


def _document(surface: Mesh | BakedMesh | GlbBuilder, name: str, image_format: str) -> GlbBuilder:
    if isinstance(surface, GlbBuilder):
        return surface
    baked = surface if isinstance(surface, BakedMesh) else BakedMesh(surface)
    check_mesh(baked.mesh)
    builder = GlbBuilder()
    builder.add("nodes", {"name": name, "mesh": add_mesh(builder, baked, name, image_format)})
    builder.add("scenes", {"nodes": [0]})
    builder.document["scene"] = 0
    return builder


def _only_primitive(builder: GlbBuilder, name: str) -> dict[str, Any]:
    meshes = builder.document.get("meshes", [])
    if len(meshes) != 1 or len(meshes[0]["primitives"]) != 1:
        pieces = sum(len(mesh["primitives"]) for mesh in meshes)
        raise InputError(f"{name}: expected one mesh of one piece, got {len(meshes)} meshes of {pieces} pieces")
    primitive: dict[str, Any] = meshes[0]["primitives"][0]
    return primitive


def _add_weights(builder: GlbBuilder, primitive: dict[str, Any], skin: SkinBinding) -> None:
    """JOINTS_0 and WEIGHTS_0; sums are 1 to the last bit that float32 allows, empty slots name joint 0."""
    weights = skin.weights.double().cpu().numpy()
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    weights[:, 0] = 1 - weights[:, 1:].astype(np.float64).sum(axis=1)
    kind = np.uint8 if len(skin.joint_names) <= 256 else np.uint16
    joints = np.where(weights > 0, skin.weight_joints.cpu().numpy(), 0).astype(kind)
    primitive["attributes"]["JOINTS_0"] = builder.add_accessor(joints, ARRAY_BUFFER)
    primitive["attributes"]["WEIGHTS_0"] = builder.add_accessor(weights, ARRAY_BUFFER)


def _add_joints(builder: GlbBuilder, skin: SkinBinding) -> int:
    """Nodes of the joints and the skin; the node of joint 0. The others follow in order."""
    document = builder.document
    joints = skin.joints.float().cpu().numpy()
    first = len(document["nodes"])
    children: list[list[int]] = [[] for _ in skin.parents]
    for joint, parent in enumerate(skin.parents):
        if parent >= 0:
            children[parent].append(first + joint)
    for joint, (name, parent) in enumerate(zip(skin.joint_names, skin.parents, strict=True)):
        offset = joints[joint] - (joints[parent] if parent >= 0 else 0)
        node: dict[str, object] = {"name": name, "translation": offset.tolist()}
        if children[joint]:
            node["children"] = children[joint]
        builder.add("nodes", node)
    inverse = np.tile(np.eye(4, dtype=np.float32), (len(joints), 1, 1))
    inverse[:, 3, :3] = -joints  # columns first, as glTF stores matrices
    matrices = builder.add_accessor(inverse)
    nodes = [first + joint for joint in range(len(joints))]
    index = builder.add("skins", {"inverseBindMatrices": matrices, "joints": nodes, "skeleton": first})
    holder = next(node for node in document["nodes"] if "mesh" in node)
    holder["skin"] = index
    document["scenes"][document.get("scene", 0)]["nodes"].append(first)
    return first


def _add_clip(builder: GlbBuilder, motion: JointMotion, skin: SkinBinding, first: int) -> None:
    times = (np.arange(len(motion.rotations)) * motion.frame_time).astype(np.float32)
    clock = builder.add_accessor(times, bounds=True)
    samplers: list[dict[str, object]] = []
    channels: list[dict[str, object]] = []

    def track(joint: int, path: str, values: Array) -> None:
        samplers.append({"input": clock, "output": builder.add_accessor(values), "interpolation": "LINEAR"})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": first + joint, "path": path}})

    track(0, "translation", motion.root_positions.float().cpu().numpy())
    for joint in range(len(skin.parents)):
        turns = motion.rotations[:, joint].double().cpu()
        if float((turns - torch.eye(3, dtype=turns.dtype)).abs().max()) > STILL:
            track(joint, "rotation", _steady(matrix_to_quaternion(turns)).numpy().astype(np.float32))
    builder.add("animations", {"name": motion.name, "samplers": samplers, "channels": channels})


def _steady(quaternions: Tensor) -> Tensor:
    """(w, x, y, z) [T, 4] as glTF's (x, y, z, w), with signs such that neighbours never lie far apart."""
    flips = torch.where((quaternions[1:] * quaternions[:-1]).sum(1) < 0, -1.0, 1.0).cumprod(0)
    steady = torch.cat([quaternions[:1], quaternions[1:] * flips[:, None]])
    return steady[:, [1, 2, 3, 0]]


def _read_clip(builder: GlbBuilder, clip: dict[str, Any], order: list[int], skin: SkinBinding) -> JointMotion:
    samplers = clip["samplers"]
    times = builder.accessor(samplers[0]["input"])
    rotations = torch.eye(3).repeat(len(times), len(order), 1, 1)
    positions = skin.joints[0].repeat(len(times), 1)
    for channel in clip["channels"]:
        values = torch.from_numpy(builder.accessor(samplers[channel["sampler"]]["output"]).copy())
        joint = order.index(channel["target"]["node"])
        if channel["target"]["path"] == "translation":
            positions = values
        else:
            rotations[:, joint] = quaternion_to_matrix(values[:, [3, 0, 1, 2]])
    step = float(times[1] - times[0]) if len(times) > 1 else 0.0
    return JointMotion(str(clip["name"]), rotations, positions, step)
