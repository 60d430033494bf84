"""Wavefront OBJ with its MTL: polygons, negative indices, colours behind vertices, textures with their options."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from humannorm.checks import InputError
from humannorm.mesh_formats.parts import Array, Part, unit_or_none
from humannorm.mesh_formats.pictures import decode_picture, find_file

__all__ = ["read_obj"]

# Options of a texture in an MTL file and how many words follow them; of -o, -s and -t up to so many numbers.
_OPTIONS = {"-blendu": 1, "-blendv": 1, "-bm": 1, "-boost": 1, "-cc": 1, "-clamp": 1, "-imfchan": 1, "-mm": 2,
            "-texres": 1, "-type": 1, "-o": 3, "-s": 3, "-t": 3, "-colorspace": 1}  # fmt: skip


@dataclass
class _Material:
    color: tuple[float, ...] | None = None  # sRGB, as programs show Kd
    picture: str | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    clamps: bool = False


def read_obj(path: Path) -> list[Part]:
    """One part for each material; what the file names and is not there is said by a warning."""
    lines = _lines(path.read_bytes())
    points, coords, normals = (_Rows(path, word) for word in ("v", "vt", "vn"))
    groups: dict[str, list[tuple[str, tuple[int, int, int]]]] = {}
    group = groups.setdefault("", [])
    libraries: list[str] = []
    for line in lines:
        word, _, rest = line.partition(" ")
        word = word.lower()
        if word == "v":
            points.add(rest)
        elif word == "vt":
            coords.add(rest)
        elif word == "vn":
            normals.add(rest)
        elif word == "f":
            group.append((rest, (len(points.texts), len(coords.texts), len(normals.texts))))
        elif word == "usemtl":
            group = groups.setdefault(rest.strip(), [])
        elif word == "mtllib":
            libraries.append(rest.strip())
    materials = _materials(path, libraries) if libraries else {}
    vertices, colors = _split_colors(points.array(3))
    parts = []
    for name, faces in groups.items():
        if faces:
            corners = _triangles(path, faces)
            arrays = (vertices, colors, coords.array(2), normals.array(3))
            parts.append(_part(path, corners, arrays, materials.get(name, _Material())))
    return parts


def _lines(content: bytes) -> list[str]:
    """Lines with single spaces for tabs, continued ones joined, comments left out."""
    try:
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # names in an older encoding: each byte stays what it is
    text = re.sub(r"\\[ \t]*\r?\n", " ", text.replace("\t", " ")).replace("\r", "\n")
    return [stripped for line in text.split("\n") if (stripped := line.strip()) and not stripped.startswith("#")]


class _Rows:
    """Lines of one kind of numbers, made an array once all are there."""

    def __init__(self, path: Path, word: str) -> None:
        self.path, self.word = path, word
        self.texts: list[str] = []
        self._made: Array | None = None

    def add(self, text: str) -> None:
        self.texts.append(text)

    def array(self, least: int) -> Array:
        """[N, at least `least`] float64; zeros where lines say less (one coordinate of a texture is enough)."""
        if self._made is None:
            needed = 1 if self.word == "vt" else least
            rows = [text.partition("#")[0].split() for text in self.texts]
            lengths = [len(row) for row in rows] or [least]
            if min(lengths) < needed:
                raise InputError(
                    f"{self.path}: expected at least {needed} numbers in every {self.word} line, got fewer"
                )
            width = max(least, min(lengths))  # where some lines say more than others, that is left out
            values = [(row + ["0"] * least)[:width] for row in rows]
            if any("," in word for row in values[:1] for word in row):  # decimals with a comma
                values = [[word.replace(",", ".") for word in row] for row in values]
            try:
                self._made = np.array(values, dtype=np.float64).reshape(len(rows), width)
            except ValueError as error:
                raise InputError(
                    f"{self.path}: expected numbers in every {self.word} line, got others ({error})"
                ) from None
        return self._made


def _split_colors(rows: Array) -> tuple[Array, Array | None]:
    """x y z [w] or x y z r g b [a]: places, and colours as sRGB 0..1 (some programs write 0..255)."""
    if rows.shape[1] < 6:
        return rows[:, :3], None
    colors = rows[:, 3:6]
    if not np.isfinite(colors).all():
        return rows[:, :3], None
    return rows[:, :3], (colors / 255.0 if colors.max(initial=0.0) > 1.0 else colors).clip(0, 1)


def _triangles(path: Path, faces: list[tuple[str, tuple[int, int, int]]]) -> Array:
    """Corners [F, 3, 3] as indices of place, coordinate and normal from 0; -1 where a corner has none."""
    found: list[list[tuple[int, int, int]]] = []
    for text, counts in faces:
        corners = [_corner(path, word, counts) for word in text.partition("#")[0].split()]
        found += [[corners[0], corners[at], corners[at + 1]] for at in range(1, len(corners) - 1)]
    return np.array(found, dtype=np.int64).reshape(-1, 3, 3)


def _corner(path: Path, word: str, counts: tuple[int, int, int]) -> tuple[int, int, int]:
    """One of "7", "7/2", "7//3", "7/2/3"; a negative index counts back from the line that it stands on."""
    texts = [*word.split("/"), "", ""][:3]
    found = [-1, -1, -1]
    for place, text in enumerate(texts):
        if text:
            try:
                index = int(text)
            except ValueError:
                raise InputError(f"{path}: expected whole numbers in a face, got {word!r}") from None
            found[place] = index - 1 if index > 0 else counts[place] + index
            if index == 0 or found[place] < 0 or (index < 0 and found[place] >= counts[place]):
                raise InputError(f"{path}: expected indices of lines above a face, got {word!r}")
    return found[0], found[1], found[2]


def _part(path: Path, corners: Array, arrays: tuple[Array, Array | None, Array, Array], material: _Material) -> Part:
    vertices, colors, coords, normals = arrays
    for place, (what, rows) in enumerate((("v", vertices), ("vt", coords), ("vn", normals))):
        if place and not len(rows):  # named in faces, but left out of the file
            corners[..., place] = -1
        highest = int(corners[..., place].max(initial=-1))
        if highest >= len(rows):
            raise InputError(f"{path}: expected indices of {what} up to {len(rows)}, got {highest + 1} in a face")
    for place in (1, 2):  # used only where all corners have one
        if (corners[..., place] < 0).any():
            corners[..., place] = -1
    # One vertex for each combination, in the order of the file's places.
    rows, faces = np.unique(corners.reshape(-1, 3), axis=0, return_inverse=True)
    place, coord, normal = rows.T
    uvs = None if coord.max(initial=-1) < 0 else coords[coord, :2] * (1, -1) + (0, 1)
    texture = None if material.picture is None else _picture(path, material.picture)
    if texture is not None and uvs is not None:
        uvs = (coords[coord, :2] * material.scale + material.offset) * (1, -1) + (0, 1)
    shown = colors[place] if colors is not None else None
    if shown is None and texture is None and material.color is not None:
        shown = np.tile(np.clip(material.color[:3], 0, 1), (len(place), 1))
    wrap = "clamp" if material.clamps else "repeat"
    return Part(
        vertices=vertices[place],
        faces=faces.reshape(-1, 3),
        normals=None if normal.max(initial=-1) < 0 else unit_or_none(normals[normal, :3]),
        uvs=uvs,
        colors=None if texture is not None and uvs is not None else shown,
        texture=texture,
        wraps=(wrap, wrap),
    )


def _picture(path: Path, named: str) -> Array | None:
    found = find_file(path.parent, named)
    return None if found is None else decode_picture(found.read_bytes(), str(found))


def _materials(path: Path, libraries: list[str]) -> Mapping[str, _Material]:
    materials: dict[str, _Material] = {}
    for named in libraries:
        # One name with spaces or several names: the whole is tried first.
        found = find_file(path.parent, named)
        files = [found] if found else [find_file(path.parent, word) for word in named.split()]
        if not any(files):
            warnings.warn(f"{path}: its material file {named} is missing; loaded without it", stacklevel=4)
        for file in filter(None, files):
            materials |= _read_mtl(file)
    for material in materials.values():  # a remark behind a name, if it is no part of it
        if material.picture is not None and find_file(path.parent, material.picture) is None:
            material.picture = material.picture.partition(" #")[0].strip()
    for picture in dict.fromkeys(material.picture for material in materials.values()):
        if picture is not None and find_file(path.parent, picture) is None:
            warnings.warn(f"{path}: its texture {picture} is missing; loaded without it", stacklevel=4)
    return materials


def _read_mtl(path: Path) -> dict[str, _Material]:
    materials: dict[str, _Material] = {}
    material = _Material()
    for line in _lines(path.read_bytes()):
        word, _, rest = line.partition(" ")
        word, rest = word.lower(), rest.strip()
        if word == "newmtl":
            material = materials.setdefault(rest, _Material())
        elif word == "kd":
            values = _numbers(rest.split(), 3)
            if values:  # green and blue may be left out, and are red then
                material.color = (values[0], *(values[1:] if len(values) == 3 else values[:1] * 2))
        elif word == "map_kd":
            _read_map(rest, material)
    return materials


def _read_map(text: str, material: _Material) -> None:
    """ "-s 2 2 1 -clamp on folder/my picture.png": options and a name with any spaces."""
    words = text.split(" ")
    while words and words[0].lower() in _OPTIONS:
        option = words.pop(0).lower()
        if option in ("-o", "-s", "-t"):
            values = _numbers(words, _OPTIONS[option])
            del words[: len(values)]
            pair = (values + values[:1] * 2 if option == "-s" else values + [0.0] * 2)[:2]
            if option == "-s" and values:
                material.scale = (pair[0], values[1] if len(values) > 1 else 1.0)
            elif option == "-o" and values:
                material.offset = (pair[0], pair[1])
        else:
            if option == "-clamp" and words:
                material.clamps = words[0].lower() == "on"
            del words[: _OPTIONS[option]]
    material.picture = " ".join(words).strip() or None


def _numbers(words: list[str], most: int) -> list[float]:
    """As many of the first words as are numbers."""
    found: list[float] = []
    for word in words[:most]:
        try:
            found.append(float(word))
        except ValueError:
            break
    return found
