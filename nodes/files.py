"""Files in the host's output folder."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from humannorm.checks import InputError


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


def existing_file(name: str, suffix: str) -> Path:
    """A file of the output folder, else of the input folder."""
    if not name.strip():
        raise InputError(f"file: expected a {suffix} file of the output or input folder, got nothing")
    for root in (folder_paths.get_output_directory(), folder_paths.get_input_directory()):
        folder = Path(root).resolve()
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):
            raise InputError(f"file: expected a place inside ComfyUI's output or input folder, got {name!r}")
        if path.is_file():
            if path.suffix.lower() != suffix:
                raise InputError(f"file: expected a {suffix} file, got {name!r}")
            return path
    raise InputError(f"file: expected a file of the output or input folder, got {name!r}, which is in neither")


def refused(path: Path, error: OSError) -> InputError:
    """What a person is told when the disk does not take a file."""
    return InputError(f"{path.name}: could not be written ({error.strerror or error}); look at the disk's free space")
