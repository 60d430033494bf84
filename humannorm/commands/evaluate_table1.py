"""`humannorm evaluate table1` and `humannorm evaluate pairs`: the paper's measures, and people's own choices."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.commands.options import (
    add_device,
    add_models,
    add_out,
    add_precision,
    add_preset,
    add_seed,
    pick_device,
)

if TYPE_CHECKING:
    import torch

__all__ = ["add_pairs", "add_table1", "run_pairs", "run_table1"]

RENDERED = 512  # pixels a side, as the paper's test set is kept


def add_table1(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="one prompt a line (default: thirty that come along)"
    )
    parser.add_argument(
        "--inception", type=Path, required=True, metavar="FILE", help="Inception's weights, torch-fidelity's file"
    )
    parser.add_argument("--clip", type=Path, required=True, metavar="DIR", help="folder of a CLIP of transformers")
    parser.add_argument(
        "--vqa",
        type=Path,
        metavar="DIR",
        help="for VQAScore: folder of a model of transformers that answers",
    )
    parser.add_argument("--plain", metavar="DIR", help="the plain text-to-image model (default: what draws colours)")
    parser.add_argument("--views", type=int, default=120, help="renders of each human, by the published cameras (120)")
    parser.add_argument("--pictures", type=int, default=120, help="pictures of the plain model for each prompt (120)")
    parser.add_argument("--steps", type=int, default=30, help="denoising steps of the plain model's pictures")
    parser.add_argument("--guidance", type=float, default=7.5, help="classifier-free guidance of the plain model (7.5)")
    parser.add_argument("--size", type=int, default=RENDERED, help="pixels a side of the renders (512)")
    add_preset(parser)
    add_models(parser)
    add_seed(parser)
    add_device(parser)
    add_precision(parser)
    add_out(parser)


def add_pairs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", type=Path, metavar="A", help="folder of pictures or films")
    parser.add_argument("second", type=Path, metavar="B", help="folder of pictures or films of the same names")
    parser.add_argument("--question", default="", help="what people are asked above each pair")
    parser.add_argument("--choices", type=Path, nargs="+", metavar="FILE", help="count these files that the page saved")
    add_seed(parser)
    add_out(parser)


def run_pairs(args: argparse.Namespace) -> int:
    from humannorm.evaluation.pairs import count_choices, write_page

    if args.choices is None:
        page = write_page(args.first, args.second, args.out, seed=args.seed, question=args.question)
        print(f"{page}: open it in a browser; {args.out / 'key.json'} says which is which and is needed for --choices")
        return 0
    count, first, second = count_choices(args.out, args.choices)
    print(count.text(first, second))
    return 0


def run_table1(args: argparse.Namespace) -> int:
    from humannorm.checks import check_range
    from humannorm.evaluation.table1 import PROMPTS, ClipScorer, InceptionFeatures, VqaScorer, table1_of
    from humannorm.prompts import read_prompts

    check_range("--views", args.views, 4, 10_000)
    check_range("--pictures", args.pictures, 1, 10_000)
    check_range("--steps", args.steps, 1, 1000)
    check_range("--size", args.size, 16, 4096)
    prompts, device = read_prompts(args.prompts or PROMPTS), pick_device(args.device)
    features, score = InceptionFeatures(args.inception, device), ClipScorer(args.clip, device)
    vqa = None if args.vqa is None else VqaScorer(args.vqa, device)
    folders = [args.out / "humans" / f"{number:02d}" for number in range(1, len(prompts) + 1)]
    make_humans(args, prompts, folders, device)
    renders = [draw_renders(args, folder, number, device) for number, folder in enumerate(folders)]
    plain = draw_plain(args, prompts, device)
    sys.stderr.write("measuring\n")
    row = table1_of(prompts, renders, plain, features, score, vqa)
    (args.out / "table1.md").write_text(row.text() + "\n", encoding="utf-8")
    facts = {"models": str(args.models), "preset": args.preset, "seed": args.seed, "clip": args.clip.name}
    facts |= {} if args.vqa is None else {"vqa_model": args.vqa.name}
    (args.out / "table1.json").write_text(
        json.dumps({**facts, **dataclasses.asdict(row), "prompts_used": prompts}, indent=1) + "\n", encoding="utf-8"
    )
    print(row.text())
    return 0


def make_humans(args: argparse.Namespace, prompts: list[str], folders: list[Path], device: torch.device) -> None:
    """OUT/humans/NN/human.glb of each prompt, where there is none."""
    from humannorm.guidance import find_guides
    from humannorm.pipeline import make_human
    from humannorm.request import HumanRequest, job_of

    every = zip(folders, prompts, strict=True)
    missing = {folder: prompt for folder, prompt in every if not (folder / "human.glb").is_file()}
    if not missing:
        return
    guides = find_guides(args.models, device, precision=args.precision)
    for folder, prompt in missing.items():
        sys.stderr.write(f"making {prompt}\n")
        request = HumanRequest(prompt, seed=args.seed, preset=args.preset, models=args.models, precision=args.precision)
        make_human(job_of(request), guides, folder, device=device, resume=folder.exists())


def draw_renders(args: argparse.Namespace, folder: Path, number: int, device: torch.device) -> list[Path]:
    """The published test set of one human, unlit on white, in OUT/renders/NN."""
    import torch

    from humannorm.cameras import evaluation_cameras
    from humannorm.images import save_png
    from humannorm.mesh_io import load_mesh
    from humannorm.rendering import render
    from humannorm.working_box import to_working_box

    paths = [args.out / "renders" / folder.name / f"color_{view:03d}.png" for view in range(args.views)]
    if all(path.is_file() for path in paths):
        return paths
    mesh = to_working_box(load_mesh(folder / "human.glb")).to(device)
    cameras = evaluation_cameras("full_body", torch.Generator().manual_seed(args.seed + number), args.views).to(device)
    for view, path in enumerate(paths):
        with torch.no_grad():
            color = render(mesh, cameras.select([view]), (args.size, args.size), ("color",)).color
        assert color is not None
        save_png(path, color[0])
    return paths


def draw_plain(args: argparse.Namespace, prompts: list[str], device: torch.device) -> list[list[Path]]:
    """What the plain model draws for each prompt, in OUT/plain/NN."""
    from humannorm.guidance import load_networks, sample_images
    from humannorm.images import save_png

    wanted = [
        [args.out / "plain" / f"{number:02d}" / f"picture_{at:03d}.png" for at in range(args.pictures)]
        for number in range(1, len(prompts) + 1)
    ]
    if all(path.is_file() for paths in wanted for path in paths):
        return wanted
    models = args.models if args.plain is None else args.plain
    kind = "color" if args.plain is None else "normal"  # without a ControlNet
    network = load_networks(models, device, kinds=(kind,), precision=args.precision)[kind]
    for number, (prompt, paths) in enumerate(zip(prompts, wanted, strict=True)):
        missing = [at for at, path in enumerate(paths) if not path.is_file()]
        if missing:
            sys.stderr.write(f"drawing {prompt}\n")
        drawn = sample_images(
            network,
            [prompt] * len(missing),
            seeds=[args.seed + number * args.pictures + at for at in missing],
            guidance_scale=args.guidance,
            steps=args.steps,
        )
        for at, picture in zip(missing, drawn, strict=True):
            save_png(paths[at], picture)
    return wanted
