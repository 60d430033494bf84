"""What each part of painting all views together is worth: variants of `quick` on the sculptures of finished runs.

    python tools/ablate_views.py RUN [RUN ...] --out DIR [--only "as shipped,without agreement"]

Each variant paints every run's sculpture anew; DIR/ablations.md has the means of the figures, DIR/ablations.png a row
of pictures for each. A run is a folder of `humannorm generate --preset quick`.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from humannorm.cameras import orbit
from humannorm.export import ExportSettings, unwrapped
from humannorm.export.showing import film_views
from humannorm.geometry.state import extract_mesh, load_state
from humannorm.guidance import find_guides
from humannorm.images import contact_sheet, save_png
from humannorm.labels import SKIN
from humannorm.pipeline import prompt_of
from humannorm.request import HumanRequest, job_of
from humannorm.rings import body_rings
from humannorm.stages import asked_colors, worn_fabric
from humannorm.texture.multiview import QUICK, MultiviewPainting, MultiviewSettings, paint_synchronised
from humannorm.texture.templates import held_skin

Change = Callable[[MultiviewSettings], MultiviewSettings]


def walk(**changes: Any) -> Change:
    return lambda settings: dataclasses.replace(settings, walk=dataclasses.replace(settings.walk, **changes))


def rings(count: int) -> Change:
    """So many views, a quarter of them of each part of the body."""
    return lambda settings: dataclasses.replace(settings, rings=body_rings(*[count // 4] * 4))


def guided(**changes: Any) -> Change:
    """The walk with classifier-free guidance, by the network's own weights, of four levels from 0.4."""
    return lambda settings: walk(**changes)(dataclasses.replace(QUICK, plan=settings.plan))


VARIANTS: Mapping[str, Change] = {
    "as shipped": lambda settings: settings,
    "without agreement": walk(agree_every=1000, free=1.0),
    "guided": guided(),
    "without labels": lambda settings: settings,
    "without fabric": lambda settings: settings,
    "any hue": lambda settings: dataclasses.replace(settings, fusing=dataclasses.replace(settings.fusing, dye=None)),
    "8 views": rings(8),
    "16 views": rings(16),
    "20 views": rings(20),
    "48 views": rings(48),
    "guided, 8 levels": guided(steps=8),
    "guided, 20 levels": guided(steps=20),
    "guided, from 0.6": guided(level=0.6, steps=6),
    "entered at 0.25": walk(level=0.25, steps=1),
    "entered at 0.75": walk(level=0.75, steps=3),
}
FIGURES = ("disagreement_first", "disagreement_last", "leak", "forwards", "networks", "vae", "fusing")
SIZE = 300  # pixels of a picture on the sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", default=",".join(VARIANTS), metavar="NAMES")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    names = [name.strip() for name in args.only.split(",")]
    subjects = [_subject(run) for run in args.runs]
    guide = find_guides("bundled", torch.device("cpu"), kinds=("color",)).aligned()
    tiles: list[Tensor] = []
    lines = [f"| of {len(subjects)} people | {' | '.join(FIGURES)} |", "|---" * (len(FIGURES) + 1) + "|"]
    for name in names:
        paintings = [_painted(subject, name, guide) for subject in subjects]
        means = [sum(each.figures.get(figure, 0.0) for each in paintings) / len(paintings) for figure in FIGURES]
        lines.append(f"| {name} | {' | '.join(f'{mean:.3g}' for mean in means)} |")
        print(lines[-1], flush=True)
        tiles += [tile for each in paintings for tile in _pictures(each)]
    (args.out / "ablations.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    labels = [name for name in names for _ in range(2 * len(subjects))]
    save_png(args.out / "ablations.png", contact_sheet(tiles, labels, columns=4 * len(subjects)))


def _subject(run: Path) -> dict[str, Any]:
    """What of a run does not change from variant to variant."""
    job = job_of(HumanRequest(prompt_of(run), preset="quick"))
    state = load_state(run / "work" / "sculpt.safetensors")
    labelled, body = state.labelled, job.body
    if labelled is None or body is None:
        raise SystemExit(f"{run}: expected a run that began from a dressed body")
    export = ExportSettings(job.settings.export.faces, job.settings.export.texture_size)
    return {
        "job": job,
        "mesh": unwrapped(extract_mesh(state).mesh, export),
        "labels_at": labelled.labels_at,
        "palette": asked_colors(job.outfit, body.shape, job.skin),
        "held": held_skin(state.hold, job.skin, lambda points: labelled.labels_at(points) == SKIN),
    }


def _painted(subject: dict[str, Any], name: str, guide: Any) -> MultiviewPainting:
    job = subject["job"]
    labelled = name != "without labels"
    fabric = worn_fabric(job.settings.start, job.body, job.outfit) if labelled and name != "without fabric" else None
    return paint_synchronised(
        subject["mesh"],
        job.network_prompt,
        VARIANTS[name](job.settings.texture),
        guide,
        labels_at=subject["labels_at"] if labelled else None,
        palette=subject["palette"] if labelled else None,
        fabric=None if fabric is None else fabric.look_at,
        held=subject["held"],
    )


def _pictures(painting: MultiviewPainting) -> list[Tensor]:
    """From the front left and from behind."""
    mesh = painting.state.mesh.replace(texture=painting.texture)
    return [film_views(mesh, orbit([side], zoom=1.25), SIZE, painting.state.folds)[0] for side in (30.0, 180.0)]


if __name__ == "__main__":
    main()
