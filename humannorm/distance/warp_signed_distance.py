"""Warp kernels of the signed distance: closest points, signs, and which faces meet others; for CPU and CUDA alike."""

from __future__ import annotations

from humannorm.warp_runtime import wp

__all__ = ["Signs", "closest", "mark_crossed_faces", "morton_codes", "signed_distance", "winding_in_front_of_faces"]

wp.set_module_options({"enable_backward": False})

FAR = wp.constant(1.0e15)
"""No surface is farther (world units); its square still fits a float."""
ON_EDGE = wp.constant(1.0e-6)
"""A barycentric weight below this puts the closest point on the opposite edge."""
CLEAR = wp.constant(0.02)
"""Least |cosine| between pseudo-normal and direction to the point for the side to be taken as read."""
HOLE_SHARE = wp.constant(0.45)
"""Largest possible share of all cones at which an integer winding number still decides on 1/2."""
APART = wp.constant(1.0e-4)
"""Sine of the least angle by which two faces at a common vertex must part to count as not meeting."""
FOLDED = wp.constant(-0.999)
"""Two faces at a common edge whose normals have a smaller cosine lie on each other."""
UNKNOWN = wp.constant(-1000)
"""Stands for a winding number that the normals cannot tell."""


@wp.struct
class Signs:
    """What `sign_regions` found, as arrays: F faces, V welded vertices, R regions, H holes."""

    faces: wp.array(dtype=wp.int32)  # [3F] welded vertices
    twin: wp.array(dtype=wp.int32)  # [3F]
    region: wp.array(dtype=wp.int32)  # [F]
    normal: wp.array(dtype=wp.vec3)  # [F] unit
    vertex_region: wp.array(dtype=wp.int32)  # [V]
    vertex_normal: wp.array(dtype=wp.vec3)  # [V] unit
    winding_in_front: wp.array(dtype=wp.int32)  # [R]
    hole_centre: wp.array(dtype=wp.vec3)  # [H]
    hole_radius: wp.array(dtype=wp.float32)  # [H]
    hole_area: wp.array(dtype=wp.float32)  # [H]
    accuracy: wp.float32  # of the winding-number tree (distance over radius at which a node is taken whole)
    slack: wp.float32  # world units: rounding of a distance


@wp.func
def spread_bits(x: wp.uint32) -> wp.uint32:
    """Put two zero bits between the ten low bits of x."""
    x = (x | (x << wp.uint32(16))) & wp.uint32(0x030000FF)
    x = (x | (x << wp.uint32(8))) & wp.uint32(0x0300F00F)
    x = (x | (x << wp.uint32(4))) & wp.uint32(0x030C30C3)
    return (x | (x << wp.uint32(2))) & wp.uint32(0x09249249)


@wp.kernel
def morton_codes(
    points: wp.array(dtype=wp.vec3),
    low: wp.vec3,
    scale: wp.float32,
    codes: wp.array(dtype=wp.int32),
    order: wp.array(dtype=wp.int32),
):
    """Z-order key of each point on a grid of 1024^3 cells from ``low`` (Morton 1966), to sort neighbours together."""
    i = wp.tid()
    cell = (points[i] - low) * scale
    x = wp.uint32(wp.clamp(cell[0], 0.0, 1023.0))
    y = wp.uint32(wp.clamp(cell[1], 0.0, 1023.0))
    z = wp.uint32(wp.clamp(cell[2], 0.0, 1023.0))
    codes[i] = wp.int32(spread_bits(x) | (spread_bits(y) << wp.uint32(1)) | (spread_bits(z) << wp.uint32(2)))
    order[i] = i


@wp.func
def weights_of_closest_point(a: wp.vec3d, b: wp.vec3d, c: wp.vec3d, p: wp.vec3d) -> wp.vec3d:
    """Barycentric coordinates of the point of triangle abc closest to p (Ericson 2004, section 5.1.5), in float64.

    Warp's own query, in float32, finds the face but places the point on a narrow triangle to five digits only.
    """
    zero = wp.float64(0.0)
    one = wp.float64(1.0)
    ab = b - a
    ac = c - a
    d1 = wp.dot(ab, p - a)
    d2 = wp.dot(ac, p - a)
    d3 = wp.dot(ab, p - b)
    d4 = wp.dot(ac, p - b)
    d5 = wp.dot(ab, p - c)
    d6 = wp.dot(ac, p - c)
    if d1 <= zero and d2 <= zero:
        return wp.vec3d(one, zero, zero)
    if d3 >= zero and d4 <= d3:
        return wp.vec3d(zero, one, zero)
    if d6 >= zero and d5 <= d6:
        return wp.vec3d(zero, zero, one)
    weight_c = d1 * d4 - d3 * d2
    weight_b = d5 * d2 - d1 * d6
    weight_a = d3 * d6 - d5 * d4
    if weight_c <= zero and d1 >= zero and d3 <= zero:
        along = d1 / (d1 - d3)
        return wp.vec3d(one - along, along, zero)
    if weight_b <= zero and d2 >= zero and d6 <= zero:
        along = d2 / (d2 - d6)
        return wp.vec3d(one - along, zero, along)
    if weight_a <= zero and d4 >= d3 and d5 >= d6:
        along = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        return wp.vec3d(zero, one - along, along)
    return wp.vec3d(weight_a, weight_b, weight_c) / (weight_a + weight_b + weight_c)


@wp.struct
class Foot:
    """The point of a face that is closest to a query point."""

    away: wp.vec3  # relative to the query point, so that a short distance keeps its digits
    weights: wp.vec3  # barycentric


@wp.func
def foot_on_face(mesh: wp.uint64, face: wp.int32, p: wp.vec3) -> Foot:
    """The point of a face closest to p."""
    origin = wp.vec3d(p)
    a = wp.vec3d(wp.mesh_eval_position(mesh, face, 1.0, 0.0)) - origin
    b = wp.vec3d(wp.mesh_eval_position(mesh, face, 0.0, 1.0)) - origin
    c = wp.vec3d(wp.mesh_eval_position(mesh, face, 0.0, 0.0)) - origin
    weights = weights_of_closest_point(a, b, c, wp.vec3d())
    foot = Foot()
    foot.away = wp.vec3(weights[0] * a + weights[1] * b + weights[2] * c)
    foot.weights = wp.vec3(weights)
    return foot


@wp.kernel
def closest(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    order: wp.array(dtype=wp.int32),
    begin: wp.int32,
    point: wp.array(dtype=wp.vec3),
    face: wp.array(dtype=wp.int64),
    barycentric: wp.array(dtype=wp.vec3),
):
    """Closest point of the surface to each point."""
    i = order[begin + wp.tid()]
    query = wp.mesh_query_point_no_sign(mesh, points[i], FAR)
    foot = foot_on_face(mesh, query.face, points[i])
    point[i] = points[i] + foot.away
    face[i] = wp.int64(query.face)
    barycentric[i] = foot.weights


@wp.func
def winding_at_clear_point(signs: Signs, face: wp.int32, weights: wp.vec3, toward: wp.vec3, p: wp.vec3) -> wp.int32:
    """Winding number of the closed mesh at p, ``toward`` from its closest point; UNKNOWN where it cannot be found."""
    region = signs.region[face]
    if region < 0:
        return UNKNOWN

    # Pseudo-normal of the feature that holds the foot: face, edge or vertex.
    normal = signs.normal[face]
    zeros = wp.int32(0)
    edge = wp.int32(0)
    corner = wp.int32(0)
    for k in range(3):
        if weights[k] < ON_EDGE:
            zeros += 1
            edge = (k + 1) % 3
        else:
            corner = k
    if zeros == 1:
        twin = signs.twin[3 * face + edge]
        if twin < 0:
            return UNKNOWN
        if signs.region[twin // 3] != region:
            return UNKNOWN
        normal = wp.normalize(normal + signs.normal[twin // 3])
    if zeros == 2:
        vertex = signs.faces[3 * face + corner]
        if signs.vertex_region[vertex] != region:
            return UNKNOWN
        normal = signs.vertex_normal[vertex]

    distance = wp.length(toward)
    height = wp.dot(normal, toward)
    if wp.abs(height) < CLEAR * distance or distance < signs.slack:
        return UNKNOWN

    # The way from the foot to p must cross no cone, and the cones' shares at p must stay small.
    share = wp.float32(0.0)
    for h in range(signs.hole_centre.shape[0]):
        centre = signs.hole_centre[h]
        radius = signs.hole_radius[h]
        back = wp.clamp(wp.dot(p - centre, toward) / (distance * distance), 0.0, 1.0)
        if wp.length(p - back * toward - centre) <= radius:
            return UNKNOWN
        gap = wp.length(p - centre) - radius
        share += signs.hole_area[h] / (4.0 * wp.pi * gap * gap)
    if not (share < HOLE_SHARE):
        return UNKNOWN

    if height > 0.0:
        return signs.winding_in_front[region]
    return signs.winding_in_front[region] + 1


@wp.kernel
def signed_distance(
    mesh: wp.uint64,
    signs: Signs,
    points: wp.array(dtype=wp.vec3),
    order: wp.array(dtype=wp.int32),
    begin: wp.int32,
    distance: wp.array(dtype=wp.float32),
):
    """Distance of each point to the surface, negative where the winding number exceeds 1/2."""
    i = order[begin + wp.tid()]
    p = points[i]
    query = wp.mesh_query_point_no_sign(mesh, p, FAR)
    foot = foot_on_face(mesh, query.face, p)
    away = wp.length(foot.away)
    sign = wp.float32(1.0)
    winding = winding_at_clear_point(signs, query.face, foot.weights, -foot.away, p)
    if winding != UNKNOWN:
        if winding >= 1:
            sign = wp.float32(-1.0)
    else:
        reach = away * 1.001 + signs.slack
        sign = wp.mesh_query_point_sign_winding_number(mesh, p, reach, signs.accuracy, 0.5).sign
    distance[i] = sign * away


@wp.kernel
def winding_in_front_of_faces(
    corners: wp.array(dtype=wp.vec3d), seeds: wp.array(dtype=wp.int32), winding: wp.array(dtype=wp.float64)
):
    """Winding number just in front of each seed face of a closed mesh, in float64, by summing all solid angles.

    At the centroid every face but the seed itself is seen from a distance; the seed's own share jumps by one across it,
    from -1/2 in front to +1/2 behind. Solid angle of a face: van Oosterom and Strackee 1983, eq. 8.
    """
    s = wp.tid()
    seed = seeds[s]
    p = (corners[3 * seed] + corners[3 * seed + 1] + corners[3 * seed + 2]) / wp.float64(3.0)
    total = wp.float64(0.0)
    for f in range(corners.shape[0] // 3):
        if f != seed:
            a = corners[3 * f] - p
            b = corners[3 * f + 1] - p
            c = corners[3 * f + 2] - p
            length_a = wp.length(a)
            length_b = wp.length(b)
            length_c = wp.length(c)
            denominator = length_a * length_b * length_c + wp.dot(a, b) * length_c
            denominator += wp.dot(b, c) * length_a + wp.dot(c, a) * length_b
            total += wp.atan2(wp.dot(a, wp.cross(b, c)), denominator)
    winding[s] = total / wp.float64(2.0 * wp.pi) - wp.float64(0.5)


@wp.func
def parted(axis: wp.vec3, a: wp.mat33, b: wp.mat33, gap: wp.float32) -> wp.bool:
    """Whether the shadows of two triangles (rows are corners) on an axis lie farther apart than ``gap``."""
    x = a * axis
    y = b * axis
    between = wp.max(wp.min(x) - wp.max(y), wp.min(y) - wp.max(x))
    return between > gap * wp.length(axis)


@wp.func
def triangles_part(a: wp.mat33, b: wp.mat33, gap: wp.float32) -> wp.bool:
    """Whether some axis parts two triangles (separating axis theorem; in-plane axes serve the coplanar case)."""
    normal_a = wp.cross(a[1] - a[0], a[2] - a[0])
    normal_b = wp.cross(b[1] - b[0], b[2] - b[0])
    if parted(normal_a, a, b, gap) or parted(normal_b, a, b, gap):
        return True
    for i in range(3):
        edge_a = a[(i + 1) % 3] - a[i]
        edge_b = b[(i + 1) % 3] - b[i]
        if parted(wp.cross(normal_a, edge_a), a, b, gap) or parted(wp.cross(normal_b, edge_b), a, b, gap):
            return True
        for j in range(3):
            if parted(wp.cross(edge_a, b[(j + 1) % 3] - b[j]), a, b, gap):
                return True
    return False


@wp.func
def same_side(axis: wp.vec3, x: wp.vec3, y: wp.vec3) -> wp.bool:
    """Whether x and y lie clearly on one side of the plane normal to the axis."""
    margin = APART * wp.length(axis)
    return wp.min(wp.dot(axis, x), wp.dot(axis, y)) > margin or wp.max(wp.dot(axis, x), wp.dot(axis, y)) < -margin


@wp.func
def opposite_sides(axis: wp.vec3, x: wp.vec3, y: wp.vec3, z: wp.vec3) -> wp.bool:
    """Whether x lies clearly on one side of the plane normal to the axis, y and z clearly on the other."""
    margin = APART * wp.length(axis)
    side = wp.dot(axis, x)
    if wp.abs(side) <= margin:
        return False
    side = wp.sign(side)
    return side * wp.dot(axis, y) < -margin and side * wp.dot(axis, z) < -margin


@wp.func
def wedges_part(a: wp.vec3, b: wp.vec3, c: wp.vec3, d: wp.vec3) -> wp.bool:
    """Whether the flat wedges between unit rays a, b and between c, d meet in nothing but their common apex."""
    between = (a + b) - (c + d)
    least = wp.min(wp.dot(between, a), wp.dot(between, b))
    most = wp.max(wp.dot(between, c), wp.dot(between, d))
    if least > APART and most < -APART:
        return True
    normal_1 = wp.cross(a, b)
    normal_2 = wp.cross(c, d)
    if same_side(normal_1, c, d) or same_side(normal_2, a, b):
        return True
    if opposite_sides(wp.cross(normal_1, a), b, c, d) or opposite_sides(wp.cross(normal_1, b), a, c, d):
        return True
    if opposite_sides(wp.cross(normal_2, c), d, a, b) or opposite_sides(wp.cross(normal_2, d), c, a, b):
        return True
    if opposite_sides(wp.cross(a, c), b, d, d) or opposite_sides(wp.cross(a, d), b, c, c):
        return True
    return opposite_sides(wp.cross(b, c), a, d, d) or opposite_sides(wp.cross(b, d), a, c, c)


@wp.func
def collapsed(welded: wp.array(dtype=wp.int32), f: wp.int32) -> wp.bool:
    """Whether a face has two corners at one vertex: it is no part of the surface then."""
    a = welded[3 * f]
    b = welded[3 * f + 1]
    c = welded[3 * f + 2]
    return a == b or b == c or c == a


@wp.kernel
def mark_crossed_faces(
    mesh: wp.uint64,
    vertices: wp.array(dtype=wp.vec3),
    indices: wp.array(dtype=wp.int32),
    welded: wp.array(dtype=wp.int32),
    begin: wp.int32,
    gap: wp.float32,
    crossed: wp.array(dtype=wp.int32),
):
    """Mark both faces of every pair that may meet elsewhere than in the vertices or the edge they share."""
    f = begin + wp.tid()
    a = wp.matrix_from_rows(vertices[indices[3 * f]], vertices[indices[3 * f + 1]], vertices[indices[3 * f + 2]])
    margin = wp.vec3(gap, gap, gap)
    low = wp.min(wp.min(a[0], a[1]), a[2]) - margin
    high = wp.max(wp.max(a[0], a[1]), a[2]) + margin
    query = wp.mesh_query_aabb(mesh, low, high)
    g = wp.int32(0)
    while wp.mesh_query_aabb_next(query, g):
        if g > f and not collapsed(welded, f) and not collapsed(welded, g):
            b = wp.matrix_from_rows(
                vertices[indices[3 * g]], vertices[indices[3 * g + 1]], vertices[indices[3 * g + 2]]
            )
            shared = wp.int32(0)
            at_a = wp.int32(0)
            at_b = wp.int32(0)
            for i in range(3):
                for j in range(3):
                    if welded[3 * f + i] == welded[3 * g + j]:
                        shared += 1
                        at_a = i
                        at_b = j
            part = wp.bool(False)
            if shared == 0:
                part = triangles_part(a, b, gap)
            elif shared == 1:
                part = wedges_part(
                    wp.normalize(a[(at_a + 1) % 3] - a[at_a]),
                    wp.normalize(a[(at_a + 2) % 3] - a[at_a]),
                    wp.normalize(b[(at_b + 1) % 3] - b[at_b]),
                    wp.normalize(b[(at_b + 2) % 3] - b[at_b]),
                )
            elif shared == 2:
                normal_a = wp.normalize(wp.cross(a[1] - a[0], a[2] - a[0]))
                normal_b = wp.normalize(wp.cross(b[1] - b[0], b[2] - b[0]))
                part = wp.dot(normal_a, normal_b) > FOLDED
            if not part:
                crossed[f] = 1
                crossed[g] = 1
