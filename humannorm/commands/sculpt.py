"""`humannorm sculpt PROMPT`: a surface from a sentence, with pictures of it before and after."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from humannorm.commands.options import (
    BODY,
    add_course,
    chosen_settings,
    load_subject,
    pick_device,
)
from humannorm.commands.progress import ProgressLine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help='the person, such as "an old man in a long coat"')
    parser.add_argument("--start", default=BODY, metavar=f"{BODY}|FILE", help="what the sculpting begins from")
    add_course(parser)


def run(args: argparse.Namespace) -> int:
    import torch

    from humannorm.geometry.pictures import save_sheet, save_turntable
    from humannorm.geometry.sculpt import sculpt
    from humannorm.geometry.settings import preset, shortened
    from humannorm.geometry.start import prepare_start
    from humannorm.geometry.state import LOSS_NAMES, extract_mesh, load_state, start_state
    from humannorm.guidance import find_guides
    from humannorm.mesh import to_trimesh
    from humannorm.models import camera_plan
    from humannorm.optimisation import save_loss_plot

    begin = time.monotonic()
    device = pick_device(args.device)
    settings = replace(chosen_settings(args, preset, shortened), camera_plan=camera_plan(args.models))
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
    bar = ProgressLine(lambda progress: f"{progress.faces} faces")
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
    save_loss_plot(out / "losses.png", state.history, LOSS_NAMES, logarithmic=True)
    save_turntable(out / "turntable.gif", surface.mesh)
    facts = {
        "prompt": args.prompt,
        "preset": args.preset,
        "seed": args.seed,
        "steps": state.step,
        "faces": surface.mesh.num_faces,
        "pieces": surface.pieces,
        "pieces_dropped": surface.dropped,
        "seconds": round(time.monotonic() - begin, 1),
        **bar.facts(),
    }
    (out / "sculpt.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    if surface.pieces > 1:
        print(f"the surface came in {surface.pieces} pieces; {surface.dropped} below 1 % of the area were left out")
    print(f"{surface.mesh.num_faces} faces in {out / 'sculpt.glb'}, pictures beside it, {facts['seconds']} s in all")
    return 0
