"""The icon and the banner of the Comfy registry, of humans that the pack made itself; the banner stands in README, too.

    python tools/make_registry_art.py HUMAN.glb[,normals][,pose=run][,lamp=80][,side=-20] ... [--out docs/images]

The icon (400 x 400) is the first human's upper body, half as the normals that shaped it and half in its colours; the
banner (1260 x 540) has all of them in a row. pose: one that `humannorm animate` knows, its skeleton laid in; lamp:
degrees to the right of the viewer that the light comes from; side: degrees that the human is turned.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body import named_pose
from humannorm.body.clips import still
from humannorm.cameras import Cameras, orbit
from humannorm.export import BakedMesh, load_baked, slopes_on
from humannorm.export.showing import relit
from humannorm.images import save_png
from humannorm.mesh import Mesh, vertex_normals, weld
from humannorm.rendering.passes import PassEncoding, render
from humannorm.rendering.shaded import GROUND
from humannorm.rigging import rig_human
from humannorm.working_box import to_working_box

ICON, BANNER = 400, (540, 1260)  # pixels; the registry asks for a square of at most 400 and for 21:9
INK = (0.10, 0.11, 0.14)  # behind the humans
OVERSAMPLING = 2
LAMP = -25.0  # degrees to the right of the viewer
TURN = 30.0  # degrees that the outermost humans of the banner look toward its middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("humans", nargs="+", metavar="HUMAN.glb[,...]")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), metavar="DIR")
    args = parser.parse_args()
    figures = [Figure.read(text) for text in args.humans]
    save_png(args.out / "icon.png", icon(figures[0].human))
    save_png(args.out / "banner.png", in_a_row(figures, *BANNER))


@dataclasses.dataclass(frozen=True)
class Figure:
    """One human of the banner, in the working box."""

    human: BakedMesh
    as_normals: bool
    lamp: float  # degrees
    side: float | None  # degrees; None: toward the middle of the banner

    @staticmethod
    def read(text: str) -> Figure:
        path, *words = text.split(",")
        options = dict(word.partition("=")[::2] for word in words)
        human = load_baked(Path(path))
        human = dataclasses.replace(human, mesh=to_working_box(human.mesh))
        if "pose" in options:
            human = dataclasses.replace(human, mesh=posed(human.mesh, options["pose"]))
        side = float(options["side"]) if "side" in options else None
        return Figure(human, "normals" in options, float(options.get("lamp", LAMP)), side)


def posed(mesh: Mesh, pose: str) -> Mesh:
    """A textured mesh in a named pose, upright in the working box as it was."""
    figure = rig_human(mesh)
    moved = figure.posed(still(pose, named_pose(pose), figure.body))
    low = float(moved.vertices[:, 1].min() - mesh.vertices[:, 1].min())
    middle = (moved.vertices.amax(0) + moved.vertices.amin(0)) / 2
    vertices = moved.vertices - moved.vertices.new_tensor([float(middle[0]), low, float(middle[2])])
    first = weld(mesh.vertices)
    normals = vertex_normals(vertices, first[mesh.faces])[first]
    return mesh.replace(vertices=vertices, normals=normals)


@torch.no_grad()
def icon(human: BakedMesh) -> Float[Tensor, "H W 3"]:
    bust = orbit([12.0], elevation=4.0, zoom=3.8, target_y=0.66)
    colors, normals = both(human, bust, ICON)
    right = torch.arange(ICON) >= ICON // 2
    return torch.where(right[None, :, None], colors, normals)


@torch.no_grad()
def in_a_row(figures: list[Figure], height: int, width: int) -> Float[Tensor, "H W 3"]:
    """The humans beside each other on ink, each as tall as the picture but for a margin."""
    picture = torch.tensor(INK).expand(height, width, 3).clone()
    step = width // len(figures)
    for place, figure in enumerate(figures):
        toward = -TURN * (place / max(len(figures) - 1, 1) * 2 - 1)
        camera = orbit([toward if figure.side is None else figure.side], elevation=4.0, zoom=1.2)
        view = both(figure.human, camera, height, figure.lamp)[int(figure.as_normals)]
        middle = place * step + step // 2
        left = max(0, middle - height // 2)
        right = min(width, middle - height // 2 + height)
        part = view[:, left - (middle - height // 2) : right - (middle - height // 2)]
        drawn = (part - picture.new_tensor(INK)).abs().amax(-1, keepdim=True) > 1e-3
        picture[:, left:right] = torch.where(drawn, part, picture[:, left:right])
    return picture


def both(
    human: BakedMesh, camera: Cameras, size: int, lamp: float = LAMP
) -> tuple[Float[Tensor, "S S 3"], Float[Tensor, "S S 3"]]:
    """The human in its colours under a lamp, and its normals as the networks see them, both on ink."""
    large, slopes = OVERSAMPLING * size, slopes_on(human)
    encoding = PassEncoding(normal_background=INK)
    passes = render(human.mesh, camera, (large, large), ("normal", "mask"), encoding=encoding, slopes=slopes)
    normal, mask = passes.normal, passes.mask
    assert normal is not None and mask is not None
    lit = relit(human, camera, large, lamp)[0]
    # What `relit` lays on its own ground, off it again.
    colors = lit + (1 - mask[0, ..., None]) * (torch.tensor(INK) - GROUND)
    small = [
        torch.nn.functional.avg_pool2d(picture.movedim(-1, 0)[None], OVERSAMPLING)[0].movedim(0, -1)
        for picture in (colors, normal[0])
    ]
    return small[0], small[1]


if __name__ == "__main__":
    main()
