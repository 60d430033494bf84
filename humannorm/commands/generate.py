"""``humannorm generate PROMPT``: from a sentence to a textured GLB; many sentences from a file, on many machines."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.commands.live import LiveView
from humannorm.commands.options import (
    add_device,
    add_models,
    add_out,
    add_preset,
    add_seed,
    following,
    load_subject,
    pick_device,
)

if TYPE_CHECKING:
    import torch

    from humannorm.body import Body, BodyShape
    from humannorm.guidance import StageGuides
    from humannorm.mesh import Mesh
    from humannorm.pipeline import HumanJob, HumanSettings

__all__ = ["add_arguments", "run"]

POSES = ("a-pose", "rest", "t-pose", "standing", "run", "sit", "fight")  # humannorm.body.POSES, which needs torch
SKIN_TONES = ("fair", "light", "dark")  # humannorm.body.painted_skin.SKIN_TONES
NAME_LENGTH = 48  # characters of a prompt in its folder's name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help='the person, such as "an old man in a long coat"')
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="many people instead: one prompt a line, a folder in DIR for each"
    )
    add_preset(parser)
    add_models(parser)
    parser.add_argument(
        "--body",
        default="auto",
        metavar="auto|neutral|SLIDERS|FILE",
        help="what the sculpting begins from: sex, age and build that the prompt names, the neutral adult, sliders such"
        " as sex=1,age=0.9,weight=0.3 (also muscle, height, proportions), or a mesh",
    )
    parser.add_argument("--pose", default="a-pose", choices=POSES, help="of the start body")
    parser.add_argument(
        "--hold",
        metavar="PARTS|none",
        help="parts that stay as the start body has them, such as hands or hands,face; quick: hands,face, others: none",
    )
    parser.add_argument(
        "--skin",
        default="auto",
        choices=("auto", *SKIN_TONES, "model"),
        help="of held face and hands: the tone that the prompt names (any, by the seed, where it names none), one of"
        " three, or whatever the model paints",
    )
    parser.add_argument(
        "--worn",
        default="auto",
        choices=("auto", "none"),
        help="hair, skirt and shorts that the start body wears: those that the prompt names, or none; quick keeps them",
    )
    add_seed(parser)
    parser.add_argument("--height", type=float, default=1.75, metavar="METRES", help="of the human in the GLB")
    parser.add_argument("--resume", action="store_true", help="go on with what is in DIR, unfinished or not begun")
    parser.add_argument("--ray", metavar="ADDRESS", help="hand the prompts to a Ray cluster, such as auto or HOST:PORT")
    parser.add_argument("--sculpt-steps", type=int, metavar="N", help="length of the sculpting (the preset's)")
    parser.add_argument("--paint-steps", type=int, metavar="N", help="length of the painting (the preset's)")
    parser.add_argument("--faces", type=int, default=400_000, metavar="N", help="most faces of the GLB")
    parser.add_argument("--texture-size", type=int, default=2048, metavar="N", help="side of the textures, up to 8192")
    add_device(parser)
    add_out(parser, default="human")


def run(args: argparse.Namespace) -> int:
    from humannorm.checks import InputError
    from humannorm.guidance import find_guides

    if (args.prompt is None) == (args.prompts is None):
        given = "both" if args.prompt is not None else "neither"
        raise InputError(f"generate: expected a PROMPT or --prompts FILE, got {given}")
    device = pick_device(args.device)
    settings = chosen_settings(args)
    prompts = [args.prompt] if args.prompts is None else read_prompts(args.prompts)
    jobs: dict[Path, HumanJob] = {}
    for number, prompt in enumerate(prompts, start=1):
        folder = args.out if args.prompts is None else args.out / f"{number:03d}_{slug(prompt)}"
        jobs[folder] = make_job(args, prompt, settings)
    unfinished = without_finished(jobs, args.resume)
    if args.ray is not None:
        errors = run_on_ray(args, unfinished, device)
    else:
        errors = {}
        guides = find_guides(args.models, device) if unfinished else None
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


def chosen_settings(args: argparse.Namespace) -> HumanSettings:
    """The preset with what the options change in it."""
    from humannorm.checks import check_range
    from humannorm.geometry.settings import shortened as shorter_sculpting
    from humannorm.pipeline import preset
    from humannorm.texture.settings import shortened as shorter_painting

    check_range("--height", args.height, 0.01, 100.0)
    check_range("--faces", args.faces, 4, 10_000_000)
    check_range("--texture-size", args.texture_size, 16, 8192)
    settings = preset(args.preset, args.models, args.height)
    if args.sculpt_steps is not None:
        check_range("--sculpt-steps", args.sculpt_steps, 1, 1_000_000)
        settings = dataclasses.replace(settings, geometry=shorter_sculpting(settings.geometry, args.sculpt_steps))
    if args.paint_steps is not None:
        check_range("--paint-steps", args.paint_steps, 1, 1_000_000)
        settings = dataclasses.replace(settings, texture=shorter_painting(settings.texture, args.paint_steps))
    export = dataclasses.replace(settings.export, faces=args.faces, texture_size=args.texture_size)
    hold = settings.hold if args.hold is None else held_regions(args.hold)
    return dataclasses.replace(settings, export=export, hold=hold)


def held_regions(text: str) -> tuple[str, ...]:
    """The parts behind --hold."""
    from humannorm.body.regions import BODY_REGIONS
    from humannorm.checks import check_choice

    parts = () if text == "none" else tuple(part.strip() for part in text.split(","))
    for part in parts:
        check_choice("--hold", part, BODY_REGIONS)
    return parts


def read_prompts(file: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    from humannorm.checks import InputError

    try:
        prompts = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: expected text in UTF-8, got other bytes ({error})") from error
    if not prompts:
        raise InputError(f"{file}: expected a prompt on each line, got none")
    return prompts


def slug(prompt: str) -> str:
    """A prompt as a part of a folder's name: ASCII letters and digits."""
    return re.sub("[^a-z0-9]+", "_", prompt.lower())[:NAME_LENGTH].strip("_") or "human"


def make_job(args: argparse.Namespace, prompt: str, settings: HumanSettings) -> HumanJob:
    from humannorm.body import plan_for_body, with_pose, worn_of_words
    from humannorm.body.painted_skin import tone_of_words
    from humannorm.body.worn import Worn
    from humannorm.models import names_poses
    from humannorm.pipeline import HumanJob

    body, mesh = start_figure(args.body, args.pose, prompt)
    if body is not None and args.pose != "a-pose":
        texture = dataclasses.replace(settings.texture, plan=plan_for_body(settings.texture.plan, body))
        settings = dataclasses.replace(settings, geometry=following(settings.geometry, body), texture=texture)
    return HumanJob(
        prompt,
        mesh,
        settings,
        args.seed,
        body,
        worn_of_words(prompt) if args.worn == "auto" and body is not None else Worn(),
        with_pose(prompt, args.pose) if names_poses(args.models) else "",
        "" if args.skin == "model" else tone_of_words(prompt, args.seed) if args.skin == "auto" else args.skin,
        notes={"models": args.models, "body": args.body, "pose": args.pose, "preset": args.preset},
    )


def start_figure(body: str, pose: str, prompt: str) -> tuple[Body | None, Mesh]:
    """The body behind --body and --pose in the working box, if it is the one that comes along, and its surface."""
    from humannorm.body import BodyShape, load_body, shape_of_words

    if body == "auto":
        shape = shape_of_words(prompt)
    elif body == "neutral":
        shape = BodyShape()
    elif "=" in body:
        shape = parse_sliders(body)
    else:
        return None, load_subject(body)
    posed = load_body(shape, pose).in_working_box()
    return posed, posed.to_mesh(normalized=False)


def parse_sliders(text: str) -> BodyShape:
    """'sex=1,age=0.9' as a body."""
    from humannorm.body import BodyShape
    from humannorm.checks import InputError

    known = [field.name for field in dataclasses.fields(BodyShape)]
    values: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (word.strip() for word in part.partition("="))
        try:
            values[name] = float(number)
        except ValueError:
            raise InputError(f"--body: expected sliders such as sex=1,age=0.9, got {part!r}") from None
        if name not in known:
            raise InputError(f"--body: expected sliders {', '.join(known)}, got {name!r}")
    return BodyShape(**values)


def without_finished(jobs: dict[Path, HumanJob], resume: bool) -> dict[Path, HumanJob]:
    """The jobs that are left to do; a folder that holds a run is refused unless it is to be gone on with."""
    from humannorm.checks import InputError
    from humannorm.pipeline import RECORD, is_finished

    if not resume:
        for folder in jobs:
            if (folder / RECORD).exists():
                raise InputError(f"--out: expected a folder without a run, or --resume, got {folder} with {RECORD}")
        return jobs
    return {folder: job for folder, job in jobs.items() if len(jobs) == 1 or not is_finished(folder)}


def run_here(folder: Path, job: HumanJob, guides: StageGuides, device: torch.device, resume: bool) -> None:
    """One human on this machine, with the live view."""
    from humannorm.pipeline import STAGES, make_human

    view = LiveView(sys.stderr, f"{job.prompt}  ->  {folder}", STAGES)
    try:
        make_human(job, guides, folder, device=device, resume=resume, callback=view)
    finally:
        view.close()


def run_on_ray(args: argparse.Namespace, jobs: dict[Path, HumanJob], device: torch.device) -> dict[Path, str]:
    """All humans on a cluster; what went wrong, by folder."""
    from humannorm.cluster import make_humans

    folders, errors = list(jobs), {}
    for done, outcome in enumerate(make_humans(args.ray, jobs, models=args.models, device=device), start=1):
        folder = folders[outcome.index]
        sys.stderr.write(f"{done} of {len(jobs)}: {folder}: {outcome.error or 'done'}\n")
        if outcome.error is not None:
            errors[folder] = outcome.error
    return errors
