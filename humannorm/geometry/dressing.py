"""Start bodies in an outfit, and what of them an optimiser must leave as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from humannorm.body import Body, Outfit
from humannorm.distance.signed_distance import SignedDistance
from humannorm.geometry.holding import Hold, hold_regions
from humannorm.geometry.outfits import dress
from humannorm.geometry.start import StartMesh

__all__ = ["dressed", "kept_of_start"]


def dressed(start: StartMesh, body: Body, outfit: Outfit, resolution: int | None = None) -> StartMesh:
    """The start, the surface of a body in the working box, in an outfit; the start itself where that is empty."""
    if not outfit.pieces:
        return start
    worn = dress(body, outfit, resolution)
    surface = worn.surface.to(start.mesh.device)
    repairs = (*start.repairs, f"wears {outfit}", *outfit.told, *worn.told)
    return StartMesh(surface.mesh, SignedDistance(surface.mesh.vertices, surface.mesh.faces), repairs, surface)


def kept_of_start(
    undressed: StartMesh,
    start: StartMesh,
    *,
    inside: Callable[[], Body],
    regions: Sequence[str] = (),
    keep_outfit: bool = False,
) -> Hold | None:
    """What of a start, and of the body that it was before it was dressed, is to stay; None: nothing.

    regions: of the body. keep_outfit: the dressed surface loses nothing of its depth but `holding.WORN`. inside: finds
    the body inside the start, in the working box; asked only if something stays.
    """
    worn = start.mesh if keep_outfit and start.labelled is not None else None
    return hold_regions(undressed.mesh, inside(), regions, worn) if regions or worn is not None else None
