"""``humannorm generate PROMPT``: from a sentence to a textured GLB; many sentences from a file, on many machines."""

from __future__ import annotations

import argparse
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.commands.live import LiveView
from humannorm.commands.options import (
    add_delight,
    add_device,
    add_method,
    add_models,
    add_out,
    add_precision,
    add_preset,
    add_seed,
    add_start,
    held_regions,
    pick_device,
)

if TYPE_CHECKING:
    import torch

    from humannorm.guidance import StageGuides
    from humannorm.request import HumanJob, HumanRequest

__all__ = ["add_arguments", "run"]

SKIN_TONES = ("fair", "light", "dark")  # humannorm.body.painted_skin.SKIN_TONES
NAME_LENGTH = 48  # characters of a prompt in its folder's name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help='the person, such as "an old man in a long coat"')
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="many people instead: one prompt a line, a folder in DIR for each"
    )
    parser.add_argument(
        "--edit",
        metavar="RUN",
        default="",
        help="change a finished human: PROMPT says what it wears instead, such as 'a green hoodie, no hat'; all else,"
        " and who it is, stays",
    )
    add_preset(parser)
    add_models(parser)
    add_start(parser)
    parser.add_argument(
        "--skin",
        default="auto",
        choices=("auto", *SKIN_TONES, "model"),
        help="of held face and hands: the tone that the prompt names (any, by the seed, where it names none), one of"
        " three, or whatever the model paints",
    )
    add_seed(parser)
    add_method(parser)
    parser.add_argument("--height", type=float, default=1.75, metavar="METRES", help="of the human in the GLB")
    parser.add_argument("--resume", action="store_true", help="go on with what is in DIR, unfinished or not begun")
    parser.add_argument("--ray", metavar="ADDRESS", help="hand the prompts to a Ray cluster, such as auto or HOST:PORT")
    parser.add_argument("--sculpt-steps", type=int, metavar="N", help="length of the sculpting (the preset's)")
    parser.add_argument("--paint-steps", type=int, metavar="N", help="length of the painting (the preset's)")
    parser.add_argument("--faces", type=int, metavar="N", help="most faces of the GLB; else the preset's")
    parser.add_argument("--texture-size", type=int, metavar="N", help="side of the textures, up to 8192 (the preset's)")
    add_delight(parser)
    add_device(parser)
    add_precision(parser)
    add_out(parser, default="human")


def run(args: argparse.Namespace) -> int:
    from humannorm.checks import InputError
    from humannorm.editing import asked_job
    from humannorm.guidance import find_guides
    from humannorm.prompts import read_prompts
    from humannorm.request import told_of

    if (args.prompt is None) == (args.prompts is None):
        given = "both" if args.prompt is not None else "neither"
        raise InputError(f"generate: expected a PROMPT or --prompts FILE, got {given}")
    if args.edit and args.ray is not None:
        raise InputError("--ray: expected no --edit, whose painting other machines do not have, got both")
    device = pick_device(args.device)
    prompts = [args.prompt] if args.prompts is None else read_prompts(args.prompts)
    jobs: dict[Path, HumanJob] = {}
    for number, prompt in enumerate(prompts, start=1):
        folder = args.out if args.prompts is None else args.out / f"{number:03d}_{slug(prompt)}"
        jobs[folder] = asked_job(request_of(args, prompt))
    unfinished = without_finished(jobs, args.resume)
    here = args.ray is None and bool(unfinished)
    models = {job.request.models for job in unfinished.values()} if here else set()  # of an edit they are its run's
    guides = find_guides(models.pop(), device, precision=args.precision) if here else None
    for folder, job in jobs.items():
        for sentence in told_of(job):
            sys.stderr.write(f"{folder.name}: {sentence}\n")
    if args.ray is not None:
        errors = run_on_ray(args, unfinished, device)
    else:
        errors = {}
        for folder, job in unfinished.items():
            assert guides is not None
            try:
                run_here(folder, job, guides, device, args.resume)
            except Exception as error:  # one that fails must not stop the rest
                if len(jobs) == 1:
                    raise
                if args.debug:
                    traceback.print_exc()
                errors[folder] = str(error)
                sys.stderr.write(f"humannorm: {folder}: {error}\n")
    for folder in jobs:
        if folder not in errors:
            print(folder / "human.glb")
    if errors:
        sys.stderr.write(f"humannorm: {len(errors)} of {len(jobs)} failed: {', '.join(map(str, errors))}\n")
    return 1 if errors else 0


def request_of(args: argparse.Namespace, prompt: str) -> HumanRequest:
    """What the options ask for, for one prompt."""
    from humannorm.checks import check_range
    from humannorm.request import HEIGHTS_M, LIMITS, HumanRequest

    check_range("--height", args.height, *HEIGHTS_M)
    for name, limits in LIMITS.items():
        if getattr(args, name) is not None:
            check_range(f"--{name.replace('_', '-')}", getattr(args, name), *limits)
    return HumanRequest(
        prompt,
        seed=args.seed,
        preset=args.preset,
        models=args.models,
        precision=args.precision,
        body=args.body,
        pose=args.pose,
        frame=args.frame,
        outfit=args.outfit,
        hold=None if args.hold is None else held_regions(args.hold),
        skin=args.skin,
        height_m=args.height,
        sculpt_steps=args.sculpt_steps,
        paint_steps=args.paint_steps,
        faces=args.faces,
        texture_size=args.texture_size,
        method=args.method,
        edits=args.edit,
        delight=args.delight,
    )


def slug(prompt: str) -> str:
    """A prompt as a part of a folder's name: ASCII letters and digits."""
    return re.sub("[^a-z0-9]+", "_", prompt.lower())[:NAME_LENGTH].strip("_") or "human"


def without_finished(jobs: dict[Path, HumanJob], resume: bool) -> dict[Path, HumanJob]:
    """The jobs that are left to do; a folder that holds a run is refused unless it is to be gone on with."""
    from humannorm.pipeline import is_finished, refuse_started

    for folder in jobs:
        refuse_started(folder, resume)
    if not resume:
        return jobs
    return {folder: job for folder, job in jobs.items() if len(jobs) == 1 or not is_finished(folder)}


def run_here(folder: Path, job: HumanJob, guides: StageGuides, device: torch.device, resume: bool) -> None:
    """One human on this machine, with the live view."""
    from humannorm.pipeline import STAGES, make_human

    view = LiveView(sys.stderr, f"{job.request.prompt}  ->  {folder}", STAGES)
    try:
        make_human(job, guides, folder, device=device, resume=resume, callback=view)
    finally:
        view.close()


def run_on_ray(args: argparse.Namespace, jobs: dict[Path, HumanJob], device: torch.device) -> dict[Path, str]:
    """All humans on a cluster; what went wrong, by folder."""
    from humannorm.cluster import make_humans

    folders, errors = list(jobs), {}
    for done, outcome in enumerate(make_humans(args.ray, jobs, device=device), start=1):
        folder = folders[outcome.index]
        sys.stderr.write(f"{done} of {len(jobs)}: {folder}: {outcome.error or 'done'}\n")
        if outcome.error is not None:
            errors[folder] = outcome.error
    return errors
