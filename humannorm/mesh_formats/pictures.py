"""Pictures that mesh files carry or name, as textures."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np

from humannorm.checks import InputError, reading
from humannorm.images import MOST_PIXELS
from humannorm.mesh_formats.parts import Array

__all__ = ["decode_picture", "find_file"]

_OLDER_ENCODINGS = ("cp1251", "gb18030", "shift_jis", "euc_kr", "big5", "cp1250", "cp1253", "cp1254", "cp850", "cp866")
_POINTER = b"version https://git-lfs"


def decode_picture(content: bytes, name: str) -> Array:
    """[H, W, 3] float32, sRGB 0..1, of the bytes of a picture file; alpha is left out, 16 bits are kept in scale."""
    from PIL import Image

    if content.startswith(_POINTER):
        raise InputError(f"{name}: expected a picture, got a pointer of Git LFS to one; run `git lfs pull` there")
    with reading(name, "a picture"), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        picture = Image.open(io.BytesIO(content))
        if picture.width * picture.height > MOST_PIXELS:
            raise InputError(f"expected at most {MOST_PIXELS} pixels, got {picture.width} x {picture.height}")
        if picture.mode.startswith("I") or picture.mode == "F":  # 16 bits of grey, which PIL would clip
            grey = np.asarray(picture, dtype=np.float32)
            full = 1.0 if picture.mode == "F" and float(grey.max(initial=0)) <= 1 else 65535.0
            return np.repeat((grey / full).clip(0, 1)[..., None], 3, axis=2)
        return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0


def find_file(folder: Path, named: str) -> Path | None:
    """The file that a mesh file names, as written on any system: with backslashes, in other capitals, with the folders
    of the computer that it was made on, from which only the file came along."""
    plain = named.strip().strip('"').replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    for tail in ([plain], *([*parts[at:]] for at in range(len(parts)))):
        try:
            found = _any_case(folder, "/".join(tail))
        except (OSError, ValueError):  # a name that no file can have
            return None
        if found is not None:
            return found
    return _by_older_encodings(folder, plain)


def _by_older_encodings(folder: Path, name: str) -> Path | None:
    """The file of a name that was read byte by byte, as that of another script than the Latin one."""
    try:
        content = name.encode("latin-1")
    except UnicodeEncodeError:
        return None
    for encoding in () if name.isascii() else _OLDER_ENCODINGS:
        try:
            found = _any_case(folder, content.decode(encoding))
        except (OSError, ValueError):
            continue
        if found is not None:
            return found
    return None


def _any_case(folder: Path, name: str) -> Path | None:
    path = folder / name
    if path.is_file():
        return path
    at = folder
    for part in name.split("/"):
        if part == "..":
            at = at.parent
            continue
        if not at.is_dir():
            return None
        same = [each for each in at.iterdir() if each.name.lower() == part.lower()]
        if not same:
            return None
        at = same[0]
    return at if at.is_file() else None
