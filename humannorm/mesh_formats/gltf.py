"""GLB and glTF 2.0: every surface of the scene where it stands when nothing moves, with the look of its material.

Nodes place meshes, skins place them by their joints (not by their node), morph targets by their default weights.
Colours are what the base colour says: texture, times factor, times vertex colours, in linear light.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from humannorm.mesh_formats.gltf_document import DECOMPRESS, GltfDocument
from humannorm.mesh_formats.parts import Array, Part, srgb_from_linear, unit_or_none
from humannorm.mesh_formats.pictures import decode_picture

__all__ = ["MAPS", "Surface", "read_gltf", "read_gltf_surfaces"]

MAPS = {
    "normalTexture": "normal map",
    "metallicRoughnessTexture": "metallic-roughness map",
    "occlusionTexture": "occlusion map",
    "emissiveTexture": "emissive map",
}
"""Pictures of a material beside its base colour, and what they are called."""

_WRAPS = {33071: "clamp", 33648: "mirror", 10497: "repeat"}
_DRACO = "KHR_draco_mesh_compression"
_DEEPEST = 1000  # nodes under nodes
_MOST_COPIES = 100_000  # placed meshes of one scene


@dataclass(frozen=True)
class Surface:
    """A placed piece of triangles and what the file says of its material."""

    part: Part
    material: Mapping[str, Any]  # the file's own object, empty where it has none
    maps: Mapping[str, Part]  # by names of `MAPS`: the piece with that picture in place of its base colour


def read_gltf(path: Path) -> list[Part]:
    """One part for each placed piece of triangles."""
    scene = _Scene(GltfDocument.read(path))
    return [scene.colored(*piece) for piece in scene.pieces()]


def read_gltf_surfaces(path: Path) -> list[Surface]:
    """The same with the other pictures of their materials."""
    scene = _Scene(GltfDocument.read(path))
    return [Surface(scene.colored(*piece), scene.material(piece[2]), scene.mapped(*piece)) for piece in scene.pieces()]


class _Scene:
    def __init__(self, document: GltfDocument) -> None:
        self.document = document
        self.world: dict[int, Array] = {}
        self.pictures: dict[int, Array | None] = {}
        self._place_nodes()

    def _place_nodes(self) -> None:
        """World matrices of all nodes: joints of a skin may stand outside of the scene that is shown."""
        nodes = self.document.items("nodes")
        children = {child for node in range(len(nodes)) for child in self._children(node)}
        waiting = [(node, np.eye(4), 0) for node in range(len(nodes)) if node not in children]
        while waiting:
            node, above, depth = waiting.pop()
            if node in self.world or depth > _DEEPEST:
                raise self.document.fail("expected a tree of nodes, got one in which a node has two parents")
            self.world[node] = above @ self._local(node)
            waiting += [(child, self.world[node], depth + 1) for child in self._children(node)]
        if len(self.world) < len(nodes):
            raise self.document.fail("expected a tree of nodes, got nodes that hang on themselves")

    def _children(self, node: int) -> list[int]:
        children = self.document.item("nodes", node).get("children", [])
        for child in children:
            self.document.item("nodes", child)
        return list(children)

    def _local(self, index: int) -> Array:
        node, document = self.document.item("nodes", index), self.document
        matrix = document.numbers(node, "matrix", 16)
        if matrix is not None:
            return matrix.reshape(4, 4).T
        return _composed(
            document.numbers(node, "translation", 3),
            document.numbers(node, "rotation", 4),
            document.numbers(node, "scale", 3),
        )

    def pieces(self) -> Iterator[tuple[Part, dict[str, Array], Any]]:
        """Placed pieces without their look, the values of their vertices, and the numbers of their materials."""
        meshes = self.document.items("meshes")
        shown = [node for node in self._shown() if "mesh" in self.document.item("nodes", node)]
        if not self.document.items("nodes"):
            for index in range(len(meshes)):  # a library of meshes without a scene
                yield from self._pieces(index, {}, np.eye(4)[None])
        count = 0
        for node in shown:
            item = self.document.item("nodes", node)
            placed = self._copies(item) if "EXT_mesh_gpu_instancing" in item.get("extensions", {}) else np.eye(4)[None]
            count += len(placed)
            if count > _MOST_COPIES:
                raise self.document.fail(f"expected at most {_MOST_COPIES} placed meshes, got more")
            yield from self._pieces(item["mesh"], item, self.world[node] @ placed)

    def _shown(self) -> list[int]:
        """The nodes of the scene that is shown, or all where the file names none."""
        scenes = self.document.items("scenes")
        if not scenes:
            return list(range(len(self.document.items("nodes"))))
        scene = self.document.item("scenes", self.document.document.get("scene", 0))
        found: list[int] = []
        waiting = list(scene.get("nodes", []))
        while waiting:
            node = waiting.pop(0)
            hidden = self.document.item("nodes", node).get("extensions", {}).get("KHR_node_visibility", {})
            if hidden.get("visible", True):
                found.append(node)
                waiting += self._children(node)
            if len(found) > len(self.world):
                raise self.document.fail("expected each node once in a scene, got one twice")
        return found

    def _copies(self, node: dict[str, Any]) -> Array:
        """Matrices [N, 4, 4] of EXT_mesh_gpu_instancing."""
        named = node["extensions"]["EXT_mesh_gpu_instancing"].get("attributes", {})
        widths = {"TRANSLATION": 3, "ROTATION": 4, "SCALE": 3}
        given = {name: self.document.accessor(named[name], width) for name, width in widths.items() if name in named}
        counts = {len(values) for values in given.values()}
        if len(counts) != 1:
            raise self.document.fail(f"expected as many places as turns and sizes of copies, got {sorted(counts)}")
        rows = range(min(counts.pop(), _MOST_COPIES + 1))
        return np.stack(
            [_composed(*(given[name][row] if name in given else None for name in widths)) for row in rows]
            or [np.zeros((4, 4))]
        )

    def _pieces(self, mesh: Any, node: dict[str, Any], placed: Array) -> Iterator[tuple[Part, dict[str, Array], Any]]:
        item = self.document.item("meshes", mesh)
        primitives = item.get("primitives", [])
        if not isinstance(primitives, list) or not all(isinstance(each, dict) for each in primitives):
            raise self.document.fail(f"expected a list of primitives in mesh {mesh}, got another")
        for primitive in primitives:
            if primitive.get("mode", 4) in (4, 5, 6):
                weights = node.get("weights", item.get("weights"))
                for matrix in placed:
                    yield self._piece(primitive, node, matrix, weights)

    def _piece(
        self, primitive: dict[str, Any], node: dict[str, Any], matrix: Array, weights: Any
    ) -> tuple[Part, dict[str, Array], Any]:
        attributes, faces = self._attributes(primitive)
        position = attributes["POSITION"].astype(np.float64)
        normal = attributes.get("NORMAL")
        normal = None if normal is None else normal.astype(np.float64)
        for target, weight in zip(primitive.get("targets", []), weights or [], strict=False):
            if weight:
                position = position + weight * self._target(target, "POSITION", len(position))
                if normal is not None and "NORMAL" in target:
                    normal = normal + weight * self._target(target, "NORMAL", len(position))
        skinned = "skin" in node and "JOINTS_0" in attributes
        matrices = self._skinned(node["skin"], attributes) if skinned else matrix
        linear = matrices[..., :3, :3]
        position = np.einsum("...ij,...j->...i", linear, position) + matrices[..., :3, 3]
        determinant = np.linalg.det(linear)
        if float(np.median(determinant)) < 0:  # mirrored
            faces = faces[:, ::-1]
        if normal is not None:
            flat = not (np.abs(determinant) > 1e-30).all()
            normal = None if flat else np.einsum("...ji,...j->...i", np.linalg.inv(linear), normal)
        return Part(position, faces, unit_or_none(normal)), attributes, primitive.get("material")

    def _target(self, target: dict[str, Any], name: str, count: int) -> Array:
        if name not in target:
            return np.zeros((count, 3))
        values = self.document.accessor(target[name], 3)
        if len(values) != count:
            raise self.document.fail(f"expected {count} values in a morph target, got {len(values)}")
        return values.astype(np.float64)

    def _attributes(self, primitive: dict[str, Any]) -> tuple[dict[str, Array], Array]:
        """All values by name, each [V, W], and triangles [F, 3]."""
        document, named, mode = self.document, primitive.get("attributes"), primitive.get("mode", 4)
        if not isinstance(named, dict) or "POSITION" not in named:
            raise document.fail("expected POSITION in every primitive, got one without")
        packed, indices = None, None
        if _DRACO in primitive.get("extensions", {}):
            packed, indices = self._draco(primitive)
            mode = 4  # whatever it was before
        read = [name for name in named if not name.startswith(("_", "TANGENT"))]
        attributes = {
            name: packed[name] if packed and name in packed else document.accessor(named[name]) for name in read
        }
        if indices is None and "indices" in primitive:
            indices = document.accessor(primitive["indices"], 1)[:, 0].astype(np.int64)
        elif indices is None:
            indices = np.arange(len(attributes["POSITION"]))
        count = len(attributes["POSITION"])
        for name, values in attributes.items():
            wanted = {"POSITION": 3, "NORMAL": 3, "TEXCOORD": 2, "JOINTS": 4, "WEIGHTS": 4}.get(name.partition("_")[0])
            if len(values) != count or (wanted is not None and values.shape[1] != wanted):
                raise document.fail(
                    f"expected {count} values of {wanted or 'some'} numbers in {name}, got {values.shape}"
                )
        if len(indices) and (indices.min() < 0 or indices.max() >= count):
            raise document.fail(f"expected vertex indices 0 to {count - 1}, got {indices.min()} to {indices.max()}")
        return attributes, _triangles(indices, mode)

    def _draco(self, primitive: dict[str, Any]) -> tuple[dict[str, Array], Array]:
        """The values that are compressed, by name, and the triangles' indices."""
        extension = primitive["extensions"][_DRACO]
        try:
            import DracoPy
        except ImportError:
            raise self.document.fail(
                f"its meshes are compressed with Draco ({_DRACO}); {DECOMPRESS}, or `pip install DracoPy`"
            ) from None
        _, data = self.document.view(extension.get("bufferView"))
        try:
            decoded = DracoPy.decode(data)
            named = {
                name: np.asarray(decoded.get_attribute_by_unique_id(number)["data"])
                for name, number in extension["attributes"].items()
            }
            faces = np.asarray(decoded.faces).reshape(-1).astype(np.int64)
        except Exception as error:  # the decoder raises whatever broken data lead it to
            raise self.document.fail(f"expected whole Draco data ({_DRACO}), got some that fail ({error})") from error
        for name, values in named.items():
            values = values.reshape(len(values), -1)
            stated = self.document.item("accessors", primitive.get("attributes", {}).get(name))
            if stated.get("normalized") and values.dtype.kind in "ui":
                values = np.maximum(values / float(np.iinfo(values.dtype).max), -1.0)
            named[name] = values
        return named, faces

    def _skinned(self, skin: Any, attributes: dict[str, Array]) -> Array:
        """A matrix [V, 4, 4] for each vertex."""
        item = self.document.item("skins", skin)
        joints = item.get("joints")
        if not isinstance(joints, list) or not joints:
            raise self.document.fail("expected joints in a skin, got none")
        for joint in joints:
            self.document.item("nodes", joint)
        world = np.stack([self.world[joint] for joint in joints])
        if "inverseBindMatrices" in item:
            inverse = self.document.accessor(item["inverseBindMatrices"], 16).reshape(-1, 4, 4).swapaxes(1, 2)
            if len(inverse) < len(joints):
                raise self.document.fail(f"expected {len(joints)} inverse bind matrices, got {len(inverse)}")
            world = world @ inverse[: len(joints)].astype(np.float64)
        matrices = np.zeros((len(attributes["POSITION"]), 4, 4))
        total = np.zeros(len(matrices))
        for number in range(8):
            chosen, weights = attributes.get(f"JOINTS_{number}"), attributes.get(f"WEIGHTS_{number}")
            if chosen is None or weights is None:
                break
            chosen = chosen.astype(np.int64)
            if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(joints)):
                raise self.document.fail(f"expected joints 0 to {len(joints) - 1} in a skin, got {chosen.max()}")
            for slot in range(4):
                matrices += weights[:, slot, None, None] * world[chosen[:, slot]]
                total += weights[:, slot]
        unmoved = total <= 1e-6
        matrices[unmoved] = np.eye(4)
        return matrices / np.where(unmoved, 1.0, total)[:, None, None]

    def material(self, number: Any) -> dict[str, Any]:
        return {} if number is None else self.document.item("materials", number)

    def mapped(self, part: Part, attributes: dict[str, Array], material: Any) -> dict[str, Part]:
        """The piece with each of the other pictures of its material that can be read."""
        item = self.material(material)
        found: dict[str, Part] = {}
        for name in MAPS:
            owner = item.get("pbrMetallicRoughness", {}) if name.startswith("metallic") else item
            info = owner.get(name)
            if not isinstance(info, dict):
                continue
            picture, (uvs, wraps) = self._picture(info.get("index")), self._coordinates(attributes, info)
            if picture is not None and uvs is not None:
                found[name] = replace(part, uvs=uvs, texture=picture, wraps=wraps)
        return found

    def colored(self, part: Part, attributes: dict[str, Array], material: Any) -> Part:
        """The piece with its base colour."""
        factor, info = self._base_color(self.material(material))
        tinted = attributes.get("COLOR_0")
        light = None if tinted is None else _unit_range(tinted)[:, :3]
        texture = None if info is None else self._picture(info.get("index"))
        uvs, wraps = self._coordinates(attributes, info)
        if texture is None or uvs is None:
            shown = light
            if factor is not None:
                shown = factor * (np.ones_like(part.vertices) if light is None else light)
            return replace(part, uvs=uvs, colors=None if shown is None else srgb_from_linear(shown))
        colors = None if light is None else srgb_from_linear(light)
        return replace(part, uvs=uvs, colors=colors, texture=texture, tint=factor, wraps=wraps)

    def _base_color(self, material: dict[str, Any]) -> tuple[Array | None, dict[str, Any] | None]:
        """Linear factor [3] and the texture's info, each None where it is not given."""
        rough = material.get("pbrMetallicRoughness", {})
        older = material.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness")
        names = ("baseColorFactor", "baseColorTexture")
        if older is not None and "baseColorTexture" not in rough:
            rough, names = older, ("diffuseFactor", "diffuseTexture")
        factor = self.document.numbers(rough, names[0], 4)
        info = rough.get(names[1])
        if info is not None and not isinstance(info, dict):
            raise self.document.fail(f"expected an object for {names[1]}, got {type(info).__name__}")
        return (None if factor is None else factor[:3].clip(0, 1)), info

    def _coordinates(
        self, attributes: dict[str, Array], info: dict[str, Any] | None
    ) -> tuple[Array | None, tuple[str, str]]:
        """The texture's coordinates after its transform, and how it goes on outside of 0..1."""
        if info is None:
            uvs = attributes.get("TEXCOORD_0")
            return (None if uvs is None else _unit_range(uvs)), ("repeat", "repeat")
        transform = info.get("extensions", {}).get("KHR_texture_transform", {})
        uvs = attributes.get(f"TEXCOORD_{transform.get('texCoord', info.get('texCoord', 0))}")
        sampler = self.document.item("textures", info.get("index")).get("sampler")
        settings = {} if sampler is None else self.document.item("samplers", sampler)
        wraps = tuple(_WRAPS.get(settings.get(name, 10497), "repeat") for name in ("wrapS", "wrapT"))
        if uvs is None:
            return None, ("repeat", "repeat")
        uvs = _unit_range(uvs)
        if transform:
            scale, offset = self.document.numbers(transform, "scale", 2), self.document.numbers(transform, "offset", 2)
            angle = transform.get("rotation", 0.0)
            if not isinstance(angle, int | float) or not math.isfinite(angle):
                raise self.document.fail(f"expected a number for a texture's rotation, got {angle!r}")
            uvs = uvs * (np.ones(2) if scale is None else scale)
            c, s = math.cos(angle), math.sin(angle)  # counter-clockwise, with v downwards
            uvs = uvs @ np.array([[c, -s], [s, c]]) + (np.zeros(2) if offset is None else offset)
        return uvs, (wraps[0], wraps[1])

    def _picture(self, texture: Any) -> Array | None:
        """The picture of a texture; None, with a warning, for one in a format that is none of glTF's own."""
        item = self.document.item("textures", texture)
        extensions = item.get("extensions", {})
        source = extensions.get("EXT_texture_webp", {}).get("source", item.get("source"))
        if source is None:
            named = ", ".join(extensions) or "none"
            warnings.warn(
                f"{self.document.path}: a texture is stored as {named} only, which cannot be read here; loaded without"
                " it. `gltf-transform` or Blender can write it as PNG",
                stacklevel=2,
            )
            return None
        if source not in self.pictures:
            image = self.document.item("images", source)
            name = f"{self.document.path}: image {image.get('name') or source}"
            if "bufferView" in image:
                content = self.document.view(image["bufferView"])[1]
            else:
                content = self.document.load_uri(image.get("uri"))
            self.pictures[source] = decode_picture(content, name)
        return self.pictures[source]


def _composed(translation: Array | None, rotation: Array | None, scale: Array | None) -> Array:
    """T R S as a matrix; rotation (x, y, z, w)."""
    matrix = np.eye(4)
    if rotation is not None and np.linalg.norm(rotation) > 0:
        x, y, z, w = rotation / np.linalg.norm(rotation)
        matrix[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    if scale is not None:
        matrix[:3, :3] = matrix[:3, :3] * scale
    if translation is not None:
        matrix[:3, 3] = translation
    return matrix


def _unit_range(values: Array) -> Array:
    """Coordinates and colours as float64. Integers that the file forgot to call normalised are shares as well."""
    if values.dtype.kind in "ui":
        return values / float(np.iinfo(values.dtype).max)
    return values.astype(np.float64)


def _triangles(indices: Array, mode: int) -> Array:
    """[F, 3] of a list, a strip or a fan (sections 3.7.2.1)."""
    if mode == 4:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    count = max(len(indices) - 2, 0)
    at = np.arange(count)
    if mode == 6:
        return np.stack([indices[at + 1], indices[at + 2], np.full(count, indices[0] if count else 0)], axis=1)
    odd = at % 2
    return np.stack([indices[at], indices[at + 1 + odd], indices[at + 2 - odd]], axis=1)
