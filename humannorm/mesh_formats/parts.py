"""Surfaces as the readers find them, and how they become one mesh.

A part is one piece of surface with one material. Whatever its material says ends up as either a texture on coordinates
within 0..1, or colours of its vertices: textures repeated, mirrored or stretched outside of 0..1 are laid out, tints
and vertex colours are multiplied in (in linear light, where the format says so), several textures share one atlas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch

from humannorm.checks import InputError
from humannorm.mesh import Mesh, welded_vertex_normals

__all__ = [
    "Array",
    "Part",
    "laid_out",
    "linear_from_srgb",
    "mesh_of_parts",
    "srgb_from_linear",
    "with_face_colors",
]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

WRAPS = ("repeat", "mirror", "clamp")
_MAX_TEXELS = 2**27  # of one merged texture: 1.5 GiB as float32 RGB
_ATLAS_PADDING = 8  # texels repeated around each packed texture: three mip levels without bleeding
_SLACK = 1e-4  # coordinates that leave the picture by rounding only
_SIDES = (2, 4, 8, 16, 32, 64)  # texels of the square that a face gets where colours are baked face by face


@dataclass(frozen=True)
class Part:
    """One surface in world coordinates; colours sRGB 0..1, v = 0 at the top."""

    vertices: Array  # [V, 3]
    faces: Array  # [F, 3]
    normals: Array | None = None  # [V, 3]
    uvs: Array | None = None  # [V, 2]
    colors: Array | None = None  # [V, 3]; beside a texture: what multiplies it
    texture: Array | None = None  # [H, W, 3] float32
    tint: Array | None = None  # [3] linear, multiplies the texture
    wraps: tuple[str, str] = ("repeat", "repeat")  # of `WRAPS`, along u and v


def mesh_of_parts(parts: Sequence[Part]) -> Mesh:
    """All parts as one mesh."""
    return _to_mesh(_merge([laid_out(part) for part in parts]))


def laid_out(part: Part) -> Part:
    """The part with its coordinates in 0..1 of a texture that has tint and vertex colours in it; or without either."""
    if part.texture is None or part.uvs is None:
        return replace(part, texture=None, tint=None)
    if not np.isfinite(part.uvs).all():
        raise InputError("uvs: expected finite texture coordinates, got some that are NaN or infinite")
    if part.tint is not None and (part.tint < 1).any():
        part = replace(part, texture=_tinted(part.texture, part.tint))
    part = _within_picture(replace(part, tint=None))
    return part if part.colors is None else _with_colors_baked(part)


def _tinted(texture: Array, factor: Array) -> Array:
    """Every texel times the factor [3], in linear light. Textures of 8 bits, as nearly all are, by a table."""
    levels = np.rint(texture * 255)
    if np.abs(levels - texture * 255).max(initial=0) > 1e-3:
        return srgb_from_linear(linear_from_srgb(texture) * factor).astype(np.float32)
    table = srgb_from_linear(linear_from_srgb(np.arange(256)[:, None] / 255) * factor).astype(np.float32)
    return np.stack([table[levels[..., k].astype(np.uint8), k] for k in range(3)], axis=-1)


def _within_picture(part: Part) -> Part:
    """The texture laid out as often as the coordinates need it, along each axis as its wrapping says."""
    assert part.uvs is not None and part.texture is not None
    uvs, texture = part.uvs, part.texture
    inside = (uvs.min(axis=0) >= -_SLACK).all() and (uvs.max(axis=0) <= 1 + _SLACK).all()
    if inside:
        return replace(part, uvs=uvs.clip(0, 1), wraps=("clamp", "clamp"))
    for axis, wrap in enumerate(part.wraps):
        if wrap == "mirror":  # two pictures, one of them mirrored, repeat
            along = 1 - axis
            texture = np.concatenate([texture, np.flip(texture, along)], along)
            uvs = uvs * np.where(np.arange(2) == axis, 0.5, 1.0)
    part = _in_nearest_tiles(replace(part, uvs=uvs, texture=texture))
    assert part.uvs is not None
    uvs = part.uvs
    for axis, wrap in enumerate(part.wraps):
        uvs, texture = (_clamped if wrap == "clamp" else _repeated)(uvs, texture, axis)
    return replace(part, uvs=uvs, texture=texture, wraps=("clamp", "clamp"))


def _in_nearest_tiles(part: Part) -> Part:
    """Faces moved by whole pictures towards the first, where the picture repeats: each needs few copies of it then.

    Vertices that faces share in different tiles are split.
    """
    assert part.uvs is not None
    repeats = np.array([wrap != "clamp" for wrap in part.wraps])
    spans = np.ptp(part.uvs, axis=0)
    shift = np.where(repeats, np.floor(part.uvs.min(axis=0) + _SLACK), 0.0)
    if (spans <= 2).all() or not repeats.any():
        return replace(part, uvs=part.uvs - shift)
    corners = part.uvs[part.faces]  # [F, 3, 2]
    tiles = np.where(repeats, np.floor(corners.min(axis=1) + _SLACK), 0.0)
    keys = np.concatenate([part.faces.reshape(-1, 1), np.repeat(tiles, 3, axis=0)], axis=1)
    rows, faces = np.unique(keys, axis=0, return_inverse=True)
    origin = rows[:, 0].astype(np.int64)
    return replace(_taken(part, origin, faces.reshape(-1, 3)), uvs=part.uvs[origin] - rows[:, 1:])


def _taken(part: Part, origin: Array, faces: Array) -> Part:
    """The part on other vertices, each a copy of an old one; smooth across the new seams."""
    normals = seam_normals(part) if part.normals is None else part.normals

    def rows(values: Array | None) -> Array | None:
        return None if values is None else values[origin]

    return replace(
        part,
        vertices=part.vertices[origin],
        faces=faces,
        normals=normals[origin],
        uvs=rows(part.uvs),
        colors=rows(part.colors),
    )


def _repeated(uvs: Array, texture: Array, axis: int) -> tuple[Array, Array]:
    copies = max(math.ceil(float(uvs[:, axis].max()) - _SLACK), 1)
    along = 1 - axis
    _check_texels(texture.shape[along] * copies, texture.shape[axis], "a repeated texture")
    repeats = [1, 1, 1]
    repeats[along] = copies
    return _scaled(uvs, axis, copies), np.tile(texture, repeats) if copies > 1 else texture


def _clamped(uvs: Array, texture: Array, axis: int) -> tuple[Array, Array]:
    """The picture's border goes on: laid out as far as coordinates reach, if that is not too far."""
    along = 1 - axis
    size = texture.shape[along]
    low, high = float(uvs[:, axis].min()), float(uvs[:, axis].max())
    before, behind = math.ceil(max(-low - _SLACK, 0.0) * size), math.ceil(max(high - 1 - _SLACK, 0.0) * size)
    if (size + before + behind) * texture.shape[axis] > _MAX_TEXELS // 4:
        before = behind = 0  # far out there is nothing but the border's colour
        uvs = np.where(np.arange(2) == axis, uvs.clip(0, 1), uvs)
    if not before and not behind:
        return uvs, texture
    widths = [(0, 0)] * 3
    widths[along] = (before, behind)
    moved = uvs + np.where(np.arange(2) == axis, before / size, 0.0)
    return _scaled(moved, axis, (size + before + behind) / size), np.pad(texture, widths, mode="edge")


def _scaled(uvs: Array, axis: int, pictures: float) -> Array:
    return uvs / np.where(np.arange(2) == axis, pictures, 1.0)


def with_face_colors(part: Part, colors: Array) -> Part:
    """Colours [F, 3] of faces: one vertex for every (vertex, colour) pair that occurs, so that smooth shading survives
    inside a colour."""
    _, color_ids = np.unique(colors, axis=0, return_inverse=True)
    corners = np.stack([part.faces.ravel(), np.repeat(color_ids.ravel(), 3)], axis=1)
    rows, first, faces = np.unique(corners, axis=0, return_index=True, return_inverse=True)
    return replace(_taken(part, rows[:, 0], faces.reshape(-1, 3)), colors=colors[first // 3])


def seam_normals(part: Part) -> Array:
    """Vertex normals as if vertices at one place were one."""
    return welded_vertex_normals(
        torch.tensor(part.vertices, dtype=torch.float64), torch.tensor(part.faces.astype(np.int64))
    ).numpy()


def _with_colors_baked(part: Part) -> Part:
    """Vertex colours multiplied into the texture, in linear light as glTF says."""
    assert part.colors is not None and part.texture is not None
    if (part.colors == part.colors[:1]).all():
        if (part.colors == 1).all():
            return replace(part, colors=None)
        return replace(part, colors=None, texture=_tinted(part.texture, linear_from_srgb(part.colors[0])))
    assert part.uvs is not None
    size = np.array([part.texture.shape[1], part.texture.shape[0]])
    corners = part.uvs[part.faces] * size - 0.5  # texels
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    colors = linear_from_srgb(part.colors[part.faces])
    source = linear_from_srgb(part.texture)

    def paint(faces: Array, weights: Array) -> Array:
        places = np.einsum("sk,fkc->fsc", weights, corners[faces])
        tints = np.einsum("sk,fkc->fsc", weights, colors[faces])
        return srgb_from_linear(_looked_up(source, places) * tints.clip(0, None))

    return _painted_by_face(part, longest, paint)


def painted_by_vertex(part: Part) -> Part:
    """Vertex colours as a texture, for a scene in which other parts have one."""
    assert part.colors is not None
    colors = part.colors[part.faces]
    return _painted_by_face(
        part, np.zeros(len(part.faces)), lambda faces, weights: np.einsum("sk,fkc->fsc", weights, colors[faces])
    )


def _painted_by_face(part: Part, texels: Array, paint: Callable[[Array, Array], Array]) -> Part:
    """A square of texels for each face, the face in its lower left half.

    texels: [F] length of the face's longest edge in the texture that it had. paint: faces [f] and barycentric weights
    [s, 3] of places -> colours [f, s, 3]. Bilinear lookups between corners at texel centres give what is painted at
    the corners, blended linearly.
    """
    sides = np.array(_SIDES)[np.searchsorted(_SIDES, np.minimum(texels + 1, _SIDES[-1]))]
    total = int((sides.astype(np.int64) ** 2).sum())
    width = max(_SIDES[-1], math.isqrt(total) // _SIDES[-1] * _SIDES[-1] + _SIDES[-1])
    rows: list[Array] = []
    uvs = np.zeros((len(part.faces), 3, 2))
    top = 0
    for side in _SIDES:
        chosen = np.flatnonzero(sides == side)
        if not len(chosen):
            continue
        steps = np.arange(side) / (side - 1)
        across, down = np.meshgrid(steps, steps)
        weights = np.stack([1 - across - down, across, down], axis=-1).reshape(-1, 3)
        per_row = width // side
        count = -(-len(chosen) // per_row)
        _check_texels(top + count * side, width, "colours baked for each face")
        shelf = np.zeros((count * per_row, side, side, 3), np.float32)
        shelf[: len(chosen)] = paint(chosen, weights).reshape(len(chosen), side, side, 3)
        strip = shelf.reshape(count, per_row, side, side, 3).swapaxes(1, 2).reshape(count * side, per_row * side, 3)
        rows.append(np.pad(strip, ((0, 0), (0, width - per_row * side), (0, 0))))
        at = np.arange(len(chosen))
        corner = np.stack([at % per_row * side, top + at // per_row * side], axis=1)[:, None] + 0.5
        uvs[chosen] = corner + (side - 1) * np.array([[0, 0], [1, 0], [0, 1]])
        top += count * side
    texture = np.concatenate(rows)
    faces = np.arange(3 * len(part.faces)).reshape(-1, 3)
    split = _taken(part, part.faces.ravel(), faces)
    return replace(split, uvs=uvs.reshape(-1, 2) / (width, top), colors=None, texture=texture)


def _looked_up(texture: Array, places: Array) -> Array:
    """Bilinear, [..., 2] in texels from the first texel's centre, clamped at the border."""
    height, width = texture.shape[:2]
    places = places.clip(0, (width - 1, height - 1))
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, (width - 1, height - 1))
    x, y = np.moveaxis(places - low, -1, 0)[..., None]
    upper = texture[low[..., 1], low[..., 0]] * (1 - x) + texture[low[..., 1], high[..., 0]] * x
    lower = texture[high[..., 1], low[..., 0]] * (1 - x) + texture[high[..., 1], high[..., 0]] * x
    return upper * (1 - y) + lower * y


def _merge(parts: Sequence[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    if any(part.texture is not None for part in parts):
        parts = _share_one_texture(parts)
    counts = [len(part.vertices) for part in parts]
    starts = np.cumsum([0, *counts[:-1]])
    seams = any(part.normals is not None or part.uvs is not None for part in parts)

    def joined(name: str, missing: Callable[[Part], Array]) -> Array | None:
        values = [getattr(part, name) for part in parts]
        if all(value is None for value in values):
            return None
        return np.concatenate(
            [missing(part) if value is None else value for value, part in zip(values, parts, strict=True)]
        )

    return Part(
        vertices=np.concatenate([part.vertices for part in parts]),
        faces=np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)]),
        normals=np.concatenate([seam_normals(p) if p.normals is None else p.normals for p in parts]) if seams else None,
        uvs=joined("uvs", lambda part: np.zeros((len(part.vertices), 2))),
        colors=joined("colors", lambda part: np.ones((len(part.vertices), 3))),
        texture=parts[0].texture,
    )


def _share_one_texture(parts: Sequence[Part]) -> list[Part]:
    """All parts into one atlas; a part of one plain colour gets a texel of its own, one of many colours its faces."""
    textures: dict[bytes, tuple[int, Array]] = {}
    places, shaped = [], []
    for part in parts:
        if part.texture is None:
            colors = np.ones((1, 3)) if part.colors is None else np.unique(part.colors, axis=0)
            if len(colors) > 1:
                part = painted_by_vertex(part)
        texture = colors[None] if part.texture is None else part.texture
        key = repr(texture.shape).encode() + np.ascontiguousarray(texture, dtype=np.float32).tobytes()
        places.append(textures.setdefault(key, (len(textures), texture))[0])
        shaped.append(part)
    atlas, boxes = _pack([texture for _, texture in textures.values()])
    shared = []
    for part, place in zip(shaped, places, strict=True):
        top, left, height, width = boxes[place]
        middle = np.full((len(part.vertices), 2), 0.5)
        inner = middle if part.uvs is None or part.texture is None else part.uvs
        uvs = (inner * (width, height) + (left, top)) / (atlas.shape[1], atlas.shape[0])
        shared.append(replace(part, uvs=uvs, texture=atlas, colors=None))
    return shared


def _pack(textures: Sequence[Array]) -> tuple[Array, list[tuple[int, int, int, int]]]:
    """Shelf packing, tallest first: the atlas and each texture's (top, left, height, width) in it, in texels."""
    pad = _ATLAS_PADDING
    order = sorted(range(len(textures)), key=lambda i: -textures[i].shape[0])
    area = sum((t.shape[0] + 2 * pad) * (t.shape[1] + 2 * pad) for t in textures)
    limit = max(math.isqrt(area), *(t.shape[1] + 2 * pad for t in textures), 1)
    boxes = [(0, 0, 0, 0)] * len(textures)
    left = top = shelf = 0
    for i in order:
        height, width = textures[i].shape[:2]
        if left + width + 2 * pad > limit:
            left, top, shelf = 0, top + shelf, 0
        boxes[i] = (top + pad, left + pad, height, width)
        left, shelf = left + width + 2 * pad, max(shelf, height + 2 * pad)
    _check_texels(top + shelf, limit, "the textures of one scene")
    atlas = np.zeros((top + shelf, limit, 3), dtype=np.float32)
    for (y, x, height, width), texture in zip(boxes, textures, strict=True):
        padded = np.pad(texture, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
        atlas[y - pad : y + height + pad, x - pad : x + width + pad] = padded
    return atlas, boxes


def _check_texels(height: int, width: int, what: str) -> None:
    if height * width > _MAX_TEXELS:
        raise InputError(f"texture: expected {what} of at most {_MAX_TEXELS} texels, got {width} x {height}")


def _to_mesh(part: Part) -> Mesh:
    if len(part.faces) and not (part.faces.min() >= 0 and part.faces.max() < len(part.vertices)):
        raise InputError(
            f"faces: expected vertex indices 0 to {len(part.vertices) - 1}, got {part.faces.min()} to"
            f" {part.faces.max()}"
        )
    normals = part.normals
    if normals is None and part.uvs is not None:
        normals = seam_normals(part)

    def tensor(array: Array | None) -> Any:
        return None if array is None else torch.tensor(np.ascontiguousarray(array, dtype=np.float32))

    return Mesh(
        vertices=tensor(part.vertices),
        faces=torch.tensor(np.ascontiguousarray(part.faces, dtype=np.int64)),
        normals=tensor(normals),
        uvs=tensor(part.uvs),
        colors=tensor(part.colors),
        texture=tensor(part.texture),
    )


def unit_or_none(normals: Array | None) -> Array | None:
    """Normals of length 1, None where some have no direction."""
    if normals is None:
        return None
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / lengths if np.isfinite(lengths).all() and (lengths > 0).all() else None


def srgb_from_linear(values: Array) -> Array:
    """IEC 61966-2-1 encoding."""
    values = np.clip(values, 0.0, 1.0)
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


def linear_from_srgb(values: Array) -> Array:
    """IEC 61966-2-1 decoding."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
