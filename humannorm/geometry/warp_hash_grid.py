"""Warp kernels of the hash grid encoding, one launch per level so that one table stays in the cache,
and so that levels can run side by side.

Features are written as rows [2L, N], so that a level writes two contiguous lines. The backward kernel is written by
hand: the gradient of a table entry is the sum of its interpolation weights times the features' gradients, and nothing
of the forward pass need be kept but the points.
"""

# Warp's types are no Python types, and a kernel's return type is inferred:
# mypy: disable-error-code="valid-type,no-untyped-def,misc"

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from humannorm.geometry.hash_grid import FEATURES, GridLayout
from humannorm.warp_runtime import wp

wp.set_module_options({"enable_backward": False})

THREADED_FROM = 2048  # points; with fewer the threads cost more than they gain

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
    stream = _stream(points)

    def run(level: int) -> None:
        inputs = [places, wp.from_torch(tables[level], wp.vec2), *_numbers(layout, level)]
        wp.launch(encode_kernel, dim=len(points), inputs=inputs, outputs=[written], device=places.device, stream=stream)

    _for_levels(run, len(tables), points)


def encode_gradient(points: Tensor, feature_gradients: Tensor, layout: GridLayout, levels: int) -> list[Tensor]:
    """Gradients to the tables of the first `levels` levels, given the gradients [2L, N] of the features."""
    places, gradients = wp.from_torch(points, wp.vec3), wp.from_torch(feature_gradients)
    stream = _stream(points)
    table_gradients = [points.new_empty(size, FEATURES) for size in layout.sizes[:levels]]

    def run(level: int) -> None:
        inputs = [places, gradients, *_numbers(layout, level)]
        written = wp.from_torch(table_gradients[level].zero_(), wp.vec2)
        wp.launch(
            encode_gradient_kernel, dim=len(points), inputs=inputs, outputs=[written], device=places.device,
            stream=stream,
        )  # fmt: skip

    _for_levels(run, levels, points)
    return table_gradients


def _for_levels(run: Callable[[int], None], levels: int, points: Tensor) -> None:
    """Run all levels; on a CPU on torch's number of threads (a launch releases the GIL). Levels share nothing that is
    written, so that the result does not hang on the number of threads."""
    threads = 1 if points.is_cuda or len(points) < THREADED_FROM else min(torch.get_num_threads(), levels)
    if threads <= 1:
        for level in range(levels):
            run(level)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(run, reversed(range(levels))):  # the large tables first
            pass


def _numbers(layout: GridLayout, level: int) -> list[float]:
    return [level, layout.scales[level], layout.sides[level], layout.sizes[level]]


def _stream(points: Tensor) -> Any:
    return wp.stream_from_torch(points.device) if points.is_cuda else None
