"""Hulls of the body for what the wardrobe does not have: skirts, coats, legs of shorts, knots of hair, caps, hoods.

A skirt is the hull of hips and legs that hangs from its widest ring and opens downward; shorts are a tube around each
thigh below a short skirt; what covers the head is the hull of the skull, a hood with a fall behind the face. All are
closed surfaces that begin inside the body, so that body and hulls united are one piece. They are made around the body
as it stands and follow any other pose by the weights of the body's vertices nearby. Lengths are world units of the
working box (a standing body is 1.8 tall).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body.body import Body, load_body
from humannorm.body.linear_blend_skinning import linear_blend_skinning
from humannorm.body.outfit import HEAD_HULLS, Cut
from humannorm.body.regions import following_vertices, region_vertices
from humannorm.checks import check_choice
from humannorm.mesh import Mesh

__all__ = ["HANGING_POSES", "hulls_of"]

HANGING_POSES = frozenset({"a-pose", "rest", "t-pose", "standing"})  # in which cloth and hair hang as they are made
RING = 128  # points of a ring
EASE, OUTER_EASE = 0.012, 0.03  # of cloth over the hull; of a coat, over what is worn below it
TUCK, SEAM = 0.12, 0.04  # how much narrower the top of a skirt is than what it hangs from; of a dress below its waist
DRAPE = 0.4  # of the hem's flare: how deep the folds of a skirt are there
FOLDS = ((9, 0.6, 1.0), (14, 2.1, 0.6))  # around a skirt, their turn in radians, and weight
COVER = 0.23  # thickness of what covers the head, in halves of the head
FLAT = 0.06  # of hair that is pressed to the skull, in halves of the head
CHIN = 0.8  # below the eyes, in halves of the head
WRAP = 0.8  # thickness of what is wrapped around the neck, of that of the rest
AFRO = 1.1  # radius of an afro, in halves of the head
CROTCH = 0.14  # where the legs part, as `Tube.end`
LEG_FLARE = 0.02  # of the hem of shorts
SEAT_TAPER = -0.03  # of the seat toward the crotch
SLAB = 0.02  # half height of the slice of vertices behind a ring
NEIGHBOURS = 12  # vertices of the body whose weights a point of a hull follows, the mean of them


def hulls_of(body: Body, cut: Cut) -> tuple[Mesh, ...]:
    """Closed hulls of a cut around a body, in its frame and pose; none for a cut of garments alone."""
    if cut.tube is None and not cut.solid:
        return ()
    standing = load_body(body.shape).in_working_box()
    hulls: list[Mesh] = []
    if cut.tube is not None and cut.tube.legs:
        if not (cut.woman or cut.man):  # else a garment of the wardrobe is the seat
            hulls.append(_skirt(standing, CROTCH, SEAT_TAPER))
        hulls += [_leg_of_shorts(standing, side, cut.tube.end) for side in "LR"]
    elif cut.tube is not None:
        tuck = SEAM if cut.label == "dress" else TUCK
        ease = OUTER_EASE if cut.label == "outer" else EASE
        hulls.append(_skirt(standing, cut.tube.end, cut.tube.flare, tuck, ease))
    if cut.solid:
        hulls += _on_the_head(standing, cut.solid)
    return tuple(Mesh(_following(hull.vertices, standing, body), hull.faces) for hull in hulls)


def _following(points: Float[Tensor, "N 3"], standing: Body, body: Body) -> Float[Tensor, "N 3"]:
    """Points around the standing body where they are around the body in its pose and frame."""
    from scipy.spatial import cKDTree

    # From the standing figure's box to the body's own frame, joint by joint.
    carried = body.transforms @ _scaling(standing, body) @ torch.linalg.inv(standing.transforms)
    near = torch.from_numpy(cKDTree(standing.vertices.numpy()).query(points.numpy(), NEIGHBOURS)[1])
    joints = standing.weight_joints[near].flatten(1)
    weights = standing.weights[near].flatten(1) / NEIGHBOURS
    return linear_blend_skinning(points, carried, joints, weights)


def _scaling(standing: Body, body: Body) -> Float[Tensor, "4 4"]:
    """From rest points of the standing figure to rest points of the body: both are metres over `metres_per_unit`."""
    matrix = torch.eye(4)
    matrix[:3, :3] *= standing.metres_per_unit / body.metres_per_unit
    return matrix


def _skirt(body: Body, hem: float, flare: float, tuck: float = TUCK, ease: float = EASE) -> Mesh:
    """Rings from the waist down: the hull of torso and legs, never narrower than above, opening in folds to the hem."""
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
    drape = max(flare, 0.0) * DRAPE * below**1.5 * _folds()
    radii = (radii.cummax(0).values + ease + flare * below + drape) * (1 - tuck * above)
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


def _on_the_head(body: Body, kind: str) -> list[Mesh]:
    check_choice("solid", kind, HEAD_HULLS)
    skull = _Skull.of(body)
    unit = skull.unit
    if kind == "bun":
        knot = skull.centre + skull.centre.new_tensor((0.0, 0.55 * unit, -0.85 * unit))
        return [_ball(knot, 0.42 * unit)]
    if kind == "afro":
        return [_ball(skull.centre + skull.centre.new_tensor((0.0, 0.42 * unit, -0.38 * unit)), AFRO * unit)]
    if kind == "flat":
        return [_cap(skull, FLAT * unit, -0.55)]
    cap = _cap(skull, COVER * unit, -0.25 if kind == "cap" else -0.75)
    return [cap] if kind == "cap" else [cap, _curtain(body, skull, COVER * unit, skull.neck[1] - 0.8 * unit)]


@dataclass(frozen=True, eq=False)
class _Skull:
    """What hair is measured by."""

    vertices: Float[Tensor, "V 3"]  # of head and neck
    centre: Float[Tensor, "3"]  # at the height of the eyes, between the ears
    neck: Float[Tensor, "3"]
    unit: float  # from the eyes to the crown

    @staticmethod
    def of(body: Body) -> _Skull:
        vertices = body.vertices[region_vertices(body, ["head"])]
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
    """From the ears down to `end`, as wide as the head, as deep as neck and back are: half-moons that leave the face
    free, and rings around the neck below the chin."""
    unit = skull.unit
    off = skull.vertices - skull.centre
    level = off[off[:, 1].abs() < 0.3 * unit]
    half_width, depth = float(level[:, 0].max()) + ease, float(-level[:, 2].min()) + ease
    trunk = following_vertices(body, ("neck", "head", "spine", "clavicle", "shoulder"))
    back = body.vertices[trunk & (body.vertices[:, 0].abs() < half_width)]
    trunk_front = body.vertices[following_vertices(body, ("neck", "spine")) & (body.vertices[:, 0].abs() < half_width)]
    chin = float(skull.centre[1]) - CHIN * unit
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
        chest = float(_slice(trunk_front, height)[:, 1].max() - skull.centre[2]) + WRAP * ease
        wrapped = ((x / wide) ** 2 + (z / max(chest, 0.3 * half_width)) ** 2).rsqrt()
        inner = torch.where(z > 0, wrapped, outer) if height < chin else torch.full_like(outer, 0.3 * half_width)
        rings.append(torch.lerp(inner, outer, ((away - 0.4) / 0.1).clamp(0, 1)))
    return _loft(skull.centre[[0, 2]] + _rounded(torch.stack(rings))[..., None] * _directions(), heights)


def _ball(centre: Float[Tensor, "3"], radius: float) -> Mesh:
    turn = torch.linspace(-1, 1, 13) * math.pi / 2 * 0.96
    flat = torch.stack([centre[0] * 0, centre[2]])
    return _loft(flat + (radius * turn.cos())[:, None, None] * _directions(), centre[1] + radius * turn.sin().flip(0))


def _angles() -> Float[Tensor, " A"]:
    """Of a ring's points about +Y: 0 is the front, then toward the subject's left."""
    return torch.arange(RING) * (2 * math.pi / RING)


def _folds() -> Float[Tensor, " A"]:
    """How far the folds of hanging cloth stand out around it, -1..1."""
    waves = [weight * (count * _angles() + turn).cos() for count, turn, weight in FOLDS]
    return torch.stack(waves).sum(0) / sum(weight for _, _, weight in FOLDS)


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
    """Rings smoothed around (six points to each side) and from ring to ring (one)."""
    kernel = torch.tensor([math.comb(12, k) / 2**12 for k in range(13)])
    around = torch.nn.functional.pad(radii[:, None], (6, 6), mode="circular")
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
