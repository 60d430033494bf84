"""Pictures of one surface brought together on it, and back: what many views say of a point, and what each then shows.

`observe` finds once where every point of a surface lies in every view and whether it is seen there. `SurfaceViews.fuse`
is the weighted mean of all views at each point, `SurfaceViews.show` draws the points' values into the views again.
Values are colours, latents or normals: one to four channels.

Letters: N points, B views of S x S pixels, K samples along a pixel's side, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int32, Int64, UInt8
from torch import Tensor

from humannorm.cameras import Cameras
from humannorm.checks import check_choice, check_range, check_tensor
from humannorm.mesh import Mesh
from humannorm.rendering.engines import rasterize

__all__ = ["FUSING_ENGINES", "NO_LABEL", "FusingEngine", "SurfacePoints", "SurfaceViews", "observe"]

FusingEngine = Literal["warp", "torch"]
FUSING_ENGINES: tuple[FusingEngine, ...] = ("warp", "torch")
NO_LABEL = -1  # of a pixel that shows the background
MIXED_SIDE, MIXED = 0.1, 0.01
"""Weights of a pixel beside a border and of one across it, beside 1 of a pixel well inside: borders are blurred."""
EDGE = 0.12  # of a picture's side: where a view ends its say fades, so that no line is seen where the next one begins
STEP = 0.02  # world units, beyond what a slope of 80 degrees explains: a jump in depth from one sample to the next
STEEP = 6.0  # tangent of that slope


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points on a mesh at which values are kept: the texels of its texture, or its vertices."""

    points: Float[Tensor, "N 3"]
    normals: Float[Tensor, "N 3"]  # unit length
    labels: Int32[Tensor, " N"]  # what each point is; views are not mixed across a border of labels
    nearest: Callable[[Int64[Tensor, " M"], Float[Tensor, "M 3"]], Int64[Tensor, " M"]]
    """The number of the point that stands for a place: face and barycentric weights of its corners."""


@dataclass(frozen=True, eq=False)
class SurfaceViews:
    """Where every point is in every view; nothing of it depends on the pictures."""

    surface: SurfacePoints
    seen: UInt8[Tensor, "N B"]  # 1 where nothing stands before a point that is turned to the camera
    pixel_from_world: Float[Tensor, "B 3 4"]  # to (column * w, row * w, w), the picture's corner at 0
    position: Float[Tensor, "B 3"]  # of the cameras
    density: Float[Tensor, " B"]  # pixels per world unit, relative to the widest view
    pixel_label: Int32[Tensor, "B S S"]  # of what a pixel shows; `NO_LABEL` behind
    pixel_weight: Float[Tensor, "B S S"]  # 1 well inside one label, less at a border
    sample: Int32[Tensor, "B SK SK"]  # number of the point that a sample shows, -1 behind
    behind: Int64[Tensor, "B S S"]  # flat index in its picture of the nearest pixel that shows no surface at all
    engine: FusingEngine = "warp"

    @property
    def size(self) -> int:
        """Pixels a side of the pictures."""
        return self.pixel_label.shape[1]

    @property
    def coverage(self) -> Float[Tensor, "B S S"]:
        """Share of each pixel that the surface covers."""
        covered = (self.sample >= 0).float()[:, None]
        return F.avg_pool2d(covered, covered.shape[-1] // self.size)[:, 0]

    def fuse(
        self,
        pictures: Float[Tensor, "B S S C"],
        *,
        power: float,
        detail: float = 1.0,
        view_weights: Float[Tensor, " B"] | None = None,
        pixel_weight: Float[Tensor, "B S S"] | None = None,
    ) -> tuple[Float[Tensor, "N C"], Float[Tensor, " N"]]:
        """Sum over views of w * value / sum of w, and how well each point is seen; 0 where no view sees it.

        w = seen * cosine^power * density^detail * (weight of the view) * (trust in the four nearest pixels as far as
        they show the point's own label). A point is seen as well as the sum of seen * cosine * trust says.
        pixel_weight: trust in the pixels, in place of the views' own.
        """
        check_tensor("pictures", pictures, f"{len(self.position)} {self.size} {self.size} C", finite=True)
        channels = pictures.shape[3]
        check_range("channels", channels, 1, 4)
        weights = self.density**detail
        if view_weights is not None:
            weights = weights * view_weights.to(weights)
        trust = self.pixel_weight if pixel_weight is None else pixel_weight.float().contiguous()
        values, sight = _engine(self.engine).fuse(self, pictures.float(), trust, weights, power)
        return values[:, :channels], sight

    def show(self, values: Float[Tensor, "N C"], pictures: Float[Tensor, "B S S C"]) -> Float[Tensor, "B S S C"]:
        """The points' values in every view, antialiased over the background of the pictures.

        Where a pixel shows the surface in part, its background is that of the nearest pixel that shows none of it.
        """
        check_tensor("values", values, f"{len(self.surface.points)} C")
        check_tensor("pictures", pictures, f"{len(self.position)} {self.size} {self.size} {values.shape[1]}")
        index = self.behind.flatten(1)[..., None].expand(-1, -1, pictures.shape[3])
        ground = pictures.float().flatten(1, 2).gather(1, index).view(pictures.shape)
        return _engine(self.engine).show(self, values.float(), ground)

    def at(
        self, pictures: Float[Tensor, "B S S C"], index: Int64[Tensor, " M"]
    ) -> tuple[Float[Tensor, "M B C"], Float[Tensor, "M B"]]:
        """What each view says of some points, and the weights at power and detail 1: for figures."""
        from humannorm.rendering import fusing_reference

        values, trust, cosine = fusing_reference.sampled(self, pictures.float(), self.pixel_weight, index)
        return values, trust * cosine * self.density


@torch.no_grad()
def observe(
    mesh: Mesh, surface: SurfacePoints, cameras: Cameras, size: int, *, oversampling: int = 3, engine: str = "warp"
) -> SurfaceViews:
    """Rasterise every view once and find what it sees of the surface's points.

    size: pixels a side of the pictures. oversampling: K, samples along a pixel's side.
    """
    check_choice("engine", engine, FUSING_ENGINES)
    check_range("size", size, 4, 2048)
    check_range("oversampling", oversampling, 1, 8)
    fine = size * oversampling
    cameras = cameras.to(mesh.device)
    sample, distance = _samples(mesh, surface, cameras, fine)
    matrices = _pixel_from_world(cameras, size).to(surface.points)
    fine_pixel = _pixel_size(cameras) / fine  # world units at distance 1
    seen = _engine(engine).seen(surface, matrices, cameras.position().to(matrices), distance, fine_pixel, oversampling)
    label, weight = _pixels(surface.labels, sample, distance, fine_pixel, oversampling)
    density = 1 / _pixel_size(cameras).to(surface.points)
    return SurfaceViews(
        surface=surface,
        seen=seen,
        pixel_from_world=matrices,
        position=cameras.position().to(surface.points),
        density=density / density.min(),
        pixel_label=label,
        pixel_weight=weight,
        sample=sample,
        behind=_nearest_behind(sample, oversampling),
        engine=engine,  # type: ignore[arg-type]
    )


def _pixel_size(cameras: Cameras) -> Float[Tensor, " B"]:
    """World units that a picture is high at distance 1 from its camera."""
    return 2 * torch.tan(torch.deg2rad(cameras.fov_y) / 2) / cameras.zoom


def _pixel_from_world(cameras: Cameras, size: int) -> Float[Tensor, "B 3 4"]:
    clip = cameras.projection() @ cameras.world_to_camera()
    x, y, w = clip[:, 0], clip[:, 1], clip[:, 3]
    return torch.stack([(w + x) * (size / 2), (w - y) * (size / 2), w], dim=1)


def _samples(
    mesh: Mesh, surface: SurfacePoints, cameras: Cameras, fine: int
) -> tuple[Int32[Tensor, "B SK SK"], Float[Tensor, "B SK SK"]]:
    """Which point each sample shows, and how far along the view axis what it shows is; infinite behind."""
    samples, distances = [], []
    for number in range(len(cameras)):
        camera = cameras.select([number])
        fragments = rasterize(camera.clip_from_world(mesh.vertices.float()), mesh.faces, (fine, fine))
        covered = fragments.covered[0]
        weights = fragments.barycentric[0][covered]
        weights = torch.cat([weights, 1 - weights.sum(1, keepdim=True)], dim=1)
        found = torch.full_like(fragments.triangle[0], -1)
        found[covered] = surface.nearest(fragments.triangle[0][covered].long(), weights).to(found)
        near, far = camera.near, camera.far
        distance = 2 * far * near / (far + near - fragments.depth[0].double() * (far - near))
        samples.append(found)
        distances.append(torch.where(covered, distance, torch.inf).float())
    return torch.stack(samples), torch.stack(distances)


def _pixels(
    labels: Int32[Tensor, " N"], sample: Tensor, distance: Tensor, fine_pixel: Tensor, oversampling: int
) -> tuple[Int32[Tensor, "B S S"], Float[Tensor, "B S S"]]:
    """What each pixel shows at its middle, and how much it may be trusted: a border of labels, outline or step in depth
    within it or beside it takes from its weight."""
    shown = torch.where(sample >= 0, labels[sample.clamp_min(0).long()], NO_LABEL).to(torch.int32)
    middle = oversampling // 2
    border = _borders(shown, distance, fine_pixel).float()[:, None]
    own = F.max_pool2d(border, oversampling)
    beside = F.max_pool2d(own, 3, stride=1, padding=1)
    weight = torch.where(own > 0, MIXED, torch.where(beside > 0, MIXED_SIDE, 1.0))[:, 0]
    label = shown[:, middle::oversampling, middle::oversampling].contiguous()
    weight = weight * _fading_to_the_edge(label.shape[1], label.device)
    return label, torch.where(label == NO_LABEL, 0.0, weight).contiguous()


def _fading_to_the_edge(size: int, device: torch.device) -> Float[Tensor, "S S"]:
    """1 in the middle of a picture, falling smoothly over `EDGE` to nearly 0 at its sides."""
    at = (torch.arange(size, device=device) + 0.5) / size
    inside = (torch.minimum(at, 1 - at) / EDGE).clamp(0, 1)
    ramp = MIXED + (1 - MIXED) * inside * inside * (3 - 2 * inside)
    return torch.minimum(ramp[:, None], ramp[None, :])


def _borders(shown: Tensor, distance: Tensor, fine_pixel: Tensor) -> Bool[Tensor, "B SK SK"]:
    """Samples beside another of another label or of another depth."""
    border = torch.zeros_like(shown, dtype=torch.bool)
    for axis in (1, 2):
        count = shown.shape[axis] - 1
        one, two = (shown.narrow(axis, at, count) for at in (0, 1))
        near, far = (distance.narrow(axis, at, count) for at in (0, 1))
        allowed = STEP + STEEP * fine_pixel[:, None, None] * torch.minimum(near, far).clamp_max(1e6)
        differs = (one != two) | ((near - far).abs().nan_to_num(0.0) > allowed)
        border.narrow(axis, 0, count).logical_or_(differs)
        border.narrow(axis, 1, count).logical_or_(differs)
    return border


def _nearest_behind(sample: Int32[Tensor, "B SK SK"], oversampling: int) -> Int64[Tensor, "B S S"]:
    """For every pixel the nearest one that shows no surface; itself where all of the picture does."""
    from scipy.ndimage import distance_transform_edt

    covered = F.max_pool2d((sample >= 0).float()[:, None], oversampling)[:, 0] > 0
    size = covered.shape[1]
    index = torch.arange(size * size, device=sample.device).view(1, size, size).repeat(len(sample), 1, 1)
    for number, mask in enumerate(covered.cpu().numpy()):
        if mask.any() and not mask.all():
            rows, columns = distance_transform_edt(mask, return_distances=False, return_indices=True)
            index[number] = torch.from_numpy(rows.astype("int64") * size + columns).to(index.device)
    return index


def _engine(name: str) -> ModuleType:
    if name == "torch":
        from humannorm.rendering import fusing_reference

        return fusing_reference
    from humannorm.rendering import warp_fusing

    return warp_fusing
