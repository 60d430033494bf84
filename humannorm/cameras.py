"""Cameras on a sphere around the subject, the published camera plans, and the test sets.

World as in glTF: +Y up, +Z the subject's front, +X the subject's left; a body stands 1.8 units tall, centred. Angles
are degrees. Azimuth 0 looks at the front and grows toward the subject's left, elevation is positive upwards. B cameras.

Source: the published HumanNorm code (xhuangcv/humannorm, 54fa817), `random_multiview`-style sampling, moved from its
z-up/x-front frame to ours. Its faults are repaired here:

1. Training shifted the look-at point of the half body's head crop sideways (world y) where the test path shifts it up
   (world z). Here it is shifted up.
2. The lower-body crop looked at -0.5 in training and at -0.7 in the test set. Here both look at -0.5.
3. The half-body script loaded the full-body configuration and left its own unused. Here the half-body plan has the
   distances and elevations written for it.
4. The test set's azimuths ran over linspace(0, 360) with both ends, so that each group showed the front twice. Here
   the last is left out.
5. The fine texture stage called every camera "full body". Here each camera carries its part.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from humannorm.checks import InputError, check_choice, check_range, check_tensor
from humannorm.schedules import Schedule, constant, step

__all__ = [
    "CAMERA_PLANS",
    "PARTS",
    "TEXTURE_CAMERA_PLANS",
    "VIEWS",
    "VIEW_AZIMUTHS",
    "CameraPlan",
    "Cameras",
    "Crop",
    "Part",
    "View",
    "crop_cameras",
    "evaluation_cameras",
    "orbit",
    "parse_views",
    "sample_cameras",
    "target_cameras",
    "turntable",
    "view_label",
    "view_name",
    "wrap_degrees",
]

Part = Literal["full", "head", "upper", "lower"]
View = Literal["front", "left", "back", "right"]
PARTS: tuple[Part, ...] = ("full", "head", "upper", "lower")
VIEWS: tuple[View, ...] = ("front", "left", "back", "right")
VIEW_AZIMUTHS: Mapping[str, float] = {"front": 0.0, "left": 90.0, "back": 180.0, "right": -90.0}


def wrap_degrees(angle: float) -> float:
    """The same direction in (-180, 180]."""
    return 180.0 - (180.0 - angle) % 360.0


def view_label(azimuth: float) -> View:
    """front |az| < 45, back |az| > 135, left 45..135, right -135..-45: the subject's own left and right."""
    angle = wrap_degrees(azimuth)
    if abs(angle) < 45.0:
        return "front"
    if abs(angle) > 135.0:
        return "back"
    return "left" if angle > 0 else "right"


def parse_views(text: str, name: str = "views") -> tuple[float, ...]:
    """'front,left,30' as azimuths in degrees: names of `VIEWS` or numbers, parted by commas. name: for messages.

    >>> parse_views("front, left, -30")
    (0.0, 90.0, -30.0)
    """
    azimuths: list[float] = []
    for word in filter(None, (word.strip().lower() for word in text.split(","))):
        try:
            azimuth = VIEW_AZIMUTHS[word] if word in VIEW_AZIMUTHS else float(word)
        except ValueError:
            raise InputError(f"{name}: expected front, left, back, right or degrees, got {word!r}") from None
        if not abs(azimuth) <= 360:
            raise InputError(f"{name}: expected degrees from -360 to 360, got {word}")
        azimuths.append(azimuth)
    if not azimuths:
        raise InputError(f"{name}: expected at least one of front, left, back, right or degrees, got {text!r}")
    return tuple(azimuths)


def view_name(azimuth: float) -> str:
    """How a picture's name says its view: front, left, back, right where exact, else degrees.

    >>> view_name(0), view_name(-90), view_name(30), view_name(-45), view_name(350)
    ('front', 'right', '030', 'm045', 'm010')
    """
    angle = wrap_degrees(azimuth)
    for name, exact in VIEW_AZIMUTHS.items():
        if angle == exact:
            return name
    return ("m" if angle < 0 else "") + f"{abs(angle):0>3.6g}"


@dataclass(frozen=True, eq=False)
class Cameras:
    """A batch of pinhole cameras on spheres around the origin, upright, principal point at the image's centre."""

    azimuth: Float[Tensor, " B"]  # degrees, 0 at the front, toward the subject's left
    elevation: Float[Tensor, " B"]  # degrees, positive upwards, inside (-90, 90)
    distance: Float[Tensor, " B"]  # world units from the origin (not from the target, as published)
    fov_y: Float[Tensor, " B"]  # degrees, vertical, before zoom
    zoom: Float[Tensor, " B"]  # focal length multiplier
    target: Float[Tensor, "B 3"]  # look-at point, world units
    part: tuple[Part, ...]  # what the camera frames
    near: float = 0.1  # world units
    far: float = 1000.0  # world units

    def __post_init__(self) -> None:
        for name in ("azimuth", "elevation", "distance", "fov_y", "zoom"):
            check_tensor(name, getattr(self, name), str(len(self.part)), finite=True)
        check_tensor("target", self.target, f"{len(self.part)} 3", finite=True)
        for part in self.part:
            check_choice("part", part, PARTS)
        for name, low, high in (("elevation", -89.99, 89.99), ("fov_y", 0.01, 179.0)):
            for extreme in torch.aminmax(getattr(self, name)) if len(self.part) else ():
                check_range(name, float(extreme), low, high)
        for name in ("distance", "zoom"):
            if bool((getattr(self, name) <= 0).any()):
                raise InputError(f"{name}: expected above 0, got {float(getattr(self, name).min()):g}")
        if not 0 < self.near < self.far:
            raise InputError(f"near, far: expected 0 < near < far, got {self.near:g} and {self.far:g}")

    def __len__(self) -> int:
        return len(self.part)

    @property
    def device(self) -> torch.device:
        return self.azimuth.device

    def position(self) -> Float[Tensor, "B 3"]:
        """Camera centres in the world."""
        azimuth, elevation = torch.deg2rad(self.azimuth), torch.deg2rad(self.elevation)
        x = elevation.cos() * azimuth.sin()
        z = elevation.cos() * azimuth.cos()
        return self.distance[:, None] * torch.stack([x, elevation.sin(), z], dim=1)

    def world_to_camera(self) -> Float[Tensor, "B 4 4"]:
        """View matrices to OpenGL axes: x right, y up, z toward the viewer."""
        position = self.position()
        back = torch.nn.functional.normalize(position - self.target, dim=1)
        up = torch.tensor([0.0, 1.0, 0.0], dtype=back.dtype, device=back.device).expand_as(back)
        right = torch.nn.functional.normalize(torch.linalg.cross(up, back), dim=1)
        rotation = torch.stack([right, torch.linalg.cross(back, right), back], dim=1)
        matrix = torch.eye(4, dtype=back.dtype, device=back.device).repeat(len(self), 1, 1)
        matrix[:, :3, :3] = rotation
        matrix[:, :3, 3] = -(rotation @ position[:, :, None])[:, :, 0]
        return matrix

    def projection(self, aspect: float = 1.0) -> Float[Tensor, "B 4 4"]:
        """OpenGL projections for an image `aspect` = width / height; focal length zoom / tan(fov_y / 2)."""
        focal = self.zoom / torch.tan(torch.deg2rad(self.fov_y) / 2)
        matrix = focal.new_zeros(len(self), 4, 4)
        matrix[:, 0, 0] = focal / aspect
        matrix[:, 1, 1] = focal
        matrix[:, 2, 2] = -(self.far + self.near) / (self.far - self.near)
        matrix[:, 2, 3] = -2.0 * self.far * self.near / (self.far - self.near)
        matrix[:, 3, 2] = -1.0
        return matrix

    def clip_from_world(self, vertices: Float[Tensor, "V 3"], aspect: float = 1.0) -> Float[Tensor, "B V 4"]:
        """Homogeneous clip coordinates of world points, in the points' dtype."""
        check_tensor("vertices", vertices, "V 3")
        matrix = (self.projection(aspect) @ self.world_to_camera()).to(vertices.dtype)
        return vertices @ matrix[:, :, :3].transpose(1, 2) + matrix[:, None, :, 3]

    def view_labels(self) -> tuple[View, ...]:
        """The side of the subject that each camera sees."""
        return tuple(view_label(azimuth) for azimuth in self.azimuth.tolist())

    def to(self, device: torch.device | str) -> Cameras:
        return self._map(lambda tensor: tensor.to(device), self.part)

    def select(self, indices: Sequence[int] | Int[Tensor, " N"]) -> Cameras:
        """The cameras at these places, in this order."""
        order = [int(index) for index in indices]
        return self._map(lambda tensor: tensor[order], tuple(self.part[index] for index in order))

    @staticmethod
    def concatenate(batches: Sequence[Cameras]) -> Cameras:
        """One batch after the other; all share near and far."""
        if not batches:
            raise InputError("batches: expected at least one batch of cameras, got none")
        if len({(batch.near, batch.far) for batch in batches}) > 1:
            raise InputError("batches: expected one near and far for all, got several")
        parts = tuple(part for batch in batches for part in batch.part)
        tensors: dict[str, Any] = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in _TENSORS}
        return dataclasses.replace(batches[0], part=parts, **tensors)

    def _map(self, change: Any, part: tuple[Part, ...]) -> Cameras:
        return dataclasses.replace(self, part=part, **{name: change(getattr(self, name)) for name in _TENSORS})


_TENSORS = ("azimuth", "elevation", "distance", "fov_y", "zoom", "target")


ALWAYS = constant(1.0)


@dataclass(frozen=True)
class Crop:
    """How a camera frames one body part, and how often training looks at it."""

    part: Part
    zoom: float  # focal length multiplier
    target_y: float  # height of the look-at point, world units
    probability: Schedule = ALWAYS  # over iterations; a plan's crops sum to 1
    target_x: float = 0.0  # world units; off the axis where a posed body's part is
    target_z: float = 0.0


@dataclass(frozen=True)
class CameraPlan:
    """The distribution that training cameras are drawn from by `sample_cameras`; each range is (low, high), uniform."""

    name: str
    distance: tuple[float, float]  # world units
    elevation: tuple[float, float]  # degrees
    crops: tuple[Crop, ...]
    fov_y: tuple[float, float] = (40.0, 45.0)  # degrees
    azimuth: tuple[float, float] = (-180.0, 180.0)  # degrees

    def crop(self, part: str) -> Crop:
        """The plan's crop of a part."""
        for crop in self.crops:
            if crop.part == part:
                return crop
        raise InputError(f"part: expected one of {', '.join(crop.part for crop in self.crops)}, got {part}")

    @property
    def widest(self) -> Crop:
        """The crop that shows most."""
        return min(self.crops, key=lambda crop: crop.zoom)

    def aimed(self, move: Callable[[Part, tuple[float, float, float]], tuple[float, float, float]]) -> CameraPlan:
        """The plan with every crop's look-at point moved, such as along with a posed body."""
        crops = []
        for crop in self.crops:
            x, y, z = move(crop.part, (crop.target_x, crop.target_y, crop.target_z))
            crops.append(dataclasses.replace(crop, target_x=x, target_y=y, target_z=z))
        return dataclasses.replace(self, crops=tuple(crops))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, for a model card or a run's settings."""
        plain = dataclasses.asdict(self)
        crops = [{**dataclasses.asdict(crop), "probability": crop.probability.to_list()} for crop in self.crops]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()} | {
            "crops": crops
        }

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> CameraPlan:
        """The plan that `to_dict` wrote."""
        expected = {field.name for field in dataclasses.fields(CameraPlan)}
        if set(plain) != expected:
            raise InputError(f"camera plan: expected the fields {sorted(expected)}, got {sorted(plain)}")
        crops = tuple(
            Crop(**{**crop, "probability": Schedule.from_list(crop["probability"])}) for crop in plain["crops"]
        )
        ranges = {name: tuple(plain[name]) for name in ("distance", "elevation", "fov_y", "azimuth")}
        return CameraPlan(name=plain["name"], crops=crops, **ranges)


# Sources: configs humannorm-geometry-{full,half,head}.yaml for distances and elevations, the data module for the crops.
# The full body's part probabilities change at iteration 10000 of 15000.
CAMERA_PLANS: Mapping[str, CameraPlan] = {
    "full_body": CameraPlan(
        name="full_body",
        distance=(3.0, 3.5),
        elevation=(-10.0, 10.0),
        crops=(
            Crop("full", zoom=1.0, target_y=0.0, probability=step(10000, 0.7, 0.1)),
            Crop("head", zoom=2.0, target_y=0.6, probability=step(10000, 0.1, 0.3)),
            Crop("upper", zoom=2.0, target_y=0.3, probability=step(10000, 0.1, 0.3)),
            Crop("lower", zoom=2.0, target_y=-0.5, probability=step(10000, 0.1, 0.3)),
        ),
    ),
    "half_body": CameraPlan(
        name="half_body",
        distance=(3.0, 4.0),
        elevation=(-5.0, 10.0),
        crops=(
            Crop("head", zoom=1.5, target_y=0.3, probability=constant(0.3)),
            Crop("upper", zoom=1.0, target_y=0.0, probability=constant(0.7)),
        ),
    ),
    "head_only": CameraPlan(
        name="head_only",
        distance=(3.0, 5.0),
        elevation=(-5.0, 15.0),
        crops=(Crop("head", zoom=1.0, target_y=0.0),),
    ),
}

# The texture stages keep the crops and look from a fixed distance, a little higher.
TEXTURE_CAMERA_PLANS: Mapping[str, CameraPlan] = {
    name: dataclasses.replace(plan, distance=(3.0, 3.0), elevation=(-5.0, 15.0)) for name, plan in CAMERA_PLANS.items()
}

# Crops of the test set, which zooms in further than training.
_EVALUATION_CROPS: Mapping[str, tuple[Crop, ...]] = {
    "full_body": (Crop("full", 1.0, 0.0), Crop("head", 4.0, 0.6), Crop("upper", 2.0, 0.3), Crop("lower", 2.0, -0.5)),
    "half_body": (Crop("head", 1.5, 0.3), Crop("upper", 1.0, 0.0)),
    "head_only": (Crop("head", 1.0, 0.0),),
}


def sample_cameras(plan: CameraPlan, iteration: float, count: int, generator: torch.Generator) -> Cameras:
    """Draw `count` cameras from a plan at an iteration, with the generator's device and nothing but its randomness.

    Elevation follows one of two laws with equal chance: uniform in degrees, or uniform by sphere area in the range.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator, device=generator.device)

    chances = torch.tensor([crop.probability(iteration) for crop in plan.crops], device=generator.device)
    if abs(float(chances.sum()) - 1.0) > 1e-4 or bool((chances < 0).any()):
        raise InputError(f"plan {plan.name}: expected part probabilities that sum to 1, got {chances.tolist()}")
    chosen = [plan.crops[i] for i in torch.multinomial(chances, count, True, generator=generator).tolist()]
    low, high = (math.sin(math.radians(end)) for end in plan.elevation)
    by_area = torch.rad2deg(torch.asin(uniform(low, high)))
    by_angle = uniform(*plan.elevation)
    elevation = torch.where(uniform(0.0, 1.0) < 0.5, by_angle, by_area)
    return Cameras(
        azimuth=uniform(*plan.azimuth),
        elevation=elevation,
        distance=uniform(*plan.distance),
        fov_y=uniform(*plan.fov_y),
        zoom=torch.tensor([crop.zoom for crop in chosen], device=generator.device),
        target=torch.tensor(
            [[crop.target_x, crop.target_y, crop.target_z] for crop in chosen], device=generator.device
        ).reshape(-1, 3),
        part=tuple(crop.part for crop in chosen),
    )


def orbit(
    azimuths: Sequence[float],
    *,
    elevation: float | Sequence[float] = 0.0,
    distance: float = 3.0,
    fov_y: float = 45.0,
    part: Part = "full",
    zoom: float | None = None,
    target_y: float | None = None,
) -> Cameras:
    """Cameras at these azimuths. Zoom and look-at height default to the test set's crop of the full body's `part`."""
    check_choice("part", part, PARTS)
    crop = next(crop for crop in _EVALUATION_CROPS["full_body"] if crop.part == part)
    count = len(azimuths)
    elevations = [elevation] * count if isinstance(elevation, (int, float)) else list(elevation)
    height = crop.target_y if target_y is None else target_y
    return Cameras(
        azimuth=torch.tensor([wrap_degrees(azimuth) for azimuth in azimuths], dtype=torch.float32),
        elevation=torch.tensor(elevations, dtype=torch.float32),
        distance=torch.full((count,), float(distance)),
        fov_y=torch.full((count,), float(fov_y)),
        zoom=torch.full((count,), float(crop.zoom if zoom is None else zoom)),
        target=torch.tensor([[0.0, height, 0.0]], dtype=torch.float32).repeat(count, 1),
        part=(part,) * count,
    )


def crop_cameras(
    plan: CameraPlan,
    crop: Crop,
    azimuths: Sequence[float],
    *,
    elevation: float | Sequence[float] = 0.0,
    distance: float | None = None,
    fov_y: float | None = None,
) -> Cameras:
    """Cameras at these azimuths that frame what a plan's crop does. Distance and angle default to the middle of the
    plan's ranges; the look-at point is off the axis where a posed body's part is."""
    cameras = orbit(
        azimuths,
        elevation=elevation,
        distance=sum(plan.distance) / 2 if distance is None else distance,
        fov_y=sum(plan.fov_y) / 2 if fov_y is None else fov_y,
        part=crop.part,
        zoom=crop.zoom,
    )
    aim = torch.tensor([[crop.target_x, crop.target_y, crop.target_z]])
    return dataclasses.replace(cameras, target=aim.repeat(len(azimuths), 1))


def turntable(count: int, *, elevation: float = 5.0, part: Part = "full", **framing: float) -> Cameras:
    """`count` evenly spaced views of a full turn, beginning at the front and going to the subject's left."""
    check_range("count", count, 1, math.inf)
    return orbit([360.0 * i / count for i in range(count)], elevation=elevation, part=part, **framing)


def evaluation_cameras(plan: str, generator: torch.Generator, count: int = 120) -> Cameras:
    """The published test set: `count` views in equal turns per crop, distance 3, fov 45, elevation in -5..15."""
    check_choice("plan", plan, _EVALUATION_CROPS)
    crops = _EVALUATION_CROPS[plan]
    if count < 1 or count % len(crops):
        raise InputError(f"count: expected a positive multiple of {len(crops)} for {plan}, got {count}")
    each = count // len(crops)
    azimuths = [360.0 * i / each for i in range(each)]

    def turn(crop: Crop) -> Cameras:
        elevations = -5.0 + 20.0 * torch.rand(each, generator=generator, device=generator.device)
        return orbit(azimuths, elevation=elevations.tolist(), part=crop.part, zoom=crop.zoom, target_y=crop.target_y)

    return Cameras.concatenate([turn(crop) for crop in crops])


def target_cameras(plan: CameraPlan, count: int, generator: torch.Generator) -> Cameras:
    """Fixed cameras, each with a target: the published test set of a texture plan, else equal turns of each own crop.

    A count that the crops do not divide is rounded up. A model's own plan is kept to, as it was trained at its crops.
    """
    each = -(-count // len(plan.crops))
    if TEXTURE_CAMERA_PLANS.get(plan.name) == plan:
        return evaluation_cameras(plan.name, generator, each * len(plan.crops))
    low, high = plan.elevation
    azimuths = [360.0 * i / each for i in range(each)]
    turns = []
    for crop in plan.crops:
        elevations = low + (high - low) * torch.rand(each, generator=generator, device=generator.device)
        turns.append(crop_cameras(plan, crop, azimuths, elevation=elevations.tolist()))
    return Cameras.concatenate(turns)
