"""Checks at public borders: an error names the input, what was expected and what came."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

__all__ = ["InputError", "check_choice", "check_range", "check_same_device", "check_tensor", "reading"]

Kind = Literal["float", "int", "bool", "any"]


class InputError(ValueError):
    """What the caller handed in cannot be used; the message says which input, what was expected and what came."""


def check_tensor(name: str, value: Any, shape: str, *, dtype: Kind = "float", finite: bool = False) -> None:
    """Raise ``InputError`` unless ``value`` is a tensor of the given shape and kind.

    ``shape`` holds one word per dimension, such as ``"B H W 3"``: a number must be met exactly, a letter or word stands
    for any size (the same word for the same size), and one ``*`` for any number of dimensions. ``finite`` also looks
    at every element and refuses NaN and infinity.
    """
    expected = f"{name}: expected {'' if dtype == 'any' else dtype + ' '}tensor [{', '.join(shape.split())}]"
    if not isinstance(value, torch.Tensor):
        raise InputError(f"{expected}, got {type(value).__name__}")
    if not (_is_kind(value, dtype) and _fits(tuple(value.shape), shape.split())):
        raise InputError(f"{expected}, got {_describe(value)}")
    if finite and not bool(torch.isfinite(value).all()):
        count = int((~torch.isfinite(value)).sum())
        raise InputError(f"{name}: expected finite values, got {count} that are NaN or infinite in {_describe(value)}")


def check_same_device(**tensors: torch.Tensor | None) -> None:
    """Raise ``InputError`` unless all given tensors (``None`` is skipped) live on one device."""
    devices = {name: str(tensor.device) for name, tensor in tensors.items() if tensor is not None}
    if len(set(devices.values())) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise InputError(f"{', '.join(devices)}: expected all on one device, got {listed}")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ``InputError`` unless ``low <= value <= high`` (NaN never is)."""
    if not low <= value <= high:
        if math.isinf(high):
            wanted = f"at least {low:g}"
        elif math.isinf(low):
            wanted = f"at most {high:g}"
        else:
            wanted = f"{low:g} to {high:g}"
        raise InputError(f"{name}: expected {wanted}, got {value:g}")


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raise ``InputError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise InputError(f"{name}: expected one of {', '.join(map(str, choices))}, got {value!r}")


@contextmanager
def reading(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """For the reader of a file: every fault inside becomes an `InputError` that begins with its name.

    what: what the file should be, such as "a whole GLB file". Broken files lead readers into errors of every kind
    where no check meets the fault first. Only those of the disk pass as they are.
    """
    try:
        yield
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(str(path)) else f"{path}: {message}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError(f"{path}: expected {what}, got one that cannot be read ({error})") from error
    except (
        ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError, SyntaxError,
        TypeError, ValueError,
    ) as error:  # fmt: skip
        raise InputError(f"{path}: expected {what}, got one that fails ({_in_short(error)})") from error


def _in_short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError):
        text = f"without {text}"
    return text if len(text) <= 160 else f"{text[:160]} ..."


def _is_kind(value: torch.Tensor, kind: Kind) -> bool:
    if kind == "float":
        return value.is_floating_point()
    if kind == "bool":
        return value.dtype == torch.bool
    if kind == "int":
        return not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
    return True


def _fits(sizes: tuple[int, ...], words: list[str]) -> bool:
    if "*" in words:
        star = words.index("*")
        tail = len(words) - star - 1
        if len(sizes) < star + tail:
            return False
        sizes = sizes[:star] + sizes[len(sizes) - tail :]
        words = words[:star] + words[star + 1 :]
    if len(sizes) != len(words):
        return False
    known: dict[str, int] = {}
    for size, word in zip(sizes, words, strict=True):
        if (int(word) if word.isdigit() else known.setdefault(word, size)) != size:
            return False
    return True


def _describe(value: torch.Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} [{', '.join(map(str, value.shape))}]"
