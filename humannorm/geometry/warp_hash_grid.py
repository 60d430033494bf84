"""Warp kernels of the hash grid encoding, one launch per level so that one table stays in the cache.

Features are written as rows [2L, N], so that a level writes two contiguous lines. The backward kernel is written by
hand: the gradient of a table entry is the sum of its interpolation weights times the features' gradients, and nothing
of the forward pass need be kept but the points.
"""

# Warp's types are no Python types, and a kernel's return type is inferred:
# mypy: disable-error-code="valid-type,no-untyped-def,misc"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from humannorm.geometry.hash_grid import GridLayout
from humannorm.warp_runtime import device_of, wp

wp.set_module_options({"enable_backward": False})

PRIME_Y = wp.constant(wp.uint32(2654435761))
PRIME_Z = wp.constant(wp.uint32(805459861))


@wp.func
def entry(x: wp.uint32, y: wp.uint32, z: wp.uint32, side: wp.uint32, size: wp.uint32):
    """Number of a grid vertex in its level's table: row by row, or if side is 0 Mueller et al. 2022 equation 4."""
    if side > wp.uint32(0):
        return wp.int32(x + side * (y + side * z))
    return wp.int32((x ^ (y * PRIME_Y) ^ (z * PRIME_Z)) & (size - wp.uint32(1)))


@wp.kernel
def encode_kernel(
    points: wp.array(dtype=wp.vec3),
    table: wp.array(dtype=wp.vec2),
    level: wp.int32,
    scale: wp.float32,
    side: wp.uint32,
    size: wp.uint32,
    features: wp.array2d(dtype=wp.float32),
):
    """Trilinear interpolation of one level's table; see `GridLayout` for the level's numbers."""
    n = wp.tid()
    place = points[n] * scale + wp.vec3(0.5, 0.5, 0.5)
    x = wp.uint32(wp.int32(place[0]))  # points are not negative, so this is the floor
    y = wp.uint32(wp.int32(place[1]))
    z = wp.uint32(wp.int32(place[2]))
    u = place[0] - wp.float32(x)
    v = place[1] - wp.float32(y)
    w = place[2] - wp.float32(z)
    one = wp.uint32(1)
    a = table[entry(x, y, z, side, size)] * (1.0 - u) + table[entry(x + one, y, z, side, size)] * u
    b = table[entry(x, y + one, z, side, size)] * (1.0 - u) + table[entry(x + one, y + one, z, side, size)] * u
    c = table[entry(x, y, z + one, side, size)] * (1.0 - u) + table[entry(x + one, y, z + one, side, size)] * u
    d = (
        table[entry(x, y + one, z + one, side, size)] * (1.0 - u)
        + table[entry(x + one, y + one, z + one, side, size)] * u
    )
    feature = (a * (1.0 - v) + b * v) * (1.0 - w) + (c * (1.0 - v) + d * v) * w
    features[2 * level, n] = feature[0]
    features[2 * level + 1, n] = feature[1]


@wp.kernel
def encode_gradient_kernel(
    points: wp.array(dtype=wp.vec3),
    feature_gradients: wp.array2d(dtype=wp.float32),
    level: wp.int32,
    scale: wp.float32,
    side: wp.uint32,
    size: wp.uint32,
    table_gradients: wp.array(dtype=wp.vec2),
):
    """Gradient of `encode_kernel` to the table."""
    n = wp.tid()
    place = points[n] * scale + wp.vec3(0.5, 0.5, 0.5)
    x = wp.uint32(wp.int32(place[0]))
    y = wp.uint32(wp.int32(place[1]))
    z = wp.uint32(wp.int32(place[2]))
    u = place[0] - wp.float32(x)
    v = place[1] - wp.float32(y)
    w = place[2] - wp.float32(z)
    one = wp.uint32(1)
    gradient = wp.vec2(feature_gradients[2 * level, n], feature_gradients[2 * level + 1, n])
    a = gradient * ((1.0 - v) * (1.0 - w))
    b = gradient * (v * (1.0 - w))
    c = gradient * ((1.0 - v) * w)
    d = gradient * (v * w)
    wp.atomic_add(table_gradients, entry(x, y, z, side, size), a * (1.0 - u))
    wp.atomic_add(table_gradients, entry(x + one, y, z, side, size), a * u)
    wp.atomic_add(table_gradients, entry(x, y + one, z, side, size), b * (1.0 - u))
    wp.atomic_add(table_gradients, entry(x + one, y + one, z, side, size), b * u)
    wp.atomic_add(table_gradients, entry(x, y, z + one, side, size), c * (1.0 - u))
    wp.atomic_add(table_gradients, entry(x + one, y, z + one, side, size), c * u)
    wp.atomic_add(table_gradients, entry(x, y + one, z + one, side, size), d * (1.0 - u))
    wp.atomic_add(table_gradients, entry(x + one, y + one, z + one, side, size), d * u)


def encode(points: Tensor, tables: Sequence[Tensor], layout: GridLayout, features: Tensor) -> None:
    """Write the features of the levels whose tables are given, the first ones, into `features` [2L, N]."""
    places, written = wp.from_torch(points, wp.vec3), wp.from_torch(features)
    for level, table in enumerate(tables):
        inputs = [places, wp.from_torch(table, wp.vec2), *_numbers(layout, level)]
        _launch(encode_kernel, points, inputs, written)


def encode_gradient(
    points: Tensor, feature_gradients: Tensor, layout: GridLayout, table_gradients: Sequence[Tensor]
) -> None:
    """Add to `table_gradients`, level by level, what the gradients [2L, N] of the features give."""
    places, gradients = wp.from_torch(points, wp.vec3), wp.from_torch(feature_gradients)
    for level, table in enumerate(table_gradients):
        inputs = [places, gradients, *_numbers(layout, level)]
        _launch(encode_gradient_kernel, points, inputs, wp.from_torch(table, wp.vec2))


def _numbers(layout: GridLayout, level: int) -> list[float]:
    return [level, layout.scales[level], layout.sides[level], layout.sizes[level]]


def _launch(kernel: Any, points: Tensor, inputs: list[Any], written: Any) -> None:
    stream = wp.stream_from_torch(points.device) if points.is_cuda else None
    device = device_of(points)
    wp.launch(kernel, dim=len(points), inputs=inputs, outputs=[written], device=device, stream=stream)
