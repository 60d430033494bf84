"""Drawing a surface to normals and outlines: a sparse linear solve for how far each vertex moves along its normal.

Nehab, Rusinkiewicz, Davis and Ramamoorthi, "Efficiently combining positions and normals for precise 3D geometry"
(2005): an edge of the surface should stand upright on its normal, and vertices should stay near where they are.
Positions are right where the surface is large, normals where it is fine: `NormalFitSettings.reach` is the length
between the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from humannorm.cameras import Cameras
from humannorm.checks import check_range, check_tensor
from humannorm.distance.signed_distance import SignedDistance
from humannorm.mesh import Mesh, face_areas, face_normals, unique_edges, vertex_normals
from humannorm.rendering.fusing import SurfaceViews

__all__ = ["NormalFitSettings", "OutlinePull", "fit_to_normals", "outline_pull"]


@dataclass(frozen=True)
class NormalFitSettings:
    """How a surface is drawn to its views. All numbers are ours, by the trials in docs/geometry.md."""

    reach: float = 0.1  # world units: what is larger than this stays where it was, whatever the normals say
    bound: float = 0.03  # world units that a vertex may move; less where another sheet of the surface is near
    outline: float = 0.5  # weight of the outlines, beside 1 of staying where it is, at a vertex that draws one
    rounds: int = 3  # of the solve, each from the surface and the normals that the last one left

    def __post_init__(self) -> None:
        check_range("reach", self.reach, 1e-3, 10.0)
        check_range("bound", self.bound, 1e-4, 1.0)
        check_range("outline", self.outline, 0.0, 1e6)
        check_range("rounds", self.rounds, 1, 100)


RIM_COSINE = 0.35  # between a vertex's normal and the direction to a camera: below it the vertex may draw its outline
RIM_PIXELS = 1.5  # from the outline of the surface, of vertices that draw it
MARGIN_PIXELS = 3.0  # from a picture's side: an outline that ends there says nothing
FINE = 256  # sub-pixels along a picture's side
JITTER = 0.5  # pixels that an outline may be off before it counts
UPRIGHT = 0.3  # least cosine between a vertex's normal and the one it should get that the solve reckons with
EDGE_WEIGHT = 3**-0.5  # cotangent weight of an edge between equilateral triangles
SOFTENING = 4  # edges over which a vertex that may not move as it should slows its neighbours down
SLIVER = 0.1  # of the median area: a face below it is not seen, whatever way it faces
TURNED = 0.1  # cosine between a face before and after: below it the move is halved


@dataclass(frozen=True, eq=False)
class OutlinePull:
    """Where the outlines that views drew want the vertices that draw the surface's own."""

    height: Float[Tensor, " V"]  # world units along the vertex's normal; 0 where no outline runs
    weight: Float[Tensor, " V"]  # 0..1


@torch.no_grad()
def fit_to_normals(
    mesh: Mesh,
    normals: Float[Tensor, "V 3"],
    settings: NormalFitSettings,
    *,
    pull: OutlinePull | None = None,
    held: Float[Tensor, " V"] | None = None,
) -> Mesh:
    """The surface with its vertices moved so that its normals become these, unit length, in the world.

    mesh: closed; its faces stay, so it stays closed and in one piece. held: how far a vertex stays in place, 0..1.
    The same normals and no pull move nothing.
    """
    check_tensor("normals", normals, f"{mesh.num_vertices} 3", finite=True)
    start, faces = mesh.vertices.float(), mesh.faces
    edges = unique_edges(faces)
    inward, outward = _room(mesh, settings.bound)
    free = torch.ones_like(inward) if held is None else 1 - held.to(inward)
    first = vertex_normals(start, faces)
    vertices = start
    for _ in range(settings.rounds):
        own = vertex_normals(vertices, faces)
        height = _solved(vertices, faces, edges, own, normals, (start - vertices), settings, pull)
        moved = vertices + height[:, None] * own - start
        limit = torch.where((moved * first).sum(1) > 0, outward, inward)
        share = (limit / moved.norm(dim=1).clamp_min(1e-12)).clamp(max=1)
        moved = moved * (free * _softened(share, edges))[:, None]
        vertices = _unfolded(vertices, start + moved, faces, edges)
    return Mesh(vertices, faces)


def _solved(
    vertices: Tensor,
    faces: Tensor,
    edges: Tensor,
    own: Tensor,
    normals: Tensor,
    back: Tensor,
    settings: NormalFitSettings,
    pull: OutlinePull | None,
) -> Float[Tensor, " V"]:
    """Heights h along the own normals m that minimise, with e an edge from i to j and n the normal asked for there,

    sum over edges of w (n . (e + h_j m_j - h_i m_i) - m . e)^2 + sum over vertices of A / reach^2 (h - back . m)^2,

    and the outlines' pull like the second term. The m . e take what is no error of a normal out: edges of a curved
    surface do not stand upright even on its own.
    """
    from scipy.sparse import coo_array, diags_array
    from scipy.sparse.linalg import cg

    i, j = edges.unbind(1)
    wanted, present = (F.normalize(each[i] + each[j], dim=1, eps=1e-6) for each in (normals, own))
    edge = vertices[j] - vertices[i]
    error = ((present - wanted) * edge).sum(1)
    low, high = ((wanted * own[end]).sum(1).clamp_min(UPRIGHT) for end in (i, j))
    count = len(vertices)
    area = vertices.new_zeros(count)
    areas = face_areas(vertices, faces) / 3
    for corner in range(3):
        area.index_add_(0, faces[:, corner], areas)
    anchor = area / settings.reach**2
    diagonal, right = anchor.clone(), anchor * (back * own).sum(1)
    if pull is not None:
        weight = settings.outline * pull.weight * anchor
        diagonal += weight
        # What is left of the pull after what the rounds before have done.
        right += weight * (pull.height + (back * own).sum(1))
    diagonal.index_add_(0, i, EDGE_WEIGHT * low.square()).index_add_(0, j, EDGE_WEIGHT * high.square())
    right.index_add_(0, j, EDGE_WEIGHT * high * error).index_add_(0, i, -EDGE_WEIGHT * low * error)
    between = (-EDGE_WEIGHT * low * high).double().cpu().numpy()
    rows, columns = i.cpu().numpy(), j.cpu().numpy()
    half = coo_array((between, (rows, columns)), shape=(count, count)).tocsr()
    whole = diagonal.double().cpu().numpy()
    matrix = half + half.T + diags_array(whole)
    height, _ = cg(matrix.tocsr(), right.double().cpu().numpy(), rtol=1e-4, maxiter=500, M=diags_array(1 / whole))
    return torch.from_numpy(np.asarray(height)).to(vertices)


def _room(mesh: Mesh, bound: float) -> tuple[Float[Tensor, " V"], Float[Tensor, " V"]]:
    """How far each vertex may move inwards and outwards so that no two sheets of the surface can meet.

    As far as the point at `bound` along its normal is clear of the surface: where another sheet stands g away and both
    move by g - bound at most, they meet for no g below twice the bound.
    """
    distance = SignedDistance(mesh.vertices.float(), mesh.faces)
    step = bound * vertex_normals(mesh.vertices.float(), mesh.faces)
    return (-distance(mesh.vertices - step)).clamp(0, bound), distance(mesh.vertices + step).clamp(0, bound)


def _softened(share: Float[Tensor, " V"], edges: Tensor) -> Float[Tensor, " V"]:
    """Shares that rise smoothly from where they are small, and are nowhere larger than these: one vertex that may not
    follow its neighbours would stand out as a dent."""
    ends, others = torch.cat([edges, edges.flip(1)]).unbind(1)
    for _ in range(SOFTENING):
        share = share.scatter_reduce(0, ends, share[others], "amin")
    count = torch.bincount(ends, minlength=len(share)) + 1
    for _ in range(SOFTENING):
        share = share.index_add(0, ends, share[others]) / count
    return share


def _unfolded(before: Tensor, after: Tensor, faces: Tensor, edges: Tensor) -> Float[Tensor, "V 3"]:
    """After, with moves halved, and at last taken back, around faces that they turn round; slivers may turn."""
    old, areas = face_normals(before, faces), face_areas(before, faces)
    counts = areas > SLIVER * areas.median()
    least = torch.ones(len(before), device=before.device)
    vertices = after
    for attempt in range(6):
        turned = ((face_normals(vertices, faces) * old).sum(1) < TURNED) & counts
        if not bool(turned.any()):
            break
        least[faces[turned].flatten()] *= 0.5 if attempt < 4 else 0.0
        vertices = torch.lerp(before, after, _softened(least, edges)[:, None])
    return vertices


@torch.no_grad()
def outline_pull(
    views: SurfaceViews,
    cameras: Cameras,
    drawn: Float[Tensor, "B S S"],
    own: Float[Tensor, "B S S"],
    bound: float,
) -> OutlinePull:
    """Where the vertices that draw the outlines of a surface should move so that they draw these.

    drawn, own: coverage of the pixels, 0..1, in the pictures that the views made and of the surface. bound: world
    units.
    Views count by the square of their pixels per world unit.
    """
    points, normals = views.surface.points, views.surface.normals
    total, weights = torch.zeros_like(points[:, 0]), torch.zeros_like(points[:, 0])
    pixel = 2 * torch.tan(torch.deg2rad(cameras.fov_y) / 2) / cameras.zoom / views.size  # at distance 1
    for number in range(len(drawn)):
        matrix = views.pixel_from_world[number]
        place = points @ matrix[:, :3].T + matrix[:, 3]
        at = place[:, :2] / place[:, 2:]
        cosine = (normals * F.normalize(views.position[number] - points, dim=1)).sum(1)
        inside = ((at > MARGIN_PIXELS) & (at < views.size - MARGIN_PIXELS)).all(1)
        chosen = (inside & (cosine.abs() < RIM_COSINE) & (place[:, 2] > 0)).nonzero()[:, 0]
        here, there = (_depth_at(each[number], at[chosen]) for each in (own, drawn))
        rim = here.abs() < RIM_PIXELS
        chosen, apart = chosen[rim], (there - here)[rim]
        apart = apart.sign() * (apart.abs() - JITTER).clamp_min(0)
        height = (apart * pixel[number].to(apart) * place[chosen, 2]).clamp(-bound, bound)
        weight = views.density[number].square()
        total[chosen] += weight * height
        weights[chosen] += weight
    return OutlinePull(total / weights.clamp_min(1e-12), weights.clamp(max=1))


def _depth_at(coverage: Float[Tensor, "S S"], at: Float[Tensor, "M 2"]) -> Float[Tensor, " M"]:
    """Pixels to the outline of what a picture covers, positive inside, at (column, row), the picture's corner at 0."""
    from scipy.ndimage import distance_transform_edt

    fine = max(1, FINE // len(coverage))  # sub-pixels along a pixel's side in which the outline is found
    large = F.interpolate(coverage[None, None], scale_factor=fine, mode="bilinear", align_corners=False)[0, 0] > 0.5
    mask = large.cpu().numpy()
    if mask.all() or not mask.any():
        return at.new_zeros(len(at))
    depth = (distance_transform_edt(mask) - distance_transform_edt(~mask)).astype(np.float32)
    depth = (depth - np.sign(depth) / 2) / fine
    places = at / len(coverage) * 2 - 1
    field = torch.from_numpy(depth).to(at)[None, None]
    return F.grid_sample(field, places[None, None], padding_mode="border", align_corners=False)[0, 0, 0]
