"""Warp kernels that interpolate vertex attributes at the visible points, forward and backward.

Channels come in groups of one to four, whatever divides their number: both kernels exist for each of these vector
types.
"""

from __future__ import annotations

from typing import Any

from humannorm.warp_runtime import wp

__all__ = ["INTERPOLATE", "INTERPOLATE_GRADIENT", "interpolate"]

wp.set_module_options({"enable_backward": False})


@wp.kernel
def interpolate(
    attributes: wp.array3d(dtype=Any),
    faces: wp.array(dtype=wp.vec3i),
    triangle: wp.array3d(dtype=wp.int32),
    barycentric: wp.array3d(dtype=wp.vec2f),
    block: wp.vec2i,
    image: wp.array4d(dtype=Any),
):
    """Weighted sums of the corners' attributes; the image comes zeroed, only covered pixels are written.

    Attributes [B or 1, V, G] are those of the view, or shared.
    """
    view, first_row, first_column = wp.tid()
    first_row *= block[0]
    first_column *= block[1]
    source = wp.min(view, attributes.shape[0] - 1)
    for row in range(first_row, wp.min(first_row + block[0], triangle.shape[1])):
        for column in range(first_column, wp.min(first_column + block[1], triangle.shape[2])):
            index = triangle[view, row, column]
            if index >= 0:
                corner = faces[index]
                u = barycentric[view, row, column][0]
                v = barycentric[view, row, column][1]
                w = 1.0 - u - v
                for k in range(attributes.shape[2]):
                    image[view, row, column, k] = (
                        attributes[source, corner[0], k] * u
                        + attributes[source, corner[1], k] * v
                        + attributes[source, corner[2], k] * w
                    )


@wp.func
def inner(a: wp.float32, b: wp.float32):
    return a * b


@wp.func
def inner(a: wp.vec2f, b: wp.vec2f):  # noqa: F811  (an overload for Warp)
    return wp.dot(a, b)


@wp.func
def inner(a: wp.vec3f, b: wp.vec3f):  # noqa: F811
    return wp.dot(a, b)


@wp.func
def inner(a: wp.vec4f, b: wp.vec4f):  # noqa: F811
    return wp.dot(a, b)


@wp.kernel
def interpolate_gradient(
    attributes: wp.array3d(dtype=Any),
    faces: wp.array(dtype=wp.vec3i),
    triangle: wp.array3d(dtype=wp.int32),
    barycentric: wp.array3d(dtype=wp.vec2f),
    block: wp.vec2i,
    grad_image: wp.array4d(dtype=Any),
    grad_attributes: wp.array3d(dtype=Any),
    grad_barycentric: wp.array3d(dtype=wp.vec2f),
):
    """Gradients of `interpolate`; either output may be left out."""
    view, first_row, first_column = wp.tid()
    first_row *= block[0]
    first_column *= block[1]
    source = wp.min(view, attributes.shape[0] - 1)
    for row in range(first_row, wp.min(first_row + block[0], triangle.shape[1])):
        for column in range(first_column, wp.min(first_column + block[1], triangle.shape[2])):
            index = triangle[view, row, column]
            if index >= 0:
                corner = faces[index]
                u = barycentric[view, row, column][0]
                v = barycentric[view, row, column][1]
                w = 1.0 - u - v
                grad_u = float(0.0)
                grad_v = float(0.0)
                for k in range(attributes.shape[2]):
                    g = grad_image[view, row, column, k]
                    if grad_attributes:
                        wp.atomic_add(grad_attributes, source, corner[0], k, g * u)
                        wp.atomic_add(grad_attributes, source, corner[1], k, g * v)
                        wp.atomic_add(grad_attributes, source, corner[2], k, g * w)
                    last = attributes[source, corner[2], k]
                    grad_u += inner(g, attributes[source, corner[0], k] - last)
                    grad_v += inner(g, attributes[source, corner[1], k] - last)
                if grad_barycentric:
                    grad_barycentric[view, row, column] = wp.vec2f(grad_u, grad_v)


GROUP_TYPES = {1: wp.float32, 2: wp.vec2f, 3: wp.vec3f, 4: wp.vec4f}
INTERPOLATE = {
    size: wp.overload(interpolate, {"attributes": wp.array3d(dtype=kind), "image": wp.array4d(dtype=kind)})
    for size, kind in GROUP_TYPES.items()
}
"""Group size -> kernel."""
INTERPOLATE_GRADIENT = {
    size: wp.overload(
        interpolate_gradient,
        {
            "attributes": wp.array3d(dtype=kind),
            "grad_image": wp.array4d(dtype=kind),
            "grad_attributes": wp.array3d(dtype=kind),
        },
    )
    for size, kind in GROUP_TYPES.items()
}
"""Group size -> kernel."""
