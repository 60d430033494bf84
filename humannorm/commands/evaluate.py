"""`humannorm evaluate samples`: a model against held-out people, by judges that nobody here trained."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.commands.options import add_device, add_models, add_out, add_seed, pick_device

if TYPE_CHECKING:
    from humannorm.evaluation.gallery import Gallery


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", choices=("samples",), help="samples: pictures drawn for the captions of held-out people"
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of shards with pictures of people"
    )
    parser.add_argument(
        "--judge", required=True, metavar="PYTHON", help="python of the judges' environment (docs/evaluation.md)"
    )
    parser.add_argument("--count", type=int, default=48, help="pictures per kind, body part and view")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps")
    parser.add_argument("--batch", type=int, default=16, help="pictures at a time")
    parser.add_argument(
        "--normals-only", action="store_true", help="for models without a ControlNet: no colour pictures"
    )
    parser.add_argument("--renders-only", action="store_true", help="judge real renders alone, as a test of the judges")
    add_models(parser)
    add_seed(parser)
    add_device(parser)
    add_out(parser)


def run(args: argparse.Namespace) -> int:
    from humannorm.checks import check_range
    from humannorm.evaluation.collect import SampleSettings, add_controls, add_reconstructions, add_renders, add_samples
    from humannorm.evaluation.figures import figures_of, table, to_plain
    from humannorm.evaluation.gallery import Gallery, find_judge, run_judges
    from humannorm.guidance import DiffusersGuide
    from humannorm.training.shards import Shards

    check_range("--count", args.count, 1, 10_000)
    check_range("--steps", args.steps, 1, 1000)
    check_range("--batch", args.batch, 1, 10_000)
    judge = find_judge(args.judge)
    people = Shards(args.data, split="held_out")
    kinds = ("normal",) if args.normals_only else ("normal", "color")
    settings = SampleSettings(args.count, steps=args.steps, batch=args.batch, seed=args.seed, kinds=kinds)
    guide = None
    if not args.renders_only:
        guide = DiffusersGuide.load(args.models, device=pick_device(args.device), control=not args.normals_only)

    def report(message: str) -> None:
        sys.stderr.write(message + "\n")

    gallery = Gallery(args.out / "pictures")
    report("collecting renders of held-out people")
    add_renders(gallery, people, settings)
    add_controls(gallery, settings)
    if guide is not None:
        report("copying through the VAE")
        add_reconstructions(gallery, people, guide, settings)
        add_samples(gallery, people, guide, settings, report)
    gallery.save()
    report("judging")
    figures = figures_of(gallery, run_judges(gallery.folder, judge))
    text = table(figures)
    (args.out / "figures.md").write_text(text + "\n", encoding="utf-8")
    facts = {"models": str(args.models), "seed": args.seed, "count": args.count, "steps": args.steps}
    (args.out / "figures.json").write_text(
        json.dumps({**facts, "figures": to_plain(figures)}, indent=1) + "\n", encoding="utf-8"
    )
    if guide is not None:
        _save_sheets(gallery, args.out)
    print(text)
    return 0


def _save_sheets(gallery: Gallery, out: Path, per_view: int = 6) -> None:
    """The first pictures of each cell, a row for a view: what the figures are about, to be looked at."""
    from humannorm.cameras import view_label
    from humannorm.images import contact_sheet, save_png

    for kind in ("normal", "color"):
        for part in ("full", "head"):
            if not gallery.select(source="model", kind=kind, part=part):
                continue
            rows: dict[str, list[str]] = {}
            for picture in gallery.select(source="model", kind=kind, part=part):
                rows.setdefault(view_label(picture.azimuth), []).append(picture.id)
            chosen = [(id, view) for view, ids in rows.items() for id in ids[:per_view]]
            images = [gallery.image(id) for id, _ in chosen]
            columns = min(per_view, *(len(ids) for ids in rows.values()))
            save_png(out / f"sheet_{kind}_{part}.png", contact_sheet(images, [view for _, view in chosen], columns))
