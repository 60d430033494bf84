"""Forward kernels that draw a dressed person: z-buffer with alpha test per fragment, then shading of each pixel.

A specialised engine beside `humannorm.rendering`: hair, brows and lashes are textured cards whose transparent texels
must not hide what is behind them, layers of cloth need a depth bias, and thousands of pictures are drawn without ever
a gradient. Conventions are those of `humannorm.rendering`: row 0 on top, pixel centres at half-integers, no back-face
culling, depth ties go to the lowest triangle. Geometry must lie in front of the near plane.
"""

from __future__ import annotations

from typing import Any

from humannorm.warp_runtime import wp

__all__ = [
    "AMBIENT",
    "DIFFUSE",
    "EMPTY",
    "LIGHT",
    "Materials",
    "Surface",
    "add_face_normals",
    "draw",
    "launch",
    "normalize_all",
    "project",
    "shade",
    "texel",
]

wp.set_module_options({"enable_backward": False})

DEPTH_STEPS = wp.constant(16777216.0)  # depth steps per world unit in the z-buffer's keys
EMPTY = wp.constant(wp.uint64(0xFFFFFFFFFFFFFFFF))
DEPTH_PLANE = wp.constant(0.2)  # the published depth is 1 / (z_view - 2 near), near 0.1

# Soft light from above the camera, in camera axes (x right, y up, z to the viewer), so that colours stay nameable.
LIGHT = wp.constant(wp.vec3(0.2425, 0.4851, 0.8402))
AMBIENT = wp.constant(0.76)
DIFFUSE = wp.constant(0.28)


@wp.struct
class Surface:
    """A triangle mesh with materials. Positions and UVs have their own index per corner."""

    positions: wp.array(dtype=wp.vec3)
    normals: wp.array(dtype=wp.vec3)
    colors: wp.array(dtype=wp.vec3)  # per vertex, read where a material needs it
    faces: wp.array(dtype=wp.vec3i)
    uvs: wp.array(dtype=wp.vec2)
    uv_faces: wp.array(dtype=wp.vec3i)
    face_material: wp.array(dtype=wp.int32)


@wp.struct
class Materials:
    """Per material: textures (-1: none), tint, alpha threshold, depth bias, label; and the texels of all textures."""

    color_texture: wp.array(dtype=wp.int32)
    normal_texture: wp.array(dtype=wp.int32)
    tint: wp.array(dtype=wp.vec3)
    uses_vertex_colors: wp.array(dtype=wp.int32)
    alpha_threshold: wp.array(dtype=wp.float32)
    depth_bias: wp.array(dtype=wp.float32)
    label: wp.array(dtype=wp.int32)
    texels: wp.array2d(dtype=wp.uint8)  # [N, 4] RGBA
    levels: wp.array2d(dtype=wp.vec3i)  # [texture, mip level]: first texel, width, height


@wp.kernel
def add_face_normals(
    positions: wp.array(dtype=wp.vec3), faces: wp.array(dtype=wp.vec3i), normals: wp.array(dtype=wp.vec3)
):
    """Sum area-weighted face normals at the vertices."""
    face = faces[wp.tid()]
    a = positions[face[0]]
    cross = wp.cross(positions[face[1]] - a, positions[face[2]] - a)
    wp.atomic_add(normals, face[0], cross)
    wp.atomic_add(normals, face[1], cross)
    wp.atomic_add(normals, face[2], cross)


@wp.kernel
def normalize_all(vectors: wp.array(dtype=wp.vec3)):
    """Scale each vector to length one."""
    i = wp.tid()
    vectors[i] = wp.normalize(vectors[i])


@wp.kernel
def project(
    positions: wp.array(dtype=wp.vec3),
    clip_from_world: wp.array(dtype=wp.mat44),
    width: wp.float32,
    height: wp.float32,
    screen: wp.array2d(dtype=wp.vec3),
):
    """Pixel coordinates (x right, y down) and 1 / view depth of each vertex for each camera."""
    camera, vertex = wp.tid()
    p = positions[vertex]
    clip = clip_from_world[camera] * wp.vec4(p[0], p[1], p[2], 1.0)
    inverse = 1.0 / clip[3]
    x = (0.5 + 0.5 * clip[0] * inverse) * width
    y = (0.5 - 0.5 * clip[1] * inverse) * height
    screen[camera, vertex] = wp.vec3(x, y, inverse)


@wp.func
def doubled_area(a: wp.vec3, b: wp.vec3, c: wp.vec3):
    """Twice the signed area of a screen triangle; y points down, so a front (counter-clockwise) face is negative."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


@wp.func
def screen_weights(a: wp.vec3, b: wp.vec3, c: wp.vec3, x: wp.float32, y: wp.float32):
    """Barycentric weights of a pixel in the screen triangle (not yet perspective-correct)."""
    p = wp.vec3(x, y, 0.0)
    scale = 1.0 / doubled_area(a, b, c)
    wa = doubled_area(p, b, c) * scale
    wb = doubled_area(a, p, c) * scale
    return wp.vec3(wa, wb, 1.0 - wa - wb)


@wp.func
def mix_uv(surface: Surface, triangle: wp.int32, weights: wp.vec3):
    corner = surface.uv_faces[triangle]
    return (
        surface.uvs[corner[0]] * weights[0] + surface.uvs[corner[1]] * weights[1] + surface.uvs[corner[2]] * weights[2]
    )


@wp.func
def mip_level(surface: Surface, materials: Materials, triangle: wp.int32, texture: wp.int32, pixels: wp.float32):
    """The level whose texels come nearest to the pixels in size, from the triangle's area in both."""
    corner = surface.uv_faces[triangle]
    a = surface.uvs[corner[0]]
    b = surface.uvs[corner[1]] - a
    c = surface.uvs[corner[2]] - a
    size = materials.levels[texture, 0]
    texels = wp.abs(b[0] * c[1] - b[1] * c[0]) * wp.float32(size[1]) * wp.float32(size[2])
    level = wp.int32(wp.round(0.5 * wp.log2(wp.max(texels, 1.0e-6) / wp.max(wp.abs(pixels), 1.0e-6))))
    return wp.clamp(level, 0, materials.levels.shape[1] - 1)


@wp.func
def texel(materials: Materials, level: wp.vec3i, x: wp.int32, y: wp.int32):
    i = level[0] + wp.clamp(y, 0, level[2] - 1) * level[1] + wp.clamp(x, 0, level[1] - 1)
    return wp.vec4(
        wp.float32(materials.texels[i, 0]),
        wp.float32(materials.texels[i, 1]),
        wp.float32(materials.texels[i, 2]),
        wp.float32(materials.texels[i, 3]),
    )


@wp.func
def sample(materials: Materials, texture: wp.int32, mip: wp.int32, uv: wp.vec2):
    """Bilinear RGBA in [0, 1], clamped to the edge; v = 0 is the top row."""
    level = materials.levels[texture, mip]
    x = uv[0] * wp.float32(level[1]) - 0.5
    y = uv[1] * wp.float32(level[2]) - 0.5
    x0 = wp.int32(wp.floor(x))
    y0 = wp.int32(wp.floor(y))
    fx = x - wp.float32(x0)
    fy = y - wp.float32(y0)
    top = texel(materials, level, x0, y0) * (1.0 - fx) + texel(materials, level, x0 + 1, y0) * fx
    bottom = texel(materials, level, x0, y0 + 1) * (1.0 - fx) + texel(materials, level, x0 + 1, y0 + 1) * fx
    return (top * (1.0 - fy) + bottom * fy) / 255.0


@wp.kernel
def draw(
    surface: Surface,
    materials: Materials,
    screen: wp.array2d(dtype=wp.vec3),
    keys: wp.array3d(dtype=wp.uint64),
):
    """Write each triangle's opaque fragments into the z-buffer; a key is (biased view depth, triangle)."""
    camera, triangle = wp.tid()
    face = surface.faces[triangle]
    a = screen[camera, face[0]]
    b = screen[camera, face[1]]
    c = screen[camera, face[2]]
    if a[2] <= 0.0 or b[2] <= 0.0 or c[2] <= 0.0:
        return
    left = wp.max(wp.int32(wp.ceil(wp.min(a[0], wp.min(b[0], c[0])) - 0.5)), 0)
    right = wp.min(wp.int32(wp.floor(wp.max(a[0], wp.max(b[0], c[0])) - 0.5)), keys.shape[2] - 1)
    top = wp.max(wp.int32(wp.ceil(wp.min(a[1], wp.min(b[1], c[1])) - 0.5)), 0)
    bottom = wp.min(wp.int32(wp.floor(wp.max(a[1], wp.max(b[1], c[1])) - 0.5)), keys.shape[1] - 1)
    area = doubled_area(a, b, c)
    if left > right or top > bottom or wp.abs(area) < 1.0e-9:
        return
    material = surface.face_material[triangle]
    threshold = materials.alpha_threshold[material]
    bias = materials.depth_bias[material]
    texture = materials.color_texture[material]
    mip = wp.int32(0)
    if threshold > 0.0:
        mip = mip_level(surface, materials, triangle, texture, area)
    for row in range(top, bottom + 1):
        for column in range(left, right + 1):
            flat = screen_weights(a, b, c, wp.float32(column) + 0.5, wp.float32(row) + 0.5)
            if flat[0] >= 0.0 and flat[1] >= 0.0 and flat[2] >= 0.0:
                inverse = flat[0] * a[2] + flat[1] * b[2] + flat[2] * c[2]
                depth = 1.0 / inverse
                opaque = wp.bool(True)
                if threshold > 0.0:
                    weights = wp.vec3(flat[0] * a[2], flat[1] * b[2], flat[2] * c[2]) * depth
                    rgba = sample(materials, texture, mip, mix_uv(surface, triangle, weights))
                    opaque = rgba[3] >= threshold
                if opaque:
                    steps = wp.uint64((depth - bias) * DEPTH_STEPS)
                    key = (steps << wp.uint64(32)) | wp.uint64(triangle)
                    wp.atomic_min(keys, camera, row, column, key)


@wp.func
def bent_normal(surface: Surface, triangle: wp.int32, normal: wp.vec3, bump: wp.vec3):
    """The vertex normal turned by a tangent-space normal map (x along +u, y along -v, that is up in the texture)."""
    face = surface.faces[triangle]
    corner = surface.uv_faces[triangle]
    edge1 = surface.positions[face[1]] - surface.positions[face[0]]
    edge2 = surface.positions[face[2]] - surface.positions[face[0]]
    uv1 = surface.uvs[corner[1]] - surface.uvs[corner[0]]
    uv2 = surface.uvs[corner[2]] - surface.uvs[corner[0]]
    orientation = wp.sign(uv1[0] * uv2[1] - uv2[0] * uv1[1])
    along_u = (edge1 * uv2[1] - edge2 * uv1[1]) * orientation
    along_v = (edge2 * uv1[0] - edge1 * uv2[0]) * orientation
    tangent = wp.normalize(along_u - normal * wp.dot(normal, along_u))
    upward = -wp.normalize(along_v - normal * wp.dot(normal, along_v))
    return wp.normalize(tangent * bump[0] + upward * bump[1] + normal * bump[2])


@wp.kernel
def shade(
    surface: Surface,
    materials: Materials,
    world_to_camera: wp.array(dtype=wp.mat44),
    screen: wp.array2d(dtype=wp.vec3),
    keys: wp.array3d(dtype=wp.uint64),
    samples: wp.int32,
    bump_strength: wp.float32,
    color: wp.array3d(dtype=wp.vec3),
    normal: wp.array3d(dtype=wp.vec3),
    coverage: wp.array3d(dtype=wp.float32),
    inverse_depth: wp.array3d(dtype=wp.float32),
    nearest: wp.array(dtype=wp.float32),
    farthest: wp.array(dtype=wp.float32),
):
    """Average samples x samples fragments of a pixel: colour over white, encoded normal over black, coverage.

    `inverse_depth` is the sum of 1 / (z - 0.2) over the covered samples' share; `nearest` and `farthest` are that
    value's extremes in each image.
    """
    camera, row, column = wp.tid()
    color_sum = wp.vec3(0.0, 0.0, 0.0)
    normal_sum = wp.vec3(0.0, 0.0, 0.0)
    depth_sum = wp.float32(0.0)
    covered = wp.float32(0.0)
    for sub in range(samples * samples):
        y = row * samples + sub // samples
        x = column * samples + sub % samples
        key = keys[camera, y, x]
        if key == EMPTY:
            color_sum += wp.vec3(1.0, 1.0, 1.0)
        else:
            triangle = wp.int32(key & wp.uint64(0xFFFFFFFF))
            face = surface.faces[triangle]
            a = screen[camera, face[0]]
            b = screen[camera, face[1]]
            c = screen[camera, face[2]]
            flat = screen_weights(a, b, c, wp.float32(x) + 0.5, wp.float32(y) + 0.5)
            depth = 1.0 / (flat[0] * a[2] + flat[1] * b[2] + flat[2] * c[2])
            weights = wp.vec3(flat[0] * a[2], flat[1] * b[2], flat[2] * c[2]) * depth
            material = surface.face_material[triangle]
            area = doubled_area(a, b, c)
            uv = mix_uv(surface, triangle, weights)
            n = wp.normalize(
                surface.normals[face[0]] * weights[0]
                + surface.normals[face[1]] * weights[1]
                + surface.normals[face[2]] * weights[2]
            )
            if materials.normal_texture[material] >= 0:
                texture = materials.normal_texture[material]
                rgba = sample(materials, texture, mip_level(surface, materials, triangle, texture, area), uv)
                bump = wp.vec3(
                    (rgba[0] * 2.0 - 1.0) * bump_strength, (rgba[1] * 2.0 - 1.0) * bump_strength, rgba[2] * 2.0 - 1.0
                )
                n = bent_normal(surface, triangle, n, bump)
            if area > 0.0:  # seen from behind: show the side that faces the viewer
                n = -n
            to_camera = world_to_camera[camera]
            n = wp.normalize(
                wp.vec3(
                    to_camera[0, 0] * n[0] + to_camera[0, 1] * n[1] + to_camera[0, 2] * n[2],
                    to_camera[1, 0] * n[0] + to_camera[1, 1] * n[1] + to_camera[1, 2] * n[2],
                    to_camera[2, 0] * n[0] + to_camera[2, 1] * n[1] + to_camera[2, 2] * n[2],
                )
            )
            albedo = materials.tint[material]
            if materials.uses_vertex_colors[material] != 0:
                albedo = wp.cw_mul(
                    albedo,
                    surface.colors[face[0]] * weights[0]
                    + surface.colors[face[1]] * weights[1]
                    + surface.colors[face[2]] * weights[2],
                )
            texture = materials.color_texture[material]
            if texture >= 0:
                rgba = sample(materials, texture, mip_level(surface, materials, triangle, texture, area), uv)
                if materials.alpha_threshold[material] == 0.0:  # opaque: alpha is the share of the tint
                    albedo = albedo * rgba[3] + wp.vec3(1.0, 1.0, 1.0) * (1.0 - rgba[3])
                albedo = wp.cw_mul(albedo, wp.vec3(rgba[0], rgba[1], rgba[2]))
            light = AMBIENT + DIFFUSE * wp.max(wp.dot(n, LIGHT), 0.0)
            color_sum += wp.vec3(
                wp.min(albedo[0] * light, 1.0), wp.min(albedo[1] * light, 1.0), wp.min(albedo[2] * light, 1.0)
            )
            normal_sum += (n + wp.vec3(1.0, 1.0, 1.0)) * 0.5
            value = 1.0 / (depth - DEPTH_PLANE)
            depth_sum += value
            covered += 1.0
            wp.atomic_max(nearest, camera, value)
            wp.atomic_min(farthest, camera, value)
    share = 1.0 / wp.float32(samples * samples)
    color[camera, row, column] = color_sum * share
    normal[camera, row, column] = normal_sum * share
    coverage[camera, row, column] = covered * share
    inverse_depth[camera, row, column] = depth_sum * share


@wp.kernel
def label(
    surface: Surface,
    materials: Materials,
    keys: wp.array3d(dtype=wp.uint64),
    samples: wp.int32,
    labels: wp.array3d(dtype=wp.int32),
):
    """The label of the nearest sample's layer where half of a pixel's samples or more are covered, else 0."""
    camera, row, column = wp.tid()
    nearest = EMPTY
    covered = wp.int32(0)
    for sub in range(samples * samples):
        key = keys[camera, row * samples + sub // samples, column * samples + sub % samples]
        if key != EMPTY:
            covered += 1
            nearest = wp.min(nearest, key)
    if 2 * covered >= samples * samples:
        triangle = wp.int32(nearest & wp.uint64(0xFFFFFFFF))
        labels[camera, row, column] = materials.label[surface.face_material[triangle]]


def launch(kernel: Any, dim: Any, inputs: list[Any], device: Any) -> None:
    """Start a kernel on the device of its data."""
    wp.launch(kernel, dim=dim, inputs=inputs, device=device)
