"""The icon and the banner of the Comfy registry, of humans that the pack made itself.

    python tools/make_registry_art.py HUMAN.glb [HUMAN.glb ...] [--out docs/images]

The icon (400 x 400) is the first human's upper body, half as the normals that shaped it and half in its colours; the
banner (1260 x 540) has all of them in a row, every other one as normals.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.cameras import Cameras, orbit
from humannorm.export.showing import film_views
from humannorm.images import save_png
from humannorm.mesh import Mesh
from humannorm.mesh_io import load_mesh
from humannorm.rendering.passes import PassEncoding, render
from humannorm.working_box import to_working_box

ICON, BANNER = 400, (540, 1260)  # pixels; the registry asks for a square of at most 400 and for 21:9
INK = (0.10, 0.11, 0.14)  # behind the humans
OVERSAMPLING = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("humans", type=Path, nargs="+", metavar="HUMAN.glb")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), metavar="DIR")
    args = parser.parse_args()
    meshes = [to_working_box(load_mesh(path)) for path in args.humans]
    save_png(args.out / "icon.png", icon(meshes[0]))
    save_png(args.out / "banner.png", banner(meshes))


@torch.no_grad()
def icon(mesh: Mesh) -> Float[Tensor, "H W 3"]:
    bust = orbit([12.0], elevation=4.0, zoom=3.8, target_y=0.66)
    colors, normals = both(mesh, bust, ICON)
    right = torch.arange(ICON) >= ICON // 2
    return torch.where(right[None, :, None], colors, normals)


@torch.no_grad()
def banner(meshes: list[Mesh]) -> Float[Tensor, "H W 3"]:
    height, width = BANNER
    picture = torch.tensor(INK).expand(height, width, 3).clone()
    step = width // len(meshes)
    for place, mesh in enumerate(meshes):
        azimuth = 35.0 * (place / max(len(meshes) - 1, 1) * 2 - 1)  # all look toward the middle
        view = both(mesh, orbit([-azimuth], elevation=4.0, zoom=1.2), height)[place % 2]
        middle = place * step + step // 2
        left = max(0, middle - height // 2)
        right = min(width, middle - height // 2 + height)
        part = view[:, left - (middle - height // 2) : right - (middle - height // 2)]
        drawn = (part - picture.new_tensor(INK)).abs().amax(-1, keepdim=True) > 1e-3
        picture[:, left:right] = torch.where(drawn, part, picture[:, left:right])
    return picture


def both(mesh: Mesh, camera: Cameras, size: int) -> tuple[Float[Tensor, "S S 3"], Float[Tensor, "S S 3"]]:
    """The mesh in its colours, and its normals as the networks see them, both on ink."""
    large = OVERSAMPLING * size
    normal = render(mesh, camera, (large, large), ("normal",), encoding=PassEncoding(normal_background=INK)).normal
    mask = render(mesh, camera, (large, large), ("mask",)).mask
    assert normal is not None and mask is not None
    colors = torch.lerp(
        torch.tensor(INK).expand(large, large, 3), film_views(mesh, camera, large)[0], mask[0, ..., None]
    )
    small = [
        torch.nn.functional.avg_pool2d(picture.movedim(-1, 0)[None], OVERSAMPLING)[0].movedim(0, -1)
        for picture in (colors, normal[0])
    ]
    return small[0], small[1]


if __name__ == "__main__":
    main()
