"""A glTF 2.0 file's JSON and binary data, with every index and every length checked before it is used.

Own code: the sections of the specification that matter here are short, and the libraries at hand drop what accessors
and textures say (normalised integers, sparse values, texture transforms, wrapping).
"""

from __future__ import annotations

import base64
import json
import struct
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from humannorm.checks import InputError
from humannorm.mesh_formats.parts import Array

__all__ = ["GltfDocument"]

_KINDS = {5120: "i1", 5121: "u1", 5122: "i2", 5123: "u2", 5125: "u4", 5126: "f4"}
_SIZES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_MOST_NUMBERS = 2**29  # of one accessor
_MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression", "MESHOPT_compression")
DECOMPRESS = "decompress it first, for example by `gltf-transform copy FILE.glb PLAIN.glb`"

Item = Mapping[str, Any]


class GltfDocument:
    """Read with `GltfDocument.read`; every method raises `InputError` for what is missing or broken."""

    def __init__(self, path: Path, document: dict[str, Any], binary: bytes | None) -> None:
        self.path, self.document = path, document
        self._buffers: dict[int, bytes] = {} if binary is None else {-1: binary}

    @classmethod
    def read(cls, path: Path) -> GltfDocument:
        content = path.read_bytes()
        if path.suffix.lower() == ".glb":
            return cls(path, *_chunks(path, content))
        return cls(path, _json(path, content), None)

    def fail(self, message: str) -> InputError:
        return InputError(f"{self.path}: {message}")

    def items(self, kind: str) -> list[Any]:
        found = self.document.get(kind, [])
        if not isinstance(found, list):
            raise self.fail(f"expected a list of {kind}, got {type(found).__name__}")
        return found

    def item(self, kind: str, index: Any) -> dict[str, Any]:
        """One of the document's lists' objects."""
        items = self.items(kind)
        if not items:
            raise self.fail(f"expected {kind}, to which it refers, got none")
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(items):
            raise self.fail(f"expected {kind} 0 to {len(items) - 1}, got {str(index)[:60]}")
        if not isinstance(items[index], dict):
            raise self.fail(f"expected an object for {kind} {index}, got {type(items[index]).__name__}")
        found: dict[str, Any] = items[index]
        return found

    def numbers(self, owner: Item, name: str, count: int) -> Array | None:
        """A list of `count` finite numbers such as a node's translation, None where it is not given."""
        values = owner.get(name)
        if values is None:
            return None
        try:
            array = np.array(values, dtype=np.float64)
        except (TypeError, ValueError):
            array = np.zeros(0)
        if array.shape != (count,) or not np.isfinite(array).all():
            raise self.fail(f"expected {count} numbers for {name}, got {str(values)[:60]}")
        return array

    def accessor(self, index: Any, width: int | None = None) -> Array:
        """Values [N, W] as stored, normalised ones as float64 in -1..1 or 0..1. width: what W must be."""
        accessor = self.item("accessors", index)
        kind, size = _KINDS.get(accessor.get("componentType", 0)), _SIZES.get(str(accessor.get("type")))
        count = accessor.get("count")
        if kind is None or size is None or not isinstance(count, int) or not 0 <= count <= _MOST_NUMBERS // size:
            raise self.fail(f"expected an accessor {index} of glTF 2.0's types, got {str(dict(accessor))[:120]}")
        if width is not None and size != width:
            raise self.fail(f"expected accessor {index} to hold {width} numbers each, got {accessor['type']}")
        if accessor.get("bufferView") is None:
            values: Array = np.zeros((count, size), kind)
        else:
            values = self._strided(accessor, kind, count, size, f"accessor {index}")
        if "sparse" in accessor:
            values = self._with_sparse(values, accessor["sparse"], kind, size)
        if accessor.get("normalized") and kind != "f4":
            return np.maximum(values / float(np.iinfo(kind).max), -1.0)  # 3.6.2.2: c / 127 and so on
        return values

    def _strided(self, accessor: Item, kind: str, count: int, size: int, what: str) -> Array:
        view, data = self.view(accessor["bufferView"])
        item = np.dtype(f"<{kind}").itemsize * size
        stride = view.get("byteStride") or item
        begin = accessor.get("byteOffset", 0)
        if not isinstance(begin, int) or not isinstance(stride, int) or begin < 0 or not item <= stride <= 65535:
            raise self.fail(f"expected a place for {what}, got offset {begin!r} and stride {stride!r}")
        if count and begin + (count - 1) * stride + item > len(data):
            raise self.fail(
                f"expected {count} values in {what}, got {len(data)} bytes: the file is broken or truncated"
            )
        if not count:
            return np.zeros((0, size), kind)
        flat = np.frombuffer(data, np.uint8, (count - 1) * stride + item, begin)
        rows = np.lib.stride_tricks.as_strided(flat, (count, item), (stride, 1), writeable=False)
        return np.ascontiguousarray(rows).view(f"<{kind}").reshape(count, size)

    def _with_sparse(self, values: Array, sparse: Any, kind: str, size: int) -> Array:
        try:
            count, indices, stored = int(sparse["count"]), sparse["indices"], sparse["values"]
            at = self._strided(indices, _KINDS[indices["componentType"]], count, 1, "sparse indices")[:, 0]
            changed = self._strided(stored, kind, count, size, "sparse values")
        except InputError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise self.fail(
                f"expected count, indices and values of a sparse accessor, got others ({error!r})"
            ) from error
        if count and (at.min() < 0 or at.max() >= len(values)):
            raise self.fail(f"expected sparse indices 0 to {len(values) - 1}, got up to {at.max()}")
        values = values.copy()
        values[at] = changed
        return values

    def view(self, index: Any) -> tuple[dict[str, Any], bytes]:
        """A buffer view and its bytes."""
        view = self.item("bufferViews", index)
        packed = [name for name in _MESHOPT if name in view.get("extensions", {})]
        if packed:
            raise self.fail(f"its data are compressed with meshopt ({packed[0]}), not read here; {DECOMPRESS}")
        data = self._buffer(view.get("buffer"))
        begin, length = view.get("byteOffset", 0), view.get("byteLength", 0)
        if not (isinstance(begin, int) and isinstance(length, int) and begin >= 0 and 0 <= length <= len(data) - begin):
            raise self.fail(f"expected buffer view {index} inside of its {len(data)} bytes, got {begin} + {length}")
        return view, data[begin : begin + length]

    def _buffer(self, index: Any) -> bytes:
        buffer = self.item("buffers", index)
        if index not in self._buffers:
            if buffer.get("uri") is None:
                if index != 0 or -1 not in self._buffers:
                    raise self.fail(f"expected data for buffer {index}, got none: the file is broken or truncated")
                self._buffers[index] = self._buffers[-1]
            else:
                self._buffers[index] = self.load_uri(buffer["uri"])
        return self._buffers[index]

    def load_uri(self, uri: Any) -> bytes:
        """The bytes behind a data URI or of a file beside this one."""
        if not isinstance(uri, str):
            raise self.fail(f"expected a uri, got {uri!r}")
        if uri.startswith("data:"):
            head, _, body = uri.partition(",")
            if not head.endswith(";base64"):
                return urllib.parse.unquote_to_bytes(body)
            try:
                return base64.b64decode(urllib.parse.unquote(body))
            except ValueError as error:
                raise self.fail(f"expected base64 data in a uri, got broken ones ({error})") from error
        from humannorm.mesh_formats.pictures import find_file

        found = find_file(self.path.parent, urllib.parse.unquote(uri)) or find_file(self.path.parent, uri)
        if found is None:
            raise self.fail(f"expected {uri} beside it, which it names, got no such file")
        return found.read_bytes()


def _json(path: Path, text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: expected a whole {path.suffix[1:].upper()} file, got broken JSON in it ({error})"
        ) from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected a glTF file, got JSON of another kind")
    version = (
        str(document.get("asset", {}).get("version", "2.0")) if isinstance(document.get("asset", {}), dict) else ""
    )
    if not version.startswith("2"):
        raise InputError(
            f"{path}: expected glTF 2.0, got version {version or '?'}; convert it, for example with Blender"
        )
    return document


def _chunks(path: Path, content: bytes) -> tuple[dict[str, Any], bytes | None]:
    if content[:4] != b"glTF":
        raise InputError(f"{path}: expected a GLB file, got one that does not begin with 'glTF'")
    if len(content) < 20:
        raise InputError(f"{path}: expected a whole GLB file, got {len(content)} bytes: the file is truncated")
    version, stated = struct.unpack_from("<II", content, 4)
    if version == 1:
        raise InputError(f"{path}: expected glTF 2.0, got version 1; convert it, for example with Blender")
    if stated > len(content):
        raise InputError(
            f"{path}: expected {stated} bytes as its header says, got {len(content)}: the file is truncated"
        )
    chunks: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(content):
        length, kind = struct.unpack_from("<I4s", content, at)
        if at + 8 + length > len(content):
            raise InputError(f"{path}: expected a whole GLB file, got a part that goes on beyond its end")
        chunks.setdefault(kind, content[at + 8 : at + 8 + length])
        at += 8 + length  # which the specification wants to be a multiple of 4, and not all writers heed
    if b"JSON" not in chunks:
        raise InputError(f"{path}: expected a whole GLB file, got one without its JSON part")
    return _json(path, chunks[b"JSON"]), chunks.get(b"BIN\0")
