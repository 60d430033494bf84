"""Stanford PLY, ASCII and binary of either order: colours of any number type, coordinates, polygons, wedges."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from humannorm.checks import InputError
from humannorm.mesh_formats.parts import Array, Part, unit_or_none, with_face_colors
from humannorm.mesh_formats.pictures import decode_picture, find_file

__all__ = ["read_ply"]

_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
          "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
          "float32": "f4", "float64": "f8", "int64": "i8", "uint64": "u8"}  # fmt: skip
_HEADER = 1 << 20  # bytes in which a header must end
_UV_NAMES = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"), ("texcoord_u", "texcoord_v"), ("u0", "v0"))
_COLOR_NAMES = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
_FACES = ("vertex_indices", "vertex_index", "vertex_indexes")


@dataclass(frozen=True)
class _Property:
    name: str
    kind: str  # numpy's, without byte order
    count_kind: str | None = None  # of a list: the kind of its length


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[_Property]


_Columns = dict[str, "Array | list[Array]"]


def read_ply(path: Path) -> list[Part]:
    """The file's faces as one part; none where it has no faces."""
    content = path.read_bytes()
    order, elements, comments, start = _header(path, content)
    read = _read_ascii if order == "ascii" else _read_binary
    try:
        tables = read(content[start:], elements, {"binary_big_endian": ">"}.get(order, "<"))
    except (ValueError, IndexError, OverflowError) as error:
        raise InputError(f"{path}: expected a whole PLY file, got a broken or truncated one ({error})") from error
    vertex, face = tables.get("vertex", {}), tables.get("face", {})
    if not all(axis in vertex for axis in "xyz"):
        raise InputError(
            f"{path}: expected a PLY file whose vertices have x, y and z, got {', '.join(vertex) or 'none'}"
        )
    faces = _triangles(next((face[name] for name in _FACES if name in face), []), face.get("texcoord"))
    if not len(faces[0]):
        return []
    return [_part(path, vertex, face, faces, comments)]


def _part(
    path: Path, vertex: _Columns, face: _Columns, faces: tuple[Array, Array, Array | None], comments: list[str]
) -> Part:
    corners, owner, wedges = faces
    vertices = np.stack([np.asarray(vertex[axis], dtype=np.float64) for axis in "xyz"], axis=1)
    if corners.min() < 0 or corners.max() >= len(vertices):
        raise InputError(
            f"{path}: faces: expected vertex indices 0 to {len(vertices) - 1}, got {corners.min()} to {corners.max()}"
        )
    normals = _columns(vertex, (("nx", "ny", "nz"),))
    part = Part(
        vertices=vertices,
        faces=corners,
        normals=None if normals is None else unit_or_none(normals.astype(np.float64)),
        uvs=_flipped(_columns(vertex, _UV_NAMES)),
        colors=_colors(vertex),
    )
    if wedges is not None:  # coordinates of the faces' corners: a vertex for each that differs
        keys = np.concatenate([corners.reshape(-1, 1), wedges.reshape(-1, 2)], axis=1)
        rows, split = np.unique(keys, axis=0, return_inverse=True)
        origin = rows[:, 0].astype(np.int64)
        part = Part(
            vertices=vertices[origin],
            faces=split.reshape(-1, 3),
            normals=None if part.normals is None else part.normals[origin],
            uvs=_flipped(rows[:, 1:]),
            colors=None if part.colors is None else part.colors[origin],
        )
    named = [comment.split(None, 1)[1] for comment in comments if comment.lower().startswith("texturefile ")]
    if named and part.uvs is not None:
        part = _textured(path, part, named)
    colors = _colors(face)
    if part.colors is None and part.texture is None and colors is not None and len(colors):
        return with_face_colors(part, colors[owner])
    return part


def _textured(path: Path, part: Part, named: list[str]) -> Part:
    found = find_file(path.parent, named[0])
    if found is None:
        warnings.warn(f"{path}: its texture {named[0]} is missing; loaded without it", stacklevel=5)
        return part
    if len(named) > 1:
        warnings.warn(f"{path}: has {len(named)} textures; the first, {named[0]}, is taken for all", stacklevel=5)
    return replace(part, texture=decode_picture(found.read_bytes(), str(found)), colors=None)


def _flipped(uvs: Array | None) -> Array | None:
    return None if uvs is None else uvs.astype(np.float64) * (1, -1) + (0, 1)


def _columns(table: _Columns, choices: tuple[tuple[str, ...], ...]) -> Array | None:
    for names in choices:
        if all(name in table and isinstance(table[name], np.ndarray) for name in names):
            return np.stack([np.asarray(table[name]) for name in names], axis=1)
    return None


def _colors(table: _Columns) -> Array | None:
    """sRGB 0..1 of colours of any number type: integers are shares of their type's largest."""
    colors = _columns(table, _COLOR_NAMES)
    if colors is None:
        return None
    if colors.dtype.kind in "ui":
        return colors / float(np.iinfo(colors.dtype).max)
    return (colors.astype(np.float64) / (255.0 if colors.max(initial=0) > 1 else 1.0)).clip(0, 1)


def _triangles(lists: Array | list[Array], wedges: Array | list[Array] | None) -> tuple[Array, Array, Array | None]:
    """Fans of polygons [F, 3], the polygon that each is of [F], and coordinates [F, 3, 2] of the corners if given."""
    sizes = np.array([len(each) for each in lists], dtype=np.int64)
    if not len(sizes) or sizes.max() < 3:
        return np.zeros((0, 3), np.int64), np.zeros(0, np.int64), None
    flat = np.concatenate(list(lists)).astype(np.int64)
    starts = np.cumsum(sizes) - sizes
    fans = np.maximum(sizes - 2, 0)
    owner = np.repeat(np.arange(len(sizes)), fans)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(fans) - fans, fans)
    slots = np.stack([starts[owner], starts[owner] + step + 1, starts[owner] + step + 2], axis=1)
    coords = None
    if (
        wedges is not None
        and len(wedges) == len(sizes)
        and all(len(each) == 2 * size for each, size in zip(wedges, sizes, strict=True))
    ):
        coords = np.concatenate(list(wedges)).astype(np.float64).reshape(-1, 2)[slots]
    return flat[slots], owner, coords


def _header(path: Path, content: bytes) -> tuple[str, list[_Element], list[str], int]:
    """Format, elements, comments, and where the data begin."""
    end = content.find(b"end_header", 0, _HEADER)
    if not content.startswith(b"ply") or end < 0:
        raise InputError(f"{path}: expected a whole PLY file, got one without a header")
    newline = content.find(b"\n", end)
    start = len(content) if newline < 0 else newline + 1
    order, elements, comments = "", [], []
    try:
        for line in content[:end].decode("latin-1").splitlines()[1:]:
            words = line.split()
            if not words:
                continue
            if words[0] == "format":
                order = words[1]
            elif words[0] in ("comment", "obj_info"):
                comments.append(line.strip().split(None, 1)[1] if len(words) > 1 else "")
            elif words[0] == "element":
                elements.append(_Element(words[1], int(words[2]), []))
            elif words[0] == "property":
                listed = words[1] == "list"
                kinds = [_TYPES[word] for word in words[1 + listed : -1]]
                elements[-1].properties.append(_Property(words[-1], kinds[-1], kinds[0] if listed else None))
    except (IndexError, KeyError, ValueError) as error:
        raise InputError(f"{path}: expected a whole PLY file, got one with a broken header ({error!r})") from error
    if order not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise InputError(
            f"{path}: expected a PLY file that is ascii, binary_little_endian or binary_big_endian, got {order!r}"
        )
    if any(element.count < 0 or element.count > len(content) for element in elements if element.properties):
        raise InputError(f"{path}: expected a whole PLY file, got one that is shorter than its header says")
    return order, elements, comments, start


def _read_ascii(content: bytes, elements: list[_Element], _: str) -> dict[str, _Columns]:
    """A row a line, of which some programs write more than their header says; or rows anyhow, word after word."""
    lines = [line for line in content.splitlines() if line.strip()]
    by_line = len(lines) >= sum(element.count for element in elements)
    words = [] if by_line else content.split()
    tables: dict[str, _Columns] = {}
    at = 0
    for element in elements:
        rows: list[list[Array]] = []
        for number in range(element.count):
            if by_line:
                rows.append(_row(lines[at + number].split(), element)[0])
            else:
                row, used = _row(words[at : at + _longest(element, words, at)], element)
                rows.append(row)
                at += used
        at += element.count if by_line else 0
        tables[element.name] = {
            each.name: [row[k] for row in rows]
            if each.count_kind is not None
            else _as_kind(np.concatenate([row[k] for row in rows] + [np.zeros(0)]), each.kind)
            for k, each in enumerate(element.properties)
        }
    return tables


def _longest(element: _Element, words: list[bytes], at: int) -> int:
    """Words of the row that begins here."""
    place = at
    for each in element.properties:
        place += 1 if each.count_kind is None else 1 + max(int(words[place]), 0)
    return place - at


def _row(words: list[bytes], element: _Element) -> tuple[list[Array], int]:
    """The values of each property of one row, and how many words they took."""
    found, at = [], 0
    if all(each.count_kind is None for each in element.properties):
        values = np.array(words[: len(element.properties)], dtype=np.float64)
        if len(values) < len(element.properties):
            raise ValueError(f"a row of {element.name} with {len(values)} numbers")
        return list(values[:, None]), len(values)
    for each in element.properties:
        size = 1
        if each.count_kind is not None:
            size, at = int(words[at]), at + 1
        if size < 0 or at + size > len(words):
            raise ValueError(f"a row of {element.name} with {len(words)} numbers")
        found.append(np.array(words[at : at + size], dtype=np.float64))
        at += size
    return found, at


def _as_kind(values: Array, kind: str) -> Array:
    """Numbers of ASCII files in the type that their header states, which colours hang on."""
    if kind[0] == "f":
        return values.astype(kind)
    info = np.iinfo(kind)
    return values.clip(info.min, info.max).astype(kind)


def _read_binary(content: bytes, elements: list[_Element], order: str) -> dict[str, _Columns]:
    at = 0
    tables: dict[str, _Columns] = {}
    for element in elements:
        if all(each.count_kind is None for each in element.properties):
            row = np.dtype([(f"p{k}", order + each.kind) for k, each in enumerate(element.properties)])
            records = np.frombuffer(content, row, element.count, at) if element.count else np.zeros(0, row)
            tables[element.name] = {each.name: records[f"p{k}"] for k, each in enumerate(element.properties)}
            at += row.itemsize * element.count
            continue
        table = _read_equal_lists(content, element, order, at)
        if table is None:
            table = _read_lists(content, element, order, at)
        tables[element.name], at = table
    return tables


def _read_equal_lists(content: bytes, element: _Element, order: str, at: int) -> tuple[_Columns, int] | None:
    """All rows at once where every list is as long as in the first row, as in meshes of triangles; else None."""
    fields: list[Any] = []
    place = at
    for k, each in enumerate(element.properties):
        if each.count_kind is None:
            fields.append((f"p{k}", order + each.kind))
            place += np.dtype(each.kind).itemsize
            continue
        if place + np.dtype(each.count_kind).itemsize > len(content):
            return None
        size = int(np.frombuffer(content, order + each.count_kind, 1, place)[0])
        place += np.dtype(each.count_kind).itemsize + size * np.dtype(each.kind).itemsize
        if not 0 <= size <= 64 or element.count == 0:
            return None
        fields += [(f"n{k}", order + each.count_kind), (f"p{k}", order + each.kind, (size,))]
    row = np.dtype(fields)
    if at + row.itemsize * element.count > len(content):
        return None
    records = np.frombuffer(content, row, element.count, at)
    for k, each in enumerate(element.properties):
        if each.count_kind is not None and not (records[f"n{k}"] == records[f"p{k}"].shape[1]).all():
            return None
    table: _Columns = {each.name: records[f"p{k}"] for k, each in enumerate(element.properties)}
    return table, at + row.itemsize * element.count


def _read_lists(content: bytes, element: _Element, order: str, at: int) -> tuple[_Columns, int]:
    lists: dict[str, list[Array]] = {each.name: [] for each in element.properties}
    for _row in range(element.count):
        for each in element.properties:
            size = 1
            if each.count_kind is not None:
                size = int(np.frombuffer(content, order + each.count_kind, 1, at)[0])
                at += np.dtype(each.count_kind).itemsize
                if not 0 <= size <= len(content):
                    raise ValueError(f"a list of {size} in {element.name}")
            lists[each.name].append(np.frombuffer(content, order + each.kind, size, at))
            at += size * np.dtype(each.kind).itemsize
    return {
        each.name: lists[each.name] if each.count_kind is not None else np.concatenate(lists[each.name])
        for each in element.properties
    }, at
