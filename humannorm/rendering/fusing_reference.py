"""Fusing and showing in plain torch: slow and obvious, what the Warp kernels are tested against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

if TYPE_CHECKING:
    from humannorm.rendering.fusing import SurfacePoints, SurfaceViews

__all__ = ["fuse", "sampled", "seen", "show"]

CHUNK = 1 << 16  # points at a time
LEAST_COSINE = 0.1  # between normal and direction to the camera: flatter views say nothing of a point
SLACK = 2e-3  # world units that a surface may curve between two samples


def seen(
    surface: SurfacePoints,
    pixel_from_world: Float[Tensor, "B 3 4"],
    position: Float[Tensor, "B 3"],
    distance: Float[Tensor, "B SK SK"],
    fine_pixel: Float[Tensor, " B"],
    oversampling: int,
) -> UInt8[Tensor, "N B"]:
    """Points in the frame, turned to the camera, that lie no deeper than the sample they fall on may curve away.

    distance: along the view axis to what each sample shows. fine_pixel: world units of a sample at distance 1.
    """
    points, normals, fine, columns = surface.points, surface.normals, distance.shape[1], []
    for matrix, centre, depth, pixel in zip(pixel_from_world, position, distance, fine_pixel, strict=True):
        place = points @ matrix[:, :3].T + matrix[:, 3]
        away = place[:, 2]
        column, row = (place[:, :2] / away[:, None] * oversampling).floor().long().unbind(1)
        framed = (away > 0) & (column >= 0) & (column < fine) & (row >= 0) & (row < fine)
        cosine = (normals * F.normalize(centre - points, dim=1)).sum(1)
        slope = (1 - cosine.square()).clamp_min(0).sqrt() / cosine.clamp_min(LEAST_COSINE)
        front = depth[row.clamp(0, fine - 1), column.clamp(0, fine - 1)]
        columns.append(framed & (cosine >= LEAST_COSINE) & (away <= front + away * pixel * slope + SLACK))
    return torch.stack(columns, 1).to(torch.uint8)


def fuse(
    views: SurfaceViews,
    pictures: Float[Tensor, "B S S C"],
    pixel_weight: Float[Tensor, "B S S"],
    weights: Float[Tensor, " B"],
    power: float,
) -> tuple[Float[Tensor, "N C"], Float[Tensor, " N"]]:
    """See `SurfaceViews.fuse`. weights: of the views."""
    values, sights = [], []
    for index in torch.arange(len(views.surface.points), device=pictures.device).split(CHUNK):
        value, trust, cosine = sampled(views, pictures, pixel_weight, index)
        weight = trust * cosine**power * weights
        values.append((value * weight[..., None]).sum(1) / weight.sum(1).clamp_min(1e-20)[:, None])
        sights.append((trust * cosine).sum(1))
    return torch.cat(values), torch.cat(sights)


def sampled(
    views: SurfaceViews,
    pictures: Float[Tensor, "B S S C"],
    pixel_weight: Float[Tensor, "B S S"],
    index: Int64[Tensor, " M"],
) -> tuple[Float[Tensor, "M B C"], Float[Tensor, "M B"], Float[Tensor, "M B"]]:
    """What every view says of these points, how far that is to be trusted, 0 where a point is not seen, and the cosine
    between normal and direction to the camera."""
    surface = views.surface
    points, normals, labels = surface.points[index], surface.normals[index], surface.labels[index]
    values, trusts, cosines = [], [], []
    for number, picture in enumerate(pictures):
        matrix = views.pixel_from_world[number]
        place = points @ matrix[:, :3].T + matrix[:, 3]
        at = place[:, :2] / place[:, 2:] - 0.5  # in pixels, their centres at whole numbers
        value, trust = _bilinear(picture, views.pixel_label[number], pixel_weight[number], at, labels)
        values.append(value)
        trusts.append(trust * views.seen[index, number])
        cosines.append((normals * F.normalize(views.position[number] - points, dim=1)).sum(1).clamp_min(0))
    return torch.stack(values, 1), torch.stack(trusts, 1), torch.stack(cosines, 1)


def _bilinear(
    picture: Float[Tensor, "S S C"], pixel_label: Tensor, pixel_weight: Tensor, at: Tensor, labels: Tensor
) -> tuple[Float[Tensor, "M C"], Float[Tensor, " M"]]:
    """Mean of the four nearest pixels, each weighted by its distance and its trust, those of other labels by nothing;
    and the sum of these weights."""
    size = len(picture)
    first = at.floor()
    total = picture.new_zeros(len(at))
    value = picture.new_zeros(len(at), picture.shape[2])
    for dx in (0, 1):
        for dy in (0, 1):
            tap = first + at.new_tensor([dx, dy])
            share = (1 - (at - tap).abs()).prod(1)
            column, row = tap.long().clamp(0, size - 1).unbind(1)
            trust = share * pixel_weight[row, column] * (pixel_label[row, column] == labels)
            total = total + trust
            value = value + trust[:, None] * picture[row, column]
    return value / total.clamp_min(1e-20)[:, None], total


def show(
    views: SurfaceViews, values: Float[Tensor, "N C"], ground: Float[Tensor, "B S S C"]
) -> Float[Tensor, "B S S C"]:
    """See `SurfaceViews.show`. ground: what stands behind each pixel."""
    size, pictures = views.size, []
    for number, sample in enumerate(views.sample):
        oversampling = len(sample) // size
        behind = ground[number].repeat_interleave(oversampling, 0).repeat_interleave(oversampling, 1)
        fine = torch.where((sample >= 0)[..., None], values[sample.clamp_min(0).long()], behind)
        pictures.append(F.avg_pool2d(fine.permute(2, 0, 1)[None], oversampling)[0].permute(1, 2, 0))
    return torch.stack(pictures)
