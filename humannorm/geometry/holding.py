"""Regions of a surface that an optimisation must not touch: hands and face of the template, or all that an edit leaves.

The field that is drawn and marched is s(x) = (1 - h) f(x) + h t(x), where f is the field being learned, t the signed
distance of the surface that is kept and h in 0..1 how far the place x is held. Where h is 1 the surface is the kept one
whatever the gradients say; the networks see it whole. Along the arms of a template whose hands are held, s is at most
t + CORE: a guide may thin a sleeve but not cut the hand off. Likewise f stays
within WORN of w, where w is the signed distance of the dressed start whose outfit is kept: a guide may fold cloth, not
take it away and not put on another. It is part of t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from humannorm.body import Body, BodyShape, load_body
from humannorm.body.painted_skin import skin_opacity, skin_picture
from humannorm.body.regions import following_vertices, share_near, share_of_regions
from humannorm.checks import check_choice
from humannorm.distance.signed_distance import SignedDistance
from humannorm.geometry.band import SignedField
from humannorm.geometry.garment_extent import garment_vertices
from humannorm.labels import LABELS_OF_PARTS, labels_named
from humannorm.mesh import Mesh, vertex_normals
from humannorm.working_box import BOX

__all__ = [
    "HeldPoints",
    "Hold",
    "RememberedHold",
    "hold_all_but",
    "hold_all_but_labels",
    "hold_regions",
    "share_at",
    "template_in_skin",
]

CELLS = 48  # of the grid of shares along each side of the box: 0.04 units, finer than the borders are soft
HANGING = frozenset({"top", "bottom"})  # whose garments end elsewhere than the region of the body
FINGERS = 448  # lattice cells a side at which all of a template's fingers show: 0.27 % of the height off at most
CORE = 0.013  # world units that an arm may lose of its radius, half of a slim wrist's
WORN = 0.015  # world units by which the surface of what is worn may move
REACH = 0.10  # world units around a held region that are held with it


@dataclass(frozen=True, eq=False)
class Hold:
    """What is kept, and where."""

    mesh: Mesh  # plain, closed, in the working box
    share: Float[Tensor, "Z Y X"]  # h at the vertices of a regular grid over the box
    resolution: int = 0  # lattice cells a side that the finished surface needs to show what is kept; 0: any will do
    core: Bool[Tensor, "Z Y X"] | None = None  # where, on that grid, something of what is kept must stay inside
    shape: BodyShape | None = None  # of the template whose own surface the mesh is, vertex for vertex; None: another
    worn: Mesh | None = None  # the whole dressed start, closed, in the working box

    @cached_property
    def distance(self) -> SignedDistance:
        return SignedDistance(self.mesh.vertices, self.mesh.faces)

    @cached_property
    def worn_distance(self) -> SignedDistance:
        assert self.worn is not None
        return SignedDistance(self.worn.vertices, self.worn.faces)

    def share_at(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """h at points."""
        return share_at(self.share, points)

    def kept_points(self) -> Float[Tensor, "N 3"]:
        """Points of what is kept, by which a lattice finds it however thin it is."""
        vertices = self.mesh.vertices
        kept = vertices[self.share_at(vertices) > 0.5]
        if self.core is None:
            return kept
        inner = (share_at(self.core.float(), vertices) > 0).nonzero()[:, 0]
        return torch.cat([kept, (vertices - CORE * vertex_normals(vertices, self.mesh.faces))[inner]])

    def at(self, points: Float[Tensor, "N 3"]) -> HeldPoints:
        """What is kept at points: worth keeping where the same points come again, it takes longer than the field."""
        points = points.detach()
        share = self.share_at(points)
        inner = (
            torch.zeros_like(share, dtype=torch.bool) if self.core is None else share_at(self.core.float(), points) > 0
        )
        kept = torch.zeros_like(share)
        needed = (share > 0) | inner
        kept[needed] = self.distance(points[needed])
        highest = torch.where(inner, kept + CORE, torch.inf)
        lowest_learned, highest_learned = torch.full_like(share, -torch.inf), torch.full_like(share, torch.inf)
        if self.worn is not None:
            low, high = self.worn.vertices.amin(0) - WORN, self.worn.vertices.amax(0) + WORN
            near = ((points > low) & (points < high)).all(1)
            worn = self.worn_distance(points[near])
            highest_learned[near] = worn + WORN
            lowest_learned.fill_(WORN)  # far from it there is nothing
            lowest_learned[near] = worn - WORN
            kept[near] = torch.minimum(kept[near], worn)
        return HeldPoints(share, kept, lowest_learned, highest_learned, highest)

    def applied(self, field: SignedField) -> SignedField:
        """The field with what is kept blended in."""
        return lambda points: self.at(points).blended(field(points))


@dataclass(frozen=True, eq=False)
class HeldPoints:
    """What a hold says of the field at some points; nothing of it depends on the field."""

    share: Float[Tensor, " N"]  # h
    kept: Float[Tensor, " N"]  # t; anything where h is 0
    lowest_learned: Float[Tensor, " N"]  # of f: w - WORN where something is worn, else infinite
    highest_learned: Float[Tensor, " N"]  # of f: w + WORN near what is worn, else infinite
    highest: Float[Tensor, " N"]  # of s: t + CORE along the arms, else infinite

    def blended(self, learned: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        """s from f at these points."""
        learned = torch.maximum(torch.minimum(learned, self.highest_learned), self.lowest_learned)
        return torch.minimum((1 - self.share) * learned + self.share * self.kept, self.highest)

    def rows(self, index: Int64[Tensor, " M"]) -> HeldPoints:
        """The same of some of the points."""
        learned = self.lowest_learned[index], self.highest_learned[index]
        return HeldPoints(self.share[index], self.kept[index], *learned, self.highest[index])


class RememberedHold:
    """What is kept at points that come at every step: the same tensor of points is answered from memory."""

    def __init__(self, hold: Hold | None) -> None:
        self._hold = hold
        self._points: Tensor | None = None
        self._held: HeldPoints | None = None

    def blended(
        self, learned: Float[Tensor, " M"], points: Float[Tensor, "N 3"], rows: Int64[Tensor, " M"] | None = None
    ) -> Float[Tensor, " M"]:
        """The learned field's values at these points, or at some rows of them, with what is kept blended in."""
        if self._hold is None:
            return learned
        if self._held is None or self._points is not points:
            self._points, self._held = points, self._hold.at(points)
        held = self._held if rows is None else self._held.rows(rows)
        return held.blended(learned)


def template_in_skin(hold: Hold, tone: str) -> tuple[Mesh, Float[Tensor, "S S"]] | None:
    """The template body that a hold keeps regions of, with its painted skin as the texture, and where it is worn.

    tone: one of `SKIN_TONES`. None where the kept surface is not a template's own.
    """
    if hold.shape is None:
        return None
    layout, device = load_body(hold.shape, "rest"), hold.mesh.device
    template = Mesh(
        hold.mesh.vertices[layout.uv_vertices.to(device)],
        layout.uv_faces.to(device),
        uvs=layout.uvs.to(device),
        texture=skin_picture(hold.shape, tone).to(device),
    )
    return template, skin_opacity().to(device)


def share_at(share: Float[Tensor, "Z Y X"], points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
    """A grid over the box at points in it, trilinear, without gradient to the points."""
    places = points.detach()[None, None, None] / BOX
    found = torch.nn.functional.grid_sample(
        share.to(points)[None, None], places, padding_mode="border", align_corners=True
    )
    return found[0, 0, 0, 0]


def hold_regions(mesh: Mesh, body: Body, regions: Sequence[str], worn: Mesh | None = None) -> Hold:
    """Keep these regions of a surface, such as the hands of the template body, and what is close around them free of
    anything else. body: in the mesh's frame (the working box). worn: the dressed start, closed, which stays elsewhere
    within `WORN`."""
    if not regions:
        return replace(_held(mesh, torch.zeros(CELLS**3)), worn=worn)
    own = mesh.faces.shape == body.faces.shape and torch.equal(mesh.faces.cpu(), body.faces.cpu())
    hold = _held(mesh, share_of_regions(_grid(), body, regions, REACH))
    core = _near_arms(body).to(mesh.device) if "hands" in regions else None
    return replace(hold, resolution=FINGERS, core=core, shape=body.shape if own else None, worn=worn)


def hold_all_but_labels(mesh: Mesh, labels: Int64[Tensor, " F"], names: Sequence[str]) -> Hold:
    """Keep everything of a surface but the faces with labels of these parts (`labels.LABELS_OF_PARTS`)."""
    for name in names:
        check_choice("part", name, tuple(LABELS_OF_PARTS))
    free = torch.isin(labels, labels_named([label for name in names for label in LABELS_OF_PARTS[name]]).to(labels))
    chosen = torch.zeros(mesh.num_vertices, dtype=torch.bool)
    chosen[mesh.faces[free].cpu()] = True
    return _held(mesh, 1 - share_near(_grid(), mesh.vertices.detach().cpu(), chosen))


def hold_all_but(mesh: Mesh, body: Body, regions: Sequence[str], colors: Float[Tensor, "V 3"] | None = None) -> Hold:
    """Keep everything of a surface but these regions: what an edit of "top" or "shoes" may change.

    colors: sRGB 0..1 of the mesh's vertices, if it is painted. Top and bottom then reach as far as their garments do.
    """
    places = _grid()
    share = share_of_regions(places, body, regions)
    if colors is not None:
        for region in sorted(HANGING.intersection(regions)):
            own = share_of_regions(mesh.vertices, body, [region]).cpu() >= 0.5
            worn = garment_vertices(mesh, colors, own)
            share = torch.maximum(share, share_near(places, mesh.vertices.cpu(), worn))
    return _held(mesh, 1 - share)


def _grid() -> Float[Tensor, "N 3"]:
    line = torch.linspace(-BOX, BOX, CELLS)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    return torch.stack([x, y, z], -1).reshape(-1, 3)


def _near_arms(body: Body) -> Bool[Tensor, "Z Y X"]:
    """Grid vertices in and around the arms."""
    from scipy.spatial import cKDTree

    vertices = body.vertices[following_vertices(body, ("upperarm", "lowerarm", "wrist"))]
    near = cKDTree(vertices.numpy()).query(_grid().numpy(), distance_upper_bound=4 * BOX / CELLS)[0]
    return torch.from_numpy(near < 4 * BOX / CELLS).reshape(CELLS, CELLS, CELLS)


def _held(mesh: Mesh, share: Float[Tensor, " N"]) -> Hold:
    plain = Mesh(mesh.vertices.detach(), mesh.faces)
    return Hold(plain, share.reshape(CELLS, CELLS, CELLS).to(mesh.device))
