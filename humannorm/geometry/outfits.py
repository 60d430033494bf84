"""A body in its outfit as one closed surface that knows what each of its faces is.

Cloth and hair are open surfaces, some of them sheets. Each becomes a solid: the openings of cloth are closed by cones
that point inward, so that legs, arms and neck come out of a hollow and hems are seen; hair is given a thickness that
the lattice can hold. What lies under something else is pushed below it, the solids are united, and of the surface
around them the largest piece is kept: pockets between cloth and skin are nobody's to see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from humannorm.geometry.band import band_at_points, box_field
from humannorm.geometry.lattice import Lattice
from humannorm.geometry.marching import marching_tetrahedra
from humannorm.geometry.sign_regions import topology_of
from humannorm.geometry.signed_distance import SignedDistance
from humannorm.mesh import Mesh, connected_components, face_normals, vertex_normals

__all__ = ["Layer", "closed_cloth", "labelled_union", "tucked"]

RESOLUTION = 448  # lattice cells a side, as `holding.FINGERS`: fingers stay apart
HOLLOW = 0.8  # depth of the hollow in an opening, in its radii
CLOTH = 0.0015  # world units that cloth is moved outward: what lies a hair's breadth below does not show
HAIR = 0.006  # half the thickness of a card of hair, world units: three quarters of a cell of the lattice
BELOW = 0.006  # world units that what is covered lies below its cover
REACH = 0.02  # world units above a cover within which something counts as covered


@dataclass(frozen=True, eq=False)
class Layer:
    """One solid of the union."""

    label: int
    mesh: Mesh
    sheet: bool  # has no inside: takes up what is within `HAIR` of it
    grown: float = 0.0  # world units

    @cached_property
    def distance(self) -> SignedDistance:
        return SignedDistance(self.mesh.vertices, self.mesh.faces, inside_out="flip")

    def __call__(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Signed distance of the solid, negative inside."""
        if self.sheet:
            return (self.distance.closest(points).point - points).norm(dim=1) - HAIR
        return self.distance(points) - self.grown


def closed_cloth(mesh: Mesh) -> tuple[Mesh, Bool[Tensor, " F"]]:
    """Cloth with a cone over each opening, and which faces are cloth. A cone's tip lies inside, `HOLLOW` radii deep."""
    topology = topology_of(mesh.vertices.double().numpy(), mesh.faces.numpy())
    vertices, faces = torch.from_numpy(topology.positions).float(), torch.from_numpy(topology.faces)
    edges = torch.from_numpy(topology.boundary)
    is_cloth = torch.ones(len(faces), dtype=torch.bool)
    if not len(edges):
        return Mesh(vertices, faces), is_cloth
    piece = connected_components(faces, len(vertices))
    loop = connected_components(torch.cat([edges, edges[:, :1]], 1), len(vertices))[edges[:, 0]]
    tips, cones = [], []
    for number, members in enumerate(loop == each for each in loop.unique()):
        rim = vertices[edges[members, 0]]
        centre = rim.mean(0)
        start, end = (vertices[edges[members, k]] - centre for k in range(2))
        axis = torch.nn.functional.normalize(torch.linalg.cross(start, end).sum(0), dim=0)
        inside = vertices[piece == piece[edges[members, 0][0]]].mean(0) - centre
        radius = (rim - centre).norm(dim=1).mean()
        tips.append(centre + axis * torch.sign(axis @ inside) * HOLLOW * radius)
        tip = torch.full((int(members.sum()),), len(vertices) + number)
        cones.append(torch.stack([edges[members, 1], edges[members, 0], tip], 1))
    faces = torch.cat([faces, *cones])
    is_cloth = torch.cat([is_cloth, torch.zeros(len(faces) - len(is_cloth), dtype=torch.bool)])
    return Mesh(torch.cat([vertices, torch.stack(tips)]), faces), is_cloth


def tucked(
    vertices: Float[Tensor, "V 3"], cover: Layer, is_cloth: Bool[Tensor, " F"], reach: float = REACH
) -> Float[Tensor, "V 3"]:
    """The vertices, those that the cover lies over moved to `BELOW` under it. What is higher than `reach` stays."""
    closest = cover.distance.closest(vertices)
    normal = face_normals(cover.mesh.vertices, cover.mesh.faces)[closest.face]
    away = vertices - closest.point
    height = (away * normal).sum(1)
    # Beside a hem the nearest point is on its edge, and the way there is along the cloth.
    over = is_cloth[closest.face] & (height.abs() > 0.7 * away.norm(dim=1)) & (height > -BELOW) & (height < reach)
    return torch.where(over[:, None], closest.point - BELOW * normal, vertices)


def labelled_union(layers: Sequence[Layer], resolution: int = RESOLUTION) -> tuple[Mesh, Int64[Tensor, " F"]]:
    """The largest piece of the surface around all layers, and the label of each face."""

    def field(points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        return torch.stack([layer(points) for layer in layers]).amin(0)

    seeds = torch.cat([layer.mesh.vertices for layer in layers])
    band, sdf = band_at_points(Lattice(resolution), seeds[seeds.abs().amax(1) < 0.99], box_field(field))
    vertices, faces = marching_tetrahedra(band, sdf)
    piece = connected_components(faces, len(vertices))[faces[:, 0]]
    faces = faces[piece == piece.bincount().argmax()]
    used, faces = torch.unique(faces, return_inverse=True)
    mesh = Mesh(vertices[used], faces.reshape(-1, 3))
    centres = mesh.vertices[mesh.faces].mean(1)
    nearest = torch.stack([layer(centres) for layer in layers]).argmin(0)
    return mesh, torch.tensor([layer.label for layer in layers])[nearest]
