"""The fast GroupNorm is torch's, and its gradients are those of exact arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from humannorm.training.fast_norm import FastGroupNorm, speed_up_norms


def pair(groups: int, channels: int) -> tuple[nn.GroupNorm, nn.GroupNorm]:
    torch.manual_seed(0)
    exact = nn.GroupNorm(groups, channels)
    nn.init.uniform_(exact.weight, 0.5, 1.5)
    nn.init.normal_(exact.bias)
    fast = nn.GroupNorm(groups, channels)
    fast.load_state_dict(exact.state_dict())
    speed_up_norms(fast)
    assert type(fast) is FastGroupNorm
    return exact, fast


def relative(value: torch.Tensor, exact: torch.Tensor) -> float:
    return float((value.float() - exact).norm() / exact.norm())


@pytest.mark.parametrize("size", [(16, 16), (5, 7)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_half_precision_gradients_are_those_of_fp32_but_for_rounding(size, layout):
    exact, fast = pair(4, 24)
    # A mean as large as the spread: sums of squares would cancel there.
    values = (2 * torch.randn(3, 24, *size) + 2).bfloat16().contiguous(memory_format=layout).requires_grad_()
    upstream = torch.randn(3, 24, *size).bfloat16()
    out = fast(values)
    got = torch.autograd.grad(out, (values, fast.weight, fast.bias), upstream)
    twin = values.detach().float().requires_grad_()
    wanted_out = exact(twin)
    wanted = torch.autograd.grad(wanted_out, (twin, exact.weight, exact.bias), upstream.float())
    assert out.dtype == torch.bfloat16 and relative(out, wanted_out) < 0.005
    for value, truth in zip(got, wanted, strict=True):
        assert relative(value, truth) < 0.01


def test_in_fp32_it_is_torchs_own_to_the_bit():
    exact, fast = pair(2, 8)
    values = torch.randn(2, 8, 6, 6, requires_grad=True)
    assert torch.equal(fast(values), exact(values))


def test_under_autocast_the_weights_stay_fp32_and_get_fp32_gradients():
    _, fast = pair(2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        fast(torch.randn(2, 8, 6, 6).bfloat16()).float().square().sum().backward()
    assert fast.weight.dtype == torch.float32 and fast.weight.grad is not None
    assert fast.weight.grad.dtype == torch.float32 and bool(fast.weight.grad.any())
