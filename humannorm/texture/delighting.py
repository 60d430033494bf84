"""Light that a model painted along with the colours, estimated from the views and divided out. An estimate.

Models of Stable Diffusion's kind draw people as they are photographed. Of a painted surface the normals are known, and
mostly what each place is. So a pixel of view v that shows part p is taken for the product of one albedo of p, the same
in all views, and one smooth light of v at the pixel's normal: nine spherical harmonics (Basri and Jacobs 2003: at least
98 % of what any distant light does to a matt surface). Both are fitted in turns; what does not agree with the rest of
its part (lettering, seams, highlights) counts less and less. Cast shadows and a light's colour stay in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from humannorm.cameras import Cameras
from humannorm.checks import InputError, check_range, check_tensor
from humannorm.images import linear_from_srgb, luminance, srgb_from_linear
from humannorm.rendering.fusing import SurfaceViews

__all__ = ["DelightSettings", "Lights", "delit", "estimate_lights", "harmonics"]

SURE = 0.5  # weight of a pixel from which on it takes part: well inside one label
BLOWN = 0.98  # sRGB from which on a pixel says no more how bright it is
DARK = 0.004  # linear: below it 8 bits say nothing of light


@dataclass(frozen=True)
class DelightSettings:
    """All numbers are ours."""

    rounds: int = 10  # of fitting albedo and light in turns
    spread: float = 0.2  # share of its lit albedo by which a pixel may be off before it counts half
    together: float = 0.005  # how much the views' lights lean on the one that all would have in their camera's axes
    colours: int = 8  # that a part is divided into at most, by hue: what has none of the labels is of several things
    least: float = 0.3  # of the mean light: darker places are brightened no further
    pixels: int = 100_000  # that the fit is made of, evenly drawn

    def __post_init__(self) -> None:
        check_range("delight.rounds", self.rounds, 1, 1000)
        check_range("delight.spread", self.spread, 1e-3, 10.0)
        check_range("delight.together", self.together, 0.0, 1e6)
        check_range("delight.colours", self.colours, 1, 64)
        check_range("delight.least", self.least, 0.0, 1.0)
        check_range("delight.pixels", self.pixels, 100, 100_000_000)


@dataclass(frozen=True, eq=False)
class Lights:
    """One light of each of G views, as what it does to a matt white surface by its normal; 1 is the mean."""

    coefficients: Float[Tensor, "G 9"]  # of `harmonics`
    least: float

    def at(self, normals: Float[Tensor, "N 3"], groups: Int64[Tensor, " N"]) -> Float[Tensor, " N"]:
        """normals: unit length, in the axes of their view's camera. groups: numbers of their views."""
        return (harmonics(normals) * self.coefficients[groups]).sum(1).clamp_min(self.least)


def harmonics(normals: Float[Tensor, "N 3"]) -> Float[Tensor, "N 9"]:
    """The real spherical harmonics of orders 0 to 2, each without its constant factor."""
    x, y, z = normals.unbind(1)
    return torch.stack([torch.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1], 1)


def estimate_lights(
    brightness: Float[Tensor, " N"],
    normals: Float[Tensor, "N 3"],
    parts: Int64[Tensor, " N"],
    groups: Int64[Tensor, " N"],
    settings: DelightSettings = DelightSettings(),
    count: int | None = None,
) -> Lights:
    """The lights under which pixels of parts of one albedo each are as bright as they are.

    brightness: linear. normals: unit length, camera axes. parts, groups: numbers from 0 of what each pixel shows and of
    its view. count: of views; None: those that occur. Views without pixels have the light of all.
    """
    check_tensor("brightness", brightness, "N", finite=True)
    if not len(brightness):
        raise InputError("brightness: expected pixels to estimate light from, got none")
    basis, value = harmonics(normals).double(), brightness.double().clamp_min(DARK)
    views, kinds = count or int(groups.max()) + 1, int(parts.max()) + 1
    trust, whole = torch.ones_like(value), torch.zeros_like(groups)
    albedo = _medians(value, parts, kinds)
    coefficients = basis.new_zeros(views, 9)
    for _ in range(settings.rounds):
        said = value / albedo[parts]
        # The light that all views have in common, and what each has beyond it.
        shared = _solved(basis, said, trust, whole, 1, 1e-4)[0]
        own = _solved(basis, said - basis @ shared, trust, groups, views, settings.together)
        coefficients = shared + own
        coefficients = coefficients / ((basis * coefficients[groups]).sum(1) * trust).sum().mul(1 / trust.sum())
        light = (basis * coefficients[groups]).sum(1).clamp_min(settings.least)
        trust = 1 / (1 + ((said / light - 1) / settings.spread).square())
        above = value.new_zeros(kinds).index_add(0, parts, trust * value * light)
        below = value.new_zeros(kinds).index_add(0, parts, trust * light.square())
        albedo = (above / below.clamp_min(1e-12)).clamp_min(DARK)
    return Lights(coefficients.to(normals), settings.least)


def _solved(
    basis: Float[Tensor, "N 9"],
    wanted: Float[Tensor, " N"],
    trust: Float[Tensor, " N"],
    groups: Int64[Tensor, " N"],
    count: int,
    lean: float,
) -> Float[Tensor, "G 9"]:
    """Weighted least squares of each group, leaning on 0 as if by this share of its pixels."""
    matrix = basis.new_zeros(count, 9, 9).index_add(
        0, groups, trust[:, None, None] * basis[:, :, None] * basis[:, None]
    )
    right = basis.new_zeros(count, 9).index_add(0, groups, (trust * wanted)[:, None] * basis)
    number = basis.new_zeros(count).index_add(0, groups, trust)
    hold = torch.eye(9, dtype=basis.dtype, device=basis.device) * (lean * number[:, None, None] + 1e-9)
    return torch.linalg.solve(matrix + hold, right)


def _medians(value: Float[Tensor, " N"], parts: Int64[Tensor, " N"], kinds: int) -> Float[Tensor, " K"]:
    found = [value[parts == kind] for kind in range(kinds)]
    return torch.stack([each.median() if len(each) else value.new_tensor(1.0) for each in found])


@torch.no_grad()
def delit(
    views: SurfaceViews,
    cameras: Cameras,
    pictures: Float[Tensor, "B S S 3"],
    settings: DelightSettings = DelightSettings(),
    *,
    held: Float[Tensor, " N"] | None = None,
    given: tuple[int, ...] = (),
) -> tuple[Float[Tensor, "B S S 3"], float]:
    """The pictures without the light that they were painted in, and the standard deviation of that light around 1.

    views: where the pixels of these cameras lie on the surface, and what they show. held: how far the surface's points
    keep colours of their own, 0..1: they say nothing of light. given: numbers of pictures that stay as they are.
    """
    step = views.sample.shape[1] // views.size
    point = views.sample[:, step // 2 :: step, step // 2 :: step].long()  # that the middle of each pixel shows
    shown = point >= 0
    shown[list(given)] = False
    group = torch.arange(len(pictures), device=point.device)[:, None, None].expand_as(point)[shown]
    turned = cameras.world_to_camera()[:, :3, :3].to(pictures)[group]
    normals = (turned @ views.surface.normals[point[shown]].to(pictures)[..., None])[..., 0]
    linear = linear_from_srgb(pictures.clamp(0, 1))[shown]
    brightness = luminance(linear)[:, 0]
    sure = (views.pixel_weight[shown] >= SURE) & (pictures[shown].amax(1) < BLOWN)
    if held is not None:
        sure &= held[point[shown]] < SURE
    chosen = sure.nonzero()[:, 0]
    if len(chosen) < 100:
        return pictures, 0.0
    chosen = chosen[:: max(1, len(chosen) // settings.pixels)]
    labels = views.surface.labels[point[shown][chosen]].long()
    parts = _parts(linear[chosen], labels, settings.colours)
    lights = estimate_lights(brightness[chosen], normals[chosen], parts, group[chosen], settings, count=len(pictures))
    light = lights.at(normals, group)
    result = pictures.clone()
    result[shown] = srgb_from_linear(linear / light[:, None]).clamp(0, 1).to(pictures)
    return result, float(light[chosen].std())


def _parts(linear: Float[Tensor, "N 3"], labels: Int64[Tensor, " N"], colours: int) -> Int64[Tensor, " N"]:
    """Numbers of what is taken to have one albedo: the labels, each divided by hue, which light leaves alone.

    k-means from the points that are farthest apart, on shares of red and green; differences below 0.04 make no part.
    """
    total = linear.sum(1, keepdim=True)
    hue = ((linear[:, :2] + DARK / 3) / (total + DARK)).double()
    result = torch.zeros_like(labels)
    first = 0
    for label in labels.unique().tolist():
        at = (labels == label).nonzero()[:, 0]
        here = hue[at]
        centres = here.median(0).values[None]
        for _ in range(colours - 1):
            away = torch.cdist(here, centres).amin(1)
            far = away > 0.04
            if int(far.sum()) < 0.02 * len(here):
                break
            centres = torch.cat([centres, here[far][away[far].argsort()[int(far.sum()) // 2]][None]])
            for _ in range(4):
                nearest = torch.cdist(here, centres).argmin(1)
                sums = torch.zeros_like(centres).index_add(0, nearest, here)
                numbers = here.new_zeros(len(centres)).index_add(0, nearest, torch.ones_like(here[:, 0]))
                centres = torch.where(numbers[:, None] > 0, sums / numbers.clamp_min(1)[:, None], centres)
        result[at] = first + torch.cdist(here, centres).argmin(1)
        first += len(centres)
    return result
