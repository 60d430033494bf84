"""Compares dressed starts with the people renderer's own pictures of the same people in the same clothes.

    ANNY_CACHE_DIR=~/.cache/anny python tools/check_start.py --out DIR       (needs `anny` and the assets of
                                                                              `humannorm dataset assets`)

Eight sides, 384 pixels: overlap of the silhouettes, and normals inside both in dB, of the bare surface and with the
folds of its fabric. DIR/start_normals.png has both beside each other.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from bake_body import AnnyBody, mannequin_matrix, split_quads
from bake_skins import scale_and_shift

from humannorm.body import Body, BodyShape, Outfit, load_body
from humannorm.body.outfit import CUTS, Piece, in_order
from humannorm.body.shape import NEUTRAL, to_anny
from humannorm.cameras import orbit
from humannorm.geometry.outfits import dress
from humannorm.geometry.worn_fabric import WornFabric
from humannorm.images import contact_sheet, save_png
from humannorm.mesh import Mesh, leaning, vertex_normals
from humannorm.rendering import render
from humannorm.rendering.shaded import SIDES
from humannorm.training.assets import default_assets_dir
from humannorm.training.people import PeopleMaker, Person, draw_person
from humannorm.training.people_body import SKIN_VERTICES, Phenotype
from humannorm.training.people_render import draw_pictures

SIZE = 384  # pixels
# Shape; the people renderer's garments; and our cuts of the same.
PEOPLE = (
    (BodyShape(sex=0.95), {"top": "t-shirt-1", "bottom": "jeans-1", "shoes": "sneakers-1", "hair": "long"},
     ("t-shirt", "jeans", "sneakers", "long hair")),
    (BodyShape(sex=0.05, weight=0.7), {"top": "shirt", "bottom": "jeans-2", "shoes": "shoes-1", "hair": "short-2"},
     ("shirt", "jeans", "shoes", "short hair")),
    (BodyShape(sex=0.95, age=0.9), {"top": "blouse", "bottom": "skirt", "shoes": "shoes-2", "hair": "bob-2"},
     ("blouse", "skirt", "sturdy shoes", "bob")),
    (BodyShape(sex=0.05), {"top": "sweater", "bottom": "trousers", "shoes": "sneakers-1", "hair": "short-3"},
     ("sweater", "trousers", "sneakers", "tousled hair")),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=default_assets_dir())
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    maker, anny = PeopleMaker(args.assets), AnnyBody()
    neutral, _ = anny.shape(**to_anny(NEUTRAL))
    quads, corners = anny.quads()
    mannequin = mannequin_matrix(neutral, split_quads(quads, corners, neutral)[0])
    tiles, labels = [], []
    print("| clothes | overlap, mean | worst side | normals | with fabric |\n|---|---|---|---|---|")
    for shape, clothes, cuts in PEOPLE:
        theirs, body = drawn(maker, mannequin, shape, clothes)
        plain, folded, cover = ours(body, cuts)
        overlap = [float((a & b).sum() / (a | b).sum()) for a, b in zip(theirs[1], cover, strict=True)]
        both = theirs[1] & cover
        quality = [decibels(each, theirs[0], both) for each in (plain, folded)]
        print(f"| {', '.join(cuts)} | {100 * np.mean(overlap):.1f} % | {100 * min(overlap):.1f} % "
              f"| {quality[0]:.1f} dB | {quality[1]:.1f} dB |", flush=True)  # fmt: skip
        for name, pictures in (("people renderer", theirs[0]), ("start", plain), ("in fabric", folded)):
            tiles += [pictures[side] for side in (0, 1, 4)]
            labels += [f"{name}, {SIDES[side]}" for side in (0, 1, 4)]
    save_png(args.out / "start_normals.png", contact_sheet(tiles, labels, columns=9))


def drawn(
    maker: PeopleMaker, mannequin: object, shape: BodyShape, clothes: dict[str, str]
) -> tuple[tuple[Tensor, Tensor], Body]:
    """The people renderer's normals [8, S, S, 3] and coverage, and our body where its person stands."""
    person = person_in(shape, clothes)
    surface = maker.dress(person).surface
    base, _ = maker._body.shape(person.phenotype)
    # What carried the mannequin of that person to where the picture shows it, carries our body there too.
    scale, shift = scale_and_shift(base[:SKIN_VERTICES], surface.positions[:SKIN_VERTICES].numpy())
    places = torch.from_numpy((mannequin @ base) * scale + shift).float()
    body = load_body(shape, "rest")
    own_scale, own_shift = scale_and_shift(body.vertices.numpy(), places.numpy())
    placed = body.moved(own_scale, torch.from_numpy(np.asarray(own_shift)).float())
    views = draw_pictures(surface, orbit(SIDES, elevation=5.0), SIZE)
    covered = views.mask > 127 if views.mask.dtype == torch.uint8 else views.mask > 0.5
    return (views.normal.float() / 255, covered), placed


def person_in(shape: BodyShape, clothes: dict[str, str]) -> Person:
    sliders = to_anny(dataclasses.asdict(shape))
    phenotype = Phenotype(**sliders, cupsize=0.5, firmness=0.5, race="caucasian")
    drawn = draw_person(np.random.default_rng(0))
    return dataclasses.replace(drawn, phenotype=phenotype, hat=None, pose=None, **clothes)


def ours(body: Body, cuts: tuple[str, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Normals of the dressed start, the same with the folds of its fabric, and coverage."""
    outfit = Outfit(in_order(tuple(Piece(cut, CUTS[cut].label) for cut in cuts)))
    surface = dress(body, outfit).surface
    mesh = surface.mesh
    normals = vertex_normals(mesh.vertices, mesh.faces)
    lean = WornFabric(body, outfit).look_at(mesh.vertices, surface.labels_at(mesh.vertices)).lean
    pictures = []
    for each in (normals, leaning(normals, lean)):
        drawn = [
            render(
                Mesh(mesh.vertices, mesh.faces, normals=each),
                orbit([side], elevation=5.0),
                (SIZE, SIZE),
                ("normal", "mask"),
            )
            for side in SIDES
        ]
        pictures.append(torch.cat([passes.normal for passes in drawn if passes.normal is not None]))
        cover = torch.cat([passes.mask for passes in drawn if passes.mask is not None]) > 0.5
    return pictures[0], pictures[1], cover


def decibels(picture: Tensor, truth: Tensor, where: Tensor) -> float:
    """PSNR inside a mask."""
    return float(-10 * (picture - truth)[where].square().mean().log10())


if __name__ == "__main__":
    main()
