"""Cloth, folds and strands of what a dressed body wears, at any points on or near it.

The start's clothes come with a look of their own (`body.fabrics`): how bright each place is around the garment's
median, and which way its folds and strands lean. Networks of 128 pixels draw nothing as fine; the painting takes it
from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import scipy.ndimage
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from humannorm.body import Body, Outfit
from humannorm.body.fabrics import Fabric, fabric_of
from humannorm.body.hulls import HANGING_POSES
from humannorm.body.outfit import CUTS, Piece
from humannorm.body.wardrobe import fitted
from humannorm.colours import colour_value
from humannorm.distance.signed_distance import SignedDistance
from humannorm.geometry.outfits import garments_of
from humannorm.labels import LABELS, label_number
from humannorm.mesh import Mesh, face_areas
from humannorm.rendering.textures import sample_texture

__all__ = ["FabricLook", "WornFabric"]

PATTERNS: Mapping[str, str] = {
    **dict.fromkeys(("stripe", "striped", "stripes"), "stripes"),
    **dict.fromkeys(("checkered", "chequered", "checked", "plaid", "tartan"), "checks"),
    **dict.fromkeys(("dotted", "polka-dot", "polkadot", "polka-dotted", "polkadotted"), "dots"),
}
"""What is drawn for a pattern's word; other words are left to the networks."""
BUTTONED = frozenset({"coat", "short coat"})  # cuts
# Of a coat's front, world units: how far left of the middle its edge lies and its buttons right of it, and their sizes.
CLOSING, CLOSING_EDGE, BUTTON, BUTTONS_APART = 0.022, 0.007, 0.012, 0.11
LOWEST_BUTTON, HIGHEST_BUTTON = -2, 3  # counted from the waist
EDGE_SHADE, BUTTON_SHADE = 0.45, 0.4  # brightness beside the cloth's
PATTERN_STEP = 0.03  # world units: width of a stripe or of a check's band
DOT = 0.22  # radius of a dot, in double steps
EDGE = 0.12  # of a step, over which a pattern's colours meet
LIGHT = 0.6  # mean of sRGB from which a colour counts as light
REACH, HAIR_REACH = 0.05, 0.1  # world units from a garment, or a hairdo, within which a surface is of its fabric
COARSE = 0.02  # world units: the detail of pictures in which a person is 128 pixels tall
FINEST, BRIGHTEST = 0.6, 1.5  # of the ratio between a place and what is around it
RELIEF = 1.5  # slope of a strand or a seam that doubles in brightness within a texel of the garment's picture
MOST_LEAN = 0.8  # sine of the steepest fold
CONTRAST = {"hair": 0.5, "shoes": 0.4}
"""Power of the coarse part of the shade, else 1: dark ends and worn soles are the source's, not the prompt's."""
CALMED: Mapping[str, float] = {"afro": 0.35}
"""Garments of which the fine part is too strong, and its power: curls that are drawn as lines."""
FOLD = 1.5  # factor on the folds of cloth: the source's are those of a picture with shadows painted in
HOLE = 0.4  # mean opacity of a face below which it counts as nothing
FOLDS_OF: Mapping[str, str] = {
    "t-shirt-1": "t-shirt-3",
    "t-shirt-2": "t-shirt-3",
    "crop-top": "t-shirt-3",
    "sweater": "shirt",
    "suit-jacket": "shirt",
    "trousers": "jeans-2",
}
"""Garments whose picture has no folds take those of one that hangs alike on the same body."""
LEGS = ("jeans-2",)


@dataclass(frozen=True, eq=False)
class FabricLook:
    """How fabric looks at N points, neutral where there is none."""

    shade: Float[Tensor, " N"]  # brightness, 1 as the garment's median
    fine: Float[Tensor, " N"]  # brightness around that of the `COARSE` surroundings
    lean: Float[Tensor, "N 3"]  # tangential part of the unit normal that folds and strands add
    second: Float[Tensor, "N 3"]  # sRGB of the other colour of a patterned piece
    share: Float[Tensor, " N"]  # how far the pattern shows that colour, 0..1
    patterned: Bool[Tensor, " N"]  # whether the piece has a pattern


@dataclass(frozen=True, eq=False)
class WornFabric:
    """A body in its outfit, in the working box."""

    body: Body
    outfit: Outfit

    @cached_property
    def _garments(self) -> Mapping[int, tuple[str, ...]]:
        """Garments by the number of their label."""
        found: dict[int, tuple[str, ...]] = {}
        for piece in self.outfit.pieces:
            number = label_number(piece.label)
            found[number] = (*found.get(number, ()), *_cloth_of(self.body, piece))
        return found

    @torch.no_grad()
    def look_at(self, points: Float[Tensor, "N 3"], labels: Int[Tensor, " N"]) -> FabricLook:
        """The look at points of a surface that grew out of the dressed body.

        labels: what each point is of (`humannorm.labels`).
        """
        count = len(points)
        shade, fine, lean = torch.ones(count), torch.ones(count), torch.zeros(count, 3)
        second, share, patterned = torch.zeros(count, 3), torch.zeros(count), torch.zeros(count, dtype=torch.bool)
        for number, names in self._garments.items():
            rows = (labels.cpu() == number).nonzero()[:, 0]
            if not len(rows):
                continue
            own = points[rows].cpu()
            pieces = [_Cloth(fitted(self.body, name), fabric_of(name)) for name in names]
            found = [piece.nearest(own) for piece in pieces]
            nearest = torch.stack([away for away, _, _ in found]).argmin(0) if found else None
            reach = HAIR_REACH if LABELS[number] == "hair" else REACH
            for k, (away, face, uv) in enumerate(found):
                mine = (nearest == k) & (away < reach)
                at, uv = rows[mine], uv[mine]
                detail = _sampled(pieces[k].fine, uv)
                coarse = (_sampled(pieces[k].fabric.shade, uv) / detail).clamp_min(0.05)
                fine[at] = detail ** CALMED.get(names[k], 1.0)
                shade[at] = fine[at] * coarse ** CONTRAST.get(LABELS[number], 1.0)
                donor = FOLDS_OF.get(names[k])
                if donor is None:
                    lean[at] = pieces[k].lean_at(face[mine], uv)
                else:
                    folds = _Cloth(fitted(self.body, donor), fabric_of(donor))
                    far, face_there, uv_there = folds.nearest(own[mine])
                    lean[at] = folds.lean_at(face_there, uv_there) * (far < HAIR_REACH)[:, None]
            if number in self._closing:
                dark = self._front_closing(own)
                fine[rows], shade[rows] = fine[rows] * dark, shade[rows] * dark
            piece = self._patterned.get(number)
            if piece is not None:
                second[rows], share[rows] = second_colour(piece), pattern_at(piece.pattern, self._at_rest(own))
                patterned[rows] = True
        looks = (shade, fine, lean, second, share, patterned)
        return FabricLook(*(each.to(points.device) for each in looks))

    @cached_property
    def _patterned(self) -> Mapping[int, Piece]:
        """By the number of their label, the outermost pieces with a pattern that can be drawn."""
        return {label_number(piece.label): piece for piece in self.outfit.pieces if piece.pattern in PATTERNS}

    @cached_property
    def _closing(self) -> frozenset[int]:
        """Numbers of the labels of coats, which are made closed: where they close is drawn."""
        coats = [piece for piece in self.outfit.pieces if piece.cut in BUTTONED and self.body.pose in HANGING_POSES]
        return frozenset(label_number(piece.label) for piece in coats)

    def _front_closing(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Brightness of the edge and the buttons down the front of a coat."""
        waist = self.body.joint("spine04")
        x, y, z = (points - waist).unbind(1)
        edge = 1 - (1 - EDGE_SHADE) * ((CLOSING_EDGE - (x - CLOSING).abs()) / CLOSING_EDGE).clamp(0, 1)
        steps = y / BUTTONS_APART
        away = torch.stack([x + CLOSING, (steps - steps.round()) * BUTTONS_APART]).norm(dim=0)
        high = (steps.round() >= LOWEST_BUTTON) & (steps.round() <= HIGHEST_BUTTON)
        button = torch.where((away < BUTTON) & high, BUTTON_SHADE, 1.0)
        return torch.where(z > 0, edge * button, 1.0)

    def _at_rest(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Where the skin nearest to the points is at rest: a pattern is of the cloth, not of the pose."""
        body = self.body
        closest = SignedDistance(body.vertices, body.faces, inside_out="flip").closest(points)
        corners = body.rest_vertices[body.faces[closest.face]]
        # Skirts hang far from any skin: the way there is taken along.
        return (corners * closest.barycentric.to(corners)[..., None]).sum(1) + points - closest.point


def _cloth_of(body: Body, piece: Piece) -> tuple[str, ...]:
    """Garments whose fabric a piece has: its own, but all shorts that of jeans, since the wardrobe's are cut off in
    fringes halfway down theirs."""
    tube = CUTS[piece.cut].tube
    return LEGS if tube is not None and tube.legs else garments_of(body, piece)


def second_colour(piece: Piece) -> Tensor:
    """sRGB of a patterned piece's other colour: the second one that is said, else white on dark and navy on light."""
    if len(piece.colours) > 1:
        return torch.tensor(colour_value(piece.colours[1]))
    main = piece.colour()
    is_light = main is not None and sum(main) > LIGHT * 3
    return torch.tensor(colour_value("navy" if is_light else "white"))


def pattern_at(pattern: str, rest: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
    """How far a pattern shows the second colour at places of the body at rest, world units."""
    x, y = rest[:, 0] / PATTERN_STEP, rest[:, 1] / PATTERN_STEP
    if PATTERNS[pattern] == "stripes":
        return _band(y)
    if PATTERNS[pattern] == "checks":
        return (_band(x) + _band(y)) / 2
    row = (y / 2).round()
    across = x / 2 + row / 2  # every other row half a step to the side
    away = torch.stack([across - across.round(), y / 2 - row]).norm(dim=0)
    return ((DOT - away) / EDGE + 0.5).clamp(0, 1)


def _band(phase: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """1 in every other band of length 1, soft over `EDGE`."""
    return (((phase * torch.pi).sin() / torch.pi) / EDGE + 0.5).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class _Cloth:
    """One garment in its place."""

    mesh: Mesh
    fabric: Fabric

    @cached_property
    def solid(self) -> Int64[Tensor, " S"]:
        """Faces that are not mostly holes."""
        if self.fabric.opacity is None:
            return torch.arange(self.mesh.num_faces)
        middle = self.fabric.uvs[self.fabric.faces].mean(1)
        kept = (_sampled(self.fabric.opacity, middle) > HOLE).nonzero()[:, 0]
        return kept if len(kept) else torch.arange(self.mesh.num_faces)

    @cached_property
    def distance(self) -> SignedDistance:
        return SignedDistance(self.mesh.vertices, self.mesh.faces[self.solid], inside_out="flip")

    @cached_property
    def fine(self) -> Float[Tensor, "H W"]:
        """The shade around that of its surroundings."""
        shade = self.fabric.shade
        smooth = scipy.ndimage.gaussian_filter(shade.numpy(), COARSE / 2 * self.texels_per_unit, mode="nearest")
        return (shade / torch.from_numpy(smooth).clamp_min(1e-3)).clamp(FINEST, BRIGHTEST)

    @cached_property
    def texels_per_unit(self) -> float:
        """Of the picture, along a world unit of the garment."""
        height, width = self.fabric.shade.shape
        edges = self.fabric.uvs[self.fabric.faces] * torch.tensor([width, height])
        first, second = edges[:, 1] - edges[:, 0], edges[:, 2] - edges[:, 0]
        area = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).abs().sum() / 2
        return float((area / face_areas(self.mesh.vertices, self.mesh.faces).sum()).sqrt())

    @cached_property
    def bump(self) -> Float[Tensor, "H W 2"]:
        """The given one, or the relief of light strands on dark ground."""
        if self.fabric.bump is not None:
            return FOLD * self.fabric.bump
        height = F.pad(self.fine.log()[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
        along, down = (height[1:-1, 2:] - height[1:-1, :-2]) / 2, (height[2:, 1:-1] - height[:-2, 1:-1]) / 2
        return (RELIEF * torch.stack([-along, down], -1)).clamp(-MOST_LEAN, MOST_LEAN)

    @cached_property
    def frames(self) -> Float[Tensor, "S 2 3"]:
        """Of each solid face, unit directions along +u and up in the picture."""
        corners = self.mesh.vertices[self.mesh.faces[self.solid]]
        uv = self.fabric.uvs[self.fabric.faces[self.solid]]
        (p1, p2), (q1, q2) = (corners[:, k] - corners[:, 0] for k in (1, 2)), (uv[:, k] - uv[:, 0] for k in (1, 2))
        turned = torch.sign(q1[:, :1] * q2[:, 1:] - q2[:, :1] * q1[:, 1:])
        along = F.normalize((p1 * q2[:, 1:] - p2 * q1[:, 1:]) * turned, dim=1)
        down = (p2 * q1[:, :1] - p1 * q2[:, :1]) * turned
        down = F.normalize(down - along * (down * along).sum(1, keepdim=True), dim=1)
        return torch.stack([along, -down], 1)

    def nearest(
        self, points: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, " N"], Int64[Tensor, " N"], Float[Tensor, "N 2"]]:
        """How far the garment is, and of its nearest places the face among the solid ones and the coordinates."""
        closest = self.distance.closest(points)
        corners = self.fabric.uvs[self.fabric.faces[self.solid[closest.face]]]
        uv = (corners * closest.barycentric.to(corners)[..., None]).sum(1)
        return (closest.point - points).norm(dim=1), closest.face, uv

    def lean_at(self, face: Int64[Tensor, " N"], uv: Float[Tensor, "N 2"]) -> Float[Tensor, "N 3"]:
        """What its folds add to the normal at places that `nearest` gave."""
        lean = sample_texture(self.bump, uv[None, None])[0, 0]
        return (self.frames[face] * lean[..., None]).sum(1)


def _sampled(picture: Float[Tensor, "H W"], uv: Float[Tensor, "N 2"]) -> Float[Tensor, " N"]:
    return sample_texture(picture[..., None], uv[None, None])[0, 0, :, 0]
