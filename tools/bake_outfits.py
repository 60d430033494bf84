"""Bake humannorm/body/data/wardrobe.npz: the people maker's clothes, shoes, hats and hair as geometry on our own body.

    ANNY_CACHE_DIR=~/.cache/anny python tools/bake_outfits.py --assets DIR       (needs `anny` and the assets of
                                                                                  `humannorm dataset assets`)

A garment of the CC0 source hangs on vertices of MakeHuman's base mesh, most of them helper geometry that the shipped
body does not have. Every vertex of the base mesh that some garment hangs on is therefore baked as the body is: mean,
basis and coefficients over the body's sliders, and skin weights; a garment is linear in these points, so it follows.
A garment keeps its references to these points, its offsets and faces: no texture, and no skin weights of its own, since
these are the mean of its references'.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from bake_body import BODY, AnnyBody

from humannorm.body.linear_blend_skinning import limit_influences
from humannorm.body.shape import ANCHORS, NEUTRAL, to_anny
from humannorm.body.wardrobe import DATA, GARMENTS, OFFSET_STEP, WEIGHT_STEP
from humannorm.training.assets import default_assets_dir
from humannorm.training.clothes import Piece, Wardrobe, connected_parts, load_rgba, tintable

DECIMETRES = 10.0  # of the proxies, a metre of ours
BASIS_SIZE = 48
LARGEST = 4.0  # MB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=default_assets_dir())
    parser.add_argument("--out", type=Path, default=DATA)
    args = parser.parse_args()

    anny = AnnyBody()
    dense = torch.zeros(len(anny.model.template_vertices), anny.model.bone_count, dtype=torch.float64)
    dense.scatter_add_(1, anny.model.vertex_bone_indices.long(), anny.model.vertex_bone_weights.double())
    neutral, _ = anny.shape(**to_anny(NEUTRAL))
    wardrobe = Wardrobe(args.assets, (neutral * DECIMETRES).astype(np.float32), dense.numpy().astype(np.float32))
    pieces = {name: wardrobe.pieces[garment.source] for name, garment in GARMENTS.items() if garment.source}

    points = np.unique(np.concatenate([base_points(piece) for piece in pieces.values()]))
    mean, basis, coefficients = points_over_shapes(anny, points)
    joints, weights = limit_influences(dense[points])
    scale = np.abs(basis).max(axis=(1, 2))
    arrays: dict[str, np.ndarray] = {
        "points_mean": mean.astype(np.float32),
        # Scaled to +-1 before rounding to half precision, as the body's own basis is.
        "points_basis": (basis / scale[:, None, None]).astype(np.float16),
        "points_coefficients": (coefficients * scale).astype(np.float32),
        "weight_joints": joints.numpy().astype(np.uint8),
        "weights": weights.numpy().astype(np.float16),
    }
    place = np.full(len(neutral), -1)
    place[points] = np.arange(len(points))
    for name, piece in pieces.items():
        arrays |= {f"{name}/{field}": array for field, array in packed(piece, place).items()}
        arrays[f"{name}/inside"] = np.packbits(worn_inside(piece, GARMENTS[name].label))
    about = {
        "made by": "tools/bake_outfits.py",
        "data": "MakeHuman community clothes, shoes, hats and hair (CC0-1.0); base mesh through anny 0.6.2",
        "base points": "of MakeHuman's hm08 base mesh: a garment's references count them",
    }
    np.savez_compressed(args.out, about=np.array(json.dumps(about)), **arrays)
    size = args.out.stat().st_size / 1e6
    print(f"{args.out}: {size:.2f} MB, {len(pieces)} garments")
    if size > LARGEST:
        raise SystemExit(f"expected at most {LARGEST} MB")


def base_points(piece: Piece) -> np.ndarray:
    """Vertices of the base mesh that decide where the piece is."""
    return np.unique(
        np.concatenate([piece.proxy.references[piece.vertices].ravel(), *map(np.array, piece.proxy.scale_pairs)])
    )


def points_over_shapes(anny: AnnyBody, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean [P, 3], basis [K, P, 3] in metres, and coefficients [grid..., K] over the sliders of the body's table."""
    samples = []
    for values in itertools.product(*ANCHORS.values()):
        vertices, _ = anny.shape(**to_anny(dict(zip(ANCHORS, values, strict=True))))
        vertices[:, 1] -= vertices[:BODY, 1].min()  # feet on y = 0, as the body's
        samples.append(vertices[points].ravel())
    table = np.stack(samples)
    mean = table.mean(axis=0)
    left, scale, basis = np.linalg.svd(table - mean, full_matrices=False)
    for size in (BASIS_SIZE // 2, BASIS_SIZE, 2 * BASIS_SIZE):
        rest = np.linalg.norm(((left[:, size:] * scale[size:]) @ basis[size:]).reshape(len(table), -1, 3), axis=2)
        print(f"basis {size}: corner error mean {rest.mean() * 1e3:.2f} mm, worst {rest.max() * 1e3:.1f} mm")
    coefficients = (left * scale)[:, :BASIS_SIZE].reshape(*map(len, ANCHORS.values()), BASIS_SIZE)
    return mean.reshape(-1, 3), basis[:BASIS_SIZE].reshape(BASIS_SIZE, -1, 3), coefficients


def packed(piece: Piece, place: np.ndarray) -> dict[str, np.ndarray]:
    """What of a piece is kept, quantised in steps of `OFFSET_STEP` and `WEIGHT_STEP`."""
    proxy, chosen = piece.proxy, piece.vertices
    weights = proxy.weights[chosen]
    if np.abs(weights.sum(axis=1) - 1).max() > 1e-3:
        raise SystemExit(f"{proxy.name}: shares that do not sum to one")
    offsets = proxy.offsets[chosen] / DECIMETRES / OFFSET_STEP
    shares = weights[:, :2] / WEIGHT_STEP
    for values in (offsets, shares):
        if np.abs(values).max() > np.iinfo(np.int16).max:
            raise SystemExit(f"{proxy.name}: a value does not fit its quantisation")
    return {
        "references": place[proxy.references[chosen]].astype(np.uint16),
        "shares": shares.round().astype(np.int16),
        "offsets": offsets.round().astype(np.int16),
        "faces": piece.faces.astype(np.uint16),
        "hidden": np.packbits(piece.hidden_body[:BODY]),
        "scale_points": place[np.array(proxy.scale_pairs)].astype(np.uint16),
        "scale_lengths": (np.array(proxy.scale_denominators) / DECIMETRES).astype(np.float32),
    }


def worn_inside(piece: Piece, label: str) -> np.ndarray:
    """Faces [F] of a jacket that are no part of it: the parts that hang apart from the largest, and what the texture
    shows in a colour of its own (a shirt)."""
    if label != "outer":
        return np.zeros(len(piece.faces), dtype=bool)
    part = connected_parts(piece.faces, len(piece.vertices))[piece.faces[:, 0]]
    apart = part != np.bincount(part).argmax()
    image = load_rgba(
        next(path for stem, path in piece.proxy.textures.items() if stem.endswith(("_diffuse", "_texture")))
    )
    uvs = piece.proxy.uvs[piece.uv_faces].mean(axis=1)
    own = tintable(image, uvs)[..., 3] == 0
    height, width = own.shape
    columns = np.clip((uvs[:, 0] * width).astype(int), 0, width - 1)
    rows = np.clip((uvs[:, 1] * height).astype(int), 0, height - 1)
    return apart | own[rows, columns]


if __name__ == "__main__":
    main()
