"""All views agree on the normals of one surface: their normal maps are turned into the world, brought together at its
vertices, and drawn again from each camera.

The surface itself stays; what the normals, and the outlines that the views drew, ask of it is `normal_fitting`'s work.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from humannorm.cameras import Cameras
from humannorm.checks import check_range, check_tensor
from humannorm.mesh import Mesh, vertex_normals
from humannorm.rendering.fusing import SurfacePoints, SurfaceViews, observe
from humannorm.rendering.passes import render

__all__ = [
    "NormalAgreement",
    "NormalFusingSettings",
    "coverage_of",
    "normal_disagreement",
    "world_normals",
]

FACING = 0.25
"""Blue of a normal map over which a pixel shows a surface: what faces the camera has 0.5 or more, the background 0."""


@dataclass(frozen=True)
class NormalFusingSettings:
    """How much a view counts at a vertex. All numbers are ours."""

    power: tuple[float, float] = (1.0, 4.0)  # of the cosine, at the first level and at the last
    detail: float = 2.0  # power of a view's pixels per world unit: close-ups decide where they see
    trust: float = 0.03  # sight of a vertex at which the surface's own normal counts as much as what the views say
    oversampling: int = 3  # samples along a pixel's side, in finding what each pixel shows

    def __post_init__(self) -> None:
        for name, value in (("power[0]", self.power[0]), ("power[1]", self.power[1]), ("detail", self.detail)):
            check_range(name, value, 0.0, 32.0)
        check_range("trust", self.trust, 0.0, 1.0)
        check_range("oversampling", self.oversampling, 1, 8)


def world_normals(pictures: Float[Tensor, "B H W 3"], cameras: Cameras) -> Float[Tensor, "B H W 3"]:
    """Camera-space normal maps, (n + 1) / 2, as unit normals in the world; anything where a picture shows none."""
    turned = torch.einsum("bij,bhwi->bhwj", _rotations(cameras, pictures), pictures * 2 - 1)
    return F.normalize(turned, dim=-1, eps=1e-6)


def _rotations(cameras: Cameras, like: Tensor) -> Float[Tensor, "B 3 3"]:
    """From the world to each camera's axes."""
    return cameras.world_to_camera()[:, :3, :3].to(like)


def coverage_of(pictures: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B H W"]:
    """How far each pixel of a normal map on black shows a surface, 0..1: blue, 0.5 or more where it does."""
    return (pictures[..., 2] * 2).clamp(0, 1)


@dataclass(eq=False)
class NormalAgreement:
    """`humannorm.guidance.synchronised.Agreement` on the normals of a surface."""

    mesh: Mesh  # plain, closed, in the working box
    cameras: Cameras
    views: SurfaceViews
    settings: NormalFusingSettings
    held: Float[Tensor, " V"] | None = None  # how far each vertex keeps its own normal, 0..1
    own: Float[Tensor, "V 3"] = field(init=False)  # the surface's normals, unit length
    mask: Float[Tensor, "B S S"] = field(init=False)  # the surface's coverage
    disagreement: list[float] = field(default_factory=list)  # at each agreement, see `normal_disagreement`

    @staticmethod
    def of(
        mesh: Mesh,
        cameras: Cameras,
        size: int,
        settings: NormalFusingSettings,
        *,
        held: Float[Tensor, " V"] | None = None,
        engine: str = "warp",
    ) -> NormalAgreement:
        """Between normal maps of `size` pixels from these cameras."""
        normals = vertex_normals(mesh.vertices, mesh.faces)
        labels = torch.zeros(mesh.num_vertices, dtype=torch.int32, device=mesh.device)

        def nearest(face: Tensor, weights: Tensor) -> Tensor:
            return mesh.faces[face].gather(1, weights.argmax(1, keepdim=True))[:, 0]

        points = SurfacePoints(mesh.vertices.float().contiguous(), normals.contiguous(), labels, nearest)
        views = observe(mesh, points, cameras, size, oversampling=settings.oversampling, engine=engine)
        return NormalAgreement(mesh, cameras, views, settings, held)

    def __post_init__(self) -> None:
        if self.held is not None:
            check_tensor("held", self.held, f"{self.mesh.num_vertices}", finite=True)
        self.own = self.views.surface.normals
        passes = render(self.mesh, self.cameras, (self.views.size, self.views.size), ("mask",))
        assert passes.mask is not None
        self.mask = passes.mask

    def __call__(self, estimates: Float[Tensor, "B S S 3"], share: float) -> Float[Tensor, "B S S 3"]:
        """Normal maps as they would be if they showed one surface; outside of it each view keeps what it drew."""
        low, high = self.settings.power
        self.disagreement.append(self.disagreement_of(estimates))
        return self.show(self.fused(estimates, low + (high - low) * share), estimates)

    def fused(self, pictures: Float[Tensor, "B S S 3"], power: float) -> Float[Tensor, "V 3"]:
        """The vertices' normals in the world by all views; their own as far as none sees them or they are held."""
        normals, sight = self.views.fuse(
            world_normals(pictures.float(), self.cameras),
            power=power,
            detail=self.settings.detail,
            pixel_weight=self._trusted(pictures),
        )
        theirs = F.normalize(normals, dim=1, eps=1e-6)
        share = (sight / (sight + max(self.settings.trust, 1e-9)))[:, None]
        if self.held is not None:
            share = share * (1 - self.held.to(share)[:, None])
        return F.normalize(torch.lerp(self.own, theirs, share), dim=1, eps=1e-6)

    def show(self, normals: Float[Tensor, "V 3"], pictures: Float[Tensor, "B S S 3"]) -> Float[Tensor, "B S S 3"]:
        """The vertices' normals in every view, over the background of the pictures.

        Where a pixel shows the surface in part, its background is that of the nearest pixel that shows none of it.
        """
        size = self.views.size
        drawn = render(self.mesh.replace(normals=normals), self.cameras, (size, size), ("normal",)).normal
        assert drawn is not None
        index = self.views.behind.flatten(1)[..., None].expand(-1, -1, 3)
        ground = pictures.float().flatten(1, 2).gather(1, index).view(pictures.shape)
        return drawn + (1 - self.mask[..., None]) * ground

    def disagreement_of(self, pictures: Float[Tensor, "B S S 3"], most: int = 4096) -> float:
        """See `normal_disagreement`."""
        return normal_disagreement(self.views, world_normals(pictures.float(), self.cameras), most)

    def _trusted(self, pictures: Float[Tensor, "B S S 3"]) -> Float[Tensor, "B S S"]:
        """Trust in every pixel: none in one where the view drew the background."""
        return self.views.pixel_weight * (pictures[..., 2] > FACING)


@torch.no_grad()
def normal_disagreement(views: SurfaceViews, normals: Float[Tensor, "B S S 3"], most: int = 4096) -> float:
    """Mean angle, in degrees, between what single views say of a vertex and their mean, over evenly drawn vertices.

    Each view counts by its weight at the vertex; vertices that fewer than two views see are left out.
    """
    count = len(views.surface.points)
    said, weights = views.at(normals, torch.arange(0, count, max(1, count // most), device=normals.device))
    weights = weights * (weights > 0.05)
    several = (weights > 0).sum(1) > 1
    if not bool(several.any()):
        return 0.0
    said, weights = F.normalize(said[several], dim=-1, eps=1e-6), weights[several]
    weights = weights / weights.sum(1, keepdim=True)
    mean = F.normalize((said * weights[..., None]).sum(1, keepdim=True), dim=-1, eps=1e-6)
    # By the chord, which keeps its precision at small angles.
    angle = 2 * torch.asin(((said - mean).norm(dim=-1) / 2).clamp(max=1))
    return float(torch.rad2deg((angle * weights).sum(1).mean()))
