"""How the processor is used: how threads wait for each other, how many work, and in which precision networks run.

OpenMP reads its environment once, when torch is loaded: this module loads neither torch nor anything else by itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = [
    "PRECISIONS",
    "core_quota",
    "has_native_bf16",
    "network_dtype",
    "network_precision",
    "prepare_threads",
    "waiting_policy",
]

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
"""Of the networks. `auto`: fp16 on CUDA, bf16 on a CPU that computes it natively, else fp32."""

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What says how a thread without work waits: OpenMP's own name, GNU's and Intel's (also LLVM's)."""
CGROUPS = Path("/sys/fs/cgroup")


def prepare_threads() -> None:
    """Set, where the user has not, what OpenMP reads when torch is loaded; once it is loaded nothing is touched.

    Threads that have no work sleep. By default they spin for milliseconds, at every operation: beside other work the
    cores are then spent on waiting, and a network that needs one second needs fifteen. A container that may use a share
    of the cores gets as many threads; torch counts all that it sees.
    """
    if "torch" in sys.modules:
        return
    if not any(name in os.environ for name in WAITING):
        os.environ.update(OMP_WAIT_POLICY="PASSIVE", KMP_BLOCKTIME="0")
    quota = core_quota()
    if "OMP_NUM_THREADS" not in os.environ and quota is not None and quota < (os.cpu_count() or 1):
        os.environ["OMP_NUM_THREADS"] = str(max(1, int(quota)))


def waiting_policy() -> dict[str, str]:
    """What the environment says of how threads wait; empty: the OpenMP library's default, which is to spin first."""
    return {name: os.environ[name] for name in WAITING if name in os.environ}


def core_quota(cgroups: Path = CGROUPS) -> float | None:
    """Cores' worth of time that Linux grants this container; None: all there are, or no such limit is told."""
    try:
        if (cgroups / "cpu.max").exists():  # version 2
            quota, period = (cgroups / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (cgroups / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
            )
        return float(quota) / float(period) if float(quota) > 0 else None  # "max", or -1 of version 1: no limit
    except (OSError, ValueError, ZeroDivisionError):
        return None


def has_native_bf16(device: torch.device | str) -> bool:
    """Whether the device has instructions for bf16; one without emulates it, some twenty times slower than fp32."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def network_precision(precision: str, device: torch.device | str) -> str:
    """One of `PRECISIONS` with "auto" decided for the device."""
    import torch

    from humannorm.checks import check_choice

    check_choice("precision", precision, PRECISIONS)
    if precision != "auto":
        return precision
    if torch.device(device).type == "cuda":
        return "fp16"
    return "bf16" if has_native_bf16(device) else "fp32"


def network_dtype(precision: str, device: torch.device | str) -> torch.dtype:
    """The type of the networks' weights and activations."""
    import torch

    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return names[network_precision(precision, device)]
