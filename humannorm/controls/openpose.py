"""Stick figures of a posed body as OpenPose's detector and the ControlNets trained on it know them (arXiv 1812.08008).

18 points of the body (COCO's 17 and the neck between the shoulders), 21 of each hand, and those of the face that the
skeleton has joints for. A point that the surface hides is left out with the limbs that end there, as a detector does
that does not see it.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from humannorm.body import Body
from humannorm.body.regions import following_vertices, region_vertices
from humannorm.cameras import Cameras
from humannorm.mesh import Mesh
from humannorm.rendering.engines import interpolate, rasterize

__all__ = ["BODY_KEYPOINTS", "FACE_JOINTS", "Keypoints", "body_keypoints", "draw_openpose", "hidden_left_out"]

BODY_KEYPOINTS = (
    "nose", "neck", "shoulder.R", "elbow.R", "wrist.R", "shoulder.L", "elbow.L", "wrist.L", "hip.R", "knee.R",
    "ankle.R", "hip.L", "knee.L", "ankle.L", "eye.R", "eye.L", "ear.R", "ear.L",
)  # fmt: skip
"""In the detector's order; sides are the person's own."""
LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
    (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
COLORS = tuple(colorsys.hsv_to_rgb(number / 18, 1.0, 1.0) for number in range(18))  # red round to magenta, 20 degrees
LIMB_SHADE = 0.6  # limbs are darker than the points at their ends
_JOINTS = {
    "shoulder": "upperarm01",
    "elbow": "lowerarm01",
    "wrist": "wrist",
    "hip": "upperleg01",
    "knee": "lowerleg01",
    "ankle": "foot",
}
FACE_JOINTS = (
    "oculi01.L", "oculi01.R", "oculi02.L", "oculi02.R", "orbicularis03.L", "orbicularis03.R", "orbicularis04.L",
    "orbicularis04.R", "levator05.L", "levator05.R", "oris03.L", "oris03.R", "oris04.L", "oris04.R", "oris06.L",
    "oris06.R", "oris07.L", "oris07.R", "oris01", "oris02", "oris05", "oris06",
)  # fmt: skip
"""Brows, lids, cheeks and lips, where MakeHuman's skeleton has joints."""
HAND_BONES = tuple(
    (0 if joint == 0 else 4 * finger + joint, 4 * finger + joint + 1) for finger in range(5) for joint in range(4)
)

# World units (a person is 1.8 tall) that the surface may stand before a point that counts as seen: limbs' joints lie in
# the flesh, neck and hips deep in the trunk from any side, points of the head on it.
DEPTH_OF = {"limb": 0.18, "trunk": 0.32, "head": 0.025, "hand": 0.05}
STICK, POINT, FINGER, DOT = 4.0, 4.0, 1.2, 2.0  # half widths and radii in pixels at `DRAWN_AT`
DRAWN_AT = 512
_HEAD, _TRUNK = (0, 14, 15, 16, 17), (1, 2, 5, 8, 11)  # of the 18


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Points of one person in B views: pixels right and down, and which are shown."""

    body: Float[Tensor, "B 18 2"]
    hands: Float[Tensor, "B 42 2"]  # left, right
    face: Float[Tensor, "B K 2"]
    body_seen: Bool[Tensor, "B 18"]
    hands_seen: Bool[Tensor, "B 42"]
    face_seen: Bool[Tensor, "B K"]


def body_points(body: Body) -> tuple[Float[Tensor, "18 3"], Float[Tensor, "42 3"], Float[Tensor, "K 3"]]:
    """The points of body, hands and face in the body's own frame, posed."""
    landmarks = _head_landmarks(body)
    found = {f"{name}.{side}": body.joint(f"{joint}.{side}") for name, joint in _JOINTS.items() for side in "LR"}
    found["neck"] = (found["shoulder.L"] + found["shoulder.R"]) / 2
    found |= {name: body.vertices[vertex] for name, vertex in landmarks.items()}
    whole = torch.stack([found[name] for name in BODY_KEYPOINTS])
    hands = torch.cat([_hand(body, side) for side in "LR"])
    face = torch.stack([body.joint(name) for name in FACE_JOINTS if name in body.joint_names])
    return whole, hands, face


def body_keypoints(body: Body, cameras: Cameras, size: int) -> Keypoints:
    """Where all points are in square pictures, whether or not something is before them.

    body: in the cameras' frame, such as `Body.in_working_box`.
    """
    views = [_pixels(points, cameras, size) for points in body_points(body)]
    seen = [torch.ones(view.shape[:2], dtype=torch.bool, device=view.device) for view in views]
    return Keypoints(*views, *seen)


def hidden_left_out(
    points: Keypoints, body: Body, surface: Mesh, cameras: Cameras, size: int, engine: str = "auto"
) -> Keypoints:
    """Without those that the surface stands before, and those out of the picture."""
    nearest = _nearest_surface(surface, cameras, engine)
    depths = [_distances(each, cameras) for each in body_points(body)]
    allowed = [torch.full((18,), DEPTH_OF["limb"]), torch.full((42,), DEPTH_OF["hand"])]
    allowed[0][list(_HEAD)], allowed[0][list(_TRUNK)] = DEPTH_OF["head"], DEPTH_OF["trunk"]
    allowed.append(torch.full((points.face.shape[1],), DEPTH_OF["head"]))
    seen = []
    for place, depth, may in zip((points.body, points.hands, points.face), depths, allowed, strict=True):
        inside = ((place >= 0) & (place < size)).all(-1)
        column, row = (place * (DRAWN_AT / size)).long().clamp(0, DRAWN_AT - 1).unbind(-1)
        view = torch.arange(len(place), device=place.device)[:, None].expand_as(column)
        surface_at = nearest[view, row, column]
        seen.append(inside & (depth - surface_at <= may.to(depth)))
    return Keypoints(points.body, points.hands, points.face, *seen)


def _nearest_surface(surface: Mesh, cameras: Cameras, engine: str) -> Float[Tensor, "B S S"]:
    """World units to the surface, of each pixel of `DRAWN_AT` and its neighbours the least; infinite where none is."""
    clip = cameras.clip_from_world(surface.vertices)
    fragments = rasterize(clip, surface.faces, (DRAWN_AT, DRAWN_AT), engine=engine)
    away = interpolate(_distances(surface.vertices, cameras)[..., None], fragments, surface.faces)[..., 0]
    away = torch.where(fragments.covered, away, torch.inf)
    return -torch.nn.functional.max_pool2d(-away, 3, 1, 1)


def draw_openpose(points: Keypoints, size: int) -> Float[Tensor, "B S S 3"]:
    """Stick figures on black, 0..1, as the detector's own drawing: limbs, then points, then hands and face."""
    return torch.stack([_drawn(points, view, size) for view in range(len(points.body))])


def _drawn(points: Keypoints, view: int, size: int) -> Float[Tensor, "S S 3"]:
    scale = size / DRAWN_AT
    canvas = _Canvas(size, points.body.device)
    body, seen = points.body[view], points.body_seen[view]
    for number, (start, end) in enumerate(LIMBS):
        if bool(seen[start] & seen[end]):
            shade = [LIMB_SHADE * part for part in COLORS[number]]
            canvas.ellipse(body[start], body[end], STICK * scale, shade)
    for number in range(18):
        if bool(seen[number]):
            canvas.disc(body[number], POINT * scale, COLORS[number])
    for first in (0, 21):
        hand, shown = points.hands[view, first : first + 21], points.hands_seen[view, first : first + 21]
        for number, (start, end) in enumerate(HAND_BONES):
            if bool(shown[start] & shown[end]):
                color = colorsys.hsv_to_rgb(number / len(HAND_BONES), 1.0, 1.0)
                canvas.stroke(hand[start], hand[end], FINGER * scale, color)
        for number in range(21):
            if bool(shown[number]):
                canvas.disc(hand[number], DOT * scale, (0.0, 0.0, 1.0))
    for number in range(points.face.shape[1]):
        if bool(points.face_seen[view, number]):
            canvas.disc(points.face[view, number], DOT * scale, (1.0, 1.0, 1.0))
    return canvas.picture


class _Canvas:
    """A picture on black that shapes are laid over, each in a box of its own."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.picture = torch.zeros(size, size, 3, device=device)
        self.size = size

    def disc(self, at: Tensor, radius: float, color: Sequence[float]) -> None:
        self._fill(at[None], radius, color, lambda place: (place - at).norm(dim=-1) - radius)

    def stroke(self, start: Tensor, end: Tensor, half: float, color: Sequence[float]) -> None:
        def away(place: Tensor) -> Tensor:
            along = end - start
            share = ((place - start) @ along / along.square().sum().clamp_min(1e-6)).clamp(0, 1)
            return (place - start - share[..., None] * along).norm(dim=-1) - half

        self._fill(torch.stack([start, end]), half, color, away)

    def ellipse(self, start: Tensor, end: Tensor, half: float, color: Sequence[float]) -> None:
        """As long as from start to end and `half` wide to both sides."""
        middle, along = (start + end) / 2, end - start
        length = float(along.norm()) / 2
        if length < 0.5:
            return
        right = along / (2 * length)
        up = torch.stack([-right[1], right[0]])

        def away(place: Tensor) -> Tensor:
            way = place - middle
            ring = ((way @ right / length) ** 2 + (way @ up / half) ** 2).sqrt()
            return (ring - 1) * min(half, length)

        self._fill(torch.stack([start, end]), half, color, away)

    def _fill(self, corners: Tensor, margin: float, color: Sequence[float], away: object) -> None:
        """Colour where `away` is negative, half where it is nought."""
        low = (corners.amin(0) - margin - 1).floor().long().clamp(0, self.size)
        high = (corners.amax(0) + margin + 2).ceil().long().clamp(0, self.size)
        if bool((high <= low).any()):
            return
        (left, top), (right, bottom) = low.tolist(), high.tolist()
        down, across = torch.meshgrid(
            torch.arange(top, bottom, device=corners.device) + 0.5,
            torch.arange(left, right, device=corners.device) + 0.5,
            indexing="ij",
        )
        share = (0.5 - away(torch.stack([across, down], -1))).clamp(0, 1)[..., None]  # type: ignore[operator]
        box = self.picture[top:bottom, left:right]
        self.picture[top:bottom, left:right] = box + share * (self.picture.new_tensor(list(color)) - box)


def _head_landmarks(body: Body) -> dict[str, int]:
    """Vertices of nose, eyes and ears, found on the head at rest: by where they stand out."""
    rest = body.rest_vertices
    eyes = {side: body.rest_joints[body.joint_names.index(f"eye.{side}")] for side in "LR"}
    apart = float((eyes["L"] - eyes["R"]).norm())
    level = float(eyes["L"][1] + eyes["R"][1]) / 2
    head = region_vertices(body, ["head"])

    def most(values: Tensor, where: Tensor) -> int:
        return int(torch.where(head & where, values, -torch.inf).argmax())

    middle = (rest[:, 0].abs() < 0.2 * apart) & (rest[:, 1] < level) & (rest[:, 1] > level - apart)
    found = {"nose": most(rest[:, 2], middle)}
    beside = (rest[:, 1] - level).abs() < 0.8 * apart
    for side, sign in (("L", 1.0), ("R", -1.0)):
        found[f"ear.{side}"] = most(sign * rest[:, 0], beside)
        near = (rest[:, :2] - eyes[side][:2]).norm(dim=1) < 0.2 * apart
        found[f"eye.{side}"] = most(rest[:, 2], near)
    return found


def _hand(body: Body, side: str) -> Float[Tensor, "21 3"]:
    """Wrist, then each finger's joints and tip, from the thumb on."""
    points = [body.joint(f"wrist.{side}")]
    for finger in range(1, 6):
        points += [body.joint(f"finger{finger}-{joint}.{side}") for joint in (1, 2, 3)]
        last = f"finger{finger}-3.{side}"
        own = following_vertices(body, last)
        start = body.rest_joints[body.joint_names.index(last)]
        reach = torch.where(own, (body.rest_vertices - start).norm(dim=1), -torch.inf)
        points.append(body.vertices[int(reach.argmax())])
    return torch.stack(points)


def _pixels(points: Float[Tensor, "N 3"], cameras: Cameras, size: int) -> Float[Tensor, "B N 2"]:
    clip = cameras.clip_from_world(points)
    place = clip[..., :2] / clip[..., 3:]
    return torch.stack([(place[..., 0] + 1) / 2 * size, (1 - place[..., 1]) / 2 * size], -1)


def _distances(points: Float[Tensor, "N 3"], cameras: Cameras) -> Float[Tensor, "B N"]:
    """World units before each camera."""
    matrices = cameras.world_to_camera().to(points)
    return -(points @ matrices[:, :3, :3].mT + matrices[:, None, :3, 3])[..., 2]
