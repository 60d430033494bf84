"""Warp kernels of silhouette antialiasing. What they compute, and from which paper: `antialias_reference`.

Meshes may change their topology at every step, so there is no table of all edges. Instead:

1. `fan_sums` and `facing` tell which vertices can lie on a silhouette: those whose fan of triangles is open or
   inconsistently wound, or has triangles that face the eye and others that face away. `list_candidates` lists the few
   triangles with two such corners, and `link_edges` puts the edges between such corners into a hash table.
2. `find_crossings` picks the edges with triangles on one side only, follows each over the rows and columns that it
   crosses, and records where it can be seen: a few thousand places.
3. After a sort has left the nearest crossing of every pair of pixels, `blend` and `blend_gradient` work on these.
"""

from __future__ import annotations

from humannorm.rendering.antialias_reference import CENTRE_TOLERANCE as CENTRE_TOLERANCE_VALUE
from humannorm.rendering.antialias_reference import DEPTH_ROUNDING, DEPTH_SLACK
from humannorm.rendering.warp_engine_raster import centre_x, centre_y, shifted
from humannorm.warp_runtime import wp

__all__ = [
    "blend",
    "blend_gradient",
    "facing",
    "fan_sums",
    "find_crossings",
    "link_edges",
    "list_candidates",
    "sum_shares",
    "visible",
]

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

CENTRE_TOLERANCE = wp.constant(wp.float64(CENTRE_TOLERANCE_VALUE))
ROUNDING = wp.constant(wp.float64(DEPTH_ROUNDING))
SLACK = wp.constant(wp.float64(DEPTH_SLACK))
MIX_1, MIX_2 = wp.constant(wp.uint32(0x85EBCA6B)), wp.constant(wp.uint32(0xC2B2AE35))
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
    """Notes at every vertex whether a triangle there faces the eye, and whether one faces away (edge-on ones do
    both)."""
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
    clip: wp.array2d(dtype=wp.vec4f),
    faces: wp.array(dtype=wp.vec3i),
    block: wp.int32,
    fan: wp.array(dtype=wp.int32),
    seen: wp.array3d(dtype=wp.uint8),
    candidates: wp.array(dtype=wp.vec3i),
    length: wp.array(dtype=wp.int32),
):
    """Lists the triangles (view, index, open edges and side) with an edge whose two ends can be on a silhouette.

    Bit k of the third number is set if edge k, opposite to corner k, is such an edge; bit 3 if the triangle is
    counter-clockwise on the screen. Edge-on triangles have no side and are left out.
    """
    view, start = wp.tid()
    start *= block
    for i in range(start, wp.min(start + block, faces.shape[0])):
        corner = faces[i]
        a = can_be_silhouette(view, corner[0], fan, seen)
        b = can_be_silhouette(view, corner[1], fan, seen)
        c = can_be_silhouette(view, corner[2], fan, seen)
        bits = b & c | (c & a) << 1 | (a & b) << 2
        if bits != 0:
            area = homogeneous_area(clip[view, corner[0]], clip[view, corner[1]], clip[view, corner[2]])
            if area != wp.float64(0.0):
                bits += wp.where(area > wp.float64(0.0), 8, 0)
                candidates[wp.atomic_add(length, 0, 1)] = wp.vec3i(view, i, bits)


@wp.func
def half_edge(half: wp.int32, faces: wp.array(dtype=wp.vec3i), candidates: wp.array(dtype=wp.vec3i)):
    """Lower and higher vertex of half-edge 3 * candidate + k, and on which side of the way between them its triangle
    lies: 1 left, 2 right."""
    candidate = candidates[half / 3]
    corner = faces[candidate[1]]
    k = half % 3
    p = corner[(k + 1) % 3]
    q = corner[(k + 2) % 3]
    return wp.vec3i(wp.min(p, q), wp.max(p, q), wp.where((candidate[2] >= 8) == (p < q), 1, 2))


@wp.func
def bucket_of(view: wp.int32, low: wp.int32, high: wp.int32, mask: wp.int32):
    """Place of an edge in the hash table."""
    return mixed(mixed(mixed(view) ^ low) ^ high) & mask


@wp.kernel
def link_edges(
    faces: wp.array(dtype=wp.vec3i),
    candidates: wp.array(dtype=wp.vec3i),
    mask: wp.int32,
    head: wp.array(dtype=wp.int32),
    following: wp.array(dtype=wp.int32),
):
    """Chains the open half-edges of the candidates in the buckets of a hash table."""
    i = wp.tid()
    for k in range(3):
        half = 3 * i + k
        if (candidates[i][2] >> k & 1) == 1:
            edge = half_edge(half, faces, candidates)
            following[half] = wp.atomic_exch(head, bucket_of(candidates[i][0], edge[0], edge[1], mask), half)


@wp.func
def seen_from(p: wp.vec4f, x: wp.float64, y: wp.float64, height: wp.int32, width: wp.int32, horizontal: wp.bool):
    """A clip position from a point of the screen, in pixels times w: (along, across) the line of pixels, then z and
    w."""
    w = wp.float64(p[3])
    z = wp.float64(p[2])
    right = (wp.float64(p[0]) - x * w) * (wp.float64(width) / wp.float64(2.0))
    down = (y * w - wp.float64(p[1])) * (wp.float64(height) / wp.float64(2.0))
    return wp.where(horizontal, wp.vec4d(right, down, z, w), wp.vec4d(down, right, z, w))


@wp.func
def meeting_point(a: wp.vec4d, b: wp.vec4d, axis: wp.int32):
    """Coordinate (0 along, 2 depth) at which the edge from a to b meets the line across = 0; exact under
    perspective."""
    return (b[1] * a[axis] - a[1] * b[axis]) / (b[1] * a[3] - a[1] * b[3])


@wp.func
def plane_depth(
    a: wp.vec4f, b: wp.vec4f, c: wp.vec4f, row: wp.int32, column: wp.int32, height: wp.int32, width: wp.int32
):
    """z/w at a pixel's centre of the plane through a triangle, also beyond its borders (Olano & Greer 1997)."""
    x = centre_x(column, width)
    y = centre_y(row, height)
    p = shifted(a, x, y)
    q = shifted(b, x, y)
    r = shifted(c, x, y)
    e = wp.vec3d(q[0] * r[1] - q[1] * r[0], r[0] * p[1] - r[1] * p[0], p[0] * q[1] - p[1] * q[0])
    z = e[0] * wp.float64(a[2]) + e[1] * wp.float64(b[2]) + e[2] * wp.float64(c[2])
    return z / (e[0] * wp.float64(a[3]) + e[1] * wp.float64(b[3]) + e[2] * wp.float64(c[3]))


@wp.func
def visible(
    view: wp.int32,
    line: wp.int32,
    before: wp.int32,
    near_first: wp.bool,
    horizontal: wp.bool,
    crossing_depth: wp.float64,
    corner: wp.vec3i,
    clip: wp.array2d(dtype=wp.vec4f),
    triangle: wp.array3d(dtype=wp.int32),
    depth: wp.array3d(dtype=wp.float32),
):
    """Whether a silhouette that crosses a line between the places `before` and `before + 1` can be seen there."""
    height = triangle.shape[1]
    width = triangle.shape[2]
    if before < 0 or before + 1 >= wp.where(horizontal, width, height):
        return False
    near = before + wp.where(near_first, 0, 1)
    far = before + wp.where(near_first, 1, 0)
    near_row = wp.where(horizontal, line, near)
    near_column = wp.where(horizontal, near, line)
    far_row = wp.where(horizontal, line, far)
    far_column = wp.where(horizontal, far, line)
    index = triangle[view, near_row, near_column]
    if index < 0 or index == triangle[view, far_row, far_column]:
        return False
    if crossing_depth < wp.float64(-1.0) or crossing_depth > wp.float64(depth[view, far_row, far_column]):
        return False
    plane = plane_depth(
        clip[view, corner[0]], clip[view, corner[1]], clip[view, corner[2]], near_row, near_column, height, width
    )
    slack = ROUNDING + SLACK * wp.abs(plane - crossing_depth)
    # An undefined slope allows any depth.
    hidden = wp.float64(depth[view, near_row, near_column]) > crossing_depth + slack
    return not hidden


@wp.func
def cross_lines(
    view: wp.int32,
    edge: wp.vec3i,
    corner: wp.vec3i,
    horizontal: wp.bool,
    clip: wp.array2d(dtype=wp.vec4f),
    triangle: wp.array3d(dtype=wp.int32),
    depth: wp.array3d(dtype=wp.float32),
    records: wp.array(dtype=wp.vec4i),
    keys: wp.array(dtype=wp.int64),
    length: wp.array(dtype=wp.int32),
):
    """Records the visible crossings of one silhouette edge with the rows (or columns) of pixel centres
    (`antialias_reference.crossings_of_lines`)."""
    height = triangle.shape[1]
    width = triangle.shape[2]
    half = wp.float64(0.5)
    lines = wp.where(horizontal, height, width)
    low = clip[view, edge[0]]
    high = clip[view, edge[1]]
    # From the image's corner, the point (-1, 1), divided by w: pixel coordinates.
    corner_low = seen_from(low, wp.float64(-1.0), wp.float64(1.0), height, width, horizontal)
    corner_high = seen_from(high, wp.float64(-1.0), wp.float64(1.0), height, width, horizontal)
    a = corner_low / corner_low[3]
    b = corner_high / corner_high[3]
    limit = wp.float64(lines)
    first = wp.int32(wp.clamp(wp.ceil(wp.min(a[1], b[1]) - half), wp.float64(0.0), limit))
    stop = wp.int32(wp.clamp(wp.ceil(wp.max(a[1], b[1]) - half), wp.float64(0.0), limit))
    if first < stop:
        across = wp.abs(b[1] - a[1])
        along = wp.abs(b[0] - a[0])
        steep = across > along or (horizontal and across == along)
        # Left of an edge that goes up are smaller columns; left of one that goes right are smaller rows.
        ahead = wp.where(horizontal, b[1] < a[1], b[1] > a[1])
        near_first = (edge[2] == 1) == ahead
        x = centre_x(0, width)
        y = centre_y(0, height)
        for line in range(first, stop):
            if horizontal:
                y = centre_y(line, height)
            else:
                x = centre_x(line, width)
            p = seen_from(low, x, y, height, width, horizontal)
            q = seen_from(high, x, y, height, width, horizontal)
            place = meeting_point(p, q, 0)
            z = meeting_point(p, q, 2)
            before = wp.int32(wp.clamp(wp.floor(place), wp.float64(-2.0), wp.float64(16384.0)))
            found = visible(view, line, before, near_first, horizontal, z, corner, clip, triangle, depth)
            if not found:
                # Close to a centre snapping can have moved the silhouette to its other side.
                if place - wp.floor(place) < CENTRE_TOLERANCE:
                    before -= 1
                    found = visible(view, line, before, near_first, horizontal, z, corner, clip, triangle, depth)
                elif wp.ceil(place) - place < CENTRE_TOLERANCE:
                    before += 1
                    found = visible(view, line, before, near_first, horizontal, z, corner, clip, triangle, depth)
            if found:
                index = wp.atomic_add(length, 0, 1)
                if index < records.shape[0]:
                    row = wp.where(horizontal, line, before)
                    column = wp.where(horizontal, before, line)
                    pixel = (view * height + row) * width + column
                    step = wp.where(horizontal, 1, width)
                    near = pixel + wp.where(near_first, 0, step)
                    way = wp.where(near_first, 1, -1) * wp.where(horizontal, 1, 2)
                    pair = 2 * pixel + wp.where(horizontal, 0, 1)
                    records[index] = wp.vec4i(near, wp.where(steep, way, 0), edge[0], edge[1])
                    bits = wp.cast(wp.float32(z) + 0.0, wp.int32)
                    keys[index] = (wp.int64(pair) << wp.int64(32)) + wp.int64(
                        wp.where(bits < 0, bits ^ 2147483647, bits)
                    )


@wp.kernel
def find_crossings(
    clip: wp.array2d(dtype=wp.vec4f),
    faces: wp.array(dtype=wp.vec3i),
    triangle: wp.array3d(dtype=wp.int32),
    depth: wp.array3d(dtype=wp.float32),
    candidates: wp.array(dtype=wp.vec3i),
    mask: wp.int32,
    head: wp.array(dtype=wp.int32),
    following: wp.array(dtype=wp.int32),
    records: wp.array(dtype=wp.vec4i),
    keys: wp.array(dtype=wp.int64),
    length: wp.array(dtype=wp.int32),
):
    """Records (near pixel, way to the far one, edge's vertices) of all visible crossings of silhouette edges.

    The way is 1 for a column, 2 for a row, with a sign; 0 for edges that run along the line, which only compete. Keys
    sort by pair of pixels, then by depth. `length` also counts the records for which there was no room.
    """
    half = wp.tid()
    candidate = candidates[half / 3]
    view = candidate[0]
    if (candidate[2] >> (half % 3) & 1) == 1:
        edge = half_edge(half, faces, candidates)
        low = clip[view, edge[0]]
        high = clip[view, edge[1]]
        if low[3] > 0.0 and high[3] > 0.0:
            # Other triangles at this edge: one on the other side ends it, a lower one takes over.
            alone = bool(True)
            other = head[bucket_of(view, edge[0], edge[1], mask)]
            while other >= 0:
                at = candidates[other / 3]
                if at[0] == view and at[1] != candidate[1]:
                    other_edge = half_edge(other, faces, candidates)
                    same = other_edge[0] == edge[0] and other_edge[1] == edge[1]
                    if same and (other_edge[2] != edge[2] or at[1] < candidate[1]):
                        alone = False
                other = following[other]
            if alone:
                corner = faces[candidate[1]]
                cross_lines(view, edge, corner, True, clip, triangle, depth, records, keys, length)
                cross_lines(view, edge, corner, False, clip, triangle, depth, records, keys, length)


@wp.struct
class Crossing:
    """A recorded pair of pixels in the image, and its edge seen from the near one."""

    near: wp.int32
    far: wp.int32
    view: wp.int32
    horizontal: wp.bool
    x: wp.float64
    y: wp.float64
    a: wp.vec4d
    b: wp.vec4d
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
    return wp.float32(c.sign * meeting_point(c.a, c.b, 0) - wp.float64(0.5))


@wp.kernel
def sum_shares(
    clip: wp.array2d(dtype=wp.vec4f),
    records: wp.array(dtype=wp.vec4i),
    height: wp.int32,
    width: wp.int32,
    taken: wp.array2d(dtype=wp.float32),
):
    """Adds up what every pixel gives away of its own colour, along its row and along its column."""
    c = unpack(records[wp.tid()], clip, height, width)
    share = share_of(c)
    wp.atomic_add(taken, wp.where(share > 0.0, c.far, c.near), wp.where(c.horizontal, 0, 1), wp.abs(share))


@wp.func
def limit_of(pixel: wp.int32, taken: wp.array2d(dtype=wp.float32)):
    """Factor that keeps a pixel from giving away more than its whole (`antialias_reference.blend`)."""
    by_row = taken[pixel, 0]
    by_column = taken[pixel, 1]
    both = by_row + by_column
    return wp.where(both > 1.0, (both - by_row * by_column) / both, 1.0)


@wp.kernel
def blend(
    clip: wp.array2d(dtype=wp.vec4f),
    records: wp.array(dtype=wp.vec4i),
    height: wp.int32,
    width: wp.int32,
    taken: wp.array2d(dtype=wp.float32),
    color: wp.array2d(dtype=wp.float32),
    blended: wp.array2d(dtype=wp.float32),
):
    """Adds the shares to the image, which comes as a copy of the colours; no pixel gives away more than it has."""
    i = wp.tid()
    c = unpack(records[i], clip, height, width)
    share = share_of(c)
    target = wp.where(share > 0.0, c.far, c.near)
    share = share * limit_of(target, taken)
    for k in range(color.shape[1]):
        wp.atomic_add(blended, target, k, share * (color[c.near, k] - color[c.far, k]))


@wp.kernel
def blend_gradient(
    clip: wp.array2d(dtype=wp.vec4f),
    records: wp.array(dtype=wp.vec4i),
    height: wp.int32,
    width: wp.int32,
    taken: wp.array2d(dtype=wp.float32),
    color: wp.array2d(dtype=wp.float32),
    grad_blended: wp.array2d(dtype=wp.float32),
    grad_color: wp.array2d(dtype=wp.float32),
    grad_clip: wp.array2d(dtype=wp.vec4f),
):
    """Gradient of `blend`; that of the colours comes as a copy of the image's. Either output may be left out.

    The crossing is N/D with N = b_across a_along - a_across b_along and D = b_across a_w - a_across b_w.
    """
    i = wp.tid()
    c = unpack(records[i], clip, height, width)
    share = share_of(c)
    target = wp.where(share > 0.0, c.far, c.near)
    limit = limit_of(target, taken)
    share = share * limit
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
        place = meeting_point(a, b, 0)
        scale = c.sign * wp.float64(grad_share * limit) / (b[1] * a[3] - a[1] * b[3])
        grad_a = wp.vec3d(b[1], place * b[3] - b[0], -place * b[1]) * scale
        grad_b = wp.vec3d(-a[1], a[0] - place * a[3], place * a[1]) * scale
        wp.atomic_add(grad_clip, c.view, records[i][2], clip_gradient(grad_a, c, height, width))
        wp.atomic_add(grad_clip, c.view, records[i][3], clip_gradient(grad_b, c, height, width))


@wp.func
def clip_gradient(g: wp.vec3d, c: Crossing, height: wp.int32, width: wp.int32):
    """Chain rule of `seen_from` for gradients of along, across and w."""
    gx = wp.where(c.horizontal, g[0], g[1]) * (wp.float64(width) / wp.float64(2.0))
    gy = -wp.where(c.horizontal, g[1], g[0]) * (wp.float64(height) / wp.float64(2.0))
    return wp.vec4f(wp.float32(gx), wp.float32(gy), 0.0, wp.float32(g[2] - c.x * gx - c.y * gy))
