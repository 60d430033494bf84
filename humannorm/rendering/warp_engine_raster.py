"""Warp kernels of the rasteriser: project, draw, resolve, and the gradient of the barycentrics. One source for CPU and
CUDA.

While drawing, a pixel's state is one 64-bit key, depth above triangle index, lowered by an atomic minimum: the result
does not depend on the order of triangles or threads. Floating-point contraction is off, so that depths match the torch
reference bit for bit.

A thread works on a block of items: on a CPU one thread does all of a view, on CUDA each thread does one item.
"""

from __future__ import annotations

from humannorm.rendering.clipping import GUARD_BAND, SUBPIXELS
from humannorm.warp_runtime import wp

__all__ = ["barycentric_gradient", "centre_x", "centre_y", "draw", "draw_rows", "project", "resolve", "shifted"]

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

OUTSIDE = wp.constant(-(2**31) + 1)
"""Screen coordinate of a vertex that cannot be projected; its triangles are clipped first."""
STEP = wp.constant(wp.int64(SUBPIXELS))
STEP_BITS = wp.constant(SUBPIXELS.bit_length() - 1)
HALF_STEP = wp.constant(SUBPIXELS // 2)
GUARD = wp.constant(wp.float64(GUARD_BAND))
NO_FRAGMENT = wp.constant(wp.uint64(0xFFFFFFFFFFFFFFFF))
SIGN_BIT = wp.constant(wp.uint32(0x80000000))
LARGE = wp.constant(4096)
"""Triangles whose boxes hold more pixels are left to `draw_rows`, with a thread for each row."""
CLIPPED_LENGTH, LARGE_LENGTH = wp.constant(0), wp.constant(1)
"""Places of the two lists' lengths."""


@wp.kernel
def project(
    clip: wp.array(dtype=wp.vec4f),
    half_width: wp.float64,
    half_height: wp.float64,
    screen: wp.array(dtype=wp.vec2i),
    depth: wp.array(dtype=wp.float32),
):
    """Fixed-point screen position and z/w of every vertex inside the clip volume (`clipping.project_and_snap`)."""
    i = wp.tid()
    p = clip[i]
    x = wp.float64(p[0])
    y = wp.float64(p[1])
    z = wp.float64(p[2])
    w = wp.float64(p[3])
    inside = w > wp.float64(0.0) and w + z >= wp.float64(0.0) and w - z >= wp.float64(0.0)
    limit_x = GUARD / half_width * w
    limit_y = GUARD / half_height * w
    if inside and wp.abs(x) <= limit_x and wp.abs(y) <= limit_y:
        screen_x = wp.floor(x / w * half_width + half_width + wp.float64(0.5))
        screen_y = wp.floor(half_height - y / w * half_height + wp.float64(0.5))
        screen[i] = wp.vec2i(wp.int32(screen_x), wp.int32(screen_y))
        depth[i] = wp.clamp(wp.float32(z / w), -1.0, 1.0)
    else:
        screen[i] = wp.vec2i(OUTSIDE, OUTSIDE)


@wp.func
def first_centre(coordinate: wp.int32):
    """Index of the first pixel centre at or after a fixed-point coordinate."""
    return (coordinate + (HALF_STEP - 1)) >> STEP_BITS


@wp.func
def pixel_box(a: wp.vec2i, b: wp.vec2i, c: wp.vec2i, height: wp.int32, width: wp.int32):
    """Columns [0], [1]) and rows [2], [3]) of the pixels whose centres lie in a triangle's bounding box."""
    return wp.vec4i(
        wp.max(first_centre(wp.min(wp.min(a[0], b[0]), c[0])), 0),
        wp.min(first_centre(wp.max(wp.max(a[0], b[0]), c[0]) + 1), width),
        wp.max(first_centre(wp.min(wp.min(a[1], b[1]), c[1])), 0),
        wp.min(first_centre(wp.max(wp.max(a[1], b[1]), c[1]) + 1), height),
    )


@wp.struct
class Triangle:
    """A screen triangle ready to be drawn. Edge 0 runs from b to c, edge 1 from c to a, edge 2 from a to b, turned so
    that the inside is on the right of all (y down). A centre is covered if value + bias >= 0 for all three (Pineda
    1988)."""

    area: wp.int64
    x_0: wp.int64
    y_0: wp.int64
    x_1: wp.int64
    y_1: wp.int64
    x_2: wp.int64
    y_2: wp.int64
    bias_0: wp.int64
    bias_1: wp.int64
    bias_2: wp.int64
    value_1: wp.int64
    value_2: wp.int64
    depth: wp.float64
    slope_1: wp.float64
    slope_2: wp.float64
    scale: wp.float64


@wp.func
def edge_bias(x: wp.int64, y: wp.int64):
    """0 for top and left edges, which own the centres that lie on them, else -1."""
    if y < wp.int64(0) or (y == wp.int64(0) and x > wp.int64(0)):
        return wp.int64(0)
    return wp.int64(-1)


@wp.func
def set_up(
    a: wp.vec2i,
    b: wp.vec2i,
    c: wp.vec2i,
    depth_a: wp.float32,
    depth_b: wp.float32,
    depth_c: wp.float32,
    x: wp.int32,
    y: wp.int32,
):
    """Edges of a triangle of either winding, and their values at the centre of pixel (x, y)."""
    t = Triangle()
    bax = wp.int64(b[0]) - wp.int64(a[0])
    bay = wp.int64(b[1]) - wp.int64(a[1])
    cax = wp.int64(c[0]) - wp.int64(a[0])
    cay = wp.int64(c[1]) - wp.int64(a[1])
    area = bax * cay - bay * cax
    winding = wp.where(area < wp.int64(0), wp.int64(-1), wp.int64(1))
    t.area = area * winding
    t.x_1 = -cax * winding
    t.y_1 = -cay * winding
    t.x_2 = bax * winding
    t.y_2 = bay * winding
    t.x_0 = -(t.x_1 + t.x_2)
    t.y_0 = -(t.y_1 + t.y_2)
    t.bias_0 = edge_bias(t.x_0, t.y_0)
    t.bias_1 = edge_bias(t.x_1, t.y_1)
    t.bias_2 = edge_bias(t.x_2, t.y_2)
    from_a_x = wp.int64(x) * STEP + wp.int64(HALF_STEP) - wp.int64(a[0])
    from_a_y = wp.int64(y) * STEP + wp.int64(HALF_STEP) - wp.int64(a[1])
    t.value_1 = t.x_1 * from_a_y - t.y_1 * from_a_x
    t.value_2 = t.x_2 * from_a_y - t.y_2 * from_a_x
    t.depth = wp.float64(depth_a)
    t.slope_1 = wp.float64(depth_b) - t.depth
    t.slope_2 = wp.float64(depth_c) - t.depth
    t.scale = wp.float64(1.0) / wp.float64(wp.max(t.area, wp.int64(1)))
    return t


@wp.func
def depth_key(depth: wp.float32, index: wp.int32):
    """Key that sorts by depth, then by triangle: the float's bits made monotone, above the index."""
    flip = wp.uint32(wp.cast(depth, wp.int32) >> 31) | SIGN_BIT  # all bits of negative numbers, else the sign's
    return (wp.uint64(wp.cast(depth, wp.uint32) ^ flip) << wp.uint64(32)) | wp.uint64(index)


@wp.func
def key_depth(key: wp.uint64):
    """Depth of `depth_key`."""
    bits = wp.uint32(key >> wp.uint64(32))
    if (bits & SIGN_BIT) != wp.uint32(0):
        bits = bits ^ SIGN_BIT
    else:
        bits = ~bits
    return wp.cast(bits, wp.float32)


@wp.func
def draw_pixel(
    t: Triangle,
    value_1: wp.int64,
    value_2: wp.int64,
    index: wp.int32,
    pixel: wp.int32,
    behind: wp.array(dtype=wp.float32),
    keys: wp.array(dtype=wp.uint64),
):
    """Lowers the key of a pixel if its centre is covered; depth is weighted by the edges (`torch_engine.screen_depth`).

    There is no branch on the coverage: with triangles as small as pixels it would be mispredicted all the time.
    """
    inside = t.area - value_1 - value_2 + t.bias_0 | value_1 + t.bias_1 | value_2 + t.bias_2
    offset = wp.float64(value_1) * t.slope_1 + wp.float64(value_2) * t.slope_2
    depth = wp.clamp(wp.float32(t.depth + offset * t.scale), -1.0, 1.0) + 0.0  # + 0.0 turns -0 into 0
    visible = inside >= wp.int64(0)
    if behind:
        visible = visible and depth > behind[pixel]
    wp.atomic_min(keys, pixel, wp.where(visible, depth_key(depth, index), NO_FRAGMENT))


@wp.kernel
def draw(
    screen: wp.array2d(dtype=wp.vec2i),
    depth: wp.array2d(dtype=wp.float32),
    faces: wp.array(dtype=wp.vec3i),
    height: wp.int32,
    width: wp.int32,
    block: wp.int32,
    behind: wp.array(dtype=wp.float32),
    keys: wp.array(dtype=wp.uint64),
    clipped: wp.array(dtype=wp.vec2i),
    large: wp.array(dtype=wp.vec2i),
    lengths: wp.array(dtype=wp.int32),
):
    """Draws every triangle whose box holds a pixel centre; lists (view, triangle) of those that are clipped first, and
    of the large ones."""
    view, start = wp.tid()
    start *= block
    first_pixel = view * height * width
    for index in range(start, wp.min(start + block, faces.shape[0])):
        corner = faces[index]
        a = screen[view, corner[0]]
        b = screen[view, corner[1]]
        c = screen[view, corner[2]]
        if wp.min(wp.min(a[0], b[0]), c[0]) == OUTSIDE:
            clipped[wp.atomic_add(lengths, CLIPPED_LENGTH, 1)] = wp.vec2i(view, index)
        else:
            box = pixel_box(a, b, c, height, width)
            columns = box[1] - box[0]
            rows = box[3] - box[2]
            if columns > 0 and rows > 0:
                if columns * rows > LARGE:
                    large[wp.atomic_add(lengths, LARGE_LENGTH, 1)] = wp.vec2i(view, index)
                else:
                    t = set_up(
                        a, b, c, depth[view, corner[0]], depth[view, corner[1]], depth[view, corner[2]], box[0], box[2]
                    )
                    if t.area != wp.int64(0):
                        row_1 = t.value_1
                        row_2 = t.value_2
                        for y in range(box[2], box[3]):
                            value_1 = row_1
                            value_2 = row_2
                            row = first_pixel + y * width
                            for x in range(box[0], box[1]):
                                draw_pixel(t, value_1, value_2, index, row + x, behind, keys)
                                value_1 -= t.y_1 * STEP
                                value_2 -= t.y_2 * STEP
                            row_1 += t.x_1 * STEP
                            row_2 += t.x_2 * STEP


@wp.func
def cut_span(value: wp.int64, y: wp.int64, span: wp.vec2i):
    """The part of columns [span[0], span[1]) on the inner side of an edge with the given (biased) value at column 0."""
    if y > wp.int64(0):  # falls to the right: inside up to value / slope
        if value < wp.int64(0):
            return wp.vec2i(0, 0)
        last = value / (y * STEP)
        return wp.vec2i(span[0], wp.int32(wp.min(wp.int64(span[1]), last + wp.int64(1))))
    if value >= wp.int64(0):  # inside already, and rising or level
        return span
    if y == wp.int64(0):
        return wp.vec2i(0, 0)
    slope = -y * STEP
    first = (slope - wp.int64(1) - value) / slope
    return wp.vec2i(wp.int32(wp.max(wp.int64(span[0]), wp.min(first, wp.int64(span[1])))), span[1])


@wp.kernel
def draw_rows(
    corners: wp.array2d(dtype=wp.vec2i),
    depth: wp.array2d(dtype=wp.float32),
    owner: wp.array(dtype=wp.vec2i),
    height: wp.int32,
    width: wp.int32,
    behind: wp.array(dtype=wp.float32),
    keys: wp.array(dtype=wp.uint64),
):
    """Draws one row of one screen triangle of the given owner (view, triangle): the large and the clipped ones."""
    i, y = wp.tid()
    a = corners[i, 0]
    b = corners[i, 1]
    c = corners[i, 2]
    box = pixel_box(a, b, c, height, width)
    if y >= box[2] and y < box[3]:
        t = set_up(a, b, c, depth[i, 0], depth[i, 1], depth[i, 2], box[0], y)
        if t.area != wp.int64(0):
            span = wp.vec2i(0, wp.max(box[1] - box[0], 0))
            span = cut_span(t.area - t.value_1 - t.value_2 + t.bias_0, t.y_0, span)
            span = cut_span(t.value_1 + t.bias_1, t.y_1, span)
            span = cut_span(t.value_2 + t.bias_2, t.y_2, span)
            value_1 = t.value_1 - t.y_1 * STEP * wp.int64(span[0])
            value_2 = t.value_2 - t.y_2 * STEP * wp.int64(span[0])
            row = (owner[i][0] * height + y) * width + box[0]
            for x in range(span[0], span[1]):
                draw_pixel(t, value_1, value_2, owner[i][1], row + x, behind, keys)
                value_1 -= t.y_1 * STEP
                value_2 -= t.y_2 * STEP


@wp.func
def centre_x(column: wp.int32, width: wp.int32):
    """Normalised device x of a column of pixel centres (`clipping.pixel_centres`)."""
    return (wp.float64(column) + wp.float64(0.5)) * (wp.float64(2.0) / wp.float64(width)) - wp.float64(1.0)


@wp.func
def centre_y(row: wp.int32, height: wp.int32):
    """Normalised device y of a row of pixel centres."""
    return wp.float64(1.0) - (wp.float64(row) + wp.float64(0.5)) * (wp.float64(2.0) / wp.float64(height))


@wp.func
def shifted(p: wp.vec4f, x: wp.float64, y: wp.float64):
    """A clip position relative to a point of the screen, in homogeneous coordinates."""
    w = wp.float64(p[3])
    return wp.vec2d(wp.float64(p[0]) - x * w, wp.float64(p[1]) - y * w)


@wp.func
def homogeneous_edges(a: wp.vec2d, b: wp.vec2d, c: wp.vec2d):
    """Edge functions at the origin (Olano & Greer 1997), >= 0 inside for either winding."""
    e = wp.vec3d(b[0] * c[1] - b[1] * c[0], c[0] * a[1] - c[1] * a[0], a[0] * b[1] - a[1] * b[0])
    return wp.where(e[0] + e[1] + e[2] < wp.float64(0.0), -e, e)


@wp.kernel
def resolve(
    clip: wp.array2d(dtype=wp.vec4f),
    faces: wp.array(dtype=wp.vec3i),
    keys: wp.array3d(dtype=wp.uint64),
    block: wp.vec2i,
    triangle: wp.array3d(dtype=wp.int32),
    barycentric: wp.array3d(dtype=wp.vec2f),
    depth: wp.array3d(dtype=wp.float32),
):
    """Turns keys into triangle, depth and perspective-correct barycentrics (`torch_engine.barycentric`)."""
    view, first_row, first_column = wp.tid()
    first_row *= block[0]
    first_column *= block[1]
    height = keys.shape[1]
    width = keys.shape[2]
    zero = wp.float64(0.0)
    for row in range(first_row, wp.min(first_row + block[0], height)):
        y = centre_y(row, height)
        for column in range(first_column, wp.min(first_column + block[1], width)):
            key = keys[view, row, column]
            if key == NO_FRAGMENT:
                triangle[view, row, column] = -1
                barycentric[view, row, column] = wp.vec2f(0.0, 0.0)
                depth[view, row, column] = 1.0
            else:
                index = wp.int32(wp.uint32(key & wp.uint64(0xFFFFFFFF)))
                corner = faces[index]
                x = centre_x(column, width)
                e = homogeneous_edges(
                    shifted(clip[view, corner[0]], x, y),
                    shifted(clip[view, corner[1]], x, y),
                    shifted(clip[view, corner[2]], x, y),
                )
                inside = wp.vec3d(wp.max(e[0], zero), wp.max(e[1], zero), wp.max(e[2], zero))
                total = inside[0] + inside[1] + inside[2]
                weights = wp.vec2f(1.0 / 3.0, 1.0 / 3.0)
                if total > zero:
                    inside = inside * (wp.float64(1.0) / total)
                    weights = wp.vec2f(wp.float32(inside[0]), wp.float32(inside[1]))
                triangle[view, row, column] = index
                barycentric[view, row, column] = weights
                depth[view, row, column] = key_depth(key)


@wp.kernel
def barycentric_gradient(
    clip: wp.array2d(dtype=wp.vec4f),
    faces: wp.array(dtype=wp.vec3i),
    triangle: wp.array3d(dtype=wp.int32),
    block: wp.vec2i,
    grad_barycentric: wp.array3d(dtype=wp.vec2f),
    grad_clip: wp.array2d(dtype=wp.vec4f),
):
    """Adds the gradient of the barycentrics to x, y and w of the corners of every visible triangle.

    With edges e and s = sum of max(e, 0): u = e0/s, v = e1/s, therefore du = (de0 - u ds)/s; edges cut at 0 have none.
    """
    view, first_row, first_column = wp.tid()
    first_row *= block[0]
    first_column *= block[1]
    height = triangle.shape[1]
    width = triangle.shape[2]
    zero = wp.float64(0.0)
    for row in range(first_row, wp.min(first_row + block[0], height)):
        y = centre_y(row, height)
        for column in range(first_column, wp.min(first_column + block[1], width)):
            index = triangle[view, row, column]
            if index >= 0:
                corner = faces[index]
                x = centre_x(column, width)
                a = shifted(clip[view, corner[0]], x, y)
                b = shifted(clip[view, corner[1]], x, y)
                c = shifted(clip[view, corner[2]], x, y)
                area = b[0] * c[1] - b[1] * c[0] + c[0] * a[1] - c[1] * a[0] + a[0] * b[1] - a[1] * b[0]
                e = homogeneous_edges(a, b, c)
                inside = wp.vec3d(wp.max(e[0], zero), wp.max(e[1], zero), wp.max(e[2], zero))
                total = inside[0] + inside[1] + inside[2]
                if total > zero:
                    per_total = wp.float64(1.0) / total
                    scale = wp.where(area < zero, -per_total, per_total)
                    grad_u = wp.float64(grad_barycentric[view, row, column][0])
                    grad_v = wp.float64(grad_barycentric[view, row, column][1])
                    mean = (grad_u * inside[0] + grad_v * inside[1]) * per_total
                    g0 = wp.where(e[0] >= zero, (grad_u - mean) * scale, zero)
                    g1 = wp.where(e[1] >= zero, (grad_v - mean) * scale, zero)
                    g2 = wp.where(e[2] >= zero, -mean * scale, zero)
                    add_gradient(grad_clip, view, corner[0], g2 * b[1] - g1 * c[1], g1 * c[0] - g2 * b[0], x, y)
                    add_gradient(grad_clip, view, corner[1], g0 * c[1] - g2 * a[1], g2 * a[0] - g0 * c[0], x, y)
                    add_gradient(grad_clip, view, corner[2], g1 * a[1] - g0 * b[1], g0 * b[0] - g1 * a[0], x, y)


@wp.func
def add_gradient(
    grad_clip: wp.array2d(dtype=wp.vec4f),
    view: wp.int32,
    vertex: wp.int32,
    gx: wp.float64,
    gy: wp.float64,
    x: wp.float64,
    y: wp.float64,
):
    """Chain rule of `shifted`."""
    gradient = wp.vec4f(wp.float32(gx), wp.float32(gy), 0.0, wp.float32(-x * gx - y * gy))
    wp.atomic_add(grad_clip, view, vertex, gradient)
