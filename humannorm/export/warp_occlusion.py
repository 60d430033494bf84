"""Warp kernel of ambient occlusion: how much of the hemisphere over a point the surface itself hides."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from humannorm.warp_runtime import device_of, wp

__all__ = ["ambient_occlusion"]

wp.set_module_options({"enable_backward": False})


@wp.func
def radical_inverse(i: wp.int32) -> wp.float32:
    """Van der Corput sequence in base 2."""
    bits = wp.uint32(i)
    bits = (bits << wp.uint32(16)) | (bits >> wp.uint32(16))
    bits = ((bits & wp.uint32(0x55555555)) << wp.uint32(1)) | ((bits & wp.uint32(0xAAAAAAAA)) >> wp.uint32(1))
    bits = ((bits & wp.uint32(0x33333333)) << wp.uint32(2)) | ((bits & wp.uint32(0xCCCCCCCC)) >> wp.uint32(2))
    bits = ((bits & wp.uint32(0x0F0F0F0F)) << wp.uint32(4)) | ((bits & wp.uint32(0xF0F0F0F0)) >> wp.uint32(4))
    bits = ((bits & wp.uint32(0x00FF00FF)) << wp.uint32(8)) | ((bits & wp.uint32(0xFF00FF00)) >> wp.uint32(8))
    return wp.float32(bits) * 2.3283064365386963e-10


@wp.kernel
def open_share(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    rays: wp.int32,
    reach: wp.float32,
    offset: wp.float32,
    share: wp.array(dtype=wp.float32),
):
    """Share of cosine-weighted rays (Hammersley points, Malley's method) that meet nothing within reach."""
    i = wp.tid()
    n = normals[i]
    side = wp.vec3(1.0, 0.0, 0.0)
    if wp.abs(n[0]) > 0.7:
        side = wp.vec3(0.0, 1.0, 0.0)
    t = wp.normalize(wp.cross(side, n))
    b = wp.cross(n, t)
    origin = points[i] + offset * n
    free = wp.int32(0)
    for k in range(rays):
        u = (wp.float32(k) + 0.5) / wp.float32(rays)
        turn = 2.0 * wp.pi * radical_inverse(k)
        radius = wp.sqrt(u)
        direction = radius * wp.cos(turn) * t + radius * wp.sin(turn) * b + wp.sqrt(1.0 - u) * n
        if not wp.mesh_query_ray(mesh, origin, direction, reach).result:
            free += 1
    share[i] = wp.float32(free) / wp.float32(rays)


def ambient_occlusion(
    vertices: Float[Tensor, "V 3"],
    faces: Int64[Tensor, "F 3"],
    points: Float[Tensor, "N 3"],
    normals: Float[Tensor, "N 3"],
    rays: int,
    reach: float,
    offset: float,
) -> Float[Tensor, " N"]:
    """1 where nothing hides the sky within `reach`, 0 where all is hidden; rays start `offset` off the surface."""
    place = wp.from_torch(vertices.float().contiguous(), dtype=wp.vec3)
    mesh = wp.Mesh(place, wp.from_torch(faces.int().flatten().contiguous()))
    share = torch.empty(len(points), device=points.device)
    wp.launch(
        open_share,
        dim=len(points),
        inputs=[
            mesh.id,
            wp.from_torch(points.float().contiguous(), dtype=wp.vec3),
            wp.from_torch(normals.float().contiguous(), dtype=wp.vec3),
            rays,
            reach,
            offset,
            wp.from_torch(share),
        ],
        device=device_of(points),
    )
    return share
