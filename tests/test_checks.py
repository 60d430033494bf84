from __future__ import annotations

import math

import pytest
import torch

from humannorm.checks import InputError, check_choice, check_range, check_same_device, check_tensor


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ("V 3", (10, 3)),
        ("B H W 3", (1, 2, 5, 3)),
        ("N N", (4, 4)),
        ("* 3", (3,)),
        ("* 3", (2, 2, 3)),
        ("B * C", (2, 3)),
    ],
)
def test_fitting_shapes_pass(shape, sizes):
    check_tensor("x", torch.zeros(sizes), shape)


@pytest.mark.parametrize(
    ("value", "shape", "kind", "message"),
    [
        (torch.zeros(10, 2), "V 3", "float", r"^vertices: expected float tensor \[V, 3\], got float32 \[10, 2\]$"),
        (torch.zeros(4, 5), "N N", "float", r"float32 \[4, 5\]"),
        (torch.zeros(2), "B * C", "float", r"\[B, \*, C\], got float32 \[2\]"),
        (torch.zeros(3), "V 3", "float", r"got float32 \[3\]"),
        (torch.zeros(2, 3), "V 3", "int", r"expected int tensor \[V, 3\], got float32"),
        (torch.zeros(2, 3).bool(), "V 3", "int", r"got bool \[2, 3\]"),
        (torch.zeros(2, 3), "V 3", "bool", "expected bool tensor"),
        ([1, 2, 3], "V", "any", r"expected tensor \[V\], got list"),
        (None, "V 3", "float", "got NoneType"),
    ],
)
def test_errors_give_name_expected_and_got(value, shape, kind, message):
    with pytest.raises(InputError, match=message):
        check_tensor("vertices", value, shape, dtype=kind)


def test_values_are_looked_at_only_when_asked():
    value = torch.tensor([1.0, math.nan, math.inf])
    check_tensor("depth", value, "N")
    with pytest.raises(InputError, match=r"depth: expected finite values, got 2 that are NaN or infinite"):
        check_tensor("depth", value, "N", finite=True)


def test_devices():
    check_same_device(vertices=torch.zeros(1), faces=torch.zeros(1), colors=None)
    with pytest.raises(InputError, match="got vertices on cpu, faces on meta"):
        check_same_device(vertices=torch.zeros(1), faces=torch.zeros(1, device="meta"))


def test_ranges_and_choices():
    check_range("scale", 1, 0, 1)
    check_choice("part", "head", ("full", "head"))
    for value, low, high, message in [
        (2, 0, 1, "scale: expected 0 to 1, got 2"),
        (math.nan, 0, 1, "got nan"),
        (0, 1, math.inf, "expected at least 1, got 0"),
        (5, -math.inf, 1, "expected at most 1, got 5"),
    ]:
        with pytest.raises(InputError, match=message):
            check_range("scale", value, low, high)
    with pytest.raises(InputError, match="part: expected one of full, head, got 'tail'"):
        check_choice("part", "tail", ("full", "head"))
    assert issubclass(InputError, ValueError)
