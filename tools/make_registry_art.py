"""The icon and the banner of the Comfy registry, of humans that the pack made itself.

    python tools/make_registry_art.py HUMAN.glb [HUMAN.glb ...] [--out docs/images]

The icon (400 x 400) is the first human's upper body, half as the normals that shaped it and half in its colours; the
banner (1260 x 540) has all of them in a row, every other one as normals.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.cameras import Cameras, orbit
from humannorm.export import BakedMesh, load_baked, slopes_on
from humannorm.export.showing import relit
from humannorm.images import save_png
from humannorm.rendering.passes import PassEncoding, render
from humannorm.rendering.shaded import GROUND
from humannorm.working_box import to_working_box

ICON, BANNER = 400, (540, 1260)  # pixels; the registry asks for a square of at most 400 and for 21:9
INK = (0.10, 0.11, 0.14)  # behind the humans
OVERSAMPLING = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("humans", type=Path, nargs="+", metavar="HUMAN.glb")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), metavar="DIR")
    args = parser.parse_args()
    humans = [load_baked(path) for path in args.humans]
    humans = [dataclasses.replace(human, mesh=to_working_box(human.mesh)) for human in humans]
    save_png(args.out / "icon.png", icon(humans[0]))
    save_png(args.out / "banner.png", banner(humans))


@torch.no_grad()
def icon(human: BakedMesh) -> Float[Tensor, "H W 3"]:
    bust = orbit([12.0], elevation=4.0, zoom=3.8, target_y=0.66)
    colors, normals = both(human, bust, ICON)
    right = torch.arange(ICON) >= ICON // 2
    return torch.where(right[None, :, None], colors, normals)


@torch.no_grad()
def banner(humans: list[BakedMesh]) -> Float[Tensor, "H W 3"]:
    height, width = BANNER
    picture = torch.tensor(INK).expand(height, width, 3).clone()
    step = width // len(humans)
    for place, human in enumerate(humans):
        azimuth = 35.0 * (place / max(len(humans) - 1, 1) * 2 - 1)  # all look toward the middle
        view = both(human, orbit([-azimuth], elevation=4.0, zoom=1.2), height)[place % 2]
        middle = place * step + step // 2
        left = max(0, middle - height // 2)
        right = min(width, middle - height // 2 + height)
        part = view[:, left - (middle - height // 2) : right - (middle - height // 2)]
        drawn = (part - picture.new_tensor(INK)).abs().amax(-1, keepdim=True) > 1e-3
        picture[:, left:right] = torch.where(drawn, part, picture[:, left:right])
    return picture


def both(human: BakedMesh, camera: Cameras, size: int) -> tuple[Float[Tensor, "S S 3"], Float[Tensor, "S S 3"]]:
    """The human in its colours under a lamp, and its normals as the networks see them, both on ink."""
    large, slopes = OVERSAMPLING * size, slopes_on(human)
    encoding = PassEncoding(normal_background=INK)
    passes = render(human.mesh, camera, (large, large), ("normal", "mask"), encoding=encoding, slopes=slopes)
    normal, mask = passes.normal, passes.mask
    assert normal is not None and mask is not None
    lit = relit(human, camera, large, -25.0)[0]
    # What `relit` lays on its own ground, off it again.
    colors = lit + (1 - mask[0, ..., None]) * (torch.tensor(INK) - GROUND)
    small = [
        torch.nn.functional.avg_pool2d(picture.movedim(-1, 0)[None], OVERSAMPLING)[0].movedim(0, -1)
        for picture in (colors, normal[0])
    ]
    return small[0], small[1]


if __name__ == "__main__":
    main()
