"""Warp kernels of area-weighted vertex normals, forward and backward.

`humannorm.mesh.vertex_normals` is the plain torch reference.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from humannorm.rendering.warp_engine import item_blocks, launch
from humannorm.warp_runtime import wp

__all__ = ["vertex_normals"]

wp.set_module_options({"enable_backward": False})

SMALLEST = wp.constant(1.17549435e-38)  # smallest normal float32: shorter sums have no direction


@wp.kernel
def add_face_crosses(
    vertices: wp.array(dtype=wp.vec3f), faces: wp.array(dtype=wp.vec3i), chunk: wp.int32, sums: wp.array(dtype=wp.vec3f)
):
    """Adds (b - a) x (c - a) of every face to the sums of its three corners."""
    begin = wp.tid() * chunk
    for i in range(begin, wp.min(begin + chunk, faces.shape[0])):
        corner = faces[i]
        a = vertices[corner[0]]
        cross = wp.cross(vertices[corner[1]] - a, vertices[corner[2]] - a)
        wp.atomic_add(sums, corner[0], cross)
        wp.atomic_add(sums, corner[1], cross)
        wp.atomic_add(sums, corner[2], cross)


@wp.kernel
def normalise(sums: wp.array(dtype=wp.vec3f), chunk: wp.int32, normals: wp.array(dtype=wp.vec3f)):
    """Unit vectors; a sum without direction stays zero."""
    begin = wp.tid() * chunk
    for i in range(begin, wp.min(begin + chunk, sums.shape[0])):
        normals[i] = sums[i] / wp.max(wp.length(sums[i]), SMALLEST)


@wp.kernel
def normalise_gradient(
    sums: wp.array(dtype=wp.vec3f),
    grad_normals: wp.array(dtype=wp.vec3f),
    chunk: wp.int32,
    grad_sums: wp.array(dtype=wp.vec3f),
):
    """(g - n (n . g)) / |sum|; none for a sum without direction."""
    begin = wp.tid() * chunk
    for i in range(begin, wp.min(begin + chunk, sums.shape[0])):
        length = wp.length(sums[i])
        grad_sums[i] = wp.vec3f()
        if length > SMALLEST:
            normal = sums[i] / length
            grad = grad_normals[i]
            grad_sums[i] = (grad - normal * wp.dot(normal, grad)) / length


@wp.kernel
def add_face_crosses_gradient(
    vertices: wp.array(dtype=wp.vec3f),
    faces: wp.array(dtype=wp.vec3i),
    grad_sums: wp.array(dtype=wp.vec3f),
    chunk: wp.int32,
    grad_vertices: wp.array(dtype=wp.vec3f),
):
    """For the cross product e1 x e2 with incoming gradient g: e2 x g to e1, g x e1 to e2."""
    begin = wp.tid() * chunk
    for i in range(begin, wp.min(begin + chunk, faces.shape[0])):
        corner = faces[i]
        grad = grad_sums[corner[0]] + grad_sums[corner[1]] + grad_sums[corner[2]]
        a = vertices[corner[0]]
        grad_b = wp.cross(vertices[corner[2]] - a, grad)
        grad_c = wp.cross(grad, vertices[corner[1]] - a)
        wp.atomic_add(grad_vertices, corner[0], -grad_b - grad_c)
        wp.atomic_add(grad_vertices, corner[1], grad_b)
        wp.atomic_add(grad_vertices, corner[2], grad_c)


def vertex_normals(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "V 3"]:
    """Area-weighted unit normals in single precision, as `humannorm.mesh.vertex_normals`."""
    return _VertexNormals.apply(vertices, faces.to(torch.int32).contiguous())


class _VertexNormals(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vertices: Tensor, faces: Tensor) -> Tensor:
        vertices = vertices.contiguous()
        sums, normals = torch.zeros_like(vertices), torch.empty_like(vertices)
        device = vertices.device
        threads, chunk = item_blocks(len(faces), device)
        launch(add_face_crosses, threads, vertices, faces, chunk, sums, device=device)
        threads, chunk = item_blocks(len(vertices), device)
        launch(normalise, threads, sums, chunk, normals, device=device)
        ctx.save_for_backward(vertices, faces, sums)
        return normals

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        vertices, faces, sums = ctx.saved_tensors
        grad_sums, grad_vertices = torch.empty_like(sums), torch.zeros_like(vertices)
        device = vertices.device
        threads, chunk = item_blocks(len(vertices), device)
        launch(normalise_gradient, threads, sums, grad.contiguous(), chunk, grad_sums, device=device)
        threads, chunk = item_blocks(len(faces), device)
        launch(add_face_crosses_gradient, threads, vertices, faces, grad_sums, chunk, grad_vertices, device=device)
        return grad_vertices, None
