"""Draw sculptures of `humannorm sculpt` as bare shapes from four sides: make_sculpt_sheet.py DIR ... --out FILE."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from humannorm.cameras import orbit
from humannorm.images import contact_sheet, save_png
from humannorm.mesh_io import load_mesh
from humannorm.rendering.shaded import shaded_views

AZIMUTHS = (0.0, 60.0, 180.0, 270.0)  # degrees


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders that `humannorm sculpt` wrote")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()
    pictures: list[torch.Tensor] = []
    labels: list[str] = []
    for number, folder in enumerate(args.folders, start=1):
        facts = json.loads((folder / "sculpt.json").read_text(encoding="utf-8"))
        print(f"{number}: {facts['prompt']} (seed {facts['seed']}, {facts['seconds']} s, {facts['pieces']} pieces)")
        mesh = load_mesh(folder / "sculpt.glb")
        pictures += list(shaded_views(mesh, orbit(AZIMUTHS, fov_y=35.0, distance=3.3), 256)[1])
        labels += [str(number), "", "", ""]
    save_png(args.out, contact_sheet(pictures, labels, 8))


if __name__ == "__main__":
    main()
