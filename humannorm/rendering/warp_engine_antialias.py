"""Warp kernels of silhouette antialiasing (Laine et al. 2020, section 3.6); `antialias_reference` says what they compute.

Meshes may change their topology at every step, so there is no table of all edges. Instead:

1. `fan_sums` and `facing` leave only vertices that can lie on a silhouette: those whose fan of triangles is open or
   inconsistently wound, or has triangles that face the eye and others that face away.
2. `find_crossings` looks at all pairs of pixels with different triangles and records those that see an edge between two such
   vertices cross the line between their centres: a few thousand.
3. `link_crossings` chains the records at the lower vertex of their edge, and one pass over the triangles (`mark_sides`) notes
   for each record on which sides of its edge triangles lie.
4. `blend` and `blend_gradient` work on the records with triangles on one side only.
"""

from __future__ import annotations

from humannorm.rendering.antialias_reference import CROSSING_TOLERANCE
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
def fan_sums(faces: wp.array(dtype=wp.vec3i), chunk: wp.int32, fan: wp.array(dtype=wp.int32)):
    """Adds hash(next) - hash(previous corner) at every corner: the sum telescopes to 0 around a closed, consistent fan.

    A fan with one gap never sums to 0, since the hash is one-to-one; one with several gaps does with a chance of 2^-32.
    """
    begin = wp.tid() * chunk
    for i in range(begin, wp.min(begin + chunk, faces.shape[0])):
        corner = faces[i]
        a = mixed(corner[0])
        b = mixed(corner[1])
        c = mixed(corner[2])
        wp.atomic_add(fan, corner[0], b - c)
        wp.atomic_add(fan, corner[1], c - a)
        wp.atomic_add(fan, corner[2], a - b)


@wp.func
def homogeneous_area(a: wp.vec4f, b: wp.vec4f, c: wp.vec4f):
    """Determinant of the corners' (x, y, w): positive if they run counter-clockwise on the screen (Olano & Greer 1997)."""
    ax = wp.float64(a[0])
    ay = wp.float64(a[1])
    aw = wp.float64(a[3])
    bx = wp.float64(b[0])
    by = wp.float64(b[1])
    bw = wp.float64(b[3])
    cx = wp.float64(c[0])
    cy = wp.float64(c[1])
    cw = wp.float64(c[3])
    return (ay * bw - aw * by) * cx + (aw * bx - ax * bw) * cy + (ax * by - ay * bx) * cw


@wp.kernel
def facing(
    clip: wp.array(dtype=wp.vec4f),
    faces: wp.array(dtype=wp.vec3i),
    vertices_per_view: wp.int32,
    count: wp.int32,
    chunk: wp.int32,
    seen: wp.array2d(dtype=wp.uint8),
):
    """Notes at every vertex whether a triangle there faces the eye, and whether one faces away (edge-on ones do both)."""
    begin = wp.tid() * chunk
    faces_per_view = faces.shape[0]
    for i in range(begin, wp.min(begin + chunk, count)):
        view = i / faces_per_view
        corner = faces[i - view * faces_per_view]
        offset = view * vertices_per_view
        a = offset + corner[0]
        b = offset + corner[1]
        c = offset + corner[2]
        area = homogeneous_area(clip[a], clip[b], clip[c])
        if area >= wp.float64(0.0):
            seen[a, FRONT] = wp.uint8(1)
            seen[b, FRONT] = wp.uint8(1)
            seen[c, FRONT] = wp.uint8(1)
        if area <= wp.float64(0.0):
            seen[a, BACK] = wp.uint8(1)
            seen[b, BACK] = wp.uint8(1)
            seen[c, BACK] = wp.uint8(1)


@wp.func
def can_be_silhouette(
    vertex: wp.int32, offset: wp.int32, fan: wp.array(dtype=wp.int32), seen: wp.array2d(dtype=wp.uint8)
):
    """Whether a vertex may have silhouette edges."""
    if fan[vertex] != 0:
        return True
    return seen[offset + vertex, FRONT] != wp.uint8(0) and seen[offset + vertex, BACK] != wp.uint8(0)


@wp.func
def relative_to_centre(p: wp.vec4f, pixel: wp.int32, height: wp.int32, width: wp.int32, horizontal: wp.bool):
    """Position against a pixel's centre in pixels times w, (along, across) the direction to the other pixel, and w."""
    row = pixel / width
    x = (wp.float64(pixel - row * width) + wp.float64(0.5)) * (wp.float64(2.0) / wp.float64(width)) - wp.float64(1.0)
    y = wp.float64(1.0) - (wp.float64(row % height) + wp.float64(0.5)) * (wp.float64(2.0) / wp.float64(height))
    w = wp.float64(p[3])
    right = (wp.float64(p[0]) - x * w) * (wp.float64(width) / wp.float64(2.0))
    down = (y * w - wp.float64(p[1])) * (wp.float64(height) / wp.float64(2.0))
    if horizontal:
        return wp.vec3d(right, down, w)
    return wp.vec3d(down, right, w)


@wp.func
def crossing_of(a: wp.vec3d, b: wp.vec3d, direction: wp.float64):
    """Distance in pixels from the near centre at which the edge from a to b crosses the line to the far one."""
    return direction * (b[1] * a[0] - a[1] * b[0]) / (b[1] * a[2] - a[1] * b[2])


@wp.func
def find_crossing(
    first: wp.int32,
    second: wp.int32,
    horizontal: wp.bool,
    clip: wp.array(dtype=wp.vec4f),
    faces: wp.array(dtype=wp.vec3i),
    triangle: wp.array(dtype=wp.int32),
    depth: wp.array(dtype=wp.float32),
    fan: wp.array(dtype=wp.int32),
    seen: wp.array2d(dtype=wp.uint8),
    vertices_per_view: wp.int32,
    height: wp.int32,
    width: wp.int32,
    records: wp.array(dtype=wp.vec4i),
    length: wp.array(dtype=wp.int32),
):
    """Records the pair (near pixel, far pixel, edge) if the edge through which the line between the two centres leaves the
    nearer triangle counts (`antialias_reference.exit_crossing`) and can be a silhouette."""
    near = first
    far = second
    if triangle[second] >= 0 and (triangle[first] < 0 or depth[first] > depth[second]):
        near = second
        far = first
    corner = faces[triangle[near]]
    offset = near / (height * width) * vertices_per_view
    open_a = can_be_silhouette(corner[0], offset, fan, seen)
    open_b = can_be_silhouette(corner[1], offset, fan, seen)
    open_c = can_be_silhouette(corner[2], offset, fan, seen)
    if (open_a and (open_b or open_c)) or (open_b and open_c):
        a = relative_to_centre(clip[offset + corner[0]], near, height, width, horizontal)
        b = relative_to_centre(clip[offset + corner[1]], near, height, width, horizontal)
        c = relative_to_centre(clip[offset + corner[2]], near, height, width, horizontal)
        zero = wp.float64(0.0)
        if a[2] > zero and b[2] > zero and c[2] > zero:
            direction = wp.float64(1.0)
            if far < near:
                direction = wp.float64(-1.0)
            distance = wp.float64(-1.0e300)
            p = a
            q = b
            from_vertex = int(-1)
            to_vertex = int(-1)
            if (b[1] < zero) != (c[1] < zero):
                distance = crossing_of(b, c, direction)
                p = b
                q = c
                if open_b and open_c:
                    from_vertex = corner[1]
                    to_vertex = corner[2]
            if (c[1] < zero) != (a[1] < zero):
                other = crossing_of(c, a, direction)
                if other > distance:
                    distance = other
                    p = c
                    q = a
                    from_vertex = -1
                    if open_c and open_a:
                        from_vertex = corner[2]
                        to_vertex = corner[0]
            if (a[1] < zero) != (b[1] < zero):
                other = crossing_of(a, b, direction)
                if other > distance:
                    distance = other
                    p = a
                    q = b
                    from_vertex = -1
                    if open_a and open_b:
                        from_vertex = corner[0]
                        to_vertex = corner[1]
            if from_vertex >= 0 and distance >= -TOLERANCE and distance <= wp.float64(1.0) + TOLERANCE:
                rise = wp.abs(q[1] * p[2] - p[1] * q[2])
                run = wp.abs(q[0] * p[2] - p[0] * q[2])
                if rise > run or (horizontal and rise == run):
                    index = wp.atomic_add(length, 0, 1)
                    if index < records.shape[0]:
                        records[index] = wp.vec4i(near, far, offset + from_vertex, offset + to_vertex)


@wp.kernel
def find_crossings(
    clip: wp.array(dtype=wp.vec4f),
    faces: wp.array(dtype=wp.vec3i),
    triangle: wp.array(dtype=wp.int32),
    depth: wp.array(dtype=wp.float32),
    fan: wp.array(dtype=wp.int32),
    seen: wp.array2d(dtype=wp.uint8),
    vertices_per_view: wp.int32,
    height: wp.int32,
    width: wp.int32,
    count: wp.int32,
    chunk: wp.int32,
    records: wp.array(dtype=wp.vec4i),
    length: wp.array(dtype=wp.int32),
):
    """Records the crossings between every pixel and its right and lower neighbour; `length` also counts what has no room."""
    begin = wp.tid() * chunk
    for pixel in range(begin, wp.min(begin + chunk, count)):
        here = triangle[pixel]
        row = pixel / width
        if pixel - row * width + 1 < width:
            if triangle[pixel + 1] != here:
                find_crossing(
                    pixel,
                    pixel + 1,
                    True,
                    clip,
                    faces,
                    triangle,
                    depth,
                    fan,
                    seen,
                    vertices_per_view,
                    height,
                    width,
                    records,
                    length,
                )
        if row % height + 1 < height:
            if triangle[pixel + width] != here:
                find_crossing(
                    pixel,
                    pixel + width,
                    False,
                    clip,
                    faces,
                    triangle,
                    depth,
                    fan,
                    seen,
                    vertices_per_view,
                    height,
                    width,
                    records,
                    length,
                )


@wp.kernel
def link_crossings(
    records: wp.array(dtype=wp.vec4i), head: wp.array(dtype=wp.int32), following: wp.array(dtype=wp.int32)
):
    """Chains the records of all edges that start at one (lower) vertex."""
    i = wp.tid()
    record = records[i]
    following[i] = wp.atomic_exch(head, wp.min(record[2], record[3]), i)


@wp.func
def mark_edge(
    p: wp.int32,
    q: wp.int32,
    area: wp.float64,
    head: wp.array(dtype=wp.int32),
    following: wp.array(dtype=wp.int32),
    records: wp.array(dtype=wp.vec4i),
    sides: wp.array2d(dtype=wp.uint8),
):
    """Notes a triangle's side at all records of one of its edges."""
    record = head[wp.min(p, q)]
    if record >= 0 and area != wp.float64(0.0):
        side = LEFT
        if (area > wp.float64(0.0)) != (p < q):
            side = RIGHT
        upper = wp.max(p, q)
        while record >= 0:
            if wp.max(records[record][2], records[record][3]) == upper:
                sides[record, side] = wp.uint8(1)
            record = following[record]


@wp.kernel
def mark_sides(
    clip: wp.array(dtype=wp.vec4f),
    faces: wp.array(dtype=wp.vec3i),
    vertices_per_view: wp.int32,
    count: wp.int32,
    chunk: wp.int32,
    head: wp.array(dtype=wp.int32),
    following: wp.array(dtype=wp.int32),
    records: wp.array(dtype=wp.vec4i),
    sides: wp.array2d(dtype=wp.uint8),
):
    """Notes on which sides of the recorded edges the mesh has triangles."""
    begin = wp.tid() * chunk
    faces_per_view = faces.shape[0]
    for i in range(begin, wp.min(begin + chunk, count)):
        view = i / faces_per_view
        corner = faces[i - view * faces_per_view]
        offset = view * vertices_per_view
        a = offset + corner[0]
        b = offset + corner[1]
        c = offset + corner[2]
        if head[a] >= 0 or head[b] >= 0 or head[c] >= 0:
            area = homogeneous_area(clip[a], clip[b], clip[c])
            mark_edge(a, b, area, head, following, records, sides)
            mark_edge(b, c, area, head, following, records, sides)
            mark_edge(c, a, area, head, following, records, sides)


@wp.func
def share_of(record: wp.vec4i, clip: wp.array(dtype=wp.vec4f), height: wp.int32, width: wp.int32):
    """How much of the near colour reaches into the far pixel (> 0) or of the far colour into the near pixel (< 0)."""
    gap = record[1] - record[0]
    horizontal = gap == 1 or gap == -1
    if width == 1:
        horizontal = False
    a = relative_to_centre(clip[record[2]], record[0], height, width, horizontal)
    b = relative_to_centre(clip[record[3]], record[0], height, width, horizontal)
    direction = wp.float64(1.0)
    if gap < 0:
        direction = wp.float64(-1.0)
    return wp.float32(crossing_of(a, b, direction) - wp.float64(0.5))


@wp.kernel
def blend(
    clip: wp.array(dtype=wp.vec4f),
    records: wp.array(dtype=wp.vec4i),
    sides: wp.array2d(dtype=wp.uint8),
    height: wp.int32,
    width: wp.int32,
    color: wp.array2d(dtype=wp.float32),
    blended: wp.array2d(dtype=wp.float32),
):
    """Adds the shares to the image, which comes as a copy of the colours."""
    i = wp.tid()
    if sides[i, LEFT] == wp.uint8(0) or sides[i, RIGHT] == wp.uint8(0):
        record = records[i]
        near = record[0]
        far = record[1]
        share = share_of(record, clip, height, width)
        target = near
        if share > 0.0:
            target = far
        for k in range(color.shape[1]):
            wp.atomic_add(blended, target, k, share * (color[near, k] - color[far, k]))


@wp.kernel
def blend_gradient(
    clip: wp.array(dtype=wp.vec4f),
    records: wp.array(dtype=wp.vec4i),
    sides: wp.array2d(dtype=wp.uint8),
    height: wp.int32,
    width: wp.int32,
    color: wp.array2d(dtype=wp.float32),
    grad_blended: wp.array2d(dtype=wp.float32),
    grad_color: wp.array2d(dtype=wp.float32),
    grad_clip: wp.array(dtype=wp.vec4f),
):
    """Gradient of `blend`; that of the colours comes as a copy of the image's.

    The crossing is d = N/D with N = b_across a_along - a_across b_along and D = b_across a_w - a_across b_w.
    """
    i = wp.tid()
    if sides[i, LEFT] == wp.uint8(0) or sides[i, RIGHT] == wp.uint8(0):
        record = records[i]
        near = record[0]
        far = record[1]
        share = share_of(record, clip, height, width)
        target = near
        if share > 0.0:
            target = far
        grad_share = float(0.0)
        for k in range(color.shape[1]):
            g = grad_blended[target, k]
            grad_share += g * (color[near, k] - color[far, k])
            if grad_color:
                wp.atomic_add(grad_color, near, k, share * g)
                wp.atomic_add(grad_color, far, k, -share * g)
        if grad_clip and grad_share != 0.0:
            gap = far - near
            horizontal = gap == 1 or gap == -1
            if width == 1:
                horizontal = False
            a = relative_to_centre(clip[record[2]], near, height, width, horizontal)
            b = relative_to_centre(clip[record[3]], near, height, width, horizontal)
            direction = wp.float64(grad_share)
            if gap < 0:
                direction = -direction
            below = b[1] * a[2] - a[1] * b[2]
            distance = (b[1] * a[0] - a[1] * b[0]) / below
            scale = direction / below
            grad_a = wp.vec3d(b[1], distance * b[2] - b[0], -distance * b[1]) * scale
            grad_b = wp.vec3d(-a[1], a[0] - distance * a[2], distance * a[1]) * scale
            wp.atomic_add(grad_clip, record[2], clip_gradient(grad_a, near, height, width, horizontal))
            wp.atomic_add(grad_clip, record[3], clip_gradient(grad_b, near, height, width, horizontal))


@wp.func
def clip_gradient(g: wp.vec3d, pixel: wp.int32, height: wp.int32, width: wp.int32, horizontal: wp.bool):
    """Chain rule of `relative_to_centre`."""
    row = pixel / width
    x = (wp.float64(pixel - row * width) + wp.float64(0.5)) * (wp.float64(2.0) / wp.float64(width)) - wp.float64(1.0)
    y = wp.float64(1.0) - (wp.float64(row % height) + wp.float64(0.5)) * (wp.float64(2.0) / wp.float64(height))
    right = g[0]
    down = g[1]
    if not horizontal:
        right = g[1]
        down = g[0]
    gx = right * (wp.float64(width) / wp.float64(2.0))
    gy = -down * (wp.float64(height) / wp.float64(2.0))
    return wp.vec4f(wp.float32(gx), wp.float32(gy), 0.0, wp.float32(g[2] - x * gx - y * gy))
