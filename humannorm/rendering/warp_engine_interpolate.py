"""Warp kernels that interpolate vertex attributes at the visible points, forward and backward."""

from __future__ import annotations

from humannorm.warp_runtime import wp

wp.set_module_options({"enable_backward": False})


@wp.kernel
def interpolate(
    attributes: wp.array2d(dtype=wp.float32),
    faces: wp.array(dtype=wp.vec3i),
    triangle: wp.array(dtype=wp.int32),
    barycentric: wp.array(dtype=wp.vec2f),
    vertices_per_view: wp.int32,
    pixels_per_view: wp.int32,
    count: wp.int32,
    chunk: wp.int32,
    image: wp.array2d(dtype=wp.float32),
):
    """Weighted sums of the three corners' attributes; the image comes zeroed, only covered pixels are written.

    `vertices_per_view` is 0 for attributes shared by the views.
    """
    begin = wp.tid() * chunk
    channels = attributes.shape[1]
    for pixel in range(begin, wp.min(begin + chunk, count)):
        index = triangle[pixel]
        if index >= 0:
            corner = faces[index]
            offset = (pixel / pixels_per_view) * vertices_per_view
            u = barycentric[pixel][0]
            v = barycentric[pixel][1]
            w = 1.0 - u - v
            a = offset + corner[0]
            b = offset + corner[1]
            c = offset + corner[2]
            for k in range(channels):
                image[pixel, k] = u * attributes[a, k] + v * attributes[b, k] + w * attributes[c, k]


@wp.kernel
def interpolate_gradient(
    attributes: wp.array2d(dtype=wp.float32),
    faces: wp.array(dtype=wp.vec3i),
    triangle: wp.array(dtype=wp.int32),
    barycentric: wp.array(dtype=wp.vec2f),
    vertices_per_view: wp.int32,
    pixels_per_view: wp.int32,
    count: wp.int32,
    chunk: wp.int32,
    grad_image: wp.array2d(dtype=wp.float32),
    grad_attributes: wp.array2d(dtype=wp.float32),
    grad_barycentric: wp.array(dtype=wp.vec2f),
):
    """Gradients of `interpolate`; either output may be left out."""
    begin = wp.tid() * chunk
    channels = attributes.shape[1]
    for pixel in range(begin, wp.min(begin + chunk, count)):
        index = triangle[pixel]
        if index >= 0:
            corner = faces[index]
            offset = (pixel / pixels_per_view) * vertices_per_view
            u = barycentric[pixel][0]
            v = barycentric[pixel][1]
            w = 1.0 - u - v
            a = offset + corner[0]
            b = offset + corner[1]
            c = offset + corner[2]
            gu = float(0.0)
            gv = float(0.0)
            for k in range(channels):
                g = grad_image[pixel, k]
                if grad_attributes:
                    wp.atomic_add(grad_attributes, a, k, u * g)
                    wp.atomic_add(grad_attributes, b, k, v * g)
                    wp.atomic_add(grad_attributes, c, k, w * g)
                gu += g * (attributes[a, k] - attributes[c, k])
                gv += g * (attributes[b, k] - attributes[c, k])
            if grad_barycentric:
                grad_barycentric[pixel] = wp.vec2f(gu, gv)
