"""Warp kernels of the rasteriser: project, draw, resolve, and the gradient of the barycentrics. One source for CPU and CUDA.

While drawing, a pixel's state is one 64-bit key, depth above triangle index, lowered by an atomic minimum: the result does
not depend on the order of triangles or threads. Floating-point contraction is off, so that depths match the torch
reference bit for bit.

Kernels with a `chunk` let one thread do that many items in turn: all of them on a CPU, one each on CUDA.
"""

from __future__ import annotations

from humannorm.rendering.clipping import GUARD_BAND, SUBPIXELS
from humannorm.warp_runtime import wp

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
CLIPPED, LARGE_LIST = wp.constant(0), wp.constant(1)
"""Places of the two lists' lengths in `lengths`."""


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
def edge_bias(x: wp.int64, y: wp.int64):
    """0 for top and left edges, which own the centres that lie on them, else -1 (inside on the right, y down)."""
    if y < wp.int64(0) or (y == wp.int64(0) and x > wp.int64(0)):
        return wp.int64(0)
    return wp.int64(-1)


@wp.func
def depth_key(depth: wp.float32, triangle: wp.int32):
    """Key that sorts by depth, then by triangle: the float's bits made monotone, above the index."""
    bits = wp.cast(depth, wp.uint32)
    if (bits & SIGN_BIT) != wp.uint32(0):
        bits = ~bits
    else:
        bits = bits | SIGN_BIT
    return (wp.uint64(bits) << wp.uint64(32)) | wp.uint64(triangle)


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
def draw_box(
    a: wp.vec2i,
    b: wp.vec2i,
    c: wp.vec2i,
    depth_a: wp.float32,
    depth_b: wp.float32,
    depth_c: wp.float32,
    x0: wp.int32,
    x1: wp.int32,
    y0: wp.int32,
    y1: wp.int32,
    first_pixel: wp.int32,
    width: wp.int32,
    triangle: wp.int32,
    behind: wp.array(dtype=wp.float32),
    keys: wp.array(dtype=wp.uint64),
):
    """Lowers the keys of all covered centres in columns [x0, x1) and rows [y0, y1): edge functions (Pineda 1988), exact in
    64 bits, stepped from pixel to pixel; depth weighted by them (`torch_engine.screen_depth`)."""
    bax = wp.int64(b[0]) - wp.int64(a[0])
    bay = wp.int64(b[1]) - wp.int64(a[1])
    cax = wp.int64(c[0]) - wp.int64(a[0])
    cay = wp.int64(c[1]) - wp.int64(a[1])
    area = bax * cay - bay * cax
    if area == wp.int64(0):
        return
    winding = wp.int64(1)
    if area < wp.int64(0):
        winding = wp.int64(-1)
    area = area * winding
    # Edge 1 goes from c to a, edge 2 from a to b, edge 0 from b to c, all with the inside on their right.
    x_1 = -cax * winding
    y_1 = -cay * winding
    x_2 = bax * winding
    y_2 = bay * winding
    x_0 = -(x_1 + x_2)
    y_0 = -(y_1 + y_2)
    from_a_x = wp.int64(x0) * STEP + wp.int64(HALF_STEP) - wp.int64(a[0])
    from_a_y = wp.int64(y0) * STEP + wp.int64(HALF_STEP) - wp.int64(a[1])
    row_1 = x_1 * from_a_y - y_1 * from_a_x
    row_2 = x_2 * from_a_y - y_2 * from_a_x
    row_0 = area - row_1 - row_2
    bias_0 = edge_bias(x_0, y_0)
    bias_1 = edge_bias(x_1, y_1)
    bias_2 = edge_bias(x_2, y_2)
    z = wp.float64(depth_a)
    slope_1 = wp.float64(depth_b) - z
    slope_2 = wp.float64(depth_c) - z
    scale = wp.float64(1.0) / wp.float64(area)
    for y in range(y0, y1):
        value_0 = row_0
        value_1 = row_1
        value_2 = row_2
        for x in range(x0, x1):
            if ((value_0 + bias_0) | (value_1 + bias_1) | (value_2 + bias_2)) >= wp.int64(0):
                offset = wp.float64(value_1) * slope_1 + wp.float64(value_2) * slope_2
                depth = wp.clamp(wp.float32(z + offset * scale), -1.0, 1.0) + 0.0  # + 0.0 turns -0 into 0
                pixel = first_pixel + y * width + x
                visible = True
                if behind:
                    visible = depth > behind[pixel]
                if visible:
                    wp.atomic_min(keys, pixel, depth_key(depth, triangle))
            value_0 -= y_0 * STEP
            value_1 -= y_1 * STEP
            value_2 -= y_2 * STEP
        row_0 += x_0 * STEP
        row_1 += x_1 * STEP
        row_2 += x_2 * STEP


@wp.kernel
def draw(
    screen: wp.array(dtype=wp.vec2i),
    depth: wp.array(dtype=wp.float32),
    faces: wp.array(dtype=wp.vec3i),
    vertices_per_view: wp.int32,
    height: wp.int32,
    width: wp.int32,
    count: wp.int32,
    chunk: wp.int32,
    behind: wp.array(dtype=wp.float32),
    keys: wp.array(dtype=wp.uint64),
    clipped: wp.array(dtype=wp.int32),
    large: wp.array(dtype=wp.int32),
    lengths: wp.array(dtype=wp.int32),
):
    """Draws every triangle whose box holds a pixel centre; lists those that must be clipped first, and the large ones."""
    begin = wp.tid() * chunk
    faces_per_view = faces.shape[0]
    for i in range(begin, wp.min(begin + chunk, count)):
        view = i / faces_per_view
        triangle = i - view * faces_per_view
        corner = faces[triangle]
        offset = view * vertices_per_view
        a = screen[offset + corner[0]]
        b = screen[offset + corner[1]]
        c = screen[offset + corner[2]]
        low_x = wp.min(wp.min(a[0], b[0]), c[0])
        if low_x == OUTSIDE:
            clipped[wp.atomic_add(lengths, CLIPPED, 1)] = i
        else:
            x0 = wp.max(first_centre(low_x), 0)
            x1 = wp.min(first_centre(wp.max(wp.max(a[0], b[0]), c[0]) + 1), width)
            y0 = wp.max(first_centre(wp.min(wp.min(a[1], b[1]), c[1])), 0)
            y1 = wp.min(first_centre(wp.max(wp.max(a[1], b[1]), c[1]) + 1), height)
            if x0 < x1 and y0 < y1:
                if (x1 - x0) * (y1 - y0) > LARGE:
                    large[wp.atomic_add(lengths, LARGE_LIST, 1)] = i
                else:
                    draw_box(
                        a,
                        b,
                        c,
                        depth[offset + corner[0]],
                        depth[offset + corner[1]],
                        depth[offset + corner[2]],
                        x0,
                        x1,
                        y0,
                        y1,
                        view * height * width,
                        width,
                        triangle,
                        behind,
                        keys,
                    )


@wp.kernel
def draw_rows(
    corners: wp.array2d(dtype=wp.vec2i),
    depth: wp.array2d(dtype=wp.float32),
    triangle: wp.array(dtype=wp.int32),
    view: wp.array(dtype=wp.int32),
    height: wp.int32,
    width: wp.int32,
    behind: wp.array(dtype=wp.float32),
    keys: wp.array(dtype=wp.uint64),
):
    """Draws one row of one of the given screen triangles: the large and the clipped ones."""
    i, y = wp.tid()
    a = corners[i, 0]
    b = corners[i, 1]
    c = corners[i, 2]
    y0 = first_centre(wp.min(wp.min(a[1], b[1]), c[1]))
    y1 = first_centre(wp.max(wp.max(a[1], b[1]), c[1]) + 1)
    if y >= y0 and y < y1:
        x0 = wp.max(first_centre(wp.min(wp.min(a[0], b[0]), c[0])), 0)
        x1 = wp.min(first_centre(wp.max(wp.max(a[0], b[0]), c[0]) + 1), width)
        first_pixel = view[i] * height * width
        draw_box(
            a,
            b,
            c,
            depth[i, 0],
            depth[i, 1],
            depth[i, 2],
            x0,
            x1,
            y,
            y + 1,
            first_pixel,
            width,
            triangle[i],
            behind,
            keys,
        )


@wp.func
def homogeneous_edges(a: wp.vec4f, b: wp.vec4f, c: wp.vec4f, x: wp.float64, y: wp.float64):
    """Edge functions of a clip-space triangle at a screen point (Olano & Greer 1997), >= 0 inside for either winding."""
    ax = wp.float64(a[0]) - x * wp.float64(a[3])
    ay = wp.float64(a[1]) - y * wp.float64(a[3])
    bx = wp.float64(b[0]) - x * wp.float64(b[3])
    by = wp.float64(b[1]) - y * wp.float64(b[3])
    cx = wp.float64(c[0]) - x * wp.float64(c[3])
    cy = wp.float64(c[1]) - y * wp.float64(c[3])
    edges = wp.vec3d(bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx)
    if edges[0] + edges[1] + edges[2] < wp.float64(0.0):
        edges = -edges
    return edges


@wp.kernel
def resolve(
    clip: wp.array(dtype=wp.vec4f),
    faces: wp.array(dtype=wp.vec3i),
    vertices_per_view: wp.int32,
    height: wp.int32,
    width: wp.int32,
    count: wp.int32,
    chunk: wp.int32,
    keys: wp.array(dtype=wp.uint64),
    triangle: wp.array(dtype=wp.int32),
    barycentric: wp.array(dtype=wp.vec2f),
    depth: wp.array(dtype=wp.float32),
):
    """Turns keys into triangle, depth and perspective-correct barycentrics (`torch_engine.barycentric`)."""
    begin = wp.tid() * chunk
    for pixel in range(begin, wp.min(begin + chunk, count)):
        key = keys[pixel]
        index = wp.int32(-1)
        weights = wp.vec2f()
        z = wp.float32(1.0)
        if key != NO_FRAGMENT:
            index = wp.int32(wp.uint32(key & wp.uint64(0xFFFFFFFF)))
            z = key_depth(key)
            row = pixel / width
            view = row / height
            x = (wp.float64(pixel - row * width) + wp.float64(0.5)) * (wp.float64(2.0) / wp.float64(width)) - wp.float64(
                1.0
            )
            y = wp.float64(1.0) - (wp.float64(row - view * height) + wp.float64(0.5)) * (
                wp.float64(2.0) / wp.float64(height)
            )
            corner = faces[index]
            offset = view * vertices_per_view
            edges = homogeneous_edges(clip[offset + corner[0]], clip[offset + corner[1]], clip[offset + corner[2]], x, y)
            e0 = wp.max(edges[0], wp.float64(0.0))
            e1 = wp.max(edges[1], wp.float64(0.0))
            total = e0 + e1 + wp.max(edges[2], wp.float64(0.0))
            if total > wp.float64(0.0):
                weights = wp.vec2f(wp.float32(e0 / total), wp.float32(e1 / total))
            else:
                weights = wp.vec2f(1.0 / 3.0, 1.0 / 3.0)
        triangle[pixel] = index
        barycentric[pixel] = weights
        depth[pixel] = z


@wp.kernel
def barycentric_gradient(
    clip: wp.array(dtype=wp.vec4f),
    faces: wp.array(dtype=wp.vec3i),
    triangle: wp.array(dtype=wp.int32),
    vertices_per_view: wp.int32,
    height: wp.int32,
    width: wp.int32,
    count: wp.int32,
    chunk: wp.int32,
    grad_barycentric: wp.array(dtype=wp.vec2f),
    grad_clip: wp.array(dtype=wp.vec4f),
):
    """Adds the gradient of the barycentrics to x, y and w of the corners of every visible triangle.

    With edges e, s = sum of max(e, 0): u = e0/s, v = e1/s, therefore du = (de0 - u ds)/s; edges cut at 0 have no gradient.
    """
    begin = wp.tid() * chunk
    zero = wp.float64(0.0)
    for pixel in range(begin, wp.min(begin + chunk, count)):
        index = triangle[pixel]
        if index >= 0:
            g = grad_barycentric[pixel]
            row = pixel / width
            view = row / height
            x = (wp.float64(pixel - row * width) + wp.float64(0.5)) * (wp.float64(2.0) / wp.float64(width)) - wp.float64(
                1.0
            )
            y = wp.float64(1.0) - (wp.float64(row - view * height) + wp.float64(0.5)) * (
                wp.float64(2.0) / wp.float64(height)
            )
            corner = faces[index]
            offset = view * vertices_per_view
            a = clip[offset + corner[0]]
            b = clip[offset + corner[1]]
            c = clip[offset + corner[2]]
            ax = wp.float64(a[0]) - x * wp.float64(a[3])
            ay = wp.float64(a[1]) - y * wp.float64(a[3])
            bx = wp.float64(b[0]) - x * wp.float64(b[3])
            by = wp.float64(b[1]) - y * wp.float64(b[3])
            cx = wp.float64(c[0]) - x * wp.float64(c[3])
            cy = wp.float64(c[1]) - y * wp.float64(c[3])
            e0 = bx * cy - by * cx
            e1 = cx * ay - cy * ax
            e2 = ax * by - ay * bx
            facing = wp.float64(1.0)
            if e0 + e1 + e2 < zero:
                facing = wp.float64(-1.0)
            e0 *= facing
            e1 *= facing
            e2 *= facing
            total = wp.max(e0, zero) + wp.max(e1, zero) + wp.max(e2, zero)
            if total > zero:
                scale = facing / total
                gu = wp.float64(g[0])
                gv = wp.float64(g[1])
                mean = (gu * wp.max(e0, zero) + gv * wp.max(e1, zero)) / total
                # Gradient of the three edge functions.
                g0 = wp.where(e0 >= zero, (gu - mean) * scale, zero)
                g1 = wp.where(e1 >= zero, (gv - mean) * scale, zero)
                g2 = wp.where(e2 >= zero, -mean * scale, zero)
                # Gradient of the shifted corners.
                gax = g2 * by - g1 * cy
                gay = g1 * cx - g2 * bx
                gbx = g0 * cy - g2 * ay
                gby = g2 * ax - g0 * cx
                gcx = g1 * ay - g0 * by
                gcy = g0 * bx - g1 * ax
                add_gradient(grad_clip, offset + corner[0], gax, gay, x, y)
                add_gradient(grad_clip, offset + corner[1], gbx, gby, x, y)
                add_gradient(grad_clip, offset + corner[2], gcx, gcy, x, y)


@wp.func
def add_gradient(
    grad_clip: wp.array(dtype=wp.vec4f), vertex: wp.int32, gx: wp.float64, gy: wp.float64, x: wp.float64, y: wp.float64
):
    """Chain rule of the shift to the pixel's centre, (x', y') = (x - X w, y - Y w)."""
    gradient = wp.vec4f(wp.float32(gx), wp.float32(gy), 0.0, wp.float32(-x * gx - y * gy))
    wp.atomic_add(grad_clip, vertex, gradient)
