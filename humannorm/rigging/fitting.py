"""Fitting the body to a human's surface: shape, pose and place, by closest points.

The human began as this body, or is any humanoid whose body and pose are stated roughly. Clothes and hair lie outside
the body, so a body vertex may well be inside the surface, but hardly outside of it; and all of the surface that is
thicker than cloth must have body in it, or feet would end in the middle of a trouser leg.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body import Body, BodyShape, load_body
from humannorm.body.body import shaped_points
from humannorm.body.linear_blend_skinning import linear_blend_skinning
from humannorm.body.shape import ANCHORS
from humannorm.body.skeleton import axis_angle_to_matrix, forward_kinematics, local_rotations
from humannorm.checks import InputError, check_range
from humannorm.distance.signed_distance import SignedDistance
from humannorm.mesh import Mesh, check_mesh, face_normals
from humannorm.rigging.standing import even_points

__all__ = ["BodyFit", "BodyFitSettings", "fit_body"]

# Joints that the fit may turn; fingers, toes and face keep the stated pose. Left ones have their right twins.
TURNED = ("root", "spine03", "neck01", "head")
TURNED_PAIRS = ("clavicle", "upperarm01", "lowerarm01", "wrist", "upperleg01", "lowerleg01", "foot")


@dataclass(frozen=True)
class BodyFitSettings:
    """Weights are of squares in units of the body's height; all numbers are ours, found on dressed people."""

    steps: int = 60
    vertices: int = 4000  # of the body, drawn once
    clothes: float = 0.03  # depth below the surface, in heights, beyond which a body vertex hardly counts
    outside: float = 10.0  # weight of a vertex outside of the surface over one inside
    empty: float = 10.0  # weight of a place on the surface that lies farther than cloth from the body
    slider_prior: float = 2e-4  # of squared slider changes
    turn_prior: float = 4e-3  # of squared turns (radians)
    learning_rate: float = 0.015  # of sliders and turns; place and size take a third of it

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 0, 10_000)
        check_range("vertices", self.vertices, 100, 100_000)


@dataclass(frozen=True, eq=False)
class BodyFit:
    """The body in the human's own frame and units, and how deep it lies below the surface there (in heights)."""

    body: Body
    median_depth: float  # of body vertices below the surface
    outside: float  # 99th percentile of how far a body vertex stands out of it
    apart: float  # mean distance from the surface to the body plus that from the body to the surface


def fit_body(
    mesh: Mesh,
    start: Body | None = None,
    settings: BodyFitSettings | None = None,
    tell: Callable[[float], None] | None = None,
) -> BodyFit:
    """The body inside of a human. `start`: shape and pose as far as known (default: the neutral adult's A-pose).

    tell: called with the share of the steps that is done, and may end the work by an exception.

    A start whose bounding box is about the mesh's is taken to be in place; else it is scaled to the mesh's height with
    its box on the mesh's.
    """
    settings = settings or BodyFitSettings()
    check_mesh(mesh)
    vertices = mesh.vertices.detach().float().cpu()
    faces = mesh.faces.cpu()
    used = vertices[faces.flatten()]
    if float(used[:, 1].max() - used[:, 1].min()) <= 0:
        raise InputError("mesh: expected a height above 0 along Y, got a flat mesh")
    start = _placed(load_body() if start is None else start, used)
    surface = SignedDistance(vertices, faces, inside_out="flip")
    normals = face_normals(vertices, faces)
    places = _drawn(used, settings.vertices)
    trial = _Trial(start, settings)
    adam = _Adam(trial.free(settings))
    for step in range(settings.steps):
        points = trial.points()
        loss = trial.loss(_depths(points, surface, normals), _distances(places, points), settings)
        adam.step(torch.autograd.grad(loss, adam.parameters))
        trial.hold_sliders()
        if tell is not None:
            tell((step + 1) / settings.steps)
    body = trial.body()
    depth = _depths(body.vertices, surface, normals) / _height(body)
    away = _distances(even_points(vertices, faces), body.vertices) / _height(body)
    apart = float(away.mean() + depth.abs().mean())
    return BodyFit(body, float(depth.median()), float((-depth).quantile(0.99).clamp_min(0)), apart)


def _placed(start: Body, used: Float[Tensor, "N 3"]) -> Body:
    low, high = used.amin(0), used.amax(0)
    own_low, own_high = start.vertices.amin(0), start.vertices.amax(0)
    if float(torch.maximum((low - own_low).abs(), (high - own_high).abs()).max()) < 0.1 * float(high[1] - low[1]):
        return start
    scale = float((high[1] - low[1]) / (own_high[1] - own_low[1]))
    feet = torch.stack([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
    own_feet = torch.stack([(own_low[0] + own_high[0]) / 2, own_low[1], (own_low[2] + own_high[2]) / 2])
    return start.moved(scale, feet - scale * own_feet)


def _height(body: Body) -> float:
    return body.height_m / body.metres_per_unit


def _depths(
    points: Float[Tensor, "N 3"], surface: SignedDistance, normals: Float[Tensor, "F 3"]
) -> Float[Tensor, " N"]:
    """Below the surface positive; along the closest face's normal, so that sliding over it costs nothing."""
    closest = surface.closest(points.detach())
    normal = normals[closest.face]
    away = points.detach() - closest.point
    # At an edge the closest point's direction is not the face's: the distance counts, its side is the normal's.
    side = torch.where((away * normal).sum(1, keepdim=True) < 0, -1.0, 1.0)
    length = away.norm(dim=1, keepdim=True)
    direction = torch.where(length > 1e-9, side * away / length.clamp_min(1e-9), normal)
    return -((points - closest.point) * direction).sum(1)


def _distances(places: Float[Tensor, "M 3"], points: Float[Tensor, "N 3"]) -> Float[Tensor, " M"]:
    """From places on the surface to the next points of the body."""
    from scipy.spatial import cKDTree

    _, nearest = cKDTree(points.detach().numpy()).query(places.numpy())
    return (places - points[torch.from_numpy(nearest)]).norm(dim=1)


def _drawn(rows: Tensor, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)  # which rows are looked at is no part of the result
    return rows[torch.randperm(len(rows), generator=generator)[:count]]


class _Adam:
    """Kingma and Ba's algorithm 1 with its own numbers. `torch.optim` would bring seconds of imports for it."""

    def __init__(self, rates: Sequence[tuple[Tensor, float]]) -> None:
        self.parameters = [parameter for parameter, _ in rates]
        self.rates = [rate for _, rate in rates]
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        self.steps += 1
        for i, gradient in enumerate(gradients):
            self.first[i].lerp_(gradient, 1 - 0.9)
            self.second[i].lerp_(gradient.square(), 1 - 0.999)
            mean = self.first[i] / (1 - 0.9**self.steps)
            square = self.second[i] / (1 - 0.999**self.steps)
            self.parameters[i] -= self.rates[i] * mean / (square.sqrt() + 1e-8)


class _Trial:
    """The free numbers of a fit, and the body that they make."""

    def __init__(self, start: Body, settings: BodyFitSettings) -> None:
        self.start, self.height = start, _height(start)
        names = [*TURNED, *(f"{joint}.{side}" for joint in TURNED_PAIRS for side in "LR")]
        self.joints = torch.tensor([start.joint_names.index(name) for name in names])
        self.rotations = local_rotations(start.transforms[:, :3, :3], start.parents)
        self.first_sliders = torch.tensor([getattr(start.shape, name) for name in ANCHORS])
        self.sliders = self.first_sliders.clone().requires_grad_()
        self.turns = torch.zeros(len(names), 3, requires_grad=True)
        self.shift = torch.zeros(3, requires_grad=True)  # in heights
        self.growth = torch.zeros((), requires_grad=True)  # logarithm of a scale
        # The root's rest position differs between shapes; where it is in the pose says where the body stands.
        self.place = start.joints[0]
        self.chosen = _drawn(torch.arange(len(start.rest_vertices)), settings.vertices)

    def free(self, settings: BodyFitSettings) -> list[tuple[Tensor, float]]:
        """What the fit may change, and how fast."""
        rate = settings.learning_rate
        return [(self.sliders, rate), (self.turns, rate), (self.shift, rate / 3), (self.growth, rate / 3)]

    def hold_sliders(self) -> None:
        with torch.no_grad():
            for index, anchors in enumerate(ANCHORS.values()):
                self.sliders[index].clamp_(anchors[0], anchors[-1])

    def points(self) -> Float[Tensor, "N 3"]:
        """The chosen vertices in the mesh's frame."""
        start = self.start
        rest = shaped_points(self.sliders.unbind()) / start.metres_per_unit
        vertices, joints = rest[: len(start.rest_vertices)], rest[len(start.rest_vertices) :]
        transforms = forward_kinematics(self._turned(), joints, start.parents)
        posed = linear_blend_skinning(
            vertices[self.chosen], transforms, start.weight_joints[self.chosen], start.weights[self.chosen]
        )
        return self.growth.exp() * (posed - joints[0]) + self.place + self.height * self.shift

    def _turned(self) -> Float[Tensor, "J 3 3"]:
        turns = axis_angle_to_matrix(self.turns + 1e-12)
        return self.rotations.index_copy(0, self.joints, turns @ self.rotations[self.joints])

    def loss(self, depth: Float[Tensor, " N"], away: Float[Tensor, " M"], settings: BodyFitSettings) -> Tensor:
        """Geman and McClure's robust square for depth, plain ones for standing out and for empty places, the priors."""
        relative = depth / self.height
        square = relative.square()
        inside = square / (1 + square / settings.clothes**2)
        data = torch.where(relative > 0, inside, settings.outside * square).mean()
        data = data + settings.empty * (away / self.height - settings.clothes).clamp_min(0).square().mean()
        sliders = settings.slider_prior * (self.sliders - self.first_sliders).square().sum()
        return 1e3 * data + 1e3 * sliders + settings.turn_prior * self.turns.square().sum() * 1e3 / len(self.turns)

    @torch.no_grad()
    def body(self) -> Body:
        start = self.start
        values = dict(zip(ANCHORS, self.sliders.tolist(), strict=True))
        shape = BodyShape(**{n: min(max(v, ANCHORS[n][0]), ANCHORS[n][-1]) for n, v in values.items()})
        rest = load_body(shape, "rest").moved(1 / start.metres_per_unit, torch.zeros(3))
        posed = rest.posed(self._turned(), start.pose, grounded=False)
        scale = float(self.growth.exp())
        shift = self.place + self.height * self.shift - scale * posed.joints[0]
        return posed.moved(scale, shift)
