"""What stands in a finished file, for people: eight sides on a sheet, films of a full turn and of a moving light."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.cameras import Cameras, orbit, turntable
from humannorm.export.baked import BakedMesh
from humannorm.export.exporting import slopes_on
from humannorm.files import write_files
from humannorm.images import contact_sheet, save_png, to_pil
from humannorm.mesh import Mesh
from humannorm.rendering.passes import Pass, render
from humannorm.rendering.shaded import GROUND, SIDES, ZERO_BEHIND, light_from, lit_views, shaded_views, shading

__all__ = [
    "film_views",
    "relit",
    "response_of",
    "save_film",
    "save_light_film",
    "save_shaded_film",
    "save_sides",
    "write_film",
]

RELIEF = 0.35  # share of the shading in the film: enough to see the form, little enough to see the colours
FILM_FRAMES = 36  # of a full turn
FRAME_MILLISECONDS = 80
ZOOM = 1.25  # a standing body then fills nine tenths of the height


@torch.no_grad()
def film_views(
    mesh: Mesh, cameras: Cameras, size: int, slopes: Float[Tensor, "S S 3"] | None = None
) -> Float[Tensor, "B H W 3"]:
    """The mesh's own colours, lightly shaded so that the form shows, on a light ground."""
    ground = (GROUND, GROUND, GROUND)
    wanted: tuple[Pass, ...] = ("normal", "mask", "color")
    passes = render(mesh, cameras, (size, size), wanted, background=ground, encoding=ZERO_BEHIND, slopes=slopes)
    assert passes.normal is not None and passes.mask is not None and passes.color is not None
    bright = shading(passes.normal, passes.mask) / GROUND
    return passes.color * (1 - RELIEF + RELIEF * bright).clamp(max=1)


@torch.no_grad()
def save_sides(path: Path, mesh: Mesh, size: int = 320, slopes: Float[Tensor, "S S 3"] | None = None) -> None:
    """A textured mesh in the working box from eight sides: its colours lightly shaded, over its normals."""
    tiles: list[Tensor] = []
    normals: list[Tensor] = []
    for azimuth in SIDES:  # one view at a time: memory stays small at any number of faces
        camera = orbit([azimuth], elevation=5.0, zoom=ZOOM).to(mesh.device)
        tiles.append(film_views(mesh, camera, size, slopes)[0].cpu())
        normals.append(shaded_views(mesh, camera, size, slopes)[0][0].cpu())
    labels = [f"{kind}, {azimuth}" for kind in ("colour", "normals") for azimuth in SIDES]
    save_png(path, contact_sheet(tiles + normals, labels, columns=len(SIDES)))


def save_film(path: Path, mesh: Mesh, size: int = 400, slopes: Float[Tensor, "S S 3"] | None = None) -> None:
    """A full turn of a textured mesh in the working box as an endless animated WebP, written whole or not at all."""
    views = turntable(FILM_FRAMES, zoom=ZOOM).to(mesh.device)
    pictures = [film_views(mesh, views.select([frame]), size, slopes)[0].cpu() for frame in range(FILM_FRAMES)]
    write_film(path, pictures, FRAME_MILLISECONDS)


def response_of(baked: BakedMesh) -> Float[Tensor, "H W 3"] | None:
    """Occlusion, roughness and metalness of a surface in its texture coordinates; None where it says of none."""
    look, occlusion = baked.material, baked.occlusion
    if look.metallic_roughness is None and occlusion is None and (look.roughness, look.metallic) == (1.0, 0.0):
        return None
    packed = look.metallic_roughness
    if packed is None:
        packed = torch.ones(1, 1, 3) if occlusion is None else occlusion.new_ones(*occlusion.shape[:2], 3)
    factors = packed.new_tensor([look.roughness, look.metallic])
    opened = torch.ones_like(packed[..., :1])
    if occlusion is not None and occlusion.shape[:2] == packed.shape[:2]:
        opened = 1 + look.occlusion_strength * (occlusion - 1)
    return torch.cat([opened, packed[..., 1:] * factors], -1)


def relit(
    baked: BakedMesh, cameras: Cameras, size: int, azimuth: float, elevation: float = 35.0
) -> Float[Tensor, "B H W 3"]:
    """A textured surface in the working box under one lamp (degrees, see `light_from`)."""
    slopes = slopes_on(baked)
    return lit_views(baked.mesh, cameras, size, response_of(baked), light_from(azimuth, elevation), slopes)


def save_light_film(path: Path, baked: BakedMesh, frames: int = 24, size: int = 400) -> None:
    """A textured surface in the working box, seen from its front left, while the lamp goes once around it."""
    camera = orbit([20.0], elevation=5.0, zoom=ZOOM).to(baked.mesh.device)
    response, slopes, pictures = response_of(baked), slopes_on(baked), []
    for frame in range(frames):
        light = light_from(360.0 * frame / frames, 35.0)
        pictures.append(lit_views(baked.mesh, camera, size, response, light, slopes)[0].cpu())
    write_film(path, pictures, FRAME_MILLISECONDS)


def save_shaded_film(path: Path, mesh: Mesh, size: int = 320) -> None:
    """A full turn of a surface without colours, matt grey, as `save_film` writes it."""
    views = turntable(FILM_FRAMES).to(mesh.device)
    pictures = [shaded_views(mesh, views.select([frame]), size)[1][0].cpu() for frame in range(FILM_FRAMES)]
    write_film(path, pictures, FRAME_MILLISECONDS)


def write_film(path: Path, pictures: Sequence[Float[Tensor, "H W 3"]], milliseconds: int) -> None:
    """Pictures as an endless animated WebP, each shown for as long; written whole or not at all."""
    frames = [to_pil(picture) for picture in pictures]
    stream = io.BytesIO()
    frames[0].save(
        stream, format="WEBP", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, quality=80
    )
    write_files({path: stream.getvalue()})
