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
from functools import cache
from typing import Any

import torch
from torch import Tensor

from humannorm.fields.hash_grid import FEATURES, GridLayout
from humannorm.warp_runtime import wp

__all__ = ["encode", "encode_gradient"]

wp.set_module_options({"enable_backward": False})

THREADED_FROM = 2048  # points; with fewer the threads cost more than they gain

PRIME_Y = wp.constant(wp.uint32(2654435761))
PRIME_Z = wp.constant(wp.uint32(805459861))
NOT_NEGATIVE = wp.constant(wp.uint32(0x7FFFFFFF))


@wp.func
def located(point: wp.vec3, scale: wp.float32):
    """The cell (x, y, z) of a level that a point lies in, and its place there, 0..1 along each axis."""
    place = point * scale + wp.vec3(0.5, 0.5, 0.5)
    i = wp.int32(place[0])  # points are not negative, so this is the floor
    j = wp.int32(place[1])
    k = wp.int32(place[2])
    u = place[0] - wp.float32(i)
    v = place[1] - wp.float32(j)
    w = place[2] - wp.float32(k)
    return wp.uint32(i), wp.uint32(j), wp.uint32(k), u, v, w


@wp.func
def dense_row(y: wp.uint32, z: wp.uint32, step: wp.uint32):
    """What all vertices at (y, z) share in a level stored row by row, `step` vertices each way."""
    return step * (y + step * z)


@wp.func
def dense_entry(x: wp.uint32, row: wp.uint32, mask: wp.uint32):
    return wp.int32((x + row) & mask)


@wp.func
def hashed_row(y: wp.uint32, z: wp.uint32, step: wp.uint32):
    """The same in a hashed level: Mueller et al. 2022 equation 4 but its first term."""
    return (y * PRIME_Y) ^ (z * PRIME_Z)


@wp.func
def hashed_entry(x: wp.uint32, row: wp.uint32, mask: wp.uint32):
    return wp.int32((x ^ row) & mask)


def _kernels(row: Any, entry: Any) -> tuple[Any, Any]:
    """The kernels of levels whose vertex (x, y, z) is table entry `entry(x, row(y, z, step), mask)`.

    What four pairs of vertices share is worked out once for each, and the mask leaves the sign bit out, so that the
    compiler sees that no index is negative and drops what Warp does for those: half the instructions of the plain form.
    """

    @wp.kernel
    def encode_kernel(
        points: wp.array(dtype=wp.vec3),
        table: wp.array(dtype=wp.vec2),
        level: wp.int32,
        scale: wp.float32,
        step: wp.uint32,
        last: wp.uint32,
        features: wp.array2d(dtype=wp.float32),
    ):
        """Trilinear interpolation of one level's table; see `GridLayout` for the level's numbers."""
        n = wp.tid()
        x, y, z, u, v, w = located(points[n], scale)
        one = wp.uint32(1)
        mask = last & NOT_NEGATIVE
        a = row(y, z, step)
        b = row(y + one, z, step)
        c = row(y, z + one, step)
        d = row(y + one, z + one, step)
        at_a = wp.lerp(table[entry(x, a, mask)], table[entry(x + one, a, mask)], u)
        at_b = wp.lerp(table[entry(x, b, mask)], table[entry(x + one, b, mask)], u)
        at_c = wp.lerp(table[entry(x, c, mask)], table[entry(x + one, c, mask)], u)
        at_d = wp.lerp(table[entry(x, d, mask)], table[entry(x + one, d, mask)], u)
        feature = wp.lerp(wp.lerp(at_a, at_b, v), wp.lerp(at_c, at_d, v), w)
        features[2 * level, n] = feature[0]
        features[2 * level + 1, n] = feature[1]

    @wp.kernel
    def encode_gradient_kernel(
        points: wp.array(dtype=wp.vec3),
        feature_gradients: wp.array2d(dtype=wp.float32),
        level: wp.int32,
        scale: wp.float32,
        step: wp.uint32,
        last: wp.uint32,
        table_gradients: wp.array(dtype=wp.vec2),
    ):
        """Gradient of `encode_kernel` to the table."""
        n = wp.tid()
        x, y, z, u, v, w = located(points[n], scale)
        one = wp.uint32(1)
        mask = last & NOT_NEGATIVE
        gradient = wp.vec2(feature_gradients[2 * level, n], feature_gradients[2 * level + 1, n])
        far = gradient * w
        near = gradient - far
        to_b = near * v
        to_a = near - to_b
        to_d = far * v
        to_c = far - to_d
        a = row(y, z, step)
        b = row(y + one, z, step)
        c = row(y, z + one, step)
        d = row(y + one, z + one, step)
        wp.atomic_add(table_gradients, entry(x, a, mask), to_a - to_a * u)
        wp.atomic_add(table_gradients, entry(x + one, a, mask), to_a * u)
        wp.atomic_add(table_gradients, entry(x, b, mask), to_b - to_b * u)
        wp.atomic_add(table_gradients, entry(x + one, b, mask), to_b * u)
        wp.atomic_add(table_gradients, entry(x, c, mask), to_c - to_c * u)
        wp.atomic_add(table_gradients, entry(x + one, c, mask), to_c * u)
        wp.atomic_add(table_gradients, entry(x, d, mask), to_d - to_d * u)
        wp.atomic_add(table_gradients, entry(x + one, d, mask), to_d * u)

    return encode_kernel, encode_gradient_kernel


# Forward and backward.
DENSE = _kernels(dense_row, dense_entry)
HASHED = _kernels(hashed_row, hashed_entry)


def encode(points: Tensor, tables: Sequence[Tensor], layout: GridLayout, features: Tensor) -> None:
    """Write the features of the levels whose tables are given, the first ones, into `features` [2L, N]."""
    places, written = wp.from_torch(points, wp.vec3), wp.from_torch(features)
    stream = _stream(points)

    def run(level: int) -> None:
        if not layout.sides[level]:
            _bring_into_cache(tables[level])
        inputs = [places, wp.from_torch(tables[level], wp.vec2), *_numbers(layout, level)]
        kernel = (DENSE if layout.sides[level] else HASHED)[0]
        wp.launch(kernel, dim=len(points), inputs=inputs, outputs=[written], device=places.device, stream=stream)

    _for_levels(run, len(tables), points)


def encode_gradient(points: Tensor, feature_gradients: Tensor, layout: GridLayout, levels: int) -> list[Tensor]:
    """Gradients to the tables of the first `levels` levels, given the gradients [2L, N] of the features."""
    places, gradients = wp.from_torch(points, wp.vec3), wp.from_torch(feature_gradients)
    stream = _stream(points)
    table_gradients = [points.new_empty(size, FEATURES) for size in layout.sizes[:levels]]

    def run(level: int) -> None:
        inputs = [places, gradients, *_numbers(layout, level)]
        _zero(table_gradients[level])
        written = wp.from_torch(table_gradients[level], wp.vec2)
        kernel = (DENSE if layout.sides[level] else HASHED)[1]
        wp.launch(kernel, dim=len(points), inputs=inputs, outputs=[written], device=places.device, stream=stream)

    _for_levels(run, levels, points)
    return table_gradients


def _for_levels(run: Callable[[int], None], levels: int, points: Tensor) -> None:
    """Run all levels; on a CPU on torch's number of threads (a launch releases the GIL). Levels share nothing that is
    written, so that the result does not hang on the number of threads."""
    threads = 1 if points.is_cuda or len(points) < THREADED_FROM else min(torch.get_num_threads(), levels)
    left = iter(reversed(range(levels)))  # the large tables first; threads take the next one when they are done

    def work() -> None:
        for level in left:
            run(level)

    others = [_pool(threads - 1).submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that stay: starting them takes as long as two levels."""
    return ThreadPoolExecutor(threads, thread_name_prefix="hash-grid")


def _zero(table: Tensor) -> None:
    if table.is_cuda:
        table.zero_()
    else:
        table.numpy().fill(0.0)  # torch would share it out among threads that already have work


def _bring_into_cache(table: Tensor) -> None:
    """Read a hashed table once in order: main memory streams it, where its random reads would wait for every line."""
    if not table.is_cuda:
        table.numpy().max()  # numpy lets other threads run meanwhile, and starts none


def _numbers(layout: GridLayout, level: int) -> list[float]:
    """Arguments of both kernels: level, scale, step, last."""
    hashed = not layout.sides[level]
    return [level, layout.scales[level], layout.sides[level], layout.sizes[level] - 1 if hashed else (1 << 31) - 1]


def _stream(points: Tensor) -> Any:
    return wp.stream_from_torch(points.device) if points.is_cuda else None
