"""Files in the host's output folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import folder_paths

from humannorm.checks import InputError

__all__ = [
    "existing_file",
    "file_fingerprint",
    "next_output_file",
    "pickable_files",
    "refused",
    "relative_to_output",
    "shown_file",
]

PICKED_FOLDERS = ("3d", "humannorm", "mesh")  # that are searched to their depths for a widget's list
MOST_PICKED = 200  # of each root, the newest


def next_output_file(prefix: str, suffix: str) -> Path:
    """A new file `<prefix>_00001_<suffix>` in the output folder, named as the host names its own (%year% ...)."""
    if not prefix.strip():
        raise InputError("filename_prefix: expected a name, got nothing")
    folder = Path(folder_paths.get_output_directory()).resolve()
    wanted = (folder / prefix).resolve()
    if not wanted.is_relative_to(folder) or wanted == folder:
        raise InputError(f"filename_prefix: expected a place inside ComfyUI's output folder, got {prefix!r}")
    parent, name, counter, _, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    return Path(parent) / f"{name}_{counter:05}_{suffix}"


def relative_to_output(path: Path) -> str:
    """The path as Preview 3D and Load State want it: from the output folder, with forward slashes."""
    return path.resolve().relative_to(Path(folder_paths.get_output_directory()).resolve()).as_posix()


def shown_file(path: Path) -> dict[str, str]:
    """A file of the output folder as the canvas requests it."""
    return {"filename": path.name, "subfolder": relative_to_output(path).rpartition("/")[0], "type": "output"}


def existing_file(name: str, suffixes: Sequence[str], home: str = "output") -> Path:
    """A file of the output and the input folder, `home` first: a name in one of them, or a whole path into one.

    The host's own notation works: `3d/box.glb [input]`, `[output]` or `[temp]` behind a name, and backslashes.
    """
    if not name.strip():
        raise InputError(f"file: expected a {', '.join(suffixes)} file of the output or input folder, got nothing")
    wanted, roots = _places(name, home)
    inside = False
    for root in roots:
        folder = Path(root).resolve()
        path = (folder / wanted).resolve()
        inside = inside or path.is_relative_to(folder)
        if path.is_relative_to(folder) and path.is_file():
            if path.suffix.lower() not in suffixes:
                raise InputError(f"file: expected one that ends in {', '.join(suffixes)}, got {name!r}")
            return path
    if not inside:
        raise InputError(f"file: expected a place inside ComfyUI's output or input folder, got {name!r}")
    raise InputError(f"file: expected a file of the output or input folder, got {name!r}, which is in neither")


def pickable_files(suffixes: Sequence[str], home: str = "output") -> list[str]:
    """Files for a widget's list, the newest first, of the output and the input folder. Those that are not `home` have
    the host's note behind their name."""
    listed: list[str] = []
    for kind, root in _roots(home).items():
        folder = Path(root)
        places = [folder.glob("*"), *((folder / name).rglob("*") for name in PICKED_FOLDERS)]
        files = [path for place in places for path in place if path.suffix.lower() in suffixes and path.is_file()]
        files.sort(key=lambda path: -path.stat().st_mtime)
        names = [path.relative_to(folder).as_posix() for path in files[:MOST_PICKED]]
        listed += names if kind == home else [f"{name} [{kind}]" for name in names]
    return listed


def _roots(home: str) -> dict[str, str]:
    """The folders that names are looked up in, the first one first."""
    roots = {"output": folder_paths.get_output_directory(), "input": folder_paths.get_input_directory()}
    return {home: roots[home], **roots}


def _places(name: str, home: str) -> tuple[str, list[str]]:
    """A name without the host's notation, with forward slashes, and the folders to look in."""
    roots = _roots(home)
    noted = re.fullmatch(r"(.*?)\s*\[(output|input|temp)\]\s*", name)
    plain = (noted.group(1) if noted else name).strip().replace("\\", "/")
    if noted is None:
        return plain, list(roots.values())
    return plain, [{**roots, "temp": folder_paths.get_temp_directory()}[noted.group(2)]]


def file_fingerprint(name: str, suffixes: Sequence[str], home: str = "output") -> str:
    """What the host's cache goes by: another file of the same name is read again."""
    try:
        status = existing_file(name, suffixes, home).stat()
    except InputError:
        return name
    return f"{name} {status.st_mtime_ns} {status.st_size}"


def refused(path: Path, error: OSError) -> InputError:
    """The error that a person sees when the disk does not take a file."""
    return InputError(f"{path.name}: could not be written ({error.strerror or error}); look at the disk's free space")
