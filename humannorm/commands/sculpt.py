"""`humannorm sculpt PROMPT`: a surface from a sentence, with pictures of it before and after."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.commands.options import (
    BODY,
    add_edit,
    add_run_options,
    body_in,
    chosen_regions,
    chosen_settings,
    following,
    load_subject,
    pick_device,
)
from humannorm.commands.progress import ProgressLine

AUTO = "auto"

if TYPE_CHECKING:
    from humannorm.body import Body
    from humannorm.mesh import Mesh


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help='the person, such as "an old man in a long coat"')
    parser.add_argument(
        "--start",
        default=AUTO,
        metavar=f"{AUTO}|{BODY}|FILE",
        help="what the sculpting begins from: the sex, age, build, hair, skirt and shorts that the prompt names (quick"
        " keeps what is worn), the neutral adult, or a mesh",
    )
    parser.add_argument(
        "--pose",
        default="a-pose",
        metavar="POSE|FILE.bvh",
        help="pose of the start body; the crops of the views follow it",
    )
    parser.add_argument("--frame", type=int, default=0, metavar="N", help="which frame of --pose FILE.bvh")
    parser.add_argument(
        "--hold",
        metavar="PARTS|none",
        help="kept as the start has them, such as hands or hands,face; quick from a body: hands,face, else none",
    )
    add_edit(parser)
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    import torch

    from humannorm.body import POSES, with_pose, worn_of_words
    from humannorm.body.worn import solids_of
    from humannorm.geometry.dressing import dressed, kept_of_start
    from humannorm.geometry.holding import edit_settings, hold_all_but
    from humannorm.geometry.pictures import save_sheet, save_turntable
    from humannorm.geometry.sculpt import sculpt
    from humannorm.geometry.settings import preset, shortened
    from humannorm.geometry.start import prepare_start, start_height
    from humannorm.geometry.state import LOSS_NAMES, extract_mesh, load_state, start_state
    from humannorm.guidance import find_guides
    from humannorm.mesh import to_trimesh
    from humannorm.models import camera_plan, names_poses
    from humannorm.optimisation import save_loss_plot

    begin = time.monotonic()
    device = pick_device(args.device)
    settings = replace(chosen_settings(args, preset, shortened), camera_plan=camera_plan(args.models))
    regions = check_regions(args)
    mesh, body = start_figure(args)
    undressed = prepare_start(mesh.to(device), start_height(body))
    dresses = args.start == AUTO and args.edit is None  # an edit begins with a surface of its own
    worn = worn_of_words(args.prompt)
    solids = solids_of(body, worn) if body is not None and dresses else ()
    start = dressed(undressed, solids)
    for repair in start.repairs:
        print(f"{args.start}: {repair}")
    settings = following(settings, body)
    guides = find_guides(args.models, device, paint=False)
    network_prompt = args.prompt
    if body is not None and body.pose in POSES and names_poses(args.models):
        network_prompt = with_pose(args.prompt, body.pose)
    generator = torch.Generator().manual_seed(args.seed)
    before = start.mesh
    if args.edit is not None:
        finished = load_state(args.edit, device=device)
        before = extract_mesh(finished).mesh
        hold = hold_all_but(before, body_in(before, body), regions["only"]) if regions["only"] else None
        state = finished.edited(hold)
        settings = edit_settings(settings, finished.active_levels, finished.band.lattice.resolution)
        print(f"editing {args.edit}: {', '.join(regions['only']) or 'all of it'}")
    elif args.resume is None:
        state, report = start_state(start, settings, generator)
        print(
            f"the field fits the start mesh to {report.mean_error:.1e} on average and {report.max_error:.1e} at worst "
            f"(world units) after {report.seconds:.1f} s"
        )
        hold = kept_of_start(
            undressed,
            solids,
            inside=lambda: body_in(undressed.mesh) if body is None else body,
            regions=regions["hold"],
            keep_worn=args.preset == "quick",
            bare=worn.bare,
        )
        state = replace(state, hold=hold)
    else:
        state = load_state(args.resume, generator, device)
        print(f"going on after step {state.step}")

    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    bar = ProgressLine(lambda progress: f"{progress.faces} faces")
    state = sculpt(
        state,
        network_prompt,
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
    save_sheet(out / "sheet_sculpt.png", before, surface.mesh)
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


def check_regions(args: argparse.Namespace) -> dict[str, list[str]]:
    """--hold and --only as lists of regions, or an error before long work."""
    from humannorm.checks import InputError

    fresh = args.edit is None and args.resume is None
    if args.hold is None:
        args.hold = "hands,face" if fresh and args.preset == "quick" and args.start in (AUTO, BODY) else "none"
    args.hold = "" if args.hold == "none" else args.hold
    found = chosen_regions(args, "hold", "only")
    if found["hold"] and not fresh:
        raise InputError("--hold: expected a run from its start (a resumed one keeps what it holds), got another")
    return found


def start_figure(args: argparse.Namespace) -> tuple[Mesh, Body | None]:
    """What the sculpting begins from, and the body if it is the one that comes along, posed, in the working box."""
    from humannorm.body import BodyShape, load_body, shape_of_words
    from humannorm.body.retarget import clip_of_bvh
    from humannorm.checks import InputError, check_range

    if args.start not in (AUTO, BODY):
        if args.pose != "a-pose":
            raise InputError(f"--pose: expected --start {AUTO} or {BODY}, got {args.start}")
        return load_subject(args.start), None
    shape = shape_of_words(args.prompt) if args.start == AUTO else BodyShape()
    if not args.pose.lower().endswith(".bvh"):
        body = load_body(shape, args.pose).in_working_box()
        return body.to_mesh(normalized=False), body
    rest = load_body(shape, "rest")
    clip = clip_of_bvh(args.pose, rest)
    check_range("--frame", args.frame, 0, clip.num_frames - 1)
    body = rest.posed(clip.rotations[args.frame], Path(args.pose).stem).in_working_box()
    return body.to_mesh(normalized=False), body
