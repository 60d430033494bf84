"""Bake humannorm/body/data/fabrics.npz: the shade, folds and strands of the wardrobe's clothes, shoes, hats and hair.

    ANNY_CACHE_DIR=~/.cache/anny python tools/bake_fabrics.py --assets DIR       (needs `anny` and the assets of
                                                                                  `humannorm dataset assets`)

Of each garment of humannorm/body/data/wardrobe.npz: its texture coordinates, and in a cut-out of its texture how bright
it is around its own median (`shade`), which way its folds lean (`bump`), and of hair where the strands are
(`opacity`). Hues are left behind: colours are the prompt's. So is the print of a garment whose texture shows a logo or
stripes; of these the shade is the ambient occlusion alone.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.ndimage
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parent))
from bake_body import AnnyBody

from humannorm.body.fabrics import DATA, FLAT, SHADE_ONE, UV_STEP
from humannorm.body.shape import NEUTRAL, to_anny
from humannorm.body.wardrobe import GARMENTS
from humannorm.training.assets import default_assets_dir
from humannorm.training.clothes import Piece, Wardrobe, brightness_ratio, load_rgba, luminance

PRINTED = ("t-shirt-1", "t-shirt-2", "crop-top", "leggings", "sweater", "shirt", "blouse", "skirt")
QUALITY = 88  # of the JPEG pictures
MARGIN = 4  # texels around a garment's charts
LARGEST = 2.5  # MB


@dataclass(frozen=True)
class CutOut:
    """The part of a texture that a garment's charts lie in."""

    rows: slice
    columns: slice
    inside: np.ndarray  # bool [H, W]: on a chart
    uvs: np.ndarray  # [U, 2], 0..1 in the cut-out
    faces: np.ndarray  # [F, 3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=default_assets_dir())
    parser.add_argument("--out", type=Path, default=DATA)
    args = parser.parse_args()
    anny = AnnyBody()
    neutral, _ = anny.shape(**to_anny(NEUTRAL))
    weights = np.zeros((len(neutral), anny.model.bone_count), dtype=np.float32)
    weights[:, 0] = 1  # no pose is needed here
    wardrobe = Wardrobe(args.assets, (neutral * 10).astype(np.float32), weights)
    arrays: dict[str, np.ndarray] = {}
    for name, garment in GARMENTS.items():
        for field, array in packed(wardrobe.pieces[garment.source], name, garment.label).items():
            arrays[f"{name}/{field}"] = array
    about = {"made by": "tools/bake_fabrics.py", "data": "MakeHuman community clothes, shoes, hats and hair (CC0-1.0)"}
    np.savez_compressed(args.out, about=np.array(json.dumps(about)), **arrays)
    size = args.out.stat().st_size / 1e6
    print(f"{args.out}: {size:.2f} MB, {len(GARMENTS)} garments")
    if size > LARGEST:
        raise SystemExit(f"expected at most {LARGEST} MB")


def packed(piece: Piece, name: str, label: str) -> dict[str, np.ndarray]:
    """What of a garment's texture is kept."""
    textures = piece.proxy.textures
    color = load_rgba(next(path for stem, path in textures.items() if stem.endswith(("_diffuse", "_texture"))))
    place = cut_out(piece, color.shape[0])
    color = color[place.rows, place.columns]
    solid = place.inside & (color[..., 3] > 127) if label == "hair" else place.inside
    light = luminance(color)
    shade = np.ones_like(light) if name in PRINTED else brightness_ratio(light, float(np.median(light[solid])))
    for path in (path for stem, path in textures.items() if stem.endswith("_ao")):
        shade = shade * (0.6 + 0.4 * luminance(load_rgba(path)[place.rows, place.columns]) / 255.0)
    fields = {
        "uvs": (place.uvs * UV_STEP).round().astype(np.uint16),
        "uv_faces": place.faces.astype(np.uint16),
        "shade": jpeg(spread(shade * SHADE_ONE, solid)),
    }
    if label == "hair":
        fields["opacity"] = jpeg(np.where(place.inside, color[..., 3], 0.0))
    for path in (path for stem, path in textures.items() if stem.endswith("_normal")):
        bump = load_rgba(path)[place.rows, place.columns, :3].astype(np.float32)
        if bump[place.inside][:, :2].std() > FLAT:
            fields["bump"] = jpeg(np.stack([spread(bump[..., k], place.inside) for k in range(3)], -1))
    print(name, place.inside.shape, *(f"{field} {array.nbytes / 1e3:.0f} kB" for field, array in fields.items()))
    return fields


def cut_out(piece: Piece, size: int) -> CutOut:
    used, faces = np.unique(piece.uv_faces, return_inverse=True)
    corners = piece.proxy.uvs[used] * size  # in texels
    low = np.floor(corners.min(0)).astype(int) - MARGIN
    high = np.ceil(corners.max(0)).astype(int) + MARGIN
    low, high = low.clip(0, size), high.clip(0, size)
    width, height = high - low
    canvas = Image.new("1", (int(width), int(height)))
    draw = ImageDraw.Draw(canvas)
    for triangle in (corners - low)[faces.reshape(-1, 3)]:
        draw.polygon([tuple(corner) for corner in triangle.tolist()], fill=1, outline=1)
    uvs = ((corners - low) / (high - low)).clip(0, 1)
    rows, columns = slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))
    return CutOut(rows, columns, np.asarray(canvas), uvs, faces.reshape(-1, 3))


def spread(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The values, outside the charts those of the nearest texel on one."""
    if inside.all():
        return values
    nearest = scipy.ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return values[tuple(nearest)]


def jpeg(values: np.ndarray) -> np.ndarray:
    """A JPEG picture of 0..255 as bytes."""
    stream = io.BytesIO()
    picture = Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
    picture.save(stream, "JPEG", quality=QUALITY, **({"subsampling": 0} if values.ndim == 3 else {}))
    return np.frombuffer(stream.getvalue(), dtype=np.uint8)


if __name__ == "__main__":
    main()
