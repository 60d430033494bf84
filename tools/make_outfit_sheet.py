"""Draw docs/images/outfits.webp: start bodies in the outfits of their prompts, shaded, as normals and as labels.

With --keep DIR each is written as a PLY too, without the folds of its fabric, for `humannorm evaluate meshes`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from humannorm.body import completed, load_body, outfit_of_words, shape_of_words
from humannorm.cameras import orbit
from humannorm.export import BakedMesh, write_ply
from humannorm.geometry.outfits import dress
from humannorm.geometry.worn_fabric import WornFabric
from humannorm.images import contact_sheet, to_pil
from humannorm.labels import label_picture
from humannorm.mesh import Mesh, leaning, vertex_normals
from humannorm.rendering import render
from humannorm.rendering.shaded import shaded_views

OUT = Path(__file__).parents[1] / "docs" / "images" / "outfits.webp"
PROMPTS = Path(__file__).with_name("outfit_prompts.txt")  # a prompt a line, with @pose behind it if it does not stand
AZIMUTHS = (0.0, 90.0, 180.0, -45.0)  # degrees
SIZE = 192  # pixels
QUALITY = 90  # of the sheet as WebP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--keep", type=Path, metavar="DIR")
    args = parser.parse_args()
    tiles: list[torch.Tensor] = []
    names: list[str] = []
    cameras = orbit(AZIMUTHS, fov_y=35.0, distance=3.3)
    for number, line in enumerate(PROMPTS.read_text(encoding="utf-8").splitlines(), start=1):
        prompt, _, pose = line.partition("@")
        shape = shape_of_words(prompt)
        body = load_body(shape, pose or "a-pose").in_working_box()
        outfit = completed(outfit_of_words(prompt), shape)
        surface = dress(body, outfit).surface
        bare = surface.mesh
        lean = WornFabric(body, outfit).look_at(bare.vertices, surface.labels_at(bare.vertices)).lean
        folded = leaning(vertex_normals(bare.vertices, bare.faces), lean)
        normals, shades = shaded_views(Mesh(bare.vertices, bare.faces, normals=folded), cameras, SIZE)
        if args.keep is not None:
            args.keep.mkdir(parents=True, exist_ok=True)
            write_ply(args.keep / f"{number:02d}.ply", BakedMesh(bare), overwrite=True)
        seen = render(surface.mesh, cameras.select([0]), (SIZE, SIZE), ("label",), labels=surface.labels).label
        assert seen is not None
        tiles += [*shades, *normals, label_picture(seen)[0]]
        names += [str(number), *[""] * 8]
        print(f"{number} {line}")
    to_pil(contact_sheet(tiles, names, 18)).save(args.out, quality=QUALITY)
    print(args.out)


if __name__ == "__main__":
    main()
