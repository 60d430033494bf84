"""Edges of pictures by Canny's method (1986): thin lines, strong ones and what hangs on them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from humannorm.checks import InputError, check_tensor

__all__ = ["HIGH", "LOW", "canny"]

LOW, HIGH = 0.15, 0.35  # of a picture's full range, gradients of the smoothed picture by Sobel's kernel / 4
SMOOTHING = 1.0  # pixels, standard deviation
_TANGENT = 0.4142135  # of 22.5 degrees


def canny(
    images: Float[Tensor, "B H W C"], low: float = LOW, high: float = HIGH, smoothing: float = SMOOTHING
) -> Bool[Tensor, "B H W"]:
    """True on edges: where the gradient is larger than at both neighbours along it and above `high`, or above `low` and
    connected with such a place. Of several channels the one that changes most speaks."""
    check_tensor("images", images, "B H W C")
    if not 0 < low <= high:
        raise InputError(f"low, high: expected 0 < low <= high, got {low:g} and {high:g}")
    x, y, size = _gradient(_smoothed(images.movedim(-1, 1).float(), smoothing))
    edges = size * _is_crest(x, y, size)
    strong, weak = edges >= high, edges >= low
    while True:  # a strong place takes its weak neighbours with it, until there is none left
        grown = F.max_pool2d(strong[:, None].float(), 3, 1, 1)[:, 0].bool() & weak
        if torch.equal(grown, strong):
            return strong
        strong = grown


def _smoothed(images: Float[Tensor, "B C H W"], deviation: float) -> Float[Tensor, "B C H W"]:
    if deviation <= 0:
        return images
    reach = max(1, round(3 * deviation))
    at = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    weights = torch.softmax(-(at**2) / (2 * deviation**2), 0)
    planes = images.flatten(0, 1)[:, None]
    planes = F.conv2d(F.pad(planes, (reach, reach, 0, 0), mode="replicate"), weights[None, None, None])
    planes = F.conv2d(F.pad(planes, (0, 0, reach, reach), mode="replicate"), weights[None, None, :, None])
    return planes.reshape(images.shape)


def _gradient(images: Float[Tensor, "B C H W"]) -> tuple[Tensor, Tensor, Tensor]:
    """Across, down and its length [B, H, W], of the channel with the longest."""
    across = images.new_tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
    kernels = torch.stack([across, across.T])[:, None]
    padded = F.pad(images.flatten(0, 1)[:, None], (1, 1, 1, 1), mode="replicate")
    both = F.conv2d(padded, kernels).unflatten(0, images.shape[:2])  # [B, C, 2, H, W]
    lengths = both.norm(dim=2)
    most = lengths.argmax(1, keepdim=True)
    x, y = (both[:, :, axis].gather(1, most)[:, 0] for axis in (0, 1))
    return x, y, lengths.amax(1)


def _is_crest(x: Tensor, y: Tensor, size: Float[Tensor, "B H W"]) -> Bool[Tensor, "B H W"]:
    """Whether the gradient is longest there along its own direction, of the four that a grid has."""
    padded = F.pad(size, (1, 1, 1, 1))
    height, width = size.shape[-2:]

    def neighbour(down: int, right: int) -> Tensor:
        return padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    level, steep = y.abs() <= _TANGENT * x.abs(), x.abs() <= _TANGENT * y.abs()
    falling = (x * y) > 0
    found = torch.zeros_like(size, dtype=torch.bool)
    for chosen, (down, right) in (
        (level, (0, 1)),
        (steep, (1, 0)),
        (~level & ~steep & falling, (1, 1)),
        (~level & ~steep & ~falling, (1, -1)),
    ):
        found |= chosen & (size > neighbour(-down, -right)) & (size >= neighbour(down, right))
    return found
