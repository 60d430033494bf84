"""Colour everywhere on the painted surface: the field's where a camera saw it, its neighbours' where none did.

Soles, armpits and what lies between the legs never get a gradient, and a field there is noise. Those vertices take the
colours that solve Laplace's equation on the mesh's graph with the seen vertices as boundary: each is the mean of its
neighbours, weighted by the inverse of the edges' lengths.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from humannorm.checks import check_same_device, check_tensor
from humannorm.distance.signed_distance import SignedDistance
from humannorm.mesh import Mesh, unique_edges, weld
from humannorm.texture.fields import ColorField
from humannorm.texture.state import TextureState
from humannorm.texture.visibility import plan_cameras, visible_vertices

__all__ = ["SurfaceColors", "fill_unseen", "painted_mesh", "surface_colors", "user_field"]

CELLS = 96  # a side of the coarse grid that tells where unseen faces are


class SurfaceColors:
    """Colours of surface points in world space, filled in: what an exporter bakes.

    `colors(points)` may stand for the `field` of `humannorm.rendering.render`. Between a seen and an unseen vertex the
    field's colour passes over into the filled one along the triangle; both agree at seen vertices.
    """

    def __init__(
        self, mesh: Mesh, field: ColorField, seen: Bool[Tensor, " V"], vertex_colors: Float[Tensor, "V 3"]
    ) -> None:
        self.mesh, self.field, self.seen, self.vertex_colors = mesh, field, seen, vertex_colors
        self._distance: SignedDistance | None = None
        self._near_unseen = _cells_near(mesh, ~seen[mesh.faces].all(1))  # elsewhere the field stands as it is

    @torch.no_grad()
    def __call__(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Colours in 0..1 of points on (or near) the surface; without gradient."""
        check_tensor("points", points, "N 3")
        colors = self.field.at(points)
        x, y, z = _cell(points).unbind(1)
        near = self._near_unseen[x, y, z].nonzero()[:, 0]
        if not len(near):
            return colors
        if self._distance is None:
            self._distance = SignedDistance(self.mesh.vertices, self.mesh.faces, inside_out="flip")
        closest = self._distance.closest(points[near])
        return colors.index_copy(0, near, self._blend(colors[near], closest.face.long(), closest.barycentric))

    @torch.no_grad()
    def at(self, points: Float[Tensor, "N 3"], face: Tensor, barycentric: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """The same where the face [N] and the weights of its corners are known: saves the search for them."""
        return self._blend(self.field.at(points), face.long(), barycentric)

    def _blend(self, colors: Tensor, face: Tensor, barycentric: Tensor) -> Tensor:
        corners = self.mesh.faces[face]
        weights = barycentric.to(colors)[..., None]
        filled = (self.vertex_colors[corners] * weights).sum(1)
        seen = (self.seen[corners].to(colors)[..., None] * weights).sum(1)
        return torch.lerp(filled, colors, seen.clamp(0, 1))


@torch.no_grad()
def surface_colors(state: TextureState, size: int = 512) -> SurfaceColors:
    """The colours of a texture state, filled in where no camera of its plan sees the surface."""
    seen = visible_vertices(state.mesh, plan_cameras(state.plan), size)
    colors = state.field.at(state.mesh.vertices)
    return SurfaceColors(state.mesh, state.field, seen, fill_unseen(state.mesh, colors, seen))


def user_field(state: TextureState, colors: SurfaceColors) -> Callable[[Tensor], Tensor]:
    """The colours as a field over the user's own frame, which `painted_mesh` is in: what `export_mesh` reads."""
    return lambda points: colors(state.placement.to_world(points))


def painted_mesh(state: TextureState, colors: SurfaceColors) -> Mesh:
    """The mesh in the user's own frame with a colour at every vertex."""
    return Mesh(
        state.placement.to_user(state.mesh.vertices),
        state.mesh.faces,
        normals=state.mesh.normals,
        colors=colors.vertex_colors.clamp(0, 1),
    )


@torch.no_grad()
def fill_unseen(mesh: Mesh, colors: Float[Tensor, "V 3"], seen: Bool[Tensor, " V"]) -> Float[Tensor, "V 3"]:
    """Vertex colours with those of unseen vertices replaced by the harmonic interpolation of the seen ones.

    Vertices that seams have split count as one. A piece without any seen vertex takes the colours of the nearest seen
    vertices in space; a mesh of which nothing was seen stays as it is.
    """
    check_same_device(vertices=mesh.vertices, colors=colors, seen=seen)
    check_tensor("colors", colors, f"{mesh.num_vertices} 3", finite=True)
    check_tensor("seen", seen, f"{mesh.num_vertices}", dtype="bool")
    if bool(seen.all()) or not bool(seen.any()):
        return colors
    first = weld(mesh.vertices).cpu()
    known = torch.zeros(mesh.num_vertices, dtype=torch.bool)
    known[first[seen.cpu()]] = True
    colors_at = colors.detach().double().cpu()
    colors_at[first[seen.cpu()]] = colors_at[seen.cpu()]  # a split vertex may be seen on one side of its seam only
    edges = unique_edges(first[mesh.faces.cpu()])
    reached = _joined_to(edges, known)
    filled = _harmonic(mesh.vertices.detach().double().cpu(), edges, colors_at, known, reached & ~known)
    filled = _nearest(mesh.vertices.detach().double().cpu(), filled, known, ~reached)
    result = torch.where(known[first, None], colors_at[first], filled[first])
    result[seen.cpu()] = colors.detach().double().cpu()[seen.cpu()]
    return result.to(colors)


def _joined_to(edges: Tensor, known: Bool[Tensor, " V"]) -> Bool[Tensor, " V"]:
    """Vertices that edges lead to from a known one."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    low, high = edges.numpy().T
    graph = coo_array((np.ones(len(low), bool), (low, high)), shape=(len(known), len(known)))
    piece = torch.from_numpy(connected_components(graph.tocsr(), directed=False)[1]).long()
    has_known = torch.zeros(int(piece.max()) + 1, dtype=torch.bool)
    has_known[piece[known]] = True
    return has_known[piece]


def _harmonic(
    positions: Float[Tensor, "V 3"], edges: Tensor, colors: Tensor, known: Tensor, wanted: Tensor
) -> Float[Tensor, "V 3"]:
    """Solves sum over neighbours of w_ij (c_i - c_j) = 0 at the wanted vertices, w_ij = 1 / length."""
    from scipy.sparse import coo_array, csc_array
    from scipy.sparse.linalg import splu

    filled = colors.clone()
    if not bool(wanted.any()):
        return filled
    low, high = edges.unbind(1)
    weight = 1 / (positions[low] - positions[high]).norm(dim=1).clamp_min(1e-9)
    start, end, weight = torch.cat([low, high]), torch.cat([high, low]), torch.cat([weight, weight])
    row = (wanted.cumsum(0) - 1).long()
    count = int(wanted.sum())
    inner = wanted[start] & wanted[end]
    border = wanted[start] & known[end]
    degree = torch.zeros(count, dtype=torch.float64).index_add(0, row[start[wanted[start]]], weight[wanted[start]])
    given = torch.zeros(count, 3, dtype=torch.float64).index_add(
        0, row[start[border]], weight[border, None] * colors[end[border]]
    )
    index = torch.arange(count)
    rows = torch.cat([index, row[start[inner]]]).numpy()
    columns = torch.cat([index, row[end[inner]]]).numpy()
    values = torch.cat([degree, -weight[inner]]).numpy()
    matrix = csc_array(coo_array((values, (rows, columns)), shape=(count, count)))
    filled[wanted] = torch.from_numpy(splu(matrix, permc_spec="MMD_AT_PLUS_A").solve(given.numpy()))
    return filled


def _nearest(positions: Tensor, colors: Tensor, known: Tensor, wanted: Tensor) -> Float[Tensor, "V 3"]:
    """Colours of the nearest known vertices."""
    from scipy.spatial import cKDTree

    if not bool(wanted.any()):
        return colors
    places = known.nonzero()[:, 0]
    _, nearest = cKDTree(positions[places].numpy()).query(positions[wanted].numpy())
    filled = colors.clone()
    filled[wanted] = colors[places[torch.as_tensor(nearest)]]
    return filled


def _cell(points: Float[Tensor, "N 3"]) -> Tensor:
    """Which cell of the coarse grid over the working box each point is in; what is outside counts to the outermost."""
    return ((points + 1) / 2 * CELLS).floor().long().clamp(0, CELLS - 1)


def _cells_near(mesh: Mesh, chosen: Bool[Tensor, " F"]) -> Tensor:
    """Cells [CELLS, CELLS, CELLS] touched by the bounding boxes of the chosen faces, and their neighbours.

    Every box adds 1 at its first corner and takes it away past its last one, along each axis; running sums fill it.
    """
    corners = mesh.vertices[mesh.faces[chosen]]
    first = (_cell(corners.amin(1)) - 1).clamp_min(0)
    past = (_cell(corners.amax(1)) + 2).clamp_max(CELLS)
    count = torch.zeros(CELLS + 1, CELLS + 1, CELLS + 1, dtype=torch.int64, device=mesh.device)
    for x, x_sign in ((first, 1), (past, -1)):
        for y, y_sign in ((first, 1), (past, -1)):
            for z, z_sign in ((first, 1), (past, -1)):
                sign = torch.full_like(x[:, 0], x_sign * y_sign * z_sign)
                count.index_put_((x[:, 0], y[:, 1], z[:, 2]), sign, accumulate=True)
    return count.cumsum(0).cumsum(1).cumsum(2)[:CELLS, :CELLS, :CELLS] > 0
