"""Start bodies that wear something: closed solids, such as `body.worn` makes, united with the start and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body import Body
from humannorm.distance.signed_distance import SignedDistance
from humannorm.geometry.band import SignedField, band_at_points, box_field
from humannorm.geometry.holding import Hold, hold_parts
from humannorm.geometry.lattice import Lattice
from humannorm.geometry.marching import marching_tetrahedra
from humannorm.geometry.start import StartMesh
from humannorm.mesh import Mesh

__all__ = ["dressed", "kept_of_start", "united"]

RESOLUTION = 256  # lattice cells a side of a united surface: fingers stay apart


def dressed(start: StartMesh, solids: Sequence[Mesh]) -> StartMesh:
    """The start united with closed solids in the working box; the start itself where there are none."""
    if not solids:
        return start
    solids = [solid.to(start.mesh.device) for solid in solids]
    fields = [start.signed_distance, *(SignedDistance(solid.vertices, solid.faces) for solid in solids)]
    mesh = _surface(_least(fields), torch.cat([start.mesh.vertices, *(solid.vertices for solid in solids)]))
    worn = f"{len(solids)} solid{'s' * (len(solids) > 1)} of hair, skirt or shorts united with the start"
    return StartMesh(mesh, SignedDistance(mesh.vertices, mesh.faces), (*start.repairs, worn))


def kept_of_start(
    start: StartMesh,
    solids: Sequence[Mesh],
    *,
    inside: Callable[[], Body],
    parts: Sequence[str] = (),
    keep_worn: bool = False,
    bare: bool = False,
) -> Hold | None:
    """What of an undressed start and the solids that it wears is to stay; None: nothing.

    parts: of the body. keep_worn: the solids as well, and the shins below them if these are bare: a guide that knows
    trousers best would put them on. inside: finds the body inside the start, in the working box;
    asked only if something stays.
    """
    worn = united(solids).to(start.mesh.device) if solids and keep_worn else None
    if worn is not None and bare:
        parts = (*parts, "shins")
    return hold_parts(start.mesh, inside(), parts, worn) if parts or worn is not None else None


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
