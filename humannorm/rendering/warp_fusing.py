"""Warp kernels of fusing and showing; `fusing_reference` says in plain torch what they compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from humannorm.rendering import fusing_reference
from humannorm.rendering.warp_engine import item_blocks, launch
from humannorm.warp_runtime import wp

if TYPE_CHECKING:
    from humannorm.rendering.fusing import SurfacePoints, SurfaceViews

__all__ = ["fuse", "seen", "show"]

wp.set_module_options({"enable_backward": False})

LEAST_COSINE = wp.constant(fusing_reference.LEAST_COSINE)
SLACK = wp.constant(fusing_reference.SLACK)
mat34 = wp.types.matrix(shape=(3, 4), dtype=wp.float32)


@wp.func
def tap(
    picture: wp.array3d(dtype=wp.vec4f),
    pixel_label: wp.array3d(dtype=wp.int32),
    pixel_weight: wp.array3d(dtype=wp.float32),
    view: wp.int32,
    row: wp.int32,
    column: wp.int32,
    share: wp.float32,
    label: wp.int32,
    total: wp.float32,
    value: wp.vec4f,
):
    """Adds one pixel to the weighted sum, if it shows the point's label."""
    last = pixel_label.shape[1] - 1
    y = wp.clamp(row, 0, last)
    x = wp.clamp(column, 0, last)
    if pixel_label[view, y, x] == label:
        trust = share * pixel_weight[view, y, x]
        total += trust
        value += trust * picture[view, y, x]
    return total, value


@wp.kernel
def find_seen(
    points: wp.array(dtype=wp.vec3f),
    normals: wp.array(dtype=wp.vec3f),
    matrices: wp.array(dtype=mat34),
    positions: wp.array(dtype=wp.vec3f),
    distance: wp.array3d(dtype=wp.float32),
    fine_pixel: wp.array(dtype=wp.float32),
    oversampling: wp.float32,
    chunk: wp.int32,
    seen: wp.array2d(dtype=wp.uint8),
):
    """1 where a point is in the frame, turned to the camera and not behind what its sample shows."""
    begin = wp.tid() * chunk
    last = wp.float32(distance.shape[1])
    for i in range(begin, wp.min(begin + chunk, points.shape[0])):
        point = points[i]
        for view in range(positions.shape[0]):
            is_seen = wp.uint8(0)
            place = matrices[view] * wp.vec4f(point[0], point[1], point[2], 1.0)
            cosine = wp.dot(normals[i], wp.normalize(positions[view] - point))
            if place[2] > 0.0 and cosine >= LEAST_COSINE:
                column = wp.floor(place[0] / place[2] * oversampling)
                row = wp.floor(place[1] / place[2] * oversampling)
                if column >= 0.0 and column < last and row >= 0.0 and row < last:
                    slope = wp.sqrt(wp.max(1.0 - cosine * cosine, 0.0)) / cosine
                    front = distance[view, wp.int32(row), wp.int32(column)]
                    if place[2] <= front + place[2] * fine_pixel[view] * slope + SLACK:
                        is_seen = wp.uint8(1)
            seen[i, view] = is_seen


@wp.kernel
def fuse_points(
    points: wp.array(dtype=wp.vec3f),
    normals: wp.array(dtype=wp.vec3f),
    labels: wp.array(dtype=wp.int32),
    seen: wp.array2d(dtype=wp.uint8),
    matrices: wp.array(dtype=mat34),
    positions: wp.array(dtype=wp.vec3f),
    weights: wp.array(dtype=wp.float32),
    picture: wp.array3d(dtype=wp.vec4f),
    pixel_label: wp.array3d(dtype=wp.int32),
    pixel_weight: wp.array3d(dtype=wp.float32),
    power: wp.float32,
    chunk: wp.int32,
    values: wp.array(dtype=wp.vec4f),
    sights: wp.array(dtype=wp.float32),
):
    """Weighted mean over all views at each point, and how well it is seen."""
    begin = wp.tid() * chunk
    for i in range(begin, wp.min(begin + chunk, points.shape[0])):
        point = points[i]
        label = labels[i]
        sum = wp.vec4f()
        sum_of_weights = float(0.0)
        sight = float(0.0)
        for view in range(positions.shape[0]):
            if seen[i, view] != wp.uint8(0):
                place = matrices[view] * wp.vec4f(point[0], point[1], point[2], 1.0)
                x = place[0] / place[2] - 0.5
                y = place[1] / place[2] - 0.5
                column = wp.int32(wp.floor(x))
                row = wp.int32(wp.floor(y))
                u = x - wp.float32(column)
                v = y - wp.float32(row)
                total = float(0.0)
                value = wp.vec4f()
                for k in range(4):
                    right = k % 2
                    low = k // 2
                    share = wp.where(right == 1, u, 1.0 - u) * wp.where(low == 1, v, 1.0 - v)
                    total, value = tap(
                        picture, pixel_label, pixel_weight, view, row + low, column + right, share, label, total, value
                    )
                cosine = wp.max(wp.dot(normals[i], wp.normalize(positions[view] - point)), 0.0)
                weight = weights[view] * wp.pow(cosine, power)
                sum += weight * value
                sum_of_weights += weight * total
                sight += cosine * total
        sights[i] = sight
        values[i] = sum / wp.max(sum_of_weights, 1.0e-20)


@wp.kernel
def show_points(
    values: wp.array(dtype=wp.vec4f),
    sample: wp.array3d(dtype=wp.int32),
    ground: wp.array3d(dtype=wp.vec4f),
    oversampling: wp.int32,
    rows: wp.int32,
    picture: wp.array3d(dtype=wp.vec4f),
):
    """Mean of a pixel's samples, for `rows` rows of a view."""
    view, block = wp.tid()
    size = ground.shape[1]
    for row in range(block * rows, wp.min(block * rows + rows, size)):
        for column in range(size):
            sum = wp.vec4f()
            for i in range(oversampling):
                for j in range(oversampling):
                    point = sample[view, row * oversampling + i, column * oversampling + j]
                    if point >= 0:
                        sum += values[point]
                    else:
                        sum += ground[view, row, column]
            picture[view, row, column] = sum / wp.float32(oversampling * oversampling)


def seen(
    surface: SurfacePoints,
    pixel_from_world: Float[Tensor, "B 3 4"],
    position: Float[Tensor, "B 3"],
    distance: Float[Tensor, "B SK SK"],
    fine_pixel: Float[Tensor, " B"],
    oversampling: int,
) -> UInt8[Tensor, "N B"]:
    """See `fusing_reference.seen`."""
    device = surface.points.device
    found = torch.empty(len(surface.points), len(position), dtype=torch.uint8, device=device)
    threads, chunk = item_blocks(len(surface.points), device)
    launch(
        find_seen,
        threads,
        surface.points.float().contiguous(),
        surface.normals.float().contiguous(),
        pixel_from_world.float().contiguous(),
        position.float().contiguous(),
        distance.float().contiguous(),
        fine_pixel.float().contiguous(),
        float(oversampling),
        chunk,
        found,
        device=device,
    )
    return found


def fuse(
    views: SurfaceViews,
    pictures: Float[Tensor, "B S S C"],
    pixel_weight: Float[Tensor, "B S S"],
    weights: Float[Tensor, " B"],
    power: float,
) -> tuple[Float[Tensor, "N 4"], Float[Tensor, " N"]]:
    """See `SurfaceViews.fuse`; channels that the pictures have not are 0."""
    surface, device = views.surface, pictures.device
    values = torch.empty(len(surface.points), 4, device=device)
    sights = torch.empty(len(surface.points), device=device)
    threads, chunk = item_blocks(len(surface.points), device)
    launch(
        fuse_points,
        threads,
        surface.points.float().contiguous(),
        surface.normals.float().contiguous(),
        surface.labels.contiguous(),
        views.seen,
        views.pixel_from_world.float().contiguous(),
        views.position.float().contiguous(),
        weights.float().contiguous(),
        _four(pictures),
        views.pixel_label,
        pixel_weight,
        float(power),
        chunk,
        values,
        sights,
        device=device,
    )
    return values, sights


def show(
    views: SurfaceViews, values: Float[Tensor, "N C"], ground: Float[Tensor, "B S S C"]
) -> Float[Tensor, "B S S C"]:
    """See `SurfaceViews.show`."""
    device, channels, size = ground.device, ground.shape[3], views.size
    oversampling = views.sample.shape[1] // size
    picture = torch.empty(*ground.shape[:3], 4, device=device)
    rows = 1 if device.type == "cuda" else size
    launch(
        show_points,
        (len(ground), -(-size // rows)),
        _four(values),
        views.sample,
        _four(ground),
        oversampling,
        rows,
        picture,
        device=device,
    )
    return picture[..., :channels]


def _four(values: Tensor) -> Tensor:
    """With zeros up to four channels, as the kernels read them."""
    return F.pad(values.float(), (0, 4 - values.shape[-1])).contiguous()
