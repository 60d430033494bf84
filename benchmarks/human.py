"""The human that is measured on: the neutral adult of `humannorm.body`, its faces split to the requested number."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body import load_body
from humannorm.mesh import Mesh, face_areas, unique_edges


def subdivided(mesh: Mesh) -> Mesh:
    """Four faces for each: every edge gets its midpoint as a vertex."""
    faces, count = mesh.faces, mesh.num_vertices
    edges = unique_edges(faces)  # [E, 2] lower index first
    key = edges[:, 0] * count + edges[:, 1]  # sorted order is not promised, so sort here
    order = key.argsort()
    pairs = torch.stack([faces, faces.roll(-1, 1)], dim=-1)  # [F, 3, 2]
    low, high = pairs.amin(-1), pairs.amax(-1)
    ab, bc, ca = (count + order[torch.searchsorted(key[order], low * count + high)]).unbind(1)
    a, b, c = faces.unbind(1)
    split = torch.stack([a, ab, ca, ab, b, bc, ca, bc, c, ab, bc, ca], dim=1).reshape(-1, 3)
    return Mesh(torch.cat([mesh.vertices, mesh.vertices[edges].mean(1)]), split)


def human(times: int) -> Mesh:
    """The standing adult, 1.8 units tall and centred: 26,756 faces, subdivided ``times`` times."""
    mesh = load_body().to_mesh()
    for _ in range(times):
        mesh = subdivided(mesh)
    return mesh


def query_points(
    mesh: Mesh, count: int, where: Literal["box", "surface"], generator: torch.Generator
) -> Float[Tensor, "N 3"]:
    """Points uniform in the mesh's bounding box, or on its surface moved by a normal deviate of 0.01 units."""
    if where == "box":
        low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
        return low + (high - low) * torch.rand(count, 3, generator=generator)
    areas = face_areas(mesh.vertices, mesh.faces)
    face = torch.multinomial(areas, count, replacement=True, generator=generator)
    weights = torch.rand(count, 3, generator=generator).log().neg()  # exponential, so uniform on the triangle
    weights = weights / weights.sum(1, keepdim=True)
    points = (mesh.vertices[mesh.faces[face]] * weights[:, :, None]).sum(1)
    return points + 0.01 * torch.randn(count, 3, generator=generator)
