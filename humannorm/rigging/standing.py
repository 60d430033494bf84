"""How a human mesh stands: upward axis, facing and pose, told by laying the body into it in all ways.

Each way is judged by distances between points of the mesh and of the body, both ways, after both have been brought to
one height; hands, feet and face decide. What has the least distance by a margin is taken for sure.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body import load_body
from humannorm.mesh import Mesh, face_areas
from humannorm.mesh_standing import UPS, stood_up, turn_to_stand

__all__ = ["Standing", "doubt_of_standing", "even_points", "find_standing", "stand"]

POSES = ("a-pose", "t-pose", "rest", "standing")
FRONTS = (0.0, 90.0, 180.0, 270.0)
POINTS = 800  # of each surface
SURE = 1.12  # times the least distance that the next best way must have
# Mean distances in heights. Dressed humans of all builds have 0.02 where the body is laid in rightly, those of other
# makers 0.035, and 0.036 or more where it is laid in wrongly; bodies that run, sit or fight have 0.058 in every way.
HUMAN = 0.04  # beyond this nothing is a human
UPRIGHT = 0.03  # below this in the formats' own way nothing else need be looked at
FEET = 0.06  # of the height: below this the feet tell the front


@dataclass(frozen=True)
class Standing:
    """The best way, and how sure it is."""

    up: str
    front: float  # azimuth that it faces, degrees, once `up` is up
    pose: str
    distance: float  # mean distance to the body so laid in, of the height
    margin: float  # of the next best way that is not only front for back, over that
    front_margin: float = float("inf")  # of the same with front for back, over that

    @property
    def sure(self) -> bool:
        """But for front and back."""
        return self.distance < HUMAN and self.margin > SURE

    @property
    def sure_of_front(self) -> bool:
        return self.sure and self.front_margin > SURE

    @property
    def is_ours(self) -> bool:
        return self.up == "y" and self.front == 0.0

    @property
    def said(self) -> str:
        """As what a person should read."""
        return (
            f"seems to stand with {self.up} up and to face {self.front:g} degrees (distance to a body"
            f" {100 * self.distance:.1f} % of the height, of the next best way {self.margin:.2f} times that)"
        )


def doubt_of_standing(mesh: Mesh) -> Standing | None:
    """How a mesh stands if it is surely a human and not one with y up that faces +Z; None for all others."""
    found = find_standing(mesh, ups=("y",), fronts=(0.0, 180.0))
    if found.is_ours and found.distance < UPRIGHT:
        return None
    found = find_standing(mesh)
    return found if found.sure and not found.is_ours else None


def stand(mesh: Mesh, up: str | None = None, front: float | None = None) -> tuple[Mesh, Standing, str]:
    """A human turned to +Y up and +Z front, how it stood, and what a person should be told of it ("" if nothing).

    up, front: as stated by the user. What is not stated is told from the mesh where that is sure, else left.
    """
    ups, fronts = UPS if up is None else (up,), FRONTS if front is None else (front,)
    found = find_standing(mesh, ups=ups, fronts=fronts)
    figures = f"distance {100 * found.distance:.1f} % of the height"
    if len(ups) > 1 or len(fronts) > 1:
        figures += f", of the next best way {found.margin:.2f} times that"
    note = ""
    if up is not None and front is not None:
        note = f"no human is seen in it ({figures}); look at the sheets" if found.distance >= HUMAN else ""
    elif found.sure:
        turned = not found.is_ours and ((up is None and found.up != "y") or (front is None and found.front != 0))
        if turned:
            note = f"stands with {found.up} up and faces {found.front:g} degrees ({figures}): turned"
            note += "" if found.sure_of_front else "; front and back look alike, --front says it"
    else:
        kept = (up or "y", 0.0 if front is None else front)
        if found.distance >= HUMAN or (found.up, found.front) != kept:
            note = f"how it stands cannot be told ({figures}); {kept[0]} up and front {kept[1]:g} are taken"
            note += ", --up, --front and --start-pose say it"
        found = find_standing(mesh, ups=(kept[0],), fronts=(kept[1],))
    return stood_up(mesh, found.up, found.front), found, note


@torch.no_grad()
def find_standing(mesh: Mesh, *, ups: tuple[str, ...] = UPS, fronts: tuple[float, ...] = FRONTS) -> Standing:
    """Of all ways to stand (`ups` x `fronts` x four poses) the one in which the body lies closest in the mesh."""
    points = even_points(mesh.vertices.detach().float().cpu(), mesh.faces.cpu())
    bodies = {pose: _in_one_box(_points_of_body(pose)) for pose in POSES}
    costs: dict[tuple[str, float], tuple[float, str]] = {}
    for up, front in itertools.product(ups, fronts):
        turned = _in_one_box(points @ turn_to_stand(up, front).T)
        found = min((_distance(turned.numpy(), body.numpy()), pose) for pose, body in bodies.items())
        costs[up, front] = found
    best = min(costs, key=lambda way: costs[way][0])
    opposite = (best[0], (best[1] + 180) % 360)
    if opposite == ("y", 0.0) and opposite in costs and costs[opposite][0] < SURE * costs[best][0]:
        best, opposite = opposite, best  # in doubt it faces as the formats say
    distance, pose = costs[best]
    others = [cost for way, (cost, _) in costs.items() if way not in (best, opposite)]

    def over(cost: float) -> float:
        return cost / max(distance, 1e-9)

    front_margin = over(costs[opposite][0]) if opposite in costs else float("inf")
    return Standing(*best, pose, distance, over(min(others, default=float("inf"))), front_margin)


def _points_of_body(pose: str) -> Float[Tensor, "N 3"]:
    body = load_body(pose=pose)
    return even_points(body.vertices, body.faces)


def even_points(vertices: Float[Tensor, "V 3"], faces: Tensor) -> Float[Tensor, "N 3"]:
    """Drawn evenly over the surface, the same for every call."""
    generator = torch.Generator().manual_seed(0)
    areas = face_areas(vertices, faces).double()
    chosen = torch.multinomial(areas.clamp_min(0), POINTS, replacement=True, generator=generator)
    weights = torch.rand(POINTS, 2, generator=generator)
    flip = weights.sum(1, keepdim=True) > 1
    weights = torch.where(flip, 1 - weights, weights)
    a, b, c = vertices[faces[chosen]].unbind(1)
    return a + weights[:, :1] * (b - a) + weights[:, 1:] * (c - a)


def _in_one_box(points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Of height 1, standing on 0, the middle of the head above the origin."""
    low, high = points.amin(0), points.amax(0)
    scaled = (points - low) / (high[1] - low[1]).clamp_min(1e-9)
    head = scaled[scaled[:, 1] > 0.88]
    centre = head.mean(0)
    return scaled - torch.stack([centre[0], torch.zeros(()), centre[2]])


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean of the nearest distances both ways; the feet, which show the front, count as much as all the rest."""
    from scipy.spatial import cKDTree

    there, back = cKDTree(second).query(first)[0], cKDTree(first).query(second)[0]
    total = 0.0
    for distances, points in ((there, first), (back, second)):
        feet = distances[points[:, 1] < FEET]
        total += float(np.minimum(distances, 0.25).mean())
        total += float(feet.mean()) if len(feet) else 0.25
    return total / 4
