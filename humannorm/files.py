"""Files that appear whole or not at all, and replace nothing unasked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from humannorm.checks import InputError

__all__ = ["check_target", "write_files"]


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
            partials[path].write_bytes(content)
        for path, partial in partials.items():
            os.replace(partial, path)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
