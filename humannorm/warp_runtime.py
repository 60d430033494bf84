"""The one place where NVIDIA Warp is imported, so that it starts silently.

Imported only by ``warp_*.py`` kernel modules, which are themselves imported on first use: importing the library stays
quick, and Warp's banner never reaches a host's console.
"""

from __future__ import annotations

import torch
import warp as wp

wp.config.quiet = True
wp.init()

__all__ = ["device_of", "wp"]


def device_of(tensor: torch.Tensor) -> wp.Device:
    """The Warp device that a tensor lives on; kernels are launched where their inputs are."""
    return wp.device_from_torch(tensor.device)
