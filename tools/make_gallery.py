"""Runs prompts with a preset and lays what came out on one contact sheet: the gallery of the README.

    python tools/make_gallery.py --out DIR [--prompts FILE] [--preset quick] [--sheet docs/images/gallery.webp]

Runs go on where they were stopped; two people are a row, each GLB seen from four sides in colour and one as normals.
With --film all of them turn together in one animated picture.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from humannorm.cameras import orbit
from humannorm.commands.generate import slug
from humannorm.export import load_baked, slopes_on
from humannorm.export.showing import film_views, write_film
from humannorm.images import contact_sheet, to_pil
from humannorm.prompts import read_prompts
from humannorm.rendering.shaded import GROUND, shaded_views
from humannorm.working_box import to_working_box

# Garments, colours, hair, builds and ages, in the words that the bundled model was trained on.
PROMPTS = (
    "a young woman with long brown hair, wearing a red t-shirt, blue jeans and white shoes",
    "an old man with short grey hair, wearing a green sweater, brown trousers and black shoes",
    "a muscular young man with short black hair, wearing a white t-shirt, black shorts and red sneakers",
    "a middle-aged woman with a ponytail of blond hair, wearing a purple blouse, a black skirt and black shoes",
    "a heavy middle-aged man with a bald head, wearing a blue shirt, grey trousers and brown shoes",
    "a slim young woman with short red hair, wearing a yellow dress and white shoes",
    "a young man with an afro, wearing an orange hoodie, navy jeans and white sneakers",
    "an old woman with white hair, wearing a teal sweater, a maroon skirt and black shoes",
    "a slim middle-aged man with dark brown hair, wearing a black suit and black shoes",
    "a heavy young woman with long black hair, wearing a pink t-shirt, black trousers and white sneakers",
    "a young man with long blond hair, wearing a turquoise t-shirt, olive shorts and brown shoes",
    "a middle-aged woman with a bob of black hair, wearing a white shirt, blue jeans and red shoes",
    # Patterns, materials, hulls and more everyday words.
    "a woman in a red and white striped t-shirt, navy jeans and white sneakers, with a blond ponytail",
    "an old man in a long brown coat, grey trousers, black shoes and a hat, short white hair",
    "a young woman with braided red hair, wearing a green plaid shirt, blue jeans and brown boots",
    "a middle-aged man with short grey hair, wearing a navy suit, a light blue shirt and brown shoes",
    "a dark-skinned woman with an afro, wearing an orange dress and white sneakers",
    "a slim young man with tousled black hair in a black leather jacket, white t-shirt, grey jeans and black boots",
    "a woman with a brown bob, wearing a purple polka-dot dress and black shoes",
    "a heavy man with short red hair, a checkered shirt, olive shorts and blue sneakers",
    "an old woman with her grey hair in a bun, wearing a maroon sweater, a long black skirt and brown shoes",
    "an Asian woman with long black hair, wearing a pink crop top, black leggings and white sneakers",
    "a muscular bald man in a yellow t-shirt, blue shorts and white sneakers",
    "a woman in a hijab, wearing a teal gown and black shoes",
)
SIDES = (0, 45, 90, 180)  # degrees
ZOOM = 1.25
TURNING = (224, 128)  # height and width of one person in the film, pixels
FRAMES, MILLISECONDS, ROW = 24, 120, 8
QUALITY = 90  # of the sheet as WebP


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the runs")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="one a line (default: two dozen of our own)")
    parser.add_argument("--count", type=int, default=len(PROMPTS), help="of the prompts, from the first")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--models", default="bundled")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, default=Path("docs/images/gallery.webp"))
    parser.add_argument("--size", type=int, default=256, help="side of a picture in pixels")
    parser.add_argument("--film", type=Path, metavar="FILE.webp", help="also all people turning, in one picture")
    args = parser.parse_args()
    prompts = (list(PROMPTS) if args.prompts is None else read_prompts(args.prompts))[: args.count]
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "prompts.txt"
    file.write_text("\n".join(prompts) + "\n", encoding="utf-8")
    words = ["--prompts", str(file), "--preset", args.preset, "--models", args.models, "--seed", str(args.seed)]
    command = [sys.executable, "-m", "humannorm", "generate", *words, "--resume", "--out", str(args.out)]
    status = subprocess.run(command, check=False).returncode

    tiles: list[Tensor] = []
    labels: list[str] = []
    turns: list[list[Tensor]] = []
    for number, prompt in enumerate(prompts, start=1):
        human = args.out / f"{number:03d}_{slug(prompt)}" / "human.glb"
        if human.exists():
            tiles += pictures(human, args.size)
            if args.film is not None:
                turns.append(turning(human))
            labels += [f"{number}", *(f"{side}" for side in SIDES[1:]), "normals"]
            print(f"{number}. {prompt}")
    if tiles:
        # Two people in a row of the sheet, so that it is not much longer than wide.
        to_pil(contact_sheet(tiles, labels, columns=2 * (len(SIDES) + 1))).save(args.sheet, quality=QUALITY)
        print(args.sheet)
    if turns:
        write_film(args.film, [crowd(list(frame)) for frame in zip(*turns, strict=True)], MILLISECONDS)
        print(args.film)
    return status


@torch.no_grad()
def turning(human: Path) -> list[Tensor]:
    """A narrow picture of a human from each of `FRAMES` sides."""
    baked = load_baked(human)
    mesh, slopes = to_working_box(baked.mesh), slopes_on(baked)
    margin = (TURNING[0] - TURNING[1]) // 2
    sides = [orbit([360.0 * frame / FRAMES], elevation=5.0, zoom=ZOOM) for frame in range(FRAMES)]
    return [film_views(mesh, camera, TURNING[0], slopes)[0][:, margin : margin + TURNING[1]] for camera in sides]


def crowd(people: list[Tensor]) -> Tensor:
    """Pictures of people in rows of `ROW`, the last row filled up with ground."""
    people = people + [torch.full_like(people[0], GROUND)] * (-len(people) % ROW)
    return torch.cat([torch.cat(people[k : k + ROW], 1) for k in range(0, len(people), ROW)], 0)


@torch.no_grad()
def pictures(human: Path, size: int) -> list[Tensor]:
    """The colours from all `SIDES`, and the normals from the front."""
    baked = load_baked(human)
    mesh, slopes = to_working_box(baked.mesh), slopes_on(baked)
    cameras = [orbit([side], elevation=5.0, zoom=ZOOM) for side in SIDES]
    colors = [film_views(mesh, camera, size, slopes)[0] for camera in cameras]
    return [*colors, shaded_views(mesh, cameras[0], size, slopes)[0][0]]


if __name__ == "__main__":
    sys.exit(main())
