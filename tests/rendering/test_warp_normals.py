"""The Warp kernels of vertex normals against the torch reference, in values and gradients."""

from __future__ import annotations

import torch
import trimesh
from torch import Tensor

from humannorm.mesh import vertex_normals as reference
from humannorm.rendering.warp_normals import vertex_normals


def bumpy_sphere() -> tuple[Tensor, Tensor]:
    source = trimesh.creation.icosphere(subdivisions=3)
    vertices = torch.tensor(source.vertices, dtype=torch.float32)
    noise = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(0))
    return vertices + 0.02 * noise, torch.tensor(source.faces, dtype=torch.int64)


def test_values_and_gradients_equal_the_reference(device: torch.device) -> None:
    vertices, faces = bumpy_sphere()
    weight = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(1))
    exact = vertices.double().requires_grad_()
    fast = vertices.clone().requires_grad_()
    expected, got = reference(exact, faces), vertex_normals(fast.to(device), faces.to(device)).cpu()
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-6)
    expected_gradient = torch.autograd.grad((expected * weight).sum(), exact)[0]
    gradient = torch.autograd.grad((got * weight).sum(), fast)[0]
    # Each entry sums about 18 terms of size 10: single precision leaves 1e-5 of the largest.
    tolerance = 1e-5 * float(expected_gradient.abs().max())
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=0, atol=tolerance)


def test_vertices_without_direction_are_zero_and_get_no_gradient() -> None:
    """A vertex without faces, one with a face of no area, and two faces that cancel."""
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5], [2, 2, 2]]).requires_grad_()
    faces = torch.tensor([[0, 1, 2], [0, 2, 1], [4, 4, 4]])
    normals = vertex_normals(vertices, faces)
    assert torch.equal(normals, torch.zeros(5, 3))
    assert torch.equal(torch.autograd.grad(normals.sum(), vertices)[0], torch.zeros(5, 3))


def test_tiny_meshes_keep_their_normals() -> None:
    vertices, faces = bumpy_sphere()
    torch.testing.assert_close(
        vertex_normals(vertices * 1e-6, faces), vertex_normals(vertices, faces), rtol=0, atol=1e-5
    )
