"""`humannorm train RECIPE`: fine-tune a Stable Diffusion folder, make the small model, a LoRA that draws in few steps
or a filter that sharpens what is drawn under control."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from humannorm.commands.options import add_device, add_out, add_seed

if TYPE_CHECKING:
    from humannorm.training.recipes import SmallModelConfig

__all__ = ["add_arguments", "part_shares", "run"]


RECIPES = ("normal", "depth", "aligned", "small", "few-steps", "joint-filter")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", choices=RECIPES, help="what to train")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="pictures of people, made by `humannorm dataset`"
    )
    parser.add_argument(
        "--base", type=Path, metavar="DIR", help="diffusers folder to start from; `small` can do without"
    )
    add_out(parser)
    add_seed(parser)
    add_device(parser)
    parser.add_argument("--steps", type=int, help="optimiser steps; `small`: of its stage at full resolution")
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help="be done after so many minutes with all weights written, whatever the steps; `small`: all stages together",
    )
    parser.add_argument("--batch", type=int, help="samples per process and step")
    parser.add_argument("--accumulate", type=int, help="backward passes per optimiser step")
    parser.add_argument(
        "--average-every",
        type=int,
        metavar="STEPS",
        help="of several processes: average weights every so many steps instead of gradients in each",
    )
    parser.add_argument("--rate", type=float, help="learning rate")
    parser.add_argument(
        "--lora",
        type=int,
        default=0,
        metavar="RANK",
        help="train adapters of this rank only; 0: the UNet; `few-steps`: of its LoRA (default 22)",
    )
    parser.add_argument(
        "--precision", choices=("auto", "bf16", "fp16", "no"), default="auto", help="autocast of the training"
    )
    parser.add_argument("--sheet-steps", type=int, help="steps between sheets of fixed prompts and views")
    parser.add_argument(
        "--sheet-prompts", type=int, help="pictures of each kind on a sheet; few keep a slow machine busy less"
    )
    parser.add_argument(
        "--parts",
        type=part_shares,
        metavar="NAME=SHARE,...",
        help="how often parts, their sides and poses are drawn: `full=0.6,full running=0.1,head front=0.3`",
    )
    parser.add_argument(
        "--controlled-parts",
        type=part_shares,
        metavar="NAME=SHARE,...",
        help="`small`: the same for colour under its normal map; unless given, as `--parts`",
    )
    parser.add_argument("--checkpoint-seconds", type=float, help="a killed run loses at most this")
    parser.add_argument(
        "--latent-channels",
        type=int,
        metavar="N",
        help="`small`: of its VAE (default 4); those that --base has stay as they are, the others carry more detail",
    )
    parser.add_argument(
        "--controlled-normals",
        type=float,
        metavar="SHARE",
        help="`small`, `aligned`: share of what has a hint that is normals; six hint channels, of data with `--hints`",
    )
    parser.add_argument(
        "--few-steps-share",
        type=float,
        metavar="SHARE",
        help="`aligned`: share of the steps that are taken with the base's LoRA for few steps (default 0)",
    )
    parser.add_argument(
        "--crops-of",
        type=Path,
        metavar="DIR",
        help="`aligned`, `joint-filter`: larger pictures of people, crops of which are learnt as often, for drawing"
        " beyond the base's own size",
    )
    parser.add_argument(
        "--files",
        type=int,
        help="`few-steps`: files of 64 walks of the teacher (default 60); `joint-filter`: of 256 drawn pictures (40)",
    )
    parser.add_argument("--vae-steps", type=int, help="`small`: steps of its VAE stage")
    parser.add_argument("--text-steps", type=int, help="`small`: steps of its text encoder on attributes")
    parser.add_argument("--coarse-steps", type=int, help="`small`, `aligned`: steps of the stage at half resolution")


def run(args: argparse.Namespace) -> int:
    from humannorm.checks import InputError
    from humannorm.models import names_poses
    from humannorm.training.few_steps import FewStepsConfig
    from humannorm.training.joint_filter import JointFilterConfig
    from humannorm.training.recipes import (
        SMALL_FINE_LOOP,
        FineTuneConfig,
        fine_tune,
        train_few_steps,
        train_joint_filter,
        train_small,
    )

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    check_numbers(args)
    changes = _given(
        steps=args.steps,
        batch_size=args.batch,
        accumulate=args.accumulate,
        average_every=args.average_every,
        learning_rate=args.rate,
        sheet_steps=args.sheet_steps,
        checkpoint_seconds=args.checkpoint_seconds,
        seed=args.seed,
        precision=args.precision,
    )
    if args.recipe == "small":
        folder = train_small(args.data, args.out, small_config(args, changes), start=args.base, device=args.device)
    elif args.base is None:
        raise InputError(f"--base: expected a diffusers folder to fine-tune for `{args.recipe}`, got none")
    elif args.recipe == "few-steps":
        few = FewStepsConfig(**_given(rank=args.lora or None, files=args.files, parts=args.parts))
        few = replace(few, loop=replace(few.loop, **changes))
        folder = train_few_steps(args.base, args.data, args.out, few, minutes=args.minutes or 0.0, device=args.device)
    elif args.recipe == "joint-filter":
        pairs = JointFilterConfig(**_given(files=args.files, parts=args.parts))
        pairs = replace(pairs, loop=replace(pairs.loop, **changes))
        folder = train_joint_filter(
            args.base,
            args.data,
            args.out,
            pairs,
            crops_of=args.crops_of,
            minutes=args.minutes or 0.0,
            device=args.device,
        )
    else:
        config = FineTuneConfig(
            lora_rank=args.lora,
            **_given(
                sheet_prompts=args.sheet_prompts,
                controlled_normals=args.controlled_normals,
                few_steps=args.few_steps_share,
                coarse_steps=args.coarse_steps,
                crops_of=args.crops_of,
                parts=args.parts,
            ),
        )
        loop = SMALL_FINE_LOOP if names_poses(args.base) else config.loop
        config = replace(config, loop=replace(loop, **changes, **_given(minutes=args.minutes)))
        folder = fine_tune(args.recipe, args.base, args.data, args.out, config, device=args.device)
    print(folder)
    return 0


def check_numbers(args: argparse.Namespace) -> None:
    """An error for what is out of range, before anything is loaded."""
    from humannorm.checks import check_range

    counts = "files steps batch accumulate average_every sheet_steps sheet_prompts latent_channels"
    for name in (*counts.split(), "vae_steps", "text_steps", "coarse_steps"):
        if getattr(args, name) is not None:
            check_range("--" + name.replace("_", "-"), getattr(args, name), 1, 10**9)
    for name in ("controlled_normals", "few_steps_share"):
        if getattr(args, name) is not None:
            check_range("--" + name.replace("_", "-"), getattr(args, name), 0.0, 1.0)
    if args.minutes is not None:
        check_range("--minutes", args.minutes, 0.0, 1e6)


def small_config(args: argparse.Namespace, changes: dict[str, Any]) -> SmallModelConfig:
    """The small model's stages with what the options change in their loops; `--steps` are the last one's."""
    from humannorm.training.recipes import SmallModelConfig

    small = SmallModelConfig()
    shared = {name: value for name, value in changes.items() if name != "steps"}
    weak = {name: value for name, value in shared.items() if name != "learning_rate"}  # it learns at its own
    drawn = _given(sheet_prompts=args.sheet_prompts, parts=args.parts)
    controlled = _given(controlled_parts=args.controlled_parts, controlled_normals=args.controlled_normals)
    return replace(
        small,
        vae=replace(small.vae, **_given(latent_channels=args.latent_channels)),
        vae_loop=replace(small.vae_loop, **shared, **_given(steps=args.vae_steps)),
        text_loop=replace(small.text_loop, **shared, **_given(steps=args.text_steps)),
        coarse_loop=replace(small.coarse_loop, **shared, **_given(steps=args.coarse_steps)),
        fine_loop=replace(small.fine_loop, **changes),
        diffusion=replace(small.diffusion, **drawn, **controlled),
        weak_coarse_loop=replace(small.weak_coarse_loop, **weak),
        weak_fine_loop=replace(small.weak_fine_loop, **weak),
        weak_diffusion=replace(small.weak_diffusion, **drawn),
        **_given(minutes=args.minutes),
    )


def part_shares(text: str) -> tuple[tuple[str, float], ...]:
    """`--parts` as names and shares; an unknown name is refused when the dataset is open."""
    try:
        pairs = tuple((name.strip(), float(share)) for name, share in (item.split("=") for item in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected NAME=SHARE,NAME=SHARE, got {text!r}") from None
    if not all(name and 0 < share < float("inf") for name, share in pairs):
        raise argparse.ArgumentTypeError(f"expected names with shares above 0, got {text!r}")
    return pairs


def _given(**values: Any) -> dict[str, Any]:
    """The settings that the command line gives; others keep their defaults."""
    return {name: value for name, value in values.items() if value is not None}
