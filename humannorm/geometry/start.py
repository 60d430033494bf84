"""Start meshes: what may be wrong with one, what is done about it, and how it is placed in the working box.

Rules, in order, each reported when it was applied:

1. no faces, NaN, bad indices, no area: refused;
2. pieces much smaller than the largest (bounding diagonal below 2 %): dropped;
3. open: the generalised winding number of `SignedDistance` bridges the holes; refused if they take a fifth or more of
   the surface;
4. all faces wound clockwise seen from outside (negative volume): turned round;
5. enclosing next to nothing (a sheet): refused;
6. several pieces: kept, the winding number unites those that overlap;
7. off-centre or of another size: centred by the bounding box and scaled to the height of a body, less if it is wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body import Body
from humannorm.checks import InputError, check_range
from humannorm.distance.sign_regions import Holes, Topology, caps_of_holes, is_inside_out, topology_of
from humannorm.distance.signed_distance import SignedDistance
from humannorm.geometry.labelled import LabelledSurface
from humannorm.mesh import Mesh, check_mesh, connected_components, face_areas
from humannorm.working_box import BODY_HEIGHT, REACH, placement_of

__all__ = ["StartMesh", "prepare_start", "sample_surface", "start_height"]

SMALLEST_PIECE = 0.02  # of the largest piece's bounding diagonal
LARGEST_HOLE = 0.2  # area of the cones that close the holes over area of the surface
LEAST_VOLUME = 1e-4  # volume over (bounding diagonal)^3; a standing body has about 1e-2
PLACED = 1e-3  # world units (and relative size) below which a mesh counts as already in place


@dataclass(frozen=True, eq=False)
class StartMesh:
    """A usable start: the placed mesh, its signed distance, and what had to be done."""

    mesh: Mesh
    signed_distance: SignedDistance
    repairs: tuple[str, ...]  # one sentence per rule applied, empty for a good mesh in place
    labelled: LabelledSurface | None = None  # of a dressed body: the same mesh, and what its faces are


def start_height(body: Body | None) -> float:
    """World units along y that a start mesh is brought to: a standing body's, less for one that sits or crouches."""
    if body is None or body.pose == "a-pose":
        return BODY_HEIGHT
    heights = body.in_working_box().vertices[:, 1]
    return min(float(heights.max() - heights.min()), 2 * REACH)


def prepare_start(mesh: Mesh, height: float = BODY_HEIGHT) -> StartMesh:
    """Repair and place a start mesh by the rules above, or raise `InputError`.

    height: world units along y after placing; a mesh wider than the box allows is scaled to fit instead.
    """
    check_range("height", height, 0.1, 2 * REACH)
    check_mesh(mesh)
    repairs: list[str] = []
    vertices = mesh.vertices.detach().float()
    faces = _without_specks(vertices, mesh.faces, repairs)
    topology = topology_of(vertices.double().cpu().numpy(), faces.cpu().numpy())
    holes = caps_of_holes(topology)
    _bridge_holes(topology, holes, repairs)
    if is_inside_out(topology, holes):
        faces = faces[:, [0, 2, 1]]
        repairs.append("inside-out: all faces were turned round")
    _refuse_sheet(topology, holes)
    welded = torch.from_numpy(topology.faces)
    pieces = len(connected_components(welded, len(topology.positions))[welded.flatten()].unique())
    if pieces > 1:
        repairs.append(f"{pieces} pieces: those that overlap are united")
    vertices = _placed(vertices, faces, height, repairs)
    return StartMesh(Mesh(vertices, faces), SignedDistance(vertices, faces), tuple(repairs))


def _without_specks(vertices: Tensor, faces: Tensor, repairs: list[str]) -> Tensor:
    """Rule 2."""
    welded = torch.unique(vertices, dim=0, return_inverse=True)[1]
    piece = connected_components(welded[faces], int(welded.max()) + 1)[welded[faces[:, 0]]]
    kinds, piece = torch.unique(piece, return_inverse=True)
    corners = vertices[faces]
    index = piece[:, None].expand(-1, 3)
    low = vertices.new_full((len(kinds), 3), np.inf).scatter_reduce(0, index, corners.amin(1), "amin")
    high = vertices.new_full((len(kinds), 3), -np.inf).scatter_reduce(0, index, corners.amax(1), "amax")
    diagonal = (high - low).norm(dim=1)
    speck = diagonal < SMALLEST_PIECE * diagonal.max()
    if speck.any():
        repairs.append(f"{int(speck.sum())} specks below {SMALLEST_PIECE:.0%} of the mesh's size: dropped")
    return faces[~speck[piece]]


def _bridge_holes(topology: Topology, holes: Holes, repairs: list[str]) -> None:
    """Rule 3."""
    if not len(topology.boundary):
        return
    share = float(holes.areas.sum() / (np.linalg.norm(topology.normals, axis=1).sum() / 2))
    if share >= LARGEST_HOLE:
        raise InputError(
            f"mesh: expected a closed surface or one with small holes, got holes of {share:.0%} of its area"
        )
    repairs.append(f"open: {len(holes.areas)} holes of {share:.2%} of the area are bridged by the winding number")


def _refuse_sheet(topology: Topology, holes: Holes) -> None:
    """Rule 5."""
    closed = np.concatenate([topology.corners, holes.triangles])
    diagonal = float(np.linalg.norm(closed.max((0, 1)) - closed.min((0, 1))))
    volume = abs(float(np.linalg.det(closed - closed.mean((0, 1))).sum()) / 6)
    if volume < LEAST_VOLUME * diagonal**3:
        share = volume / diagonal**3
        raise InputError(f"mesh: expected a solid that encloses a volume, got {share:.1e} of its size cubed")


def _placed(vertices: Tensor, faces: Tensor, height: float, repairs: list[str]) -> Tensor:
    """Rule 7."""
    placement = placement_of(vertices[faces.flatten()], height)
    centre, scale = placement.centre, placement.scale
    if abs(scale - 1) <= PLACED and max(map(abs, centre)) <= PLACED:
        return vertices
    repairs.append(f"placed: moved by {[round(-x, 4) for x in centre]}, then scaled by {scale:.4g}")
    return placement.to_world(vertices)


def sample_surface(mesh: Mesh, count: int, generator: torch.Generator) -> Float[Tensor, "N 3"]:
    """Points spread evenly over a mesh's surface, on the mesh's device, drawn on the generator's."""
    areas = face_areas(mesh.vertices, mesh.faces).to(generator.device)
    face = torch.multinomial(areas, count, replacement=True, generator=generator).to(mesh.device)
    u, v = torch.rand(2, count, 1, generator=generator, device=generator.device).to(mesh.device)
    root = u.sqrt()
    a, b, c = mesh.vertices[mesh.faces[face]].unbind(1)
    return a * (1 - root) + b * (root * (1 - v)) + c * (root * v)
