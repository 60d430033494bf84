"""Half the bits where the processor gains by it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

__all__ = ["PRECISIONS", "Precision", "fast_precision", "is_fast_in_bfloat16"]

Precision = Literal["auto", "full"]
PRECISIONS: tuple[Precision, ...] = ("auto", "full")


def is_fast_in_bfloat16(device: torch.device) -> bool:
    """Whether matrices of bfloat16 are multiplied in hardware made for them: on a CPU, AMX tiles.

    Graphics cards are left out: what runs there has its precision from whoever loaded it.
    """
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return device.type == "cpu" and probe is not None and bool(probe())


def fast_precision(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Inside, networks of 32 bits compute in bfloat16 where that is faster ("auto"), or as they are ("full")."""
    if precision == "auto" and is_fast_in_bfloat16(device):
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()
