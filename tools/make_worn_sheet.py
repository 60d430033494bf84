"""Draw docs/images/worn.png: start bodies in the hair and skirts that prompts name, from three sides."""

from __future__ import annotations

from pathlib import Path

import torch

from humannorm.body import load_body, shape_of_words, worn_of_words
from humannorm.body.worn import solids_of
from humannorm.cameras import orbit
from humannorm.geometry.dressing import dressed
from humannorm.geometry.start import prepare_start
from humannorm.images import contact_sheet, save_png
from humannorm.rendering.shaded import shaded_views

OUT = Path(__file__).parents[1] / "docs" / "images" / "worn.png"
PROMPTS = (
    "a woman with long hair and a skirt",
    "a woman with a bob, in a mini skirt",
    "an old man with short hair, in a long coat",
    "a woman with a ponytail, in a ball gown",
    "a woman with braids, in a short dress",
    "a woman with a bun, in a pencil skirt",
    "a man with an afro, in bermudas",
    "a heavy bald man in shorts",
)
AZIMUTHS = (0.0, 90.0, 180.0)  # degrees


def main() -> None:
    pictures: list[torch.Tensor] = []
    labels: list[str] = []
    for prompt in PROMPTS:
        body = load_body(shape_of_words(prompt)).in_working_box()
        start = dressed(prepare_start(body.to_mesh(normalized=False)), solids_of(body, worn_of_words(prompt)))
        views = shaded_views(start.mesh, orbit(AZIMUTHS, fov_y=35.0, distance=3.3), 240)[1]
        pictures += list(views)
        labels += [prompt.removeprefix("a ").removeprefix("woman ").removeprefix("with "), "", ""]
    save_png(OUT, contact_sheet(pictures, labels, 12))
    print(OUT)


if __name__ == "__main__":
    main()
