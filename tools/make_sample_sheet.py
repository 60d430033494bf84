"""Write humannorm/models/bundled/sheet.png: people as `humannorm sample` draws them with the bundled model.

    python tools/make_sample_sheet.py [FILE]

A row each: normals and colours of the whole body, colours from the left and from behind, and the head.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from humannorm.cli import main
from humannorm.images import contact_sheet, load_png, save_png
from humannorm.models import bundled_folder

PEOPLE = (
    "a young woman with long brown hair in a red dress",
    "an old man with grey hair in a navy suit jacket and brown trousers",
    "a muscular black man in a yellow t-shirt and blue jeans, running",
    "a middle-aged Asian woman with a black bob in a green sweater and a plaid skirt",
    "a fat man with a beard in a white shirt and khaki shorts",
    "a slim girlfriend of mine, blond ponytail, denim jacket over a white t-shirt, black leggings, sitting",
)
SHOWN = (("full", "front,left,back"), ("head", "front,left"))


def pictures_of(prompt: str, folder: Path) -> list[Path]:
    for part, views in SHOWN:
        words = ["sample", "image", prompt, "--part", part, "--views", views, "--seed", "1", "--out", str(folder)]
        if main(words):
            raise SystemExit(1)
    whole = ["normal_full_front", *(f"image_full_{view}" for view in ("front", "left", "back"))]
    return [folder / f"{name}_00.png" for name in (*whole, "normal_head_front", "image_head_front", "image_head_left")]


def make(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [pictures_of(prompt, Path(folder) / str(number)) for number, prompt in enumerate(PEOPLE)]
        tiles = [load_png(path) for row in rows for path in row]
    labels = [path.stem.removesuffix("_00").replace("_", " ") for path in rows[0]] + [""] * (len(tiles) - len(rows[0]))
    save_png(target, contact_sheet(tiles, labels, len(rows[0])))


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else bundled_folder() / "sheet.png")
