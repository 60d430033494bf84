"""The one place where NVIDIA Warp is imported, so that it starts silently.

Imported only by ``warp_*.py`` kernel modules, which are themselves imported on first use: importing the library stays
quick, and Warp's banner never reaches a host's console.
"""

from __future__ import annotations

import os
import tempfile

import torch
import warp as wp

__all__ = ["device_of", "wp"]

# Native code writes this to descriptor 2 on every machine without a GPU, whatever the log level.
_NO_GPU = b"Could not find or load the NVIDIA CUDA driver"


def device_of(tensor: torch.Tensor) -> wp.Device:
    """The Warp device that a tensor lives on; kernels are launched where their inputs are."""
    return wp.device_from_torch(tensor.device)


def _start() -> None:
    if hasattr(wp.config, "log_level"):
        wp.config.log_level = wp.LOG_WARNING
    else:  # older versions know no levels
        wp.config.quiet = True
    if torch.cuda.is_available():
        wp.init()
        return
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            wp.init()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            said.seek(0)
            for line in said:
                if _NO_GPU not in line:
                    os.write(2, line)


_start()
