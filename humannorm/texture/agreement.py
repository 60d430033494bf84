"""All views agree on the colours of one surface: what they show is brought together on its texels and shown again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from humannorm.cameras import Cameras
from humannorm.checks import InputError, check_range, check_tensor
from humannorm.images import lab_from_linear, lab_from_srgb, linear_from_srgb, luminance, srgb_from_linear
from humannorm.mesh import Mesh, face_areas, unique_edges, weld, welded_vertex_normals
from humannorm.rendering.fusing import SurfacePoints, SurfaceViews, observe
from humannorm.rendering.texels import Texels, find_texels, nearest_texel

__all__ = [
    "ColorAgreement",
    "FusingSettings",
    "HeldColors",
    "LabelsAt",
    "Neighbours",
    "TexelSurface",
    "disagreement_of",
    "label_leak",
    "nearer_shade",
    "texel_surface",
]

BORDER_RINGS = 2  # of edges beside a border between labels within which each texel is asked for its own
SPECK = 1e-3  # square world units: 3 cm by 3 cm on a person, which nothing with a label of its own is
ALIKE = 15.0  # CIELAB: colours that count as one and the same
LEAKED = 0.01  # factor on the trust in a pixel that shows another label's colour

LabelsAt = Callable[[Tensor], Tensor]
"""What the surface is at points [N, 3] of it (working box): int [N]."""


@dataclass(frozen=True)
class FusingSettings:
    """How much a view counts at a texel. All numbers are ours, found by looking at results."""

    power: tuple[float, float] = (1.0, 6.0)  # of the cosine, at the first level and at the last (TexPainter: 6)
    detail: float = 2.0  # power of a view's pixels per world unit: close-ups decide where they see
    trust: float = 0.03  # sight of a texel at which its own colour counts as much as its neighbours'
    neighbours: int = 12  # like-facing texels that an unseen one takes its colour from
    turn: float = 0.15  # world units that a quarter turn of the normal counts as much as, in looking for them
    leak_margin: float = 10.0  # CIELAB by which a pixel that is not believed is nearer to another label's asked colour
    stray: tuple[float, float] = (30.0, 50.0)  # CIELAB from the own asked colour over which belief in a pixel ends
    dye: float | None = None  # CIELAB that a texel may be off a shade of its label's asked colour; None: any colour
    oversampling: int = 3  # samples along a pixel's side when texels are shown

    def __post_init__(self) -> None:
        for name, value in (("power[0]", self.power[0]), ("power[1]", self.power[1]), ("detail", self.detail)):
            check_range(name, value, 0.0, 32.0)
        check_range("trust", self.trust, 0.0, 1.0)
        check_range("neighbours", self.neighbours, 1, 256)
        check_range("turn", self.turn, 0.0, 10.0)
        if self.dye is not None:
            check_range("dye", self.dye, 0.0, 100.0)
        check_range("oversampling", self.oversampling, 1, 8)


@dataclass(frozen=True, eq=False)
class HeldColors:
    """Colours that take part in every agreement and are not changed by it."""

    colors: Float[Tensor, "N 3"]  # sRGB 0..1
    share: Float[Tensor, " N"]  # how far each texel keeps its own, 0..1


@dataclass(frozen=True, eq=False)
class TexelSurface:
    """An unwrapped mesh as the texels that it wears."""

    mesh: Mesh  # with uvs
    texels: Texels
    points: SurfacePoints

    def texture(self, colors: Float[Tensor, "N 3"]) -> Float[Tensor, "S S 3"]:
        """The texels' colours as a picture, filled beyond the charts."""
        return self.texels.image(colors)


def texel_surface(mesh: Mesh, size: int, labels_at: LabelsAt | None = None) -> TexelSurface:
    """The texels of a texture of `size` x `size` on an unwrapped mesh; without labels all of it is one thing."""
    texels = find_texels(mesh, size)
    normals = welded_vertex_normals(mesh.vertices, mesh.faces) if mesh.normals is None else mesh.normals
    points = texels.interpolate(mesh, mesh.vertices)
    labels = torch.zeros(len(points), dtype=torch.int32, device=mesh.device)
    if labels_at is not None:
        labels = _texel_labels(mesh, labels_at, texels, points).to(labels)
    number, uvs, faces = nearest_texel(texels), mesh.uvs, mesh.faces
    assert uvs is not None

    def nearest(face: Int64[Tensor, " M"], weights: Float[Tensor, "M 3"]) -> Int64[Tensor, " M"]:
        uv = (uvs[faces[face]] * weights[..., None].to(uvs)).sum(1)
        column, row = (uv * size).long().clamp(0, size - 1).unbind(1)
        return number[row, column]

    unit = F.normalize(texels.interpolate(mesh, normals), dim=1)
    return TexelSurface(mesh, texels, SurfacePoints(points.contiguous(), unit.contiguous(), labels, nearest))


def _texel_labels(mesh: Mesh, labels_at: LabelsAt, texels: Texels, points: Float[Tensor, "N 3"]) -> Int64[Tensor, " N"]:
    """The texels' labels: near a border each one's own, elsewhere that of its face's vertices.

    The borders of a dressed start are smooth curves; a coarser mesh of it has no vertices where they run. Specks (an
    inner layer that pokes through a thin outer one) take what is around them.
    """
    found = labels_at(mesh.vertices)
    check_tensor("labels", found, f"{mesh.num_vertices}", dtype="int")
    if int(found.min()) < 0:
        raise InputError(f"labels: expected 0 or more, got {int(found.min())}")
    first = weld(mesh.vertices)
    corners = first[mesh.faces]
    edges = unique_edges(corners)
    labels = found.long()[first]
    speck = _specks(mesh.vertices, corners, edges, labels)
    labels = _filled(labels, speck, edges)
    crossed = edges[labels[edges[:, 0]] != labels[edges[:, 1]]]
    near_border = _within_rings(crossed.flatten(), edges, mesh.num_vertices, BORDER_RINGS)
    near_speck = _within_rings(speck.nonzero()[:, 0], edges, mesh.num_vertices, 1)
    own = (near_border[corners].any(1) & ~near_speck[corners].any(1))[texels.face]
    result = labels[corners[texels.face, 0]]
    result[own] = labels_at(points[own]).long()
    return result


def _within_rings(
    chosen: Int64[Tensor, " K"], edges: Int64[Tensor, "E 2"], count: int, rings: int
) -> Bool[Tensor, " V"]:
    """Which of `count` vertices are at most so many edges from the chosen ones."""
    near = torch.zeros(count, dtype=torch.bool, device=edges.device)
    near[chosen] = True
    for _ in range(rings):
        near[edges[near[edges].any(1)]] = True
    return near


def _filled(
    labels: Int64[Tensor, " V"], missing: Bool[Tensor, " V"], edges: Int64[Tensor, "E 2"]
) -> Int64[Tensor, " V"]:
    """The vertices' labels, missing ones from what most of their neighbours have, from the rim inwards."""
    low, high = edges.unbind(1)
    share = F.one_hot(labels).to(torch.float32)
    share[missing] = 0
    ends, others = torch.cat([low, high]), torch.cat([high, low])
    empty = missing & (ends.bincount(minlength=len(labels)) > 0)
    while bool(empty.any()):
        around = torch.zeros_like(share).index_add(0, ends, share[others])
        reached = empty & (around.sum(1) > 0)
        if not bool(reached.any()):
            break
        share[reached] = F.one_hot(around[reached].argmax(1), share.shape[1]).to(share)
        empty &= ~reached
    return share.argmax(1)


def _specks(vertices: Tensor, faces: Tensor, edges: Int64[Tensor, "E 2"], labels: Tensor) -> Bool[Tensor, " V"]:
    """Vertices of pieces of one label with less than `SPECK` of area, but for those that are all of their label."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    area = torch.zeros(len(vertices), device=vertices.device)
    for corner in range(3):
        area = area.index_add(0, faces[:, corner], face_areas(vertices, faces) / 3)
    pairs = edges[labels[edges[:, 0]] == labels[edges[:, 1]]].T.cpu().numpy()
    graph = coo_array((np.ones(pairs.shape[1], bool), (pairs[0], pairs[1])), shape=(len(vertices), len(vertices)))
    piece = torch.from_numpy(connected_components(graph.tocsr(), directed=False)[1]).long().to(labels.device)
    size = torch.zeros(int(piece.max()) + 1, device=area.device).index_add(0, piece, area)
    whole = torch.zeros(int(labels.max()) + 1, device=area.device).index_add(0, labels, area)
    return (size[piece] < SPECK) & (size[piece] < 0.5 * whole[labels])


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Texels that few or no views see take the mean of near ones of the same label that face the same way."""

    rows: Int64[Tensor, " M"]  # the texels that need it
    index: Int64[Tensor, "M K"]  # theirs
    weights: Float[Tensor, "M K"]  # sum to 1

    @staticmethod
    def find(
        points: SurfacePoints, needy: Tensor, sure: Tensor, settings: FusingSettings, most: int = 30_000
    ) -> Neighbours:
        """needy, sure: bool [N]. At most `most` of the sure ones are looked through, evenly drawn."""
        from scipy.spatial import cKDTree

        rows = needy.nonzero()[:, 0]
        donors = sure.nonzero()[:, 0]
        if not len(donors) or not len(rows):
            return Neighbours(rows[:0], rows[:0, None], points.points.new_zeros(0, 1))
        donors = donors[:: max(1, len(donors) // most)]
        apart = 1e3 * points.labels[:, None].float()  # labels never meet
        place = torch.cat([points.points, settings.turn / 2**0.5 * points.normals, apart], 1).cpu().numpy()
        count = min(settings.neighbours, len(donors))
        distance, found = cKDTree(place[donors.cpu().numpy()]).query(place[rows.cpu().numpy()], count)
        distance = torch.from_numpy(distance).view(len(rows), count).to(points.points)
        weights = 1 / (distance + 1e-3).square()
        index = donors[torch.from_numpy(found).view(len(rows), count).to(donors.device)]
        return Neighbours(rows, index, weights / weights.sum(1, keepdim=True))

    def filled(self, colors: Float[Tensor, "N C"], sight: Float[Tensor, " N"], trust: float) -> Float[Tensor, "N C"]:
        """The colours, each leaning on its neighbours' mean where it is badly seen."""
        if not len(self.rows):
            return colors
        theirs = (colors[self.index] * self.weights[..., None]).sum(1)
        own = sight[self.rows, None]
        result = colors.clone()
        result[self.rows] = torch.lerp(theirs, colors[self.rows], own / (own + max(trust, 1e-9)))
        return result


@dataclass(eq=False)
class ColorAgreement:
    """`humannorm.guidance.synchronised.Agreement` on the colours of a surface; keeps what was agreed last."""

    surface: TexelSurface
    views: SurfaceViews
    settings: FusingSettings
    held: HeldColors | None = None
    view_weights: Float[Tensor, " B"] | None = None
    asked: Float[Tensor, "L 3"] | None = None  # sRGB of each label, NaN where none was asked for
    neighbours: Neighbours = field(init=False)
    disagreement: list[float] = field(default_factory=list)  # at each agreement, see `disagreement_of`

    @staticmethod
    def of(
        surface: TexelSurface,
        cameras: Cameras,
        size: int,
        settings: FusingSettings,
        *,
        held: HeldColors | None = None,
        view_weights: Float[Tensor, " B"] | None = None,
        asked: Float[Tensor, "L 3"] | None = None,
        engine: str = "warp",
    ) -> ColorAgreement:
        """Between pictures of `size` pixels from these cameras."""
        views = observe(surface.mesh, surface.points, cameras, size, oversampling=settings.oversampling, engine=engine)
        return ColorAgreement(surface, views, settings, held, view_weights, asked)

    def __post_init__(self) -> None:
        views = self.views
        blank = torch.zeros(*views.pixel_weight.shape, 1, device=views.pixel_weight.device)
        _, sight = views.fuse(blank, power=1.0)
        # Beyond five times the trust a neighbour's say is below a sixth; those are left alone.
        self.neighbours = Neighbours.find(
            self.surface.points, sight < 5 * self.settings.trust, sight > 0.5, self.settings
        )

    def __call__(self, estimates: Float[Tensor, "B S S C"], share: float) -> Float[Tensor, "B S S C"]:
        """Pictures as they would be if they showed one surface."""
        low, high = self.settings.power
        if estimates.shape[-1] == 3:
            self.disagreement.append(disagreement_of(self.views, estimates, 2048))
        return self.views.show(self.fused(estimates, low + (high - low) * share), estimates)

    def fused(self, pictures: Float[Tensor, "B S S C"], power: float) -> Float[Tensor, "N C"]:
        """The texels' colours by all views, their neighbours and what is held."""
        colors, sight = self.views.fuse(
            pictures,
            power=power,
            detail=self.settings.detail,
            view_weights=self.view_weights,
            pixel_weight=self._trusted(pictures),
        )
        colors = self.neighbours.filled(self._with_asked(colors, sight), sight, self.settings.trust)
        return self.with_held(self._in_asked_shades(colors))

    def _with_asked(self, colors: Float[Tensor, "N C"], sight: Float[Tensor, " N"]) -> Float[Tensor, "N C"]:
        """The colours; where no view is believed that of the label."""
        if self.asked is None or colors.shape[1] != 3:
            return colors
        asked = self.asked.to(colors)[self.surface.points.labels.long()]
        doubted = ((sight < 5 * self.settings.trust) & asked.isfinite().all(1)).nonzero()[:, 0]
        own = sight[doubted, None] / (sight[doubted, None] + max(self.settings.trust, 1e-9))
        return colors.index_copy(0, doubted, torch.lerp(asked[doubted], colors[doubted], own))

    def _in_asked_shades(self, colors: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """The colours, those of labels with an asked one no further from its shades than `FusingSettings.dye`."""
        if self.asked is None or self.settings.dye is None or colors.shape[1] != 3:
            return colors
        asked = self.asked.to(colors)[self.surface.points.labels.long()]
        known = asked.isfinite().all(1).nonzero()[:, 0]
        return colors.index_copy(0, known, nearer_shade(colors[known], asked[known], self.settings.dye))

    def _trusted(self, pictures: Float[Tensor, "B S S C"]) -> Float[Tensor, "B S S"]:
        """Trust in every pixel: next to none in one that shows another label's colour, or one far from its own."""
        trust = self.views.pixel_weight
        if self.asked is None or pictures.shape[3] != 3:
            return trust
        shown = self.views.pixel_label >= 0
        colors, labels = pictures[shown], self.views.pixel_label[shown].long()
        leaked = leaks(colors, labels, self.asked, self.settings.leak_margin)
        begin, end = self.settings.stray
        away = (lab_from_srgb(colors.clamp(0, 1)) - lab_from_srgb(self.asked.to(colors))[labels]).norm(dim=1)
        near = ((end - away) / (end - begin)).clamp(LEAKED, 1).nan_to_num(1.0)
        factor = torch.ones_like(trust)
        factor[shown] = torch.where(leaked, LEAKED, near)
        return trust * factor

    def with_held(self, colors: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        if self.held is None or colors.shape[1] != 3:
            return colors
        return torch.lerp(colors, self.held.colors.to(colors), self.held.share.to(colors)[:, None])


def nearer_shade(colors: Float[Tensor, "N 3"], dyes: Float[Tensor, "N 3"], apart: float) -> Float[Tensor, "N 3"]:
    """The colours, drawn towards the shade of their dye that is as light, until they are `apart` (CIELAB) from it.

    Light on a cloth of one colour scales its linear components alike: a shade of a dye is a multiple of it. Luminances
    stay, but where the shade would be lighter than a screen can show. All colours are sRGB, 0..1.
    """
    light, dye = linear_from_srgb(colors.clamp(0, 1)), linear_from_srgb(dyes)
    shade = (dye * luminance(light) / luminance(dye).clamp_min(1e-4)).clamp(0, 1)
    off = (lab_from_linear(light) - lab_from_linear(shade)).norm(dim=1, keepdim=True)
    return srgb_from_linear(torch.lerp(shade, light, (apart / off.clamp_min(1e-6)).clamp_max(1)))


@torch.no_grad()
def disagreement_of(views: SurfaceViews, pictures: Float[Tensor, "B S S 3"], most: int = 8192) -> float:
    """Mean CIELAB distance between what single views say of a texel and their mean, over evenly drawn texels.

    Each view counts by its weight at the texel; texels that fewer than two views see are left out.
    """
    count = len(views.surface.points)
    index = torch.arange(0, count, max(1, count // most), device=pictures.device)
    said, weights = views.at(pictures, index)
    weights = weights * (weights > 0.05)
    several = (weights > 0).sum(1) > 1
    if not bool(several.any()):
        return 0.0
    lab, weights = lab_from_srgb(said[several].clamp(0, 1)), weights[several]
    weights = weights / weights.sum(1, keepdim=True)
    mean = (lab * weights[..., None]).sum(1, keepdim=True)
    return float(((lab - mean).norm(dim=-1) * weights).sum(1).mean())


def label_leak(colors: Float[Tensor, "N 3"], labels: Int[Tensor, " N"], asked: Float[Tensor, "L 3"]) -> float:
    """Share of texels, of those for whose label a colour was asked, that have another label's; see `leaks`."""
    counted = asked.isfinite().all(1)[labels.long()]
    if not bool(counted.any()):
        return 0.0
    return float(leaks(colors[counted], labels[counted], asked).float().mean())


def leaks(
    colors: Float[Tensor, "N 3"], labels: Int[Tensor, " N"], asked: Float[Tensor, "L 3"], margin: float = 0.0
) -> Bool[Tensor, " N"]:
    """Colours that are nearer to what was asked for another label than to what was for their own.

    asked: sRGB of each label, NaN where none was asked for. Labels with colours within `ALIKE` of each other cannot
    leak into one another.
    """
    known = asked.isfinite().all(1)
    wanted = lab_from_srgb(asked.nan_to_num(0.0).to(colors))
    own = labels.long()
    distance = torch.cdist(lab_from_srgb(colors.clamp(0, 1)), wanted)
    impossible = (torch.cdist(wanted, wanted) < ALIKE) | ~known
    to_own = distance.gather(1, own[:, None])[:, 0]
    return known[own] & (distance.masked_fill(impossible[own], torch.inf).amin(1) < to_own - margin)
