"""How much of a human an edit has changed, in the parts it was to change and in those it was to leave.

    python tools/check_edit.py BEFORE AFTER --only top --out DIR

BEFORE, AFTER: textured GLB files or folders of runs. For what was held and for what was free: how far the edited
surface is from the original, in per cent of the height, and how far its colours are (CIELAB). The picture shows both
humans from four sides, and in the last row what was free (grey is held).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.cameras import orbit
from humannorm.checks import InputError
from humannorm.commands.animate import find_human
from humannorm.distance.signed_distance import SignedDistance
from humannorm.geometry.holding import hold_all_but
from humannorm.images import contact_sheet, lab_from_srgb, save_png
from humannorm.mesh import Mesh
from humannorm.mesh_io import load_mesh
from humannorm.rendering import render
from humannorm.rendering.passes import sample_texture
from humannorm.rigging import fit_body
from humannorm.working_box import place

SIDES = (0.0, 90.0, 180.0, 270.0)
CERTAIN = 0.99  # share from which a vertex counts as held, and 1 - this as free; between them is the soft border


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--only", required=True, metavar="PARTS", help="what the edit was to change, with commas")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--size", type=int, default=256, help="side of a picture in pixels")
    args = parser.parse_args()
    before, placement = place(load_mesh(find_human(args.before)))
    after = load_mesh(find_human(args.after))
    after = after.replace(vertices=placement.to_world(after.vertices))
    colors = vertex_colors(before)
    hold = hold_all_but(before, fit_body(before).body, args.only.split(","), colors)
    share = hold.share_at(after.vertices)
    figures = {
        "held": differences(before, colors, after, share > CERTAIN),
        "free": differences(before, colors, after, share < 1 - CERTAIN),
    }
    for name, values in figures.items():
        print(f"{name}: {json.dumps(values)}")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "edit.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    free = torch.lerp(torch.tensor([0.1, 0.8, 0.1]), torch.tensor([0.6, 0.6, 0.6]), share[:, None])
    tiles = [
        *pictures(before, args.size),
        *pictures(after, args.size),
        *pictures(Mesh(after.vertices, after.faces, colors=free), args.size),
    ]
    labels = [f"{name} {side:.0f}" for name in ("before", "after", "free") for side in SIDES]
    save_png(args.out / "edit.png", contact_sheet(tiles, labels, columns=len(SIDES)))
    print(args.out / "edit.png")
    return 0


def vertex_colors(mesh: Mesh) -> Float[Tensor, "V 3"]:
    if mesh.texture is None or mesh.uvs is None:
        raise InputError("before, after: expected humans with a texture, got none")
    return sample_texture(mesh.texture, mesh.uvs[None, None])[0, 0]


def differences(before: Mesh, colors: Float[Tensor, "V 3"], after: Mesh, chosen: Tensor) -> dict[str, float]:
    """Of the chosen vertices of the edited human against the closest points of the original."""
    points = after.vertices[chosen]
    closest = SignedDistance(before.vertices, before.faces, inside_out="flip").closest(points)
    height = float(before.vertices[:, 1].max() - before.vertices[:, 1].min())
    away = 100 * (closest.point - points).norm(dim=1) / height
    was = (colors[before.faces[closest.face.long()]] * closest.barycentric[..., None]).sum(1)
    shift = (lab_from_srgb(vertex_colors(after)[chosen]) - lab_from_srgb(was)).norm(dim=1)
    return {
        "vertices": int(chosen.sum()),
        "distance_mean_per_cent": round(float(away.mean()), 3),
        "distance_99_per_cent": round(float(away.quantile(0.99)), 3),
        "distance_farthest_per_cent": round(float(away.max()), 3),
        "colour_median": round(float(shift.median()), 1),
        "colour_95": round(float(shift.quantile(0.95)), 1),
    }


@torch.no_grad()
def pictures(mesh: Mesh, size: int) -> list[Tensor]:
    passes = render(mesh, orbit(SIDES, zoom=1.15), (size, size), ("color",))
    assert passes.color is not None
    return list(passes.color)


if __name__ == "__main__":
    sys.exit(main())
