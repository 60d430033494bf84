"""`humannorm sculpt PROMPT`: a surface from a sentence, with pictures of it before and after."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.commands.options import (
    BODY,
    add_device,
    add_models,
    add_out,
    add_preset,
    add_seed,
    load_subject,
    pick_device,
)

if TYPE_CHECKING:
    from humannorm.geometry.sculpt import SculptProgress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help='the person, such as "an old man in a long coat"')
    parser.add_argument("--start", default=BODY, metavar=f"{BODY}|FILE", help="what the sculpting begins from")
    parser.add_argument("--steps", type=int, help="length of the run; the preset's schedules are stretched with it")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on from a state.safetensors of this command")
    add_preset(parser)
    add_models(parser)
    add_seed(parser)
    add_device(parser)
    add_out(parser)


def run(args: argparse.Namespace) -> int:
    import torch

    from humannorm.checks import check_range
    from humannorm.geometry.pictures import save_loss_plot, save_sheet, save_turntable
    from humannorm.geometry.sculpt import sculpt
    from humannorm.geometry.settings import preset, shortened
    from humannorm.geometry.start import prepare_start
    from humannorm.geometry.state import extract_mesh, load_state, start_state
    from humannorm.guidance import find_guides
    from humannorm.mesh import to_trimesh

    begin = time.monotonic()
    device = pick_device(args.device)
    settings = preset(args.preset)
    if args.steps is not None:
        check_range("--steps", args.steps, 1, 1_000_000)
        settings = shortened(settings, args.steps)
    start = prepare_start(load_subject(args.start).to(device))
    for repair in start.repairs:
        print(f"{args.start}: {repair}")
    guides = find_guides(args.models, device, paint=False)
    generator = torch.Generator().manual_seed(args.seed)
    if args.resume is None:
        state, report = start_state(start, settings, generator)
        print(
            f"the field fits the start mesh to {report.mean_error:.1e} on average and {report.max_error:.1e} at worst "
            f"(world units) after {report.seconds:.1f} s"
        )
    else:
        state = load_state(args.resume, generator, device)
        print(f"going on after step {state.step}")

    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    bar = ProgressLine()
    state = sculpt(
        state,
        args.prompt,
        settings,
        normal=guides.normal,
        depth=guides.depth,
        generator=generator,
        callback=bar,
        checkpoint=out / "state.safetensors",
    )
    bar.close()

    surface = extract_mesh(state)
    to_trimesh(surface.mesh).export(out / "sculpt.glb")
    save_sheet(out / "sheet_sculpt.png", start.mesh, surface.mesh)
    save_loss_plot(out / "losses.png", state)
    save_turntable(out / "turntable.gif", surface.mesh)
    facts = {
        "prompt": args.prompt,
        "preset": args.preset,
        "seed": args.seed,
        "steps": state.step,
        "rejected_steps": bar.rejected,
        "faces": surface.mesh.num_faces,
        "pieces": surface.pieces,
        "pieces_dropped": surface.dropped,
        "seconds": round(time.monotonic() - begin, 1),
        "stages_seconds": bar.stages,
        "step_over_networks": bar.overhead,
    }
    (out / "sculpt.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    if surface.pieces > 1:
        print(f"the surface came in {surface.pieces} pieces; {surface.dropped} below 1 % of the area were left out")
    print(f"{surface.mesh.num_faces} faces in {out / 'sculpt.glb'}, pictures beside it, {facts['seconds']} s in all")
    return 0


class ProgressLine:
    """One line on standard error that is kept up to date; also counts what the report needs."""

    def __init__(self) -> None:
        self.rejected = 0
        self.stages: dict[str, float] = {}
        self.overhead = 0.0
        self._shown = 0.0

    def __call__(self, progress: SculptProgress) -> None:
        self.stages = {name: round(value, 2) for name, value in dataclasses.asdict(progress.times).items()}
        self.overhead = round(progress.times.overhead, 3)
        if progress.rejected is not None:
            self.rejected += 1
            sys.stderr.write(f"\n{progress.rejected}: step not taken\n")
        if time.monotonic() - self._shown > 1.0 or progress.step == progress.steps:
            self._shown = time.monotonic()
            sys.stderr.write(
                f"\rstep {progress.step} of {progress.steps}, {progress.faces} faces, "
                f"{progress.seconds_left:.0f} s left   "
            )
            sys.stderr.flush()

    def close(self) -> None:
        sys.stderr.write("\n")
