"""A GLB file in the making: accessors, images and JSON, put together as glTF 2.0 section 4 says.

Own code instead of a library: the format is short, the bytes are laid out once, and nothing is written but what is
added here.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from humannorm import __version__
from humannorm.checks import InputError

__all__ = ["ARRAY_BUFFER", "ELEMENT_ARRAY_BUFFER", "GlbBuilder"]

ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
COMPONENT_TYPES = {"f4": 5126, "u4": 5125, "u2": 5123, "u1": 5121}
SHAPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}

Array = np.ndarray[Any, np.dtype[Any]]


class GlbBuilder:
    """Collects a glTF document and its binary chunk. `document` may be added to freely."""

    def __init__(self, extras: dict[str, str] | None = None) -> None:
        asset: dict[str, Any] = {"version": "2.0", "generator": f"humannorm {__version__}"}
        if extras:
            asset["extras"] = dict(extras)
        self.document: dict[str, Any] = {"asset": asset}
        self._pieces: list[bytes] = []
        self._length = 0

    @classmethod
    def parse(cls, content: bytes, name: str = "glb") -> GlbBuilder:
        """A document to be added to, read from the bytes of a GLB file with all of its data inside."""
        try:
            magic, version, total = struct.unpack_from("<4sII", content)
            length, kind = struct.unpack_from("<I4s", content, 12)
            if (magic, version, kind) != (b"glTF", 2, b"JSON") or total != len(content):
                raise ValueError("no glTF 2.0 header of this length")
            document = json.loads(content[20 : 20 + length])
            binary = b""
            if 20 + length < total:
                size, _ = struct.unpack_from("<I4s", content, 20 + length)
                binary = content[28 + length : 28 + length + size]
        except (struct.error, ValueError) as error:
            raise InputError(f"{name}: expected a whole GLB file, got a broken one ({error})") from error
        if len(document.get("buffers", [])) > 1 or any("uri" in buffer for buffer in document.get("buffers", [])):
            raise InputError(f"{name}: expected a GLB with its data inside, got one that names other files")
        builder = cls()
        builder.document = {key: value for key, value in document.items() if key != "buffers"}
        builder._pieces = [binary + b"\0" * (-len(binary) % 4)]
        builder._length = len(builder._pieces[0])
        return builder

    def accessor(self, index: int) -> Array:
        """The values of an accessor: [N], [N, 2], ... in the file's number type."""
        accessor = self.document["accessors"][index]
        shapes = [shape for shape, kind in SHAPES.items() if kind == accessor["type"]]
        codes = [code for code, number in COMPONENT_TYPES.items() if number == accessor["componentType"]]
        if not shapes or not codes or "sparse" in accessor:
            raise InputError(f"accessor {index}: expected plain floats or unsigned integers, got others")
        shape, code = shapes[0], codes[0]
        view = self.document["bufferViews"][accessor["bufferView"]]
        if view.get("byteStride", 0) not in (0, np.dtype(code).itemsize * max(int(np.prod(shape)), 1)):
            raise InputError(f"accessor {index}: expected values one after another, got a stride")
        begin = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        count = accessor["count"] * max(int(np.prod(shape)), 1)
        self._pieces = [b"".join(self._pieces)]
        return np.frombuffer(self._pieces[0], f"<{code}", count, begin).reshape(accessor["count"], *shape)

    def add(self, kind: str, item: dict[str, Any]) -> int:
        """Append to one of the document's lists (nodes, meshes, materials, ...); its index."""
        items: list[dict[str, Any]] = self.document.setdefault(kind, [])
        items.append(item)
        return len(items) - 1

    def add_accessor(self, values: Array, target: int | None = None, bounds: bool = False) -> int:
        """Values [N], [N, 2], [N, 3], [N, 4] or [N, 4, 4] of float32 or unsigned integers; its index.

        bounds: state minimum and maximum, as positions and animation times must.
        """
        values = np.ascontiguousarray(values)
        code = values.dtype.newbyteorder("<").str.lstrip("<|")
        accessor: dict[str, Any] = {
            "bufferView": self._add_view(values.astype(f"<{code}", copy=False).tobytes(), target),
            "componentType": COMPONENT_TYPES[code],
            "count": len(values),
            "type": SHAPES[values.shape[1:]],
        }
        if bounds:
            accessor["min"] = np.atleast_1d(values.min(axis=0)).tolist()
            accessor["max"] = np.atleast_1d(values.max(axis=0)).tolist()
        return self.add("accessors", accessor)

    def add_texture(self, encoded: bytes, name: str) -> int:
        """An image inside the file, PNG or JPEG; the index of its texture. Clamped at the border, trilinear."""
        kind = "image/png" if encoded.startswith(b"\x89PNG") else "image/jpeg"
        source = self.add("images", {"name": name, "mimeType": kind, "bufferView": self._add_view(encoded, None)})
        if "samplers" not in self.document:
            self.add("samplers", {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071})
        return self.add("textures", {"name": name, "source": source, "sampler": 0})

    def to_bytes(self) -> bytes:
        """The whole file: header, JSON chunk, binary chunk."""
        binary = b"".join(self._pieces)
        document = {**self.document, "buffers": [{"byteLength": len(binary)}]}
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode("utf-8")
        text += b" " * (-len(text) % 4)
        total = 12 + 8 + len(text) + 8 + len(binary)
        return b"".join(
            [
                struct.pack("<4sII", b"glTF", 2, total),
                struct.pack("<I4s", len(text), b"JSON"),
                text,
                struct.pack("<I4s", len(binary), b"BIN\0"),
                binary,
            ]
        )

    def _add_view(self, content: bytes, target: int | None) -> int:
        view: dict[str, Any] = {"buffer": 0, "byteOffset": self._length, "byteLength": len(content)}
        if target is not None:
            view["target"] = target
        padded = content + b"\0" * (-len(content) % 4)
        self._pieces.append(padded)
        self._length += len(padded)
        return self.add("bufferViews", view)
