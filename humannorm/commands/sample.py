"""`humannorm sample normal|depth|image`: pictures from a model, view by view, with a labelled sheet."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.commands.options import (
    add_device,
    add_guidance,
    add_models,
    add_out,
    add_precision,
    add_seed,
    autoguidance_of,
    dressed_start,
    parse_views,
    pick_device,
)

if TYPE_CHECKING:
    from torch import Tensor

    from humannorm.guidance import DiffusersDenoiser
    from humannorm.start_pictures import StartPictures

__all__ = ["add_arguments", "run"]

STEPS = 20  # of guided sampling


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind", choices=("normal", "depth", "image"), help="image: a colour picture that follows a normal map"
    )
    parser.add_argument(
        "person", nargs="?", metavar="PROMPT", help='the person, such as "a young woman in a red dress"'
    )
    parser.add_argument("--prompt", help="the same, in the words of earlier versions")
    parser.add_argument(
        "--as-written",
        action="store_true",
        help="the prompt as it is, where the bundled model would hear it in its captions' words",
    )
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
    parser.add_argument(
        "--start",
        choices=("auto", "none"),
        default="auto",
        help="what normals and pictures begin from and follow: the body that the prompt describes, in what it says it"
        " wears, where the model has learnt that (the bundled one has); none: the text alone",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help="denoising steps (default: those of the model's few-step weights under a start, else 20)",
    )
    add_guidance(parser)
    parser.add_argument(
        "--sampler", choices=("dpm", "ddim"), help="DPM-Solver++ (2M), the default, or DDIM, as few-step LoRAs take it"
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="side of the pictures (default: what the model draws; the bundled one 128, and over a start all but depth"
        " at 256)",
    )
    parser.add_argument("--batch", type=int, default=16, help="pictures at a time")
    add_models(parser)
    add_seed(parser)
    add_device(parser)
    add_precision(parser)
    add_out(parser)


def run(args: argparse.Namespace) -> int:
    from humannorm.body import check_people
    from humannorm.checks import InputError, check_range
    from humannorm.guidance import draws_under_starts, few_steps_in, load_networks
    from humannorm.images import contact_sheet, load_png, save_png
    from humannorm.models import resolution_over_start

    if (args.person is None) == (args.prompt is None):
        got = "two" if args.prompt is not None else "none"
        raise InputError(f"sample: expected one PROMPT, got {got}")
    prompt = args.prompt if args.person is None else args.person
    check_people(prompt)
    check_range("--count", args.count, 1, 10_000)
    check_range("--batch", args.batch, 1, 10_000)
    if args.steps is not None:
        check_range("--steps", args.steps, 1, 1000)
    if args.size is not None:
        check_range("--size", args.size, 1, 4096)
    if args.normal is not None and args.kind != "image":
        raise InputError(f"--normal: expected with `image` only, got it with `{args.kind}`")
    views = parse_views(args.views)
    given = None if args.normal is None else load_png(args.normal)[..., :3]
    kinds = {"normal": ["normal"], "depth": ["depth"], "image": ["normal", "color"]}[args.kind]
    if given is not None:
        kinds.remove("normal")
    begins = args.start == "auto" and given is None and draws_under_starts(args.models)
    own = few_steps_in(args.models) if (args.guidance, args.autoguidance, args.sampler) == (None, None, None) else 0
    steps = args.steps or (own if begins and own else STEPS)
    few = steps == own
    networks = load_networks(
        args.models,
        pick_device(args.device),
        kinds=kinds,
        precision=args.precision,
        autoguidance=None if few else autoguidance_of(args),
        few_steps=few,
    )
    if begins or args.size is not None:
        shown = begins and args.kind != "depth"  # which no ControlNet has learnt
        size = args.size or (resolution_over_start(args.models) if shown else None)
        networks = {kind: network.at_resolution(size or network.resolution) for kind, network in networks.items()}
    names = [(view, index) for view in views for index in range(args.count)]
    azimuths = [views[view] for view, _ in names]
    start = _start(args, prompt, azimuths, networks[kinds[0]].resolution) if begins else None
    control = None if given is None else given.expand(len(names), -1, -1, -1)
    drawn: dict[str, Tensor] = {}
    for kind in kinds:
        name = "image" if kind == "color" else kind
        if start is not None:
            control = start.control(kind, drawn.get("normal"))
        entry = None if start is None else start.entry(kind)
        drawn[name] = draw(args, networks[kind], kind, azimuths, control, entry, steps, few)
        control = drawn[name]
    tiles, labels = [], []
    for number, (view, index) in enumerate(names):
        for kind, images in drawn.items():
            save_png(args.out / f"{kind}_{args.part}_{view}_{index:02d}.png", images[number])
            tiles.append(images[number])
            labels.append(f"{kind} {view} {index}")
    sheet = args.out / f"sheet_{args.kind}_{args.part}.png"
    per_view = len(tiles) // len(names)
    save_png(sheet, contact_sheet(tiles, labels, per_view * min(8 // per_view, max(args.count, len(views)))))
    print(sheet)
    return 0


def _start(args: argparse.Namespace, prompt: str, azimuths: list[float], size: int) -> StartPictures:
    """The prompt's dressed body from these azimuths."""
    sys.stderr.write("dressing the body that the prompt describes\n")
    return dressed_start(prompt, args.models, args.seed).pictures(args.part, azimuths, size)


def draw(
    args: argparse.Namespace,
    network: DiffusersDenoiser,
    kind: str,
    azimuths: list[float],
    control: Tensor | None,
    entry: Tensor | None,
    steps: int,
    few: bool,
) -> Tensor:
    """Pictures [N,H,W,3] of one kind, one for each azimuth. Picture i's noise hangs on the seed and i alone. entry:
    what they begin from. few: by the few-step LoRA, unguided."""
    from humannorm.cameras import view_label
    from humannorm.guidance import GUIDANCE_SCALES, sample_images
    from humannorm.prompts import Prompts
    from humannorm.request import sampled_prompt
    from humannorm.start_pictures import ENTRY_LEVEL

    prompt = args.prompt if args.person is None else args.person
    said = prompt if args.as_written else sampled_prompt(prompt, args.models)
    prompts = Prompts(said, kind, negative=args.negative)  # type: ignore[arg-type]
    return sample_images(
        network,
        [prompts.text(args.part, view_label(azimuth)) for azimuth in azimuths],
        seeds=[args.seed * 100_003 + number for number in range(len(azimuths))],
        guidance_scale=1.0 if few else GUIDANCE_SCALES[kind] if args.guidance is None else args.guidance,
        negative=args.negative,
        control=control,
        steps=steps,
        sampler="ddim" if few else args.sampler or "dpm",
        entry=entry,
        level=ENTRY_LEVEL,
        batch=args.batch,
        progress=progress_on_terminal(kind),
    )


def progress_on_terminal(kind: str) -> Callable[[int, int], None]:
    """One line that counts the denoising steps, ended by the last."""

    def report(step: int, steps: int) -> None:
        sys.stderr.write(f"\r{kind}: step {step}/{steps} " + ("\n" if step == steps else ""))

    return report
