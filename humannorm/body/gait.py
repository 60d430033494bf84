"""Procedural clips on planted feet: walk, turn, idle and wave.

One engine: the pelvis follows a path, each foot stands where the path will be at the middle of its stance, and the legs
are bent to reach (two-bone inverse kinematics). A planted foot turns about its heel or its toe joints only, so that it
does not slide; the pelvis is held low enough that no leg is ever too short. Lengths are the body's own, times seconds,
angles degrees. T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body.body import Body
from humannorm.body.clips import Clip
from humannorm.body.skeleton import axis_angle_to_matrix, rotation_between
from humannorm.checks import check_choice

__all__ = ["GAITS", "make_gait"]

FRAME_TIME = 1 / 30  # seconds
REACH = 0.995  # most that a leg is stretched, of its length
HANG = 14.0  # degrees between a hanging arm and the vertical: clear of the hips
X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)

Path = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Times [T] -> way along +Z [T] and yaw in radians toward the subject's left [T] of the pelvis."""


@dataclass(frozen=True)
class Steps:
    """How the feet alternate; the left one strikes at time 0, the right one half a cycle later."""

    cycle: float  # seconds from one strike of a foot to its next
    stance: float  # share of the cycle that a foot stands
    lift: float  # of the heel in mid-swing, of the body's height
    strike: float  # degrees that the toes are up when the heel touches
    push: float  # degrees that the heel is up when the toes leave
    width: float = 1.0  # between the feet, of what it is at rest


def _walk(body: Body) -> Clip:
    """1.07 s a cycle, a step of 0.32 of the height: an unhurried walk that long skirts bear too."""
    cycle, step = 32 * FRAME_TIME, 0.32 * _height(body)
    moves = _Moves(body, 32, cycle)
    swing = torch.cos(moves.phase)  # +1 at the left heel's strike
    moves.follow(
        lambda time: (time * (2 * step / cycle), torch.zeros_like(time)),
        Steps(cycle, stance=0.62, lift=0.03, strike=14.0, push=25.0, width=0.55),
        bob=-0.010 * torch.cos(2 * moves.phase), sway=0.012 * torch.sin(moves.phase),
        turn=-5.0 * swing, lean=2.0,
    )  # fmt: skip
    moves.twist_spine(10.0 * swing)
    moves.hang_arms(left=-22.0 * swing, right=22.0 * swing, elbows=18.0)
    return moves.clip("walk")


def _turn(body: Body) -> Clip:
    """A full turn to the left on the spot in eight steps."""
    seconds = 128 * FRAME_TIME
    moves = _Moves(body, 128, seconds)
    still = torch.zeros_like(moves.time)
    steps = Steps(seconds / 4, 0.7, 0.03, 0.0, 10.0)
    moves.follow(
        lambda time: (torch.zeros_like(time), time * (2 * torch.pi / seconds)), steps,
        bob=still, sway=0.012 * torch.sin(4 * moves.phase), turn=still, lean=0.0,
    )  # fmt: skip
    moves.hang_arms(left=still, right=still, elbows=8.0)
    return moves.clip("turn")


def _idle(body: Body) -> Clip:
    """Breathing, and the weight going from one leg to the other."""
    moves = _Moves(body, 120, 120 * FRAME_TIME)
    _stand(moves)
    moves.hang_arms(left=_zero(moves), right=_zero(moves), elbows=8.0)
    return moves.clip("idle")


def _wave(body: Body) -> Clip:
    """Standing, the right hand up and waving."""
    moves = _Moves(body, 60, 60 * FRAME_TIME)
    _stand(moves)
    moves.hang_arms(left=_zero(moves), right=_zero(moves), elbows=8.0)
    raised = moves.direction(-0.90, -0.10, 0.42)
    forearm = moves.direction(-0.15, 0.95, 0.25) + 0.38 * torch.sin(3 * moves.phase)[:, None] * moves.direction(*X)
    moves.point_arm("R", raised, forearm)
    return moves.clip("wave")


def _stand(moves: _Moves) -> None:
    steps = Steps(cycle=1.0, stance=1.0, lift=0.0, strike=0.0, push=0.0)
    moves.follow(
        lambda time: (torch.zeros_like(time), torch.zeros_like(time)), steps,
        bob=0.002 * torch.sin(2 * moves.phase), sway=0.012 * torch.sin(moves.phase), turn=_zero(moves), lean=0.0,
    )  # fmt: skip
    moves.breathe(1.2 * torch.sin(2 * moves.phase))


def _zero(moves: _Moves) -> Tensor:
    return torch.zeros_like(moves.time)


GAITS: Mapping[str, Callable[[Body], Clip]] = {"walk": _walk, "idle": _idle, "wave": _wave, "turn": _turn}


def make_gait(name: str, body: Body) -> Clip:
    """One of `GAITS` for a body of any shape and size. "walk" travels (see `Clip.in_place`)."""
    check_choice("clip", name, GAITS)
    return GAITS[name](body)


def _height(body: Body) -> float:
    heights = body.rest_vertices[:, 1]
    return float(heights.max() - heights.min())


class _Moves:
    """A clip in the making."""

    def __init__(self, body: Body, frames: int, seconds: float) -> None:
        self.body, self.height = body, _height(body)
        self.time = torch.linspace(0, seconds, frames + 1)
        self.phase = self.time * (2 * torch.pi / seconds)
        self.rotations = torch.eye(3).repeat(frames + 1, len(body.parents), 1, 1)
        self.translations = torch.zeros(frames + 1, 3)
        self.ground = float(body.rest_vertices[:, 1].min())

    def clip(self, name: str) -> Clip:
        return Clip(name, self.rotations, self.translations, float(self.time[1]), loops=name != "walk")

    def direction(self, x: float, y: float, z: float) -> Tensor:
        return torch.tensor([x, y, z]).expand(len(self.time), 3)

    def set(self, joint: str, rotation: Float[Tensor, "T 3 3"]) -> None:
        self.rotations[:, self.body.joint_names.index(joint)] = rotation

    def rest(self, joint: str) -> Tensor:
        return self.body.rest_joints[self.body.joint_names.index(joint)]

    def follow(
        self, path: Path, steps: Steps, *, bob: Tensor, sway: Tensor, turn: Tensor, lean: float
    ) -> None:  # fmt: skip
        """Pelvis along the path, legs to the feet. bob, sway: up and sideways, of the height; turn: degrees beside the
        path's yaw; lean: degrees forward."""
        way, yaw = path(self.time)
        heading = _about(Y, yaw)
        pelvis = heading @ _about(Y, torch.deg2rad(turn)) @ _about(X, torch.deg2rad(torch.full_like(turn, lean)))
        travel = torch.stack([torch.zeros_like(way), torch.zeros_like(way), way], dim=1)
        side = torch.stack([sway * self.height, torch.zeros_like(sway), torch.zeros_like(sway)], dim=1)
        shift = travel + (heading @ side[:, :, None])[:, :, 0]

        root = self.rest("root")
        feet = {name: self._foot(name, path, steps) for name in ("L", "R")}
        level = shift.new_full((len(self.time),), torch.inf)
        hips = {}
        for name, (ankle, _, _) in feet.items():
            hip = (pelvis @ (self.rest(f"upperleg01.{name}") - root)) + root + shift  # before the pelvis is lowered
            away = (hip - ankle)[:, [0, 2]].square().sum(1)
            length = REACH * sum(self._leg(name))
            level = torch.minimum(level, ankle[:, 1] + (length**2 - away).clamp_min(0).sqrt() - hip[:, 1])
            hips[name] = hip
        # The bob keeps its form: the whole curve is lowered until every frame is in reach.
        bobbing = bob * self.height
        shift = shift + torch.nn.functional.pad((bobbing + (level - bobbing).min().clamp_max(0))[:, None], (1, 1))
        self.translations = shift
        self.set("root", pelvis)
        for name, (ankle, foot, toes) in feet.items():
            hip = hips[name] + torch.nn.functional.pad((shift[:, 1])[:, None], (1, 1))
            self._bend_leg(name, pelvis, hip, ankle, foot)
            for toe in range(1, 6):
                self.set(f"toe{toe}-1.{name}", toes)

    def _leg(self, side: str) -> tuple[float, float]:
        hip, knee, ankle = (self.rest(f"{joint}.{side}") for joint in ("upperleg01", "lowerleg01", "foot"))
        return float((knee - hip).norm()), float((ankle - knee).norm())

    def _foot(self, side: str, path: Path, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
        """Ankle [T, 3], turning of the foot [T, 3, 3] and of its toes against it [T, 3, 3]."""
        since = self.time / steps.cycle - (0.5 if side == "R" else 0.0)
        number = since.floor()
        part = since - number  # 0 at the strike
        swing = ((part - steps.stance) / max(1 - steps.stance, 1e-6)).clamp(0, 1)
        eased = swing * swing * (3 - 2 * swing)
        begin = (number + (0.5 if side == "R" else 0.0) + steps.stance / 2) * steps.cycle  # middle of the stance
        (way, yaw), (next_way, next_yaw) = path(begin), path(begin + steps.cycle)
        way, yaw = torch.lerp(way, next_way, eased), torch.lerp(yaw, next_yaw, eased)
        pitch = torch.deg2rad(_pitch(part / steps.stance, swing, steps))
        lift = steps.lift * self.height * torch.sin(torch.pi * swing) ** 2

        ankle = self.rest(f"foot.{side}")
        toes = torch.stack([self.rest(f"toe{toe}-1.{side}") for toe in range(1, 6)]).mean(0)
        toes = torch.stack([ankle[0], toes[1], toes[2]])
        heel = torch.stack([ankle[0], ankle.new_tensor(self.ground), self._heel(side)])
        pivot = torch.where((pitch >= 0)[:, None], toes, heel)
        heading = _about(Y, yaw)
        foot = heading @ _about(X, pitch)
        forward = heading @ ankle.new_tensor(Z)
        axis = self.rest("root") * ankle.new_tensor((1.0, 0.0, 1.0))
        narrowed = pivot - axis - ankle * ankle.new_tensor((1 - steps.width, 0.0, 0.0))
        planted = (heading @ narrowed[:, :, None])[:, :, 0] + axis + way[:, None] * forward
        reached = planted + (foot @ (ankle - pivot)[:, :, None])[:, :, 0]
        flat = _about(X, -pitch.clamp_min(0) * (1 - eased))
        return reached + torch.nn.functional.pad(lift[:, None], (1, 1)), foot, flat

    def _heel(self, side: str) -> Tensor:
        """How far back the sole reaches."""
        foot = self.body.joint_names.index(f"foot.{side}")
        own = self.body.rest_vertices[(self.body.weight_joints[:, 0] == foot)]
        return own[:, 2].min() + 0.01 * self.height

    def _bend_leg(self, side: str, pelvis: Tensor, hip: Tensor, ankle: Tensor, foot: Tensor) -> None:
        """Two-bone inverse kinematics: the knee bends forward in the plane of the leg, by the law of cosines."""
        thigh, shin = self._leg(side)
        away = ankle - hip
        distance = away.norm(dim=1).clamp_max(REACH * (thigh + shin))
        down = torch.nn.functional.normalize(away, dim=1)
        forward = torch.lerp(pelvis[:, :, 2], foot[:, :, 2], 0.5)
        hinge = torch.nn.functional.normalize(torch.linalg.cross(forward, down), dim=1)
        cosine = (thigh**2 + distance**2 - shin**2) / (2 * thigh * distance)
        bend = torch.acos(cosine.clamp(-1, 1))
        upper = (axis_angle_to_matrix(-hinge * bend[:, None]) @ down[:, :, None])[:, :, 0]
        lower = torch.nn.functional.normalize(hip + thigh * upper - ankle, dim=1).neg()
        rest = [self.rest(f"{joint}.{side}") for joint in ("upperleg01", "lowerleg01", "foot")]
        turns = []
        for bone, direction in ((rest[1] - rest[0], upper), (rest[2] - rest[1], lower)):
            turns.append(_frame(hinge, direction) @ _frame(bone.new_tensor(X), bone).mT)
        self.set(f"upperleg01.{side}", pelvis.mT @ turns[0])
        self.set(f"lowerleg01.{side}", turns[0].mT @ turns[1])
        self.set(f"foot.{side}", turns[1].mT @ foot)

    def twist_spine(self, degrees: Tensor) -> None:
        """The shoulders turned against the pelvis, shared by three joints; the head looks ahead."""
        part = _about(Y, torch.deg2rad(degrees / 3))
        for joint in ("spine04", "spine03", "spine01"):
            self.set(joint, part)
        self.set("neck01", _about(Y, torch.deg2rad(-degrees / 2)))

    def breathe(self, degrees: Tensor) -> None:
        """The chest rises and sinks; the neck keeps the head level."""
        self.set("spine02", _about(X, torch.deg2rad(-degrees)))
        self.set("neck01", _about(X, torch.deg2rad(degrees)))

    def hang_arms(self, *, left: Tensor, right: Tensor, elbows: float) -> None:
        """Arms down, swung forward by degrees; elbows bent by degrees, more on the way forward."""
        for side, sign, swing in (("L", 1.0, left), ("R", -1.0, right)):
            angle = torch.deg2rad(torch.tensor(HANG))
            hanging = torch.stack([sign * torch.sin(angle), -torch.cos(angle), torch.tensor(0.0)])
            bent = swing + elbows + 0.5 * swing.clamp_min(0)
            self.point_arm(side, *(_about(X, -torch.deg2rad(forward)) @ hanging for forward in (swing, bent)))

    def point_arm(self, side: str, upper: Float[Tensor, "T 3"], forearm: Float[Tensor, "T 3"]) -> None:
        """Upper arm and forearm along directions in the chest's axes."""
        turn = rotation_between(self._bone("upperarm01", "lowerarm01", side), upper)
        self.set(f"upperarm01.{side}", turn)
        inside = (turn.mT @ forearm[:, :, None])[:, :, 0]
        self.set(f"lowerarm01.{side}", rotation_between(self._bone("lowerarm01", "wrist", side), inside))

    def _bone(self, joint: str, child: str, side: str) -> Tensor:
        return self.rest(f"{child}.{side}") - self.rest(f"{joint}.{side}")


def _pitch(stance: Tensor, swing: Tensor, steps: Steps) -> Tensor:
    """Degrees that the heel is up (if negative, the toes): flat from a sixth to the middle of the stance."""
    roll = (1 - 6 * stance).clamp(0, 1)
    off = (2 * stance - 1).clamp(0, 1)
    standing = -steps.strike * roll * roll + steps.push * off * off * (3 - 2 * off)
    eased = swing * swing * (3 - 2 * swing)
    return torch.where(
        swing > 0, torch.lerp(swing.new_tensor(steps.push), swing.new_tensor(-steps.strike), eased), standing
    )


def _about(axis: tuple[float, float, float], angle: Float[Tensor, " T"]) -> Float[Tensor, "T 3 3"]:
    return axis_angle_to_matrix(angle[:, None] * angle.new_tensor(axis))


def _frame(hinge: Float[Tensor, "*T 3"], bone: Float[Tensor, "*T 3"]) -> Float[Tensor, "*T 3 3"]:
    """Right-handed axes in columns: the bone, the hinge made square to it, and their cross product."""
    along = torch.nn.functional.normalize(bone, dim=-1)
    across = torch.nn.functional.normalize(hinge - (hinge * along).sum(-1, keepdim=True) * along, dim=-1)
    return torch.stack([across, along, torch.linalg.cross(across, along)], dim=-1)
