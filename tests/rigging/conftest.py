"""Figures to rig: the body in clothes that are known, as one closed surface like those that sculpting makes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from humannorm.body import Body, BodyShape, load_body
from humannorm.distance.signed_distance import SignedDistance
from humannorm.geometry.band import band_at_points
from humannorm.geometry.lattice import Lattice
from humannorm.geometry.marching import marching_tetrahedra
from humannorm.mesh import Mesh, connected_components
from humannorm.rigging import RiggedHuman, rig_human

CLOTH = 0.008  # world units that the surface stands off the body


@pytest.fixture(scope="session")
def model() -> Body:
    """Not the neutral adult that every fit starts from."""
    return load_body(BodyShape(sex=0.9, weight=0.65, height=0.4)).in_working_box()


@pytest.fixture(scope="session")
def dressed(model: Body) -> Mesh:
    """The model in thin clothes and a wide skirt from waist to knees; some 14,000 faces."""
    distance = SignedDistance(model.vertices, model.faces)
    waist = model.joint("spine05")
    knee = (model.joint("lowerleg01.L") + model.joint("lowerleg01.R")) / 2

    def field(points: Tensor) -> Tensor:
        along = ((waist[1] - points[:, 1]) / (waist[1] - knee[1])).clamp(0, 1)
        wide = torch.lerp(torch.tensor(0.13), torch.tensor(0.24), along)
        out = torch.hypot(points[:, 0] - waist[0], (points[:, 2] - waist[2]) * 1.2) - wide
        cut = torch.maximum(points[:, 1] - waist[1], knee[1] - points[:, 1])
        return torch.minimum(distance(points) - CLOTH, torch.maximum(out, cut))

    ring = torch.linspace(0, 2 * torch.pi, 60)
    hem = torch.stack([waist[0] + 0.24 * ring.cos(), knee[1].expand(60), waist[2] + 0.2 * ring.sin()], 1)
    band, sdf = band_at_points(Lattice(128), torch.cat([model.vertices, hem]), field, 1)
    vertices, faces = marching_tetrahedra(band, sdf, band.positions)
    piece = connected_components(faces, len(vertices))[faces[:, 0]]
    used, compact = torch.unique(faces[piece == piece.bincount().argmax()], return_inverse=True)
    return Mesh(vertices[used], compact)


@pytest.fixture(scope="session")
def rigged(dressed: Mesh) -> RiggedHuman:
    return rig_human(dressed)
