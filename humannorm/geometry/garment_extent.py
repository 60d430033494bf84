"""How far a garment reaches beyond the region of the body that it is named after: hems and cuffs, by their colour."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from humannorm.checks import check_range
from humannorm.images import lab_from_srgb
from humannorm.mesh import Mesh, unique_edges, weld

__all__ = ["GarmentSettings", "garment_vertices"]


@dataclass(frozen=True)
class GarmentSettings:
    """All numbers are ours, found on dressed people that the bundled model made."""

    reach: float = 0.35  # world units along the surface; a hem hangs as low as mid-thigh, a suit has no end
    same_colour: float = 25.0  # CIELAB distance, lightness counting half: shades of one cloth, not skin beside it
    share: float = 0.3  # of the region's vertices that a colour must have to be its garment's

    def __post_init__(self) -> None:
        check_range("reach", self.reach, 0.0, 2.0)
        check_range("same_colour", self.same_colour, 0.0, 200.0)
        check_range("share", self.share, 0.0, 1.0)


def garment_vertices(
    mesh: Mesh, colors: Float[Tensor, "V 3"], region: Bool[Tensor, " V"], settings: GarmentSettings | None = None
) -> Bool[Tensor, " V"]:
    """The region, and what hangs on it along the surface in the colour that most of it has.

    mesh: in the working box. colors: sRGB 0..1 of its vertices. region: its vertices on the named region of the body.
    A region without a colour of its own, such as a patterned one, is returned as it is.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    settings = settings or GarmentSettings()
    shades = lab_from_srgb(colors.detach().float().cpu()) * torch.tensor([0.5, 1.0, 1.0])
    region = region.cpu()
    main = _main_shade(shades[region], settings)
    if main is None:
        return region
    welded = weld(mesh.vertices.cpu())
    alike = (shades - main).norm(dim=1) < settings.same_colour
    edges = unique_edges(mesh.faces.cpu())
    edges = edges[(alike | region)[edges].all(1)]
    length = (mesh.vertices.cpu()[edges[:, 0]] - mesh.vertices.cpu()[edges[:, 1]]).norm(dim=1)
    low, high = welded[edges].numpy().T
    count = int(welded.max()) + 1
    graph = csr_array((length.clamp_min(1e-9).double().numpy(), (low, high)), shape=(count, count))
    begin = torch.unique(welded[region & alike]).numpy()
    away = dijkstra(graph, directed=False, indices=begin, limit=settings.reach, min_only=True)
    return region | (torch.from_numpy(away)[welded] <= settings.reach) & alike


def _main_shade(shades: Float[Tensor, "N 3"], settings: GarmentSettings) -> Float[Tensor, " 3"] | None:
    """The mean of the largest group of like shades, if it is large enough: the best of evenly drawn centres."""
    if len(shades) == 0:
        return None
    centres = shades[:: max(1, len(shades) // 64)]
    near = torch.cdist(centres, shades) < settings.same_colour
    best = int(near.sum(1).argmax())
    if float(near[best].float().mean()) < settings.share:
        return None
    return shades[near[best]].mean(0)
