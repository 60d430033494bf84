"""Pictures of a surface for people: normals, shading and light on materials on a light ground, and a sheet."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from humannorm.cameras import Cameras, orbit
from humannorm.images import contact_sheet, linear_from_srgb, save_png, srgb_from_linear
from humannorm.mesh import Mesh
from humannorm.rendering.passes import Pass, PassEncoding, render

__all__ = ["ZERO_BEHIND", "light_from", "lit_views", "save_sheet", "shaded_views", "shading"]

GROUND = 0.93  # grey behind the surface
LIGHT = (-0.35, 0.5, 0.8)  # toward the light, camera axes: over the viewer's left shoulder
AMBIENT = 0.25
SKY, KEY = 0.2, 0.75  # light of the sky beside the ambient one, and of the lamp (linear, on white that faces them)
HORIZON = (0.12, 0.8)  # what mirrors see below and above it, linear
DIELECTRIC = 0.04  # share of light that all but metals mirror head-on (glTF 2.0, appendix B)
ZERO_BEHIND = PassEncoding(normal_background=(0.5, 0.5, 0.5))
"""Decodes to a zero normal behind the surface, so that coverage and normal come apart cleanly."""
SIDES = tuple(range(0, 360, 45))  # degrees


@torch.no_grad()
def shaded_views(
    mesh: Mesh, cameras: Cameras, size: int, slopes: Float[Tensor, "S S 3"] | None = None
) -> tuple[Float[Tensor, "B H W 3"], Float[Tensor, "B H W 3"]]:
    """Camera-space normals, and a matt grey surface under one light that moves with the camera; on a light ground.

    slopes: of folds, as `render` takes them.
    """
    passes = render(mesh, cameras, (size, size), ("normal", "mask"), encoding=ZERO_BEHIND, slopes=slopes)
    assert passes.normal is not None and passes.mask is not None
    cover = passes.mask[..., None]
    normal = F.normalize(passes.normal * 2 - 1, dim=-1)
    ground = torch.full_like(passes.normal, GROUND)
    shown = torch.lerp(ground, normal / 2 + 0.5, cover)
    return shown, shading(passes.normal, passes.mask).expand_as(ground)


def shading(normal: Float[Tensor, "B H W 3"], mask: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W 1"]:
    """Brightness of a matt surface under `LIGHT` on the ground. normal: as `render` draws it with `ZERO_BEHIND`."""
    unit = F.normalize(normal * 2 - 1, dim=-1)
    light = F.normalize(unit.new_tensor(LIGHT), dim=0)
    bright = AMBIENT + (1 - AMBIENT) * (unit @ light).clamp_min(0)
    return torch.lerp(torch.full_like(bright, GROUND), bright, mask)[..., None]


def light_from(azimuth: float, elevation: float) -> tuple[float, float, float]:
    """The direction toward a lamp, camera axes: degrees from behind the viewer toward the picture's right, and up."""
    a, e = math.radians(azimuth), math.radians(elevation)
    return math.cos(e) * math.sin(a), math.sin(e), math.cos(e) * math.cos(a)


@torch.no_grad()
def lit_views(
    mesh: Mesh,
    cameras: Cameras,
    size: int,
    response: Float[Tensor, "h w 3"] | None = None,
    light: tuple[float, float, float] = LIGHT,
    slopes: Float[Tensor, "S S 3"] | None = None,
) -> Float[Tensor, "B H W 3"]:
    """The mesh's colours under a lamp and a sky, as what it is made of answers them; on a light ground.

    response: occlusion, roughness and metalness in the mesh's texture coordinates (glTF's packing); None: matt, open.
    light: toward the lamp, camera axes. slopes: of folds, as `render` takes them. The viewer counts as far away. What
    light does is glTF 2.0's appendix B (GGX, with Schlick's Fresnel term), and for the sky the fit of Karis 2014 for
    the two numbers that remain of it.
    """
    shape, ground = (size, size), (GROUND, GROUND, GROUND)
    wanted: tuple[Pass, ...] = ("normal", "mask", "color")
    passes = render(mesh, cameras, shape, wanted, encoding=ZERO_BEHIND, background=ground, slopes=slopes)
    assert passes.normal is not None and passes.mask is not None and passes.color is not None
    cover = passes.mask[..., None]
    albedo = linear_from_srgb(((passes.color - (1 - cover) * GROUND) / cover.clamp_min(1e-3)).clamp(0, 1))
    answers = torch.ones_like(albedo) * albedo.new_tensor([1.0, 1.0, 0.0])
    if response is not None:
        drawn = render(
            mesh.replace(texture=response.to(albedo)), cameras, shape, ("color",), background=(1.0, 1.0, 0.0)
        )
        assert drawn.color is not None
        answers = drawn.color
    normal = F.normalize(passes.normal * 2 - 1, dim=-1)
    shown = srgb_from_linear(reflected(normal, albedo, answers, F.normalize(normal.new_tensor(light), dim=0)))
    return torch.lerp(torch.full_like(albedo, GROUND), shown.clamp(0, 1), cover)


def reflected(
    normal: Float[Tensor, "*N 3"],
    albedo: Float[Tensor, "*N 3"],
    answers: Float[Tensor, "*N 3"],
    light: Float[Tensor, "*#N 3"],
) -> Float[Tensor, "*N 3"]:
    """Linear light toward a viewer on +z from the lamp and the sky, as the page (`export/viewer.html`) has it."""
    opened, rough, metal = answers.split(1, -1)
    rough = rough.clamp_min(0.05)
    facing = normal[..., 2:].clamp_min(1e-3)
    mirror = DIELECTRIC + metal * (albedo - DIELECTRIC)
    half = F.normalize(light + light.new_tensor([0.0, 0.0, 1.0]), dim=-1)
    lamp, across = ((normal * toward).sum(-1, keepdim=True).clamp_min(0) for toward in (light, half))
    alpha = rough.square()
    spread = alpha.square() / (math.pi * (across.square() * (alpha.square() - 1) + 1).square())
    # Heitz 2014's height-correlated shadowing, with the 4 nl nv of the microfacet model divided out.
    seen = 0.5 / (
        lamp * (facing.square() * (1 - alpha.square()) + alpha.square()).sqrt()
        + facing * (lamp.square() * (1 - alpha.square()) + alpha.square()).sqrt()
    ).clamp_min(1e-4)
    grazing = mirror + (1 - mirror) * (1 - half[..., 2:]) ** 5
    up = normal[..., 1:2]
    sky = opened * (AMBIENT + SKY * (0.5 + 0.5 * up))
    matt = (1 - metal) * albedo * (sky + KEY * lamp)
    # What a mirror of this roughness sees of a dark floor and a bright sky.
    soft = 0.1 + 0.9 * rough
    above = ((2 * facing * up / soft).clamp(-1, 1) + 1) / 2
    around = HORIZON[0] + (HORIZON[1] - HORIZON[0]) * above * above * (3 - 2 * above)
    return matt + math.pi * KEY * lamp * spread * seen * grazing + opened * around * _of_sky(mirror, rough, facing)


def _of_sky(mirror: Tensor, rough: Tensor, facing: Tensor) -> Tensor:
    """The share of a bright sky that is mirrored: Karis 2014, "Physically based shading on mobile"."""
    r = [rough * a + b for a, b in ((-1.0, 1.0), (-0.0275, 0.0425), (-0.572, 1.04), (0.022, -0.04))]
    a004 = torch.minimum(r[0].square(), torch.exp2(-9.28 * facing)) * r[0] + r[1]
    return mirror * (-1.04 * a004 + r[2]) + 1.04 * a004 + r[3]


def save_sheet(path: Path, before: Mesh, after: Mesh, size: int = 256) -> None:
    """Normals and shading from eight sides, before over after."""
    cameras = orbit(SIDES, elevation=5.0).to(before.device)
    tiles: list[Tensor] = []
    labels: list[str] = []
    for name, mesh in (("before", before), ("after", after)):
        for kind, views in zip(("normals", "shading"), shaded_views(mesh, cameras, size), strict=True):
            tiles += list(views.cpu())
            labels += [f"{name}, {kind}, {azimuth}" for azimuth in SIDES]
    save_png(path, contact_sheet(tiles, labels, columns=len(SIDES)))
