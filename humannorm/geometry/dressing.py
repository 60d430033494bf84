"""Start bodies that wear something: closed solids, such as `body.worn` makes, united with the start and kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.geometry.band import SignedField, band_at_points, box_field
from humannorm.geometry.lattice import Lattice
from humannorm.geometry.marching import marching_tetrahedra
from humannorm.geometry.signed_distance import SignedDistance
from humannorm.geometry.start import StartMesh
from humannorm.mesh import Mesh

__all__ = ["dressed", "united"]

RESOLUTION = 256  # lattice cells a side of a united surface: fingers stay apart


def dressed(start: StartMesh, solids: Sequence[Mesh]) -> StartMesh:
    """The start united with closed solids in the working box; the start itself where there are none."""
    if not solids:
        return start
    solids = [solid.to(start.mesh.device) for solid in solids]
    fields = [start.signed_distance, *(SignedDistance(solid.vertices, solid.faces) for solid in solids)]
    mesh = _surface(_least(fields), torch.cat([start.mesh.vertices, *(solid.vertices for solid in solids)]))
    worn = f"{len(solids)} solid{'s' * (len(solids) > 1)} of hair or skirt united with the start"
    return StartMesh(mesh, SignedDistance(mesh.vertices, mesh.faces), (*start.repairs, worn))


def united(solids: Sequence[Mesh]) -> Mesh:
    """One closed surface around closed solids, without what lies inside others."""
    fields = [SignedDistance(solid.vertices, solid.faces) for solid in solids]
    return _surface(_least(fields), torch.cat([solid.vertices for solid in solids]))


def _least(fields: Sequence[SignedField]) -> SignedField:
    """The union: exact outside, and of the right sign inside."""

    def union(points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        return torch.stack([field(points) for field in fields]).amin(0)

    return union


def _surface(field: SignedField, seeds: Float[Tensor, "N 3"]) -> Mesh:
    band, sdf = band_at_points(Lattice(RESOLUTION), seeds, box_field(field))
    return Mesh(*marching_tetrahedra(band, sdf, band.positions))
