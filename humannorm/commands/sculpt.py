"""`humannorm sculpt PROMPT`: a surface from a sentence, with pictures of it before and after."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.commands.options import (
    STATE,
    add_edit,
    add_method,
    add_run_options,
    add_single_looks,
    add_start,
    chosen_regions,
    held_regions,
    pick_device,
    state_to_resume,
)
from humannorm.commands.progress import ProgressLine
from humannorm.commands.report import write_report

if TYPE_CHECKING:
    import torch

    from humannorm.geometry.settings import GeometrySettings
    from humannorm.geometry.state import GeometryState
    from humannorm.mesh import Mesh
    from humannorm.request import HumanJob, HumanRequest

__all__ = ["add_arguments", "run"]

EDIT_LEVEL = 0.5  # at most, of the noise schedule, where the views of an edited surface enter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help='the person, such as "an old man in a long coat"')
    add_start(parser)
    add_method(parser)
    add_single_looks(parser)
    add_edit(parser)
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    import torch

    from humannorm.checks import InputError
    from humannorm.geometry.settings import single_looks
    from humannorm.geometry.state import save_state
    from humannorm.guidance import find_guides
    from humannorm.request import job_of
    from humannorm.stages import as_it_is, sculpt_on, write_sculpture

    begin = time.monotonic()
    device = pick_device(args.device)
    job = job_of(request_of(args))
    if (args.nfsd or args.annealed) and job.settings.views is not None:
        name = "nfsd" if args.nfsd else "annealed"
        raise InputError(f"--method: expected distil with --{name}, got views")
    guides = find_guides(args.models, device, kinds=("normal", "depth"), precision=args.precision)
    generator = torch.Generator().manual_seed(args.seed)
    state, before, settings = first_state(args, job, generator, device)
    if args.nfsd or args.annealed:
        settings = single_looks(settings, nfsd=args.nfsd, falling=args.annealed)
    views = job.settings.views
    if views is not None and args.edit is not None:
        views = views.entered_below(EDIT_LEVEL)

    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    bar = ProgressLine(lambda progress: f"{progress.faces} faces")
    figures: Mapping[str, float] = {}
    if as_it_is(state, job):
        print(f"{args.preset}: no steps, the dressed start is the sculpture; --steps N sculpts it all the same")
        save_state(state, out / STATE, generator)
    else:
        state, figures = sculpt_on(
            state, job.network_prompt, settings, views, guides, generator, callback=bar, checkpoint=out / STATE
        )
        bar.close()

    surface = write_sculpture(out / "sculpt.glb", state)
    write_pictures(out, state, before, surface.mesh)
    facts = {
        "steps": state.step,
        "faces": surface.mesh.num_faces,
        "pieces": surface.pieces,
        "pieces_dropped": surface.dropped,
        **bar.facts(),
        **{name: round(value, 4) for name, value in figures.items()},
    }
    seconds = write_report(out / "sculpt.json", args, guides.precision, begin, facts)
    if surface.pieces > 1:
        print(f"the surface came in {surface.pieces} pieces; {surface.dropped} below 1 % of the area were left out")
    print(f"{surface.mesh.num_faces} faces in {out / 'sculpt.glb'}, pictures beside it, {seconds} s in all")
    return 0


def write_pictures(out: Path, state: GeometryState, before: Mesh, after: Mesh) -> None:
    """The sheet of the surface before and after, the curves of the losses, the turntable."""
    from humannorm.export.showing import save_shaded_film
    from humannorm.geometry.state import LOSS_NAMES
    from humannorm.optimisation import save_loss_plot
    from humannorm.rendering.shaded import save_sheet

    save_sheet(out / "sheet_sculpt.png", before, after)
    if state.history is not None:
        save_loss_plot(out / "losses.png", state.history, LOSS_NAMES, logarithmic=True)
    save_shaded_film(out / "turntable.webp", after)


def request_of(args: argparse.Namespace) -> HumanRequest:
    """What the options ask for, or an error before long work."""
    from humannorm.checks import InputError, check_range
    from humannorm.request import HumanRequest

    if args.hold is not None and not (args.edit is None and args.resume is None):
        raise InputError("--hold: expected a run from its start (a resumed one keeps what it holds), got another")
    if args.steps is not None:
        check_range("--steps", args.steps, 1, 1_000_000)
    return HumanRequest(
        args.prompt,
        seed=args.seed,
        preset=args.preset,
        models=args.models,
        body=args.body,
        pose=args.pose,
        frame=args.frame,
        outfit=args.outfit,
        hold=None if args.hold is None else held_regions(args.hold),
        sculpt_steps=args.steps,
        method=args.method,
    )


def first_state(
    args: argparse.Namespace, job: HumanJob, generator: torch.Generator, device: torch.device
) -> tuple[GeometryState, Mesh, GeometrySettings]:
    """What the run begins or goes on with, the surface before it, and its settings."""
    from humannorm.geometry.state import extract_mesh, load_state
    from humannorm.prompts import Prompts
    from humannorm.stages import begin_sculpture_of, edit_sculpture, held_for_edit, place_start

    Prompts(job.request.prompt, "normal")  # refuses what cannot be a prompt
    settings = job.settings.geometry
    regions = chosen_regions(args, "only")["only"]
    resumed = state_to_resume(args)
    if args.edit is not None:
        finished = load_state(args.edit, device=device)
        before = extract_mesh(finished).mesh
        hold = held_for_edit(before, regions, body=job.body, labelled=finished.labelled)
        state, settings = edit_sculpture(finished, hold, settings)
        print(f"editing {args.edit}: {', '.join(regions) or 'all of it'}")
        return state, before, settings
    start = place_start(job.start, job.body, device)
    if resumed is not None:
        state = load_state(resumed, generator, device)
        print(f"going on after step {state.step}")
        return state, start.mesh, settings
    begun = begin_sculpture_of(job, start, generator)
    for repair in begun.surface.repairs:
        print(f"{args.body}: {repair}")
    print(
        f"the field fits the start mesh to {begun.fit.mean_error:.1e} on average and {begun.fit.max_error:.1e} at"
        f" worst (world units) after {begun.fit.seconds:.1f} s"
    )
    return begun.state, begun.surface.mesh, settings
