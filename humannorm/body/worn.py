"""Solids of the asked hair, skirt or shorts around a standing body: what no start body has and no small guide invents.

Hair is a cap over the skull, a fall of chosen length behind the face, a tail or a knot; a skirt is the hull of hips and
legs that hangs from its widest ring and opens downward; shorts are a tube around each thigh below a short skirt. All
are closed surfaces that begin inside the body, so that body and solids united are one piece. Lengths are world units of
the working box (a standing body is 1.8 tall).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body.body import Body
from humannorm.body.parts import following_vertices, part_vertices
from humannorm.checks import check_choice, check_range
from humannorm.mesh import Mesh

__all__ = ["HAIR_STYLES", "STANDING", "Worn", "solids_of"]

STANDING = frozenset({"a-pose", "rest", "t-pose", "standing"})  # the poses in which cloth and hair hang straight
HAIR_STYLES = ("none", "short", "bob", "long", "ponytail", "braid", "bun", "afro")
RING = 64  # points of a ring
EASE = 0.012  # of cloth over the hull
HAIR = 0.23  # thickness of a head of hair, in halves of the head: beyond the reach of painted skin
CROTCH = 0.14  # where the legs part, as `Worn.hem`
LEG_FLARE = 0.02  # of the hem of shorts
SEAT_TAPER = -0.03  # of the seat toward the crotch
SLAB = 0.02  # half height of the slice of vertices behind a ring


@dataclass(frozen=True)
class Worn:
    """What a prompt says of hair, skirt and shorts."""

    hair: str = "none"  # one of HAIR_STYLES; "none": bald, covered, or not said
    hem: float = 0.0  # where a skirt ends, 0 at the hips, 1 at the ankles; 0: no skirt
    flare: float = 0.0  # how much wider than the hips its hem is, world units to each side
    legs: float = 0.0  # where the legs of shorts end, as `hem`; 0: no shorts
    bare: bool = False  # the shins show

    def __post_init__(self) -> None:
        check_choice("hair", self.hair, HAIR_STYLES)
        check_range("hem", self.hem, 0.0, 1.0)
        check_range("flare", self.flare, 0.0, 0.5)
        check_range("legs", self.legs, 0.0, 1.0)


def solids_of(body: Body, worn: Worn) -> tuple[Mesh, ...]:
    """Closed solids around a body in the working box, each begun inside it; none in poses that do not stand."""
    if body.pose not in STANDING:
        return ()
    solids = [] if not worn.hem else [_skirt(body, worn.hem, worn.flare)]
    if worn.legs:
        solids += [_skirt(body, CROTCH, SEAT_TAPER), *(_leg_of_shorts(body, side, worn.legs) for side in "LR")]
    return (*solids, *_hair(body, worn.hair))


def _skirt(body: Body, hem: float, flare: float) -> Mesh:
    """Rings from the waist down: the hull of torso and legs, never narrower than above, opening toward the hem."""
    hanging = ("root", "pelvis", "upperleg", "lowerleg", "spine03", "spine04", "spine05")
    vertices = body.vertices[following_vertices(body, hanging)]
    hips, ankles = (
        float(torch.stack([body.joint(f"{name}.{side}") for side in "LR"]).mean(0)[1])
        for name in ("upperleg01", "foot")
    )
    waist = float(body.joint("spine04")[1])
    low = hips + hem * (ankles - hips)
    heights = torch.linspace(waist, low, max(8, round((waist - low) / 0.03)))
    slices = [_slice(vertices, float(y)) for y in heights]
    centre = torch.stack([points.mean(0) for points in slices[:4]]).mean(0)
    radii = _rounded(torch.stack([_hull_radius(points, centre) for points in slices]))
    below = ((hips - heights) / (hips - low)).clamp(0, 1)[:, None]
    above = ((heights - hips) / (waist - hips)).clamp(0, 1)[:, None]
    # Begun inside the waist; from the hips down it hangs from the widest ring.
    radii = (radii.cummax(0).values + EASE + flare * below) * (1 - 0.12 * above)
    return _loft(centre + radii[..., None] * _directions(), heights)


def _leg_of_shorts(body: Body, side: str, end: float) -> Mesh:
    """Rings around one leg from inside the seat down, as wide as the thigh is high up."""
    vertices = body.vertices[
        following_vertices(body, (f"upperleg01.{side}", f"upperleg02.{side}", f"lowerleg01.{side}"))
    ]
    hip, ankle = (float(body.joint(f"{name}.{side}")[1]) for name in ("upperleg01", "foot"))
    heights = torch.linspace(hip, hip + end * (ankle - hip), 12)
    slices = [_slice(vertices, float(y)) for y in heights]
    centres = torch.stack([(points.amin(0) + points.amax(0)) / 2 for points in slices])
    hulls = zip(slices, centres, strict=True)
    radii = _rounded(torch.stack([_hull_radius(points, centre) for points, centre in hulls]))
    below = torch.linspace(0, 1, len(heights))[:, None]
    radii = torch.lerp(radii, radii[len(radii) // 4].expand_as(radii), below.clamp(max=0.8)) + EASE + LEG_FLARE * below
    return _loft(centres[:, None] + radii[..., None] * _directions(), heights)


def _hair(body: Body, style: str) -> list[Mesh]:
    if style == "none":
        return []
    skull = _Skull.of(body)
    unit = skull.unit
    solids = [_cap(skull, (0.55 if style == "afro" else HAIR) * unit, -0.25 if style == "short" else -0.75)]
    if style in ("bob", "long"):
        solids.append(_curtain(body, skull, HAIR * unit, skull.neck[1] - (0.25 if style == "bob" else 2.6) * unit))
    knot = skull.centre + skull.centre.new_tensor((0.0, 0.55 * unit, -0.85 * unit))
    if style == "bun":
        solids.append(_ball(knot, 0.42 * unit))
    if style in ("ponytail", "braid"):
        length, thickness = (2.2, 0.46) if style == "ponytail" else (3.0, 0.24)
        solids.append(_tail(body, knot, length * unit, thickness * unit))
    return solids


@dataclass(frozen=True, eq=False)
class _Skull:
    """What hair is measured by."""

    vertices: Float[Tensor, "V 3"]  # of head and neck
    centre: Float[Tensor, "3"]  # at the height of the eyes, between the ears
    neck: Float[Tensor, "3"]
    unit: float  # from the eyes to the crown

    @staticmethod
    def of(body: Body) -> _Skull:
        vertices = body.vertices[part_vertices(body, ["head"])]
        eyes = torch.stack([body.joint(f"eye.{side}") for side in "LR"]).mean(0)
        centre = torch.stack([0 * eyes[0], eyes[1], body.joint("head")[2]])
        return _Skull(vertices, centre, body.joint("neck02"), float(vertices[:, 1].max() - eyes[1]))


def _cap(skull: _Skull, ease: float, low: float) -> Mesh:
    """The convex hull of the hairy part of the skull, moved outward: crown to hairline, behind the ears down to `low`
    (in halves of the head, from the eyes)."""
    from scipy.spatial import ConvexHull

    off = (skull.vertices - skull.centre) / skull.unit
    hairy = (off[:, 1] > 0.55) | ((off[:, 2] < 0.0) & (off[:, 1] > low))
    points = skull.vertices[hairy] + ease * torch.nn.functional.normalize(off[hairy], dim=1)
    hull = ConvexHull(points.double().numpy())
    used = torch.from_numpy(hull.vertices).long()
    compact = torch.zeros(len(points), dtype=torch.long)
    compact[used] = torch.arange(len(used))
    faces, vertices = compact[torch.from_numpy(hull.simplices).long()], points[used]
    corners = vertices[faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inward = (normals * (corners.mean(1) - vertices.mean(0))).sum(1) < 0
    return Mesh(vertices, torch.where(inward[:, None], faces[:, [0, 2, 1]], faces))


def _curtain(body: Body, skull: _Skull, ease: float, end: Float[Tensor, ""]) -> Mesh:
    """Half-moons from the ears down to `end`, open to the front: as wide as the head, as deep as neck and back are."""
    unit = skull.unit
    off = skull.vertices - skull.centre
    level = off[off[:, 1].abs() < 0.3 * unit]
    half_width, depth = float(level[:, 0].max()) + ease, float(-level[:, 2].min()) + ease
    trunk = following_vertices(body, ("neck", "head", "spine", "clavicle", "shoulder"))
    back = body.vertices[trunk & (body.vertices[:, 0].abs() < half_width)]
    heights = torch.linspace(float(skull.centre[1]) + 0.2 * unit, float(end), 32)
    away = _angles()
    away = torch.atan2(away.sin(), away.cos()).abs() / math.pi  # 0 in front, 1 behind
    rings = []
    for height in heights.tolist():
        behind = float(skull.centre[2] - _slice(back, height)[:, 1].min()) + ease
        deep = max(depth, behind) if height < skull.centre[1] else depth
        last = min(1.0, max(0.0, (height - float(end)) / (0.8 * unit)))  # gathers toward its end
        wide = half_width * (0.8 + 0.2 * last)
        x, z = _directions().T
        outer = ((x / wide) ** 2 + (z / deep) ** 2).rsqrt()
        rings.append(torch.lerp(torch.full_like(outer, 0.3 * half_width), outer, ((away - 0.4) / 0.1).clamp(0, 1)))
    return _loft(skull.centre[[0, 2]] + _rounded(torch.stack(rings))[..., None] * _directions(), heights)


def _tail(body: Body, crown: Float[Tensor, "3"], length: float, thickness: float) -> Mesh:
    """Hair that leaves the back of the head and hangs along the back."""
    steps = torch.linspace(0, 1, 24)
    heights = crown[1] + 0.6 * thickness - length * steps**1.5
    backs = torch.stack(
        [_slice(body.vertices[body.vertices[:, 0].abs() < 0.06], float(y))[:, 1].min() for y in heights]
    )
    out = torch.minimum(backs, crown[2] + 0.02) - 0.9 * thickness
    out[:3] = torch.stack([crown[2] + 2 * thickness, (crown[2] + out[2]) / 2, out[2]])  # leaves the skull
    spine = torch.stack([torch.zeros(24), heights, out], 1)
    radii = thickness * torch.sin(math.pi * (0.12 + 0.8 * steps)).clamp_min(0.25) * (1 - 0.45 * steps)
    return _tube(spine, radii)


def _ball(centre: Float[Tensor, "3"], radius: float) -> Mesh:
    turn = torch.linspace(-1, 1, 13) * math.pi / 2 * 0.96
    flat = torch.stack([centre[0] * 0, centre[2]])
    return _loft(flat + (radius * turn.cos())[:, None, None] * _directions(), centre[1] + radius * turn.sin().flip(0))


def _tube(spine: Float[Tensor, "K 3"], radii: Float[Tensor, " K"]) -> Mesh:
    """Horizontal-to-upright rings across a line in the plane x = 0."""
    along = torch.gradient(spine, dim=0)[0]
    along = along / along.norm(dim=1, keepdim=True)
    side = torch.tensor((1.0, 0.0, 0.0)).expand_as(along)
    front = torch.linalg.cross(side, along)
    directions = _directions()
    rings = spine[:, None] + radii[:, None, None] * (
        directions[None, :, :1] * side[:, None] - directions[None, :, 1:] * front[:, None]
    )
    return _closed(rings)


def _angles() -> Float[Tensor, " A"]:
    """Of a ring's points about +Y: 0 is the front, then toward the subject's left."""
    return torch.arange(RING) * (2 * math.pi / RING)


def _directions() -> Float[Tensor, "A 2"]:
    """Unit vectors (x, z) of a ring's points."""
    return torch.stack([_angles().sin(), _angles().cos()], 1)


def _slice(vertices: Float[Tensor, "V 3"], height: float) -> Float[Tensor, "N 2"]:
    """(x, z) of the vertices near a height; of the nearest sixteen where a slab of them is empty."""
    off = (vertices[:, 1] - height).abs()
    near = off < max(SLAB, float(off.kthvalue(min(16, len(off))).values) + 1e-6)
    return vertices[near][:, [0, 2]]


def _hull_radius(points: Float[Tensor, "N 2"], centre: Float[Tensor, "2"]) -> Float[Tensor, " A"]:
    """Radius of the points' convex hull in each ring direction: r(a) = min over b of h(b) / cos(a - b), with the hull's
    support function h."""
    support = ((points - centre) @ _directions().T).amax(0).clamp_min(1e-3)
    angle = _angles()
    cosine = (angle[:, None] - angle[None, :]).cos()
    return torch.where(cosine > 0.05, support[None] / cosine.clamp_min(0.05), torch.inf).amin(1)


def _rounded(radii: Float[Tensor, "K A"]) -> Float[Tensor, "K A"]:
    """Rings smoothed around (three points to each side) and from ring to ring (one)."""
    kernel = torch.tensor((1.0, 6.0, 15.0, 20.0, 15.0, 6.0, 1.0)) / 64
    around = torch.nn.functional.pad(radii[:, None], (3, 3), mode="circular")
    smooth = torch.nn.functional.conv1d(around, kernel[None, None])[:, 0]
    padded = torch.cat([smooth[:1], smooth, smooth[-1:]])
    return (padded[:-2] + 2 * smooth + padded[2:]) / 4


def _loft(rings: Float[Tensor, "K A 2"], heights: Float[Tensor, " K"]) -> Mesh:
    """The closed surface through horizontal rings (x, z), from the highest to the lowest."""
    y = heights.to(rings)[:, None].expand(rings.shape[:2])
    return _closed(torch.stack([rings[..., 0], y, rings[..., 1]], -1))


def _closed(rings: Float[Tensor, "K A 3"]) -> Mesh:
    """Walls between rings and a fan over each end, outward for rings that turn left about their way downward."""
    count = len(rings)
    around, after = torch.arange(RING), (torch.arange(RING) + 1) % RING
    faces: list[Tensor] = []
    for k in range(count - 1):
        a, b, c, d = (k * RING + around, k * RING + after, (k + 1) * RING + around, (k + 1) * RING + after)
        faces += [torch.stack([a, c, b], 1), torch.stack([b, c, d], 1)]
    first, last = count * RING, count * RING + 1
    end = (count - 1) * RING
    faces.append(torch.stack([torch.full_like(around, first), around, after], 1))
    faces.append(torch.stack([torch.full_like(around, last), end + after, end + around], 1))
    vertices = torch.cat([rings.reshape(-1, 3), rings[[0]].mean(1), rings[[-1]].mean(1)])
    return Mesh(vertices, torch.cat(faces))
