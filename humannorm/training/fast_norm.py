"""GroupNorm that trains fast on a CPU in bf16.

torch's own backward pass of a `channels_last` bf16 GroupNorm is not vectorised: at the small model's sizes it takes
more time than all convolutions together. The same gradient is two sums per channel and two multiply-adds per element.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["FastGroupNorm", "speed_up_norms"]

BLOCK = 32
"""Pixels that are summed at a time before the partial sums are added up in fp32, so that bf16 rounds only the parts."""


class FastGroupNorm(nn.GroupNorm):
    """An affine `nn.GroupNorm` whose gradients are computed as sums per channel where its input is half precision."""

    def forward(self, values: Tensor) -> Tensor:
        if values.dtype != torch.bfloat16 or values.device.type != "cpu" or values.ndim != 4 or not self.affine:
            return super().forward(values)
        out: Tensor = _GroupNorm.apply(values, self.weight, self.bias, self.num_groups, self.eps)
        return out


def speed_up_norms(module: nn.Module) -> None:
    """Make each GroupNorm of the module a `FastGroupNorm`, in place. Weights and their names stay."""
    for layer in module.modules():
        if type(layer) is nn.GroupNorm:
            layer.__class__ = FastGroupNorm


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Float[Tensor, "B C H W"], weight: Float[Tensor, "C"], bias: Float[Tensor, "C"], groups: int,
        eps: float,
    ) -> Float[Tensor, "B C H W"]:  # fmt: skip
        batch, channels, height, width = values.shape
        with torch.autocast("cpu", enabled=False):
            out, mean, inverse = torch.native_group_norm(
                values, weight.to(values.dtype), bias.to(values.dtype), batch, channels, height * width, groups, eps
            )
        ctx.save_for_backward(values, weight, mean.float(), inverse.float())
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """With h = (x - m) r in each group of N elements and g = w dy: dx = r (g - mean(g) - h mean(g h))."""
        values, weight, mean, inverse = ctx.saved_tensors
        (grad,) = gradients
        batch, channels, height, width = values.shape
        groups = mean.shape[1]
        grad = grad.to(values.dtype).contiguous(memory_format=torch.channels_last)
        values = values.contiguous(memory_format=torch.channels_last)
        sums = _channel_sums(grad)  # of dy
        products = _channel_sums(grad * values)  # of dy x
        m = mean.repeat_interleave(channels // groups, 1)
        r = inverse.repeat_interleave(channels // groups, 1)
        with_normed = (products - sums * m) * r  # of dy h
        grad_values = None
        if ctx.needs_input_grad[0]:
            elements = channels // groups * height * width

            def group_mean(per_channel: Tensor) -> Tensor:
                total = (per_channel * weight).view(batch, groups, -1).sum(2) / elements
                return total.repeat_interleave(channels // groups, 1)

            slope = -r * r * group_mean(with_normed)
            offset = -r * group_mean(sums) - slope * m
            scale, slope, offset = (
                part.to(values.dtype)[:, :, None, None] for part in (weight.float() * r, slope, offset)
            )
            grad_values = torch.addcmul(torch.addcmul(offset, values, slope), grad, scale)
        return grad_values, with_normed.sum(0).to(weight.dtype), sums.sum(0).to(weight.dtype), None, None


def _channel_sums(values: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C"]:
    batch, channels, height, width = values.shape
    flat = values.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
    block = BLOCK if (height * width) % BLOCK == 0 else 1
    return flat.view(batch, -1, block, channels).sum(2).sum(1, dtype=torch.float32)
