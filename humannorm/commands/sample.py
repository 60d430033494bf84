"""`humannorm sample normal|depth|image`: pictures from a model, view by view, with a labelled sheet."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.commands.options import (
    add_device,
    add_guidance,
    add_models,
    add_out,
    add_seed,
    autoguidance_of,
    parse_views,
    pick_device,
)

if TYPE_CHECKING:
    from torch import Tensor

    from humannorm.guidance import DiffusersDenoiser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind", choices=("normal", "depth", "image"), help="image: a colour picture that follows a normal map"
    )
    parser.add_argument("--prompt", required=True, help='the person, such as "a young woman in a red dress"')
    parser.add_argument("--negative", default="", help="what the pictures should not show")
    parser.add_argument(
        "--views", default="front,left,back,right", help="front, left, back, right or degrees, with commas"
    )
    parser.add_argument(
        "--part", choices=("full", "head", "upper", "lower"), default="full", help="body part in the picture"
    )
    parser.add_argument("--count", type=int, default=1, help="pictures per view")
    parser.add_argument(
        "--normal", type=Path, metavar="FILE", help="`image`: the normal map to follow; otherwise one is drawn for each"
    )
    parser.add_argument("--steps", type=int, default=20, help="denoising steps")
    add_guidance(parser)
    parser.add_argument("--sampler", choices=("dpm", "ddim"), default="dpm", help="DPM-Solver++ (2M) or DDIM")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the networks")
    parser.add_argument("--batch", type=int, default=16, help="pictures at a time")
    add_models(parser)
    add_seed(parser)
    add_device(parser)
    add_out(parser)


def run(args: argparse.Namespace) -> int:
    import torch

    from humannorm.cameras import view_label
    from humannorm.checks import InputError, check_range
    from humannorm.guidance import DiffusersDenoiser
    from humannorm.images import contact_sheet, load_png, save_png
    from humannorm.prompts import Prompts

    check_range("--count", args.count, 1, 10_000)
    check_range("--steps", args.steps, 1, 1000)
    check_range("--batch", args.batch, 1, 10_000)
    if args.normal is not None and args.kind != "image":
        raise InputError(f"--normal: expected with `image` only, got it with `{args.kind}`")
    views = parse_views(args.views)
    given = None if args.normal is None else load_png(args.normal)[..., :3]
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[args.precision]
    guide = DiffusersDenoiser.load(
        args.models,
        device=pick_device(args.device),
        dtype=dtype,
        control=args.kind == "image",
        autoguidance=autoguidance_of(args),
    )
    names = [(view, index) for view in views for index in range(args.count)]

    def prompts(kind: str) -> list[str]:
        prompt = Prompts(args.prompt, "color" if kind == "image" else kind, negative=args.negative)  # type: ignore[arg-type]
        return [prompt.text(args.part, view_label(views[view])) for view, _ in names]

    normals = None
    if args.kind == "image":
        if given is None:
            normals = _draw(guide, prompts("normal"), args, "normal", None)
        else:
            normals = given.expand(len(names), -1, -1, -1)
    pictures = _draw(guide, prompts(args.kind), args, args.kind, normals)
    tiles, labels = [], []
    for number, (view, index) in enumerate(names):
        for kind, images in (("normal", normals if given is None else None), (args.kind, pictures)):
            if images is None:
                continue
            save_png(args.out / f"{kind}_{args.part}_{view}_{index:02d}.png", images[number])
            tiles.append(images[number])
            labels.append(f"{kind} {view} {index}")
    sheet = args.out / f"sheet_{args.kind}_{args.part}.png"
    per_view = len(tiles) // len(names)
    save_png(sheet, contact_sheet(tiles, labels, per_view * min(8 // per_view, max(args.count, len(views)))))
    print(sheet)
    return 0


def _draw(
    guide: DiffusersDenoiser, prompts: list[str], args: argparse.Namespace, kind: str, control: Tensor | None
) -> Tensor:
    """All pictures [N,H,W,3], a batch at a time. Picture i's noise hangs on the seed and i alone."""
    import torch

    from humannorm.guidance.samplers import GUIDANCE_SCALES, sample_latents

    size = guide.resolution // guide.downscale
    scale = GUIDANCE_SCALES["color" if kind == "image" else kind] if args.guidance is None else args.guidance
    pictures = []
    for first in range(0, len(prompts), args.batch):
        chosen = range(first, min(first + args.batch, len(prompts)))
        noise = torch.stack(
            [
                torch.randn(
                    (guide.channels, size, size), generator=torch.Generator().manual_seed(args.seed * 100_003 + i)
                )
                for i in chosen
            ]
        )
        condition = guide.condition(
            [prompts[i] for i in chosen],
            guidance_scale=scale,
            negative=args.negative,
            control=None if control is None else control[chosen.start : chosen.stop],
        )

        def report(step: int, steps: int, first: int = first) -> None:
            sys.stderr.write(f"\r{kind}: {first}/{len(prompts)} pictures, step {step}/{steps} ")

        latents = sample_latents(
            guide,
            condition,
            noise.to(guide.device),
            scheduler_config=guide.scheduler_config,
            steps=args.steps,
            sampler=args.sampler,
            progress=report,
        )
        pictures.append(guide.decode(latents).cpu())
    sys.stderr.write("\n")
    return torch.cat(pictures)
