"""Warp kernels of silhouette antialiasing (Laine et al. 2020, section 3.6). What they compute: `antialias_reference`.

Meshes may change their topology at every step, so there is no table of all edges. Instead:

1. `fan_sums` and `facing` tell which vertices can lie on a silhouette: those whose fan of triangles is open or
   inconsistently wound, or has triangles that face the eye and others that face away. `list_candidates` lists the few
   triangles with two such corners.
2. `find_crossings` looks at all pairs of pixels with different triangles, and where the nearer one is a candidate, records
   the edge that crosses the line between the centres: a few thousand.
3. `link_crossings` chains the records at the lower vertex of their edge, and one pass over the candidates (`mark_sides`)
   notes for each record on which sides of its edge there are triangles.
4. `blend` and `blend_gradient` work on the records with triangles on one side only.
"""

from __future__ import annotations

from humannorm.rendering.antialias_reference import CROSSING_TOLERANCE
from humannorm.rendering.warp_engine_raster import centre_x, centre_y
from humannorm.warp_runtime import wp

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

TOLERANCE = wp.constant(wp.float64(CROSSING_TOLERANCE))
MIX_1, MIX_2 = wp.constant(wp.uint32(0x85EBCA6B)), wp.constant(wp.uint32(0xC2B2AE35))
LEFT, RIGHT = wp.constant(0), wp.constant(1)
FRONT, BACK = wp.constant(0), wp.constant(1)


@wp.func
def mixed(x: wp.int32):
    """A one-to-one hash of 32 bits (MurmurHash3's finaliser, Appleby 2011)."""
    h = wp.uint32(x)
    h = (h ^ (h >> wp.uint32(16))) * MIX_1
    h = (h ^ (h >> wp.uint32(13))) * MIX_2
    return wp.int32(h ^ (h >> wp.uint32(16)))


@wp.kernel
def fan_sums(faces: wp.array(dtype=wp.vec3i), block: wp.int32, fan: wp.array(dtype=wp.int32)):
    """Adds hash(next) - hash(previous corner) at every corner: the sum telescopes to 0 around a closed, consistent fan.

    A fan with one gap never sums to 0, since the hash is one-to-one; one with several gaps does with a chance of 2^-32.
    """
    start = wp.tid() * block
    for i in range(start, wp.min(start + block, faces.shape[0])):
        corner = faces[i]
        a = mixed(corner[0])
        b = mixed(corner[1])
        c = mixed(corner[2])
        wp.atomic_add(fan, corner[0], b - c)
        wp.atomic_add(fan, corner[1], c - a)
        wp.atomic_add(fan, corner[2], a - b)


@wp.func
def homogeneous_area(a: wp.vec4f, b: wp.vec4f, c: wp.vec4f):
    """Determinant of the corners' (x, y, w): its sign is their sense on the screen, also for corners behind the eye
    (Olano & Greer 1997)."""
    ax = wp.float64(a[0])
    ay = wp.float64(a[1])
    aw = wp.float64(a[3])
    bx = wp.float64(b[0])
    by = wp.float64(b[1])
    bw = wp.float64(b[3])
    return (
        (ay * bw - aw * by) * wp.float64(c[0])
        + (aw * bx - ax * bw) * wp.float64(c[1])
        + (ax * by - ay * bx) * wp.float64(c[3])
    )


@wp.kernel
def facing(
    clip: wp.array2d(dtype=wp.vec4f),
    faces: wp.array(dtype=wp.vec3i),
    block: wp.int32,
    seen: wp.array3d(dtype=wp.uint8),
):
    """Notes at every vertex whether a triangle there faces the eye, and whether one faces away (edge-on ones do both)."""
    view, start = wp.tid()
    start *= block
    yes = wp.uint8(1)
    for i in range(start, wp.min(start + block, faces.shape[0])):
        corner = faces[i]
        area = homogeneous_area(clip[view, corner[0]], clip[view, corner[1]], clip[view, corner[2]])
        if area >= wp.float64(0.0):
            seen[view, corner[0], FRONT] = yes
            seen[view, corner[1], FRONT] = yes
            seen[view, corner[2], FRONT] = yes
        if area <= wp.float64(0.0):
            seen[view, corner[0], BACK] = yes
            seen[view, corner[1], BACK] = yes
            seen[view, corner[2], BACK] = yes


@wp.func
def can_be_silhouette(
    view: wp.int32, vertex: wp.int32, fan: wp.array(dtype=wp.int32), seen: wp.array3d(dtype=wp.uint8)
):
    """1 for a vertex that may have silhouette edges, else 0."""
    both = seen[view, vertex, FRONT] & seen[view, vertex, BACK]
    return wp.where(fan[vertex] != 0, 1, wp.int32(both))


@wp.kernel
def list_candidates(
    faces: wp.array(dtype=wp.vec3i),
    block: wp.int32,
    fan: wp.array(dtype=wp.int32),
    seen: wp.array3d(dtype=wp.uint8),
    open_edges: wp.array2d(dtype=wp.uint8),
    candidates: wp.array(dtype=wp.vec2i),
    length: wp.array(dtype=wp.int32),
):
    """Lists the triangles (view, index) with an edge whose two ends can be on a silhouette, and sets such edges' bits."""
    view, start = wp.tid()
    start *= block
    for i in range(start, wp.min(start + block, faces.shape[0])):
        corner = faces[i]
        a = can_be_silhouette(view, corner[0], fan, seen)
        b = can_be_silhouette(view, corner[1], fan, seen)
        c = can_be_silhouette(view, corner[2], fan, seen)
        bits = b & c | (c & a) << 1 | (a & b) << 2
        if bits != 0:
            open_edges[view, i] = wp.uint8(bits)
            candidates[wp.atomic_add(length, 0, 1)] = wp.vec2i(view, i)


@wp.func
def seen_from(p: wp.vec4f, x: wp.float64, y: wp.float64, height: wp.int32, width: wp.int32, horizontal: wp.bool):
    """A clip position seen from a pixel's centre, in pixels times w: (along, across) the way to the other pixel, and w."""
    w = wp.float64(p[3])
    right = (wp.float64(p[0]) - x * w) * (wp.float64(width) / wp.float64(2.0))
    down = (y * w - wp.float64(p[1])) * (wp.float64(height) / wp.float64(2.0))
    return wp.where(horizontal, wp.vec3d(right, down, w), wp.vec3d(down, right, w))


@wp.func
def crossing_of(a: wp.vec3d, b: wp.vec3d):
    """Signed distance in pixels from the near centre to where the edge from a to b crosses the line to the far one."""
    return (b[1] * a[0] - a[1] * b[0]) / (b[1] * a[2] - a[1] * b[2])


@wp.func
def find_crossing(
    view: wp.int32,
    row: wp.int32,
    column: wp.int32,
    index: wp.int32,
    horizontal: wp.bool,
    direction: wp.int32,
    open_edges: wp.array2d(dtype=wp.uint8),
    clip: wp.array2d(dtype=wp.vec4f),
    faces: wp.array(dtype=wp.vec3i),
    height: wp.int32,
    width: wp.int32,
    records: wp.array(dtype=wp.vec4i),
    length: wp.array(dtype=wp.int32),
):
    """Records the edge through which the line from a pixel to its neighbour (+1 or -1 pixel on) leaves the pixel's triangle,
    if it counts (`antialias_reference.exit_crossing`) and can be a silhouette."""
    corner = faces[index]
    x = centre_x(column, width)
    y = centre_y(row, height)
    a = seen_from(clip[view, corner[0]], x, y, height, width, horizontal)
    b = seen_from(clip[view, corner[1]], x, y, height, width, horizontal)
    c = seen_from(clip[view, corner[2]], x, y, height, width, horizontal)
    zero = wp.float64(0.0)
    if a[2] > zero and b[2] > zero and c[2] > zero:
        sign = wp.float64(direction)
        distance = wp.float64(-1.0e300)
        edge = wp.int32(-1)
        if (b[1] < zero) != (c[1] < zero):
            distance = sign * crossing_of(b, c)
            edge = 0
        if (c[1] < zero) != (a[1] < zero):
            other = sign * crossing_of(c, a)
            if other > distance:
                distance = other
                edge = 1
        if (a[1] < zero) != (b[1] < zero):
            other = sign * crossing_of(a, b)
            if other > distance:
                distance = other
                edge = 2
        if edge >= 0 and distance >= -TOLERANCE and distance <= wp.float64(1.0) + TOLERANCE:
            p = wp.where(edge == 0, b, wp.where(edge == 1, c, a))
            q = wp.where(edge == 0, c, wp.where(edge == 1, a, b))
            rise = wp.abs(q[1] * p[2] - p[1] * q[2])
            run = wp.abs(q[0] * p[2] - p[0] * q[2])
            steep = rise > run or (horizontal and rise == run)
            if steep and (wp.int32(open_edges[view, index]) >> edge & 1) == 1:
                place = wp.atomic_add(length, 0, 1)
                if place < records.shape[0]:
                    pixel = (view * height + row) * width + column
                    towards = direction * wp.where(horizontal, 1, 2)
                    records[place] = wp.vec4i(pixel, towards, corner[(edge + 1) % 3], corner[(edge + 2) % 3])


@wp.func
def examine_pair(
    view: wp.int32,
    row: wp.int32,
    column: wp.int32,
    horizontal: wp.bool,
    triangle: wp.array3d(dtype=wp.int32),
    depth: wp.array3d(dtype=wp.float32),
    open_edges: wp.array2d(dtype=wp.uint8),
    clip: wp.array2d(dtype=wp.vec4f),
    faces: wp.array(dtype=wp.vec3i),
    records: wp.array(dtype=wp.vec4i),
    length: wp.array(dtype=wp.int32),
):
    """Finds the nearer triangle of a pixel and its right or lower neighbour, and goes on if it is a candidate."""
    next_row = row + wp.where(horizontal, 0, 1)
    next_column = column + wp.where(horizontal, 1, 0)
    index = triangle[view, row, column]
    other = triangle[view, next_row, next_column]
    if index != other:
        first_nearer = True
        if index < 0:
            first_nearer = False
        elif other >= 0:
            first_nearer = depth[view, row, column] <= depth[view, next_row, next_column]
        if first_nearer:
            if open_edges[view, index] != wp.uint8(0):
                find_crossing(
                    view, row, column, index, horizontal, 1, open_edges, clip, faces, triangle.shape[1], triangle.shape[2],
                    records, length,
                )  # fmt: skip
        elif open_edges[view, other] != wp.uint8(0):
            find_crossing(
                view, next_row, next_column, other, horizontal, -1, open_edges, clip, faces, triangle.shape[1],
                triangle.shape[2], records, length,
            )  # fmt: skip


@wp.kernel
def find_crossings(
    clip: wp.array2d(dtype=wp.vec4f),
    faces: wp.array(dtype=wp.vec3i),
    triangle: wp.array3d(dtype=wp.int32),
    depth: wp.array3d(dtype=wp.float32),
    open_edges: wp.array2d(dtype=wp.uint8),
    block: wp.vec2i,
    records: wp.array(dtype=wp.vec4i),
    length: wp.array(dtype=wp.int32),
):
    """Records (near pixel, way to the far one, edge's vertices) of all crossings between neighbouring pixels.

    The way is 1 for a column, 2 for a row, with a sign. `length` also counts the records for which there was no room.
    """
    view, first_row, first_column = wp.tid()
    first_row *= block[0]
    first_column *= block[1]
    height = triangle.shape[1]
    width = triangle.shape[2]
    for row in range(first_row, wp.min(first_row + block[0], height)):
        for column in range(first_column, wp.min(first_column + block[1], width)):
            if column + 1 < width:
                examine_pair(view, row, column, True, triangle, depth, open_edges, clip, faces, records, length)
            if row + 1 < height:
                examine_pair(view, row, column, False, triangle, depth, open_edges, clip, faces, records, length)


@wp.kernel
def link_crossings(
    records: wp.array(dtype=wp.vec4i),
    pixels_per_view: wp.int32,
    head: wp.array2d(dtype=wp.int32),
    following: wp.array(dtype=wp.int32),
):
    """Chains the records of all edges that start at one (lower) vertex of one view."""
    i = wp.tid()
    record = records[i]
    following[i] = wp.atomic_exch(head, record[0] / pixels_per_view, wp.min(record[2], record[3]), i)


@wp.func
def mark_edge(
    view: wp.int32,
    p: wp.int32,
    q: wp.int32,
    area: wp.float64,
    head: wp.array2d(dtype=wp.int32),
    following: wp.array(dtype=wp.int32),
    records: wp.array(dtype=wp.vec4i),
    sides: wp.array2d(dtype=wp.uint8),
):
    """Notes a triangle's side at all records of its edge from p to q."""
    side = wp.where((area > wp.float64(0.0)) == (p < q), LEFT, RIGHT)
    upper = wp.max(p, q)
    record = head[view, wp.min(p, q)]
    while record >= 0:
        if wp.max(records[record][2], records[record][3]) == upper:
            sides[record, side] = wp.uint8(1)
        record = following[record]


@wp.kernel
def mark_sides(
    clip: wp.array2d(dtype=wp.vec4f),
    faces: wp.array(dtype=wp.vec3i),
    candidates: wp.array(dtype=wp.vec2i),
    length: wp.array(dtype=wp.int32),
    block: wp.int32,
    head: wp.array2d(dtype=wp.int32),
    following: wp.array(dtype=wp.int32),
    records: wp.array(dtype=wp.vec4i),
    sides: wp.array2d(dtype=wp.uint8),
):
    """Notes on which sides of the recorded edges the mesh has triangles; edge-on ones lie on neither."""
    start = wp.tid() * block
    for i in range(start, wp.min(start + block, length[0])):
        view = candidates[i][0]
        corner = faces[candidates[i][1]]
        area = homogeneous_area(clip[view, corner[0]], clip[view, corner[1]], clip[view, corner[2]])
        if area != wp.float64(0.0):
            mark_edge(view, corner[0], corner[1], area, head, following, records, sides)
            mark_edge(view, corner[1], corner[2], area, head, following, records, sides)
            mark_edge(view, corner[2], corner[0], area, head, following, records, sides)


@wp.struct
class Crossing:
    """A recorded pair of pixels in the image, and its edge seen from the near one."""

    near: wp.int32
    far: wp.int32
    view: wp.int32
    horizontal: wp.bool
    x: wp.float64
    y: wp.float64
    a: wp.vec3d
    b: wp.vec3d
    sign: wp.float64


@wp.func
def unpack(record: wp.vec4i, clip: wp.array2d(dtype=wp.vec4f), height: wp.int32, width: wp.int32):
    """The crossing of a record."""
    c = Crossing()
    c.near = record[0]
    c.horizontal = wp.abs(record[1]) == 1
    c.sign = wp.where(record[1] > 0, wp.float64(1.0), wp.float64(-1.0))
    c.far = c.near + wp.where(record[1] > 0, 1, -1) * wp.where(c.horizontal, 1, width)
    row = c.near / width
    c.view = row / height
    c.x = centre_x(c.near - row * width, width)
    c.y = centre_y(row - c.view * height, height)
    c.a = seen_from(clip[c.view, record[2]], c.x, c.y, height, width, c.horizontal)
    c.b = seen_from(clip[c.view, record[3]], c.x, c.y, height, width, c.horizontal)
    return c


@wp.func
def share_of(c: Crossing):
    """How much of the near colour reaches into the far pixel (> 0), or of the far colour into the near pixel (< 0)."""
    return wp.float32(c.sign * crossing_of(c.a, c.b) - wp.float64(0.5))


@wp.kernel
def blend(
    clip: wp.array2d(dtype=wp.vec4f),
    records: wp.array(dtype=wp.vec4i),
    sides: wp.array2d(dtype=wp.uint8),
    height: wp.int32,
    width: wp.int32,
    color: wp.array2d(dtype=wp.float32),
    blended: wp.array2d(dtype=wp.float32),
):
    """Adds the shares to the image, which comes as a copy of the colours."""
    i = wp.tid()
    if (sides[i, LEFT] & sides[i, RIGHT]) == wp.uint8(0):
        c = unpack(records[i], clip, height, width)
        share = share_of(c)
        target = wp.where(share > 0.0, c.far, c.near)
        for k in range(color.shape[1]):
            wp.atomic_add(blended, target, k, share * (color[c.near, k] - color[c.far, k]))


@wp.kernel
def blend_gradient(
    clip: wp.array2d(dtype=wp.vec4f),
    records: wp.array(dtype=wp.vec4i),
    sides: wp.array2d(dtype=wp.uint8),
    height: wp.int32,
    width: wp.int32,
    color: wp.array2d(dtype=wp.float32),
    grad_blended: wp.array2d(dtype=wp.float32),
    grad_color: wp.array2d(dtype=wp.float32),
    grad_clip: wp.array2d(dtype=wp.vec4f),
):
    """Gradient of `blend`; that of the colours comes as a copy of the image's. Either output may be left out.

    The crossing is N/D with N = b_across a_along - a_across b_along and D = b_across a_w - a_across b_w.
    """
    i = wp.tid()
    if (sides[i, LEFT] & sides[i, RIGHT]) == wp.uint8(0):
        c = unpack(records[i], clip, height, width)
        share = share_of(c)
        target = wp.where(share > 0.0, c.far, c.near)
        grad_share = float(0.0)
        for k in range(color.shape[1]):
            g = grad_blended[target, k]
            grad_share += g * (color[c.near, k] - color[c.far, k])
            if grad_color:
                wp.atomic_add(grad_color, c.near, k, share * g)
                wp.atomic_add(grad_color, c.far, k, -share * g)
        if grad_clip:
            a = c.a
            b = c.b
            crossing = crossing_of(a, b)
            scale = c.sign * wp.float64(grad_share) / (b[1] * a[2] - a[1] * b[2])
            grad_a = wp.vec3d(b[1], crossing * b[2] - b[0], -crossing * b[1]) * scale
            grad_b = wp.vec3d(-a[1], a[0] - crossing * a[2], crossing * a[1]) * scale
            wp.atomic_add(grad_clip, c.view, records[i][2], clip_gradient(grad_a, c, height, width))
            wp.atomic_add(grad_clip, c.view, records[i][3], clip_gradient(grad_b, c, height, width))


@wp.func
def clip_gradient(g: wp.vec3d, c: Crossing, height: wp.int32, width: wp.int32):
    """Chain rule of `seen_from`."""
    gx = wp.where(c.horizontal, g[0], g[1]) * (wp.float64(width) / wp.float64(2.0))
    gy = -wp.where(c.horizontal, g[1], g[0]) * (wp.float64(height) / wp.float64(2.0))
    return wp.vec4f(wp.float32(gx), wp.float32(gy), 0.0, wp.float32(g[2] - c.x * gx - c.y * gy))
