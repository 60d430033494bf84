"""Files that appear whole or not at all, and replace nothing unasked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.checks import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_target", "save_tensors", "write_files"]


def check_target(path: str | os.PathLike[str], suffix: str, overwrite: bool) -> Path:
    """The path, if it may be written: right ending, no folder, nothing there unless `overwrite`."""
    target = Path(path)
    if target.suffix.lower() != suffix:
        raise InputError(f"path: expected a file ending in {suffix}, got {target}")
    if target.is_dir():
        raise InputError(f"path: expected a file, got the folder {target}")
    if target.exists() and not overwrite:
        raise InputError(f"path: expected a new file, got {target}, which exists (overwrite=True replaces it)")
    return target


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write all files beside their targets first, then move them into place in the order given."""
    partials = {path: path.with_name(f".{path.name}.{os.getpid()}.partial") for path in files}
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                partials[path].write_bytes(content)
            except OSError as error:
                error.filename = error.filename or str(path)  # a full disk has none
                raise
        for path, partial in partials.items():
            os.replace(partial, path)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """One safetensors file, whole or not at all. What the system says against it, as of a full disk, is an OSError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(dict(tensors), partial, dict(metadata))
    except SafetensorError as error:
        partial.unlink(missing_ok=True)
        number = re.search(r"os error (\d+)", str(error))  # the system's, in the words of the writer's language
        if number is None:
            raise OSError(f"{path}: {error}") from error
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    os.replace(partial, path)
