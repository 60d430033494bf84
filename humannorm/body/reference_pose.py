"""How the joints of a motion file stand when the person stands upright: what its rotations are to be measured from.

Most files have a rest (all rotations zero) that is a person: upright, left on the left. Its joints are then taken to be
turned as ours are at rest. Other programs write any axes they like: bones along +X (Rokoko Studio, LAFAN1), a rest that
is a knot. There the joints' axes are found from where the joints go in the frames, see `axes_of_frames`.

Letters: T frames, J the file's joints. A frame of a body part has its columns to the subject's left, up and front.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body.bvh import Motion
from humannorm.body.joint_names import TOES, JointTable
from humannorm.mesh_standing import UP_AXES

__all__ = ["Stance", "axes_of_frames", "find_stance", "safe_rotation_between"]

Points = Mapping[str, Tensor]
"""Places [..., 3] by our joint names."""

_TIME = 400  # frames looked at, of longer files evenly
_SNAP = math.cos(math.radians(25))  # a rest within this of an axis means the axis
_STRAIGHT = 12.0  # degrees between trunk and hips up to which a skeleton is drawn straight and not after anatomy
_LEAST_BEND = 0.15  # mean sine of elbow or knee from which on its axis is trusted


@dataclass(frozen=True, eq=False)
class Stance:
    """What is known of a file before its frames are read in earnest."""

    up: str  # key of `UP_AXES`
    rest_is_upright: bool  # a person by its rest
    facing: Float[Tensor, "3 3"]  # the frame of that person, once `up` is up; the identity faces +Z
    doubt: str = ""  # what a person should be told


def find_stance(motion: Motion, table: JointTable, up: str | None = None) -> Stance:
    """Vertical axis, and whether the rest is a person. `motion` as read with "y" up; `up`: stated by the user.

    The axis is that of the person's trunk in the frames; where rest and frames disagree, the one for which the hips are
    as high as legs are long (lying people have them near the ground).
    """
    rest = {name: motion.rest()[joint] for name, joint in table.items()}
    upright = is_upright(rest)
    if up is not None:
        return _stance(motion, table, up, upright)
    world = motion.world()[:: max(1, motion.num_frames // _TIME)]
    frames = {name: world[:, joint, :3, 3] for name, joint in table.items()}
    by_frames = _axis_of(_trunk(frames), steadily=True)
    by_rest = _axis_of(_trunk(rest)) if upright else None
    if by_rest is None or by_frames is None or by_rest == by_frames:
        found = by_rest or by_frames
        doubt = "" if found else "motion: its vertical axis cannot be told, y is taken; --up z reads it otherwise"
        return _stance(motion, table, found or "y", upright, doubt)
    leg = _leg_length(rest)
    heights = {axis: _height(frames["root"], axis) / leg for axis in (by_rest, by_frames)}
    standing = 0.6 < heights[by_frames] < 1.5 or heights[by_rest] > 0.6
    found = by_frames if standing else by_rest
    doubt = (
        f"motion: its rest stands along {by_rest}, its frames along {by_frames}; {found} is taken as its vertical axis,"
        f" --up {by_rest if found == by_frames else by_frames} reads it otherwise"
    )
    return _stance(motion, table, found, upright, doubt)


def _stance(motion: Motion, table: JointTable, up: str, upright: bool, doubt: str = "") -> Stance:
    rest = motion.with_up(up).rest()
    facing = body_frame({name: rest[joint] for name, joint in table.items()}) if upright else torch.eye(3)
    return Stance(up, upright, _snapped(facing), doubt)


def _snapped(frame: Float[Tensor, "3 3"]) -> Float[Tensor, "3 3"]:
    """Whole quarter turns where a frame is near one: rests lean a little forward, their axes do not."""
    whole = torch.zeros_like(frame)
    for column in range(2):
        axis = int((frame[:, column].abs() * (whole.abs().sum(1) == 0)).argmax())
        whole[axis, column] = frame[axis, column].sign()
    whole[:, 2] = torch.linalg.cross(whole[:, 0], whole[:, 1])
    near = bool(((frame * whole).sum(0) > _SNAP).all())
    return whole if near else frame


def _height(points: Float[Tensor, "T 3"], up: str) -> float:
    return float((points @ torch.tensor(UP_AXES[up], dtype=points.dtype).T)[:, 1].median())


def _leg_length(points: Points) -> float:
    hip, knee, ankle = (points[f"{part}.L"] for part in ("upperleg01", "lowerleg01", "foot"))
    return float((knee - hip).norm() + (ankle - knee).norm()) or 1.0


def _middle(points: Points, part: str) -> Tensor:
    return (points[f"{part}.L"] + points[f"{part}.R"]) / 2


def _trunk(points: Points) -> Tensor:
    return _unit(_middle(points, "upperarm01") - _middle(points, "upperleg01"))


def _axis_of(direction: Tensor, steadily: bool = False) -> str | None:
    """The axis that a direction (of the frames: their mean) is nearest to, if it is near one."""
    mean = direction.mean(0) if steadily else direction
    length = float(mean.norm())
    if not length > (0.7 if steadily else 0.5):
        return None
    axis = int(mean.abs().argmax())
    if float(mean[axis].abs()) / length < 0.8:
        return None
    return ("-" if mean[axis] < 0 else "") + "xyz"[axis]


def body_frame(points: Points) -> Float[Tensor, "*B 3 3"]:
    """Columns left, up, front of the trunk: up along it, left by hips and shoulders."""
    across = [_unit(points[f"{part}.L"] - points[f"{part}.R"]) for part in ("upperleg01", "upperarm01")]
    left = across[0] + across[1]
    return _frame(left, _trunk(points), keep="up")


def is_upright(rest: Points) -> bool:
    """Whether places are those of a person who stands: trunk straight, legs down, left on the left, feet forward."""
    frame = body_frame(rest)

    def along(start: str, end: str) -> Tensor:
        return _unit(rest[end] - rest[start]) @ frame

    trunk = [name for name in ("root", *_SPINE, "neck01", "neck02", "head") if name in rest]
    places = [rest[name] for name in trunk]
    ups = [float(_unit(b - a) @ frame[:, 1]) for a, b in pairwise(places) if float((b - a).norm()) > 0]
    tall = _leg_length(rest)
    long_enough = all(
        float((rest[f"{a}.{s}"] - rest[f"{b}.{s}"]).norm()) > 0.05 * tall
        for a, b in (("upperleg01", "lowerleg01"), ("lowerleg01", "foot"), ("upperarm01", "lowerarm01"))
        for s in "LR"
    )
    down = all(float(along(f"{a}.{s}", f"{b}.{s}")[1]) < -0.6 for a, b in _LEG for s in "LR")
    apart = (
        float(along("upperleg01.R", "upperleg01.L")[0]) > 0.8 and float(along("upperarm01.R", "upperarm01.L")[0]) > 0.8
    )
    arms = all(
        float(along(f"upperarm01.{s}", f"lowerarm01.{s}")[0]) * sign > -0.3
        and float(along(f"upperarm01.{s}", f"lowerarm01.{s}")[1]) < 0.7
        for s, sign in (("L", 1), ("R", -1))
    )
    feet = all(float(along(f"foot.{s}", f"{TOES}.{s}")[2]) > 0.1 for s in "LR" if f"{TOES}.{s}" in rest)
    return long_enough and down and apart and arms and feet and all(up > 0.5 for up in ups)


_SPINE = ("spine05", "spine04", "spine03", "spine02", "spine01")
_LEG = (("upperleg01", "lowerleg01"), ("lowerleg01", "foot"))


def axes_of_frames(motion: Motion, table: JointTable, ours: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "3 3"]]:
    """For each known joint the rotation from our bone at rest to the axes of the file's joint, from the frames alone.

    ours: directions of our bones at rest, by joint (see `retarget`). What a file's numbers cannot tell, the twist of a
    bone about itself, is set so that on average it is as small as can be, for bones that bend by their bend.
    """
    step = max(1, motion.num_frames // _TIME)
    world = motion.world()[::step]
    turned = {name: world[:, joint, :3, :3] for name, joint in table.items()}
    places = {name: world[:, joint, :3, 3] for name, joint in table.items()}
    guesses = _trunk_frames(places, turned)
    axes = {name: _mean_rotation(turned[name].mT @ guess) for name, guess in guesses.items()}
    chest = next(name for name in reversed(("root", *_SPINE)) if name in table)
    for side in "LR":
        parents = {"clavicle": chest, "upperarm01": "clavicle", "lowerarm01": "upperarm01", "wrist": "lowerarm01"}
        parents |= {"upperleg01": "root", "lowerleg01": "upperleg01", "foot": "lowerleg01"}
        parents |= {
            f"finger{n}-{k}": f"finger{n}-{k - 1}" if k > 1 else "wrist" for n in range(1, 6) for k in (1, 2, 3)
        }
        for part, above in parents.items():
            name = f"{part}.{side}"
            if name not in table:
                continue
            upper = next(each for each in (f"{above}.{side}", above, chest) if each in axes)
            axes[name] = _limb_axes(name, turned[upper] @ axes[upper], turned[name], places, ours)
    return axes


def _limb_axes(
    name: str, above: Float[Tensor, "T 3 3"], turned: Float[Tensor, "T 3 3"], places: Points, ours: Mapping[str, Tensor]
) -> Float[Tensor, "3 3"]:
    """Our bone's direction goes where the file's goes, with the least turn against the bone above."""
    end = end_of(name, places)
    if end is None or name not in ours:
        if name.startswith("foot"):  # flat on the ground on average
            left = above[..., 0]
            above = _frame(left, torch.tensor([0.0, 1.0, 0.0]).expand_as(left), keep="up")
        return _mean_rotation(turned.mT @ above)
    toward = _unit(places[end] - places[name])
    swung = safe_rotation_between(above @ ours[name], toward) @ above
    axes = _mean_rotation(turned.mT @ swung)
    local = _unit(torch.einsum("tij,ti->tj", turned, toward).mean(0))
    bend = _bend_axis(name, turned, places)
    if bend is not None and f"{name} bend" in ours:
        return _frame(bend, local, keep="up") @ _frame(ours[f"{name} bend"], ours[name], keep="up").mT
    return safe_rotation_between(axes @ ours[name], local) @ axes


def _bend_axis(name: str, turned: Float[Tensor, "T 3 3"], places: Points) -> Float[Tensor, "3"] | None:
    """The axis of elbow or knee in the joint's own axes, where the frames bend it enough to see."""
    part, _, side = name.partition(".")
    chain = next((limb for limb in (_ARM, _LEGS) if part in limb[:2]), None)
    if chain is None or any(f"{each}.{side}" not in places for each in chain):
        return None
    upper, middle, lower = (places[f"{each}.{side}"] for each in chain)
    axis = torch.linalg.cross(_unit(middle - upper), _unit(lower - middle))
    mean = torch.einsum("tij,ti->tj", turned, axis).mean(0)
    return _unit(mean) if float(mean.norm()) > _LEAST_BEND else None


_ARM, _LEGS = ("upperarm01", "lowerarm01", "wrist"), ("upperleg01", "lowerleg01", "foot")


def _trunk_frames(places: Points, turned: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "T 3 3"]]:
    """Frames of hips, spine, neck and head in every frame; straight up is how each is meant to stand at rest."""
    trunk = [name for name in ("root", *_SPINE, "neck01", "neck02", "head") if name in places]
    hips = places["upperleg01.L"] - places["upperleg01.R"]
    beside = "clavicle" if _apart(places, "clavicle", hips) else "upperarm01"
    shoulders = places[f"{beside}.L"] - places[f"{beside}.R"]
    whole = _trunk(places)
    chest_at = max((k for k, name in enumerate(trunk) if name in ("root", *_SPINE)), default=0)
    frames: dict[str, Tensor] = {}
    for at, name in enumerate(trunk):
        ends = [places[end] - places[name] for end in trunk[at + 1 :]]
        ahead = next((_unit(end) for end in ends if float(end.norm(dim=-1).min()) > 0), None)
        share = min(at / max(chest_at, 1), 1.0)
        left = (1 - share) * _unit(hips) + share * _unit(shoulders)
        if name == "root" or ahead is None or at >= chest_at:
            # Anatomical skeletons have the spine behind the hips and the head before the neck: on average straight.
            upper = whole if at <= chest_at else frames[trunk[at - 1]][..., :, 1]
            local = torch.einsum("tij,ti->tj", turned[name], upper).mean(0)
            steady = torch.einsum("tij,j->ti", turned[name], _unit(local))
            straight = ahead is not None and float(_angle(ahead, steady).mean()) < _STRAIGHT
            ahead = ahead if straight else steady
        assert ahead is not None
        frames[name] = _frame(left, ahead, keep="left" if name == "root" else "up")
        if at > chest_at:  # a head turns: which way it faces is what it does on average
            neutral = _mean_rotation(turned[name].mT @ _frame(frames[trunk[chest_at]][..., :, 0], ahead, keep="up"))
            frames[name] = turned[name] @ neutral
    return frames


def _apart(places: Points, part: str, across: Tensor) -> bool:
    if f"{part}.L" not in places or f"{part}.R" not in places:
        return False
    gap = places[f"{part}.L"] - places[f"{part}.R"]
    return float(gap.norm(dim=-1).min()) > 0.2 * float(across.norm(dim=-1).mean())


def end_of(name: str, known: Mapping[str, object]) -> str | None:
    """The joint that a limb's joint points at, if it is known."""
    part, dot, side = name.partition(".")
    end = {
        "clavicle": "upperarm01", "upperarm01": "lowerarm01", "lowerarm01": "wrist", "wrist": "finger3-1",
        "upperleg01": "lowerleg01", "lowerleg01": "foot", "foot": TOES,
        **{f"finger{n}-{k}": f"finger{n}-{k + 1}" for n in range(1, 6) for k in (1, 2)},
    }.get(part)  # fmt: skip
    return None if end is None or end + dot + side not in known else end + dot + side


def _unit(vectors: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    return torch.nn.functional.normalize(vectors, dim=-1)


def _angle(first: Float[Tensor, "*B 3"], second: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B"]:
    """Degrees between directions."""
    return torch.rad2deg(torch.atan2(torch.linalg.cross(first, second).norm(dim=-1), (first * second).sum(-1)))


def _frame(left: Float[Tensor, "*B 3"], up: Float[Tensor, "*B 3"], keep: str) -> Float[Tensor, "*B 3 3"]:
    """Columns left, up, front; the direction to keep is kept, the other made square to it."""
    first, second = (_unit(up), left) if keep == "up" else (_unit(left), up)
    second = second - (second * first).sum(-1, keepdim=True) * first
    flat = second.norm(dim=-1, keepdim=True) < 1e-6
    other = torch.where((first.abs() < 0.9)[..., :1], torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))
    second = _unit(torch.where(flat, other - (other * first).sum(-1, keepdim=True) * first, second))
    left, up = (second, first) if keep == "up" else (first, second)
    return torch.stack([left, up, torch.linalg.cross(left, up)], dim=-1)


def _mean_rotation(rotations: Float[Tensor, "T 3 3"]) -> Float[Tensor, "3 3"]:
    """The rotation with the least summed squared difference (chordal mean): the mean matrix, made orthogonal."""
    u, _, vt = torch.linalg.svd(rotations.mean(0))
    sign = torch.ones(3)
    sign[2] = torch.linalg.det(u @ vt)
    return (u * sign) @ vt


def safe_rotation_between(source: Float[Tensor, "*#B 3"], target: Float[Tensor, "*#B 3"]) -> Float[Tensor, "*B 3 3"]:
    """`skeleton.rotation_between` that takes opposite directions too, by half a turn about some square axis."""
    a, b = torch.broadcast_tensors(_unit(source), _unit(target))
    half = _unit(a + b)
    opposite = (a + b).norm(dim=-1, keepdim=True) < 1e-4
    aside = torch.where((a.abs() < 0.9)[..., :1], torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))
    half = torch.where(opposite, _unit(torch.linalg.cross(a, aside)), half)
    # Two half turns, about a and about the middle of a and b, are the turn from a to b; for opposite ones, one is.
    about_half = 2 * half[..., :, None] * half[..., None, :] - torch.eye(3)
    about_a = 2 * a[..., :, None] * a[..., None, :] - torch.eye(3)
    return torch.where(opposite[..., None], about_half, about_half @ about_a)
