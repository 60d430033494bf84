"""`humannorm paint` by sampling all views at once: any mesh, of a person or not, onto one texture."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.commands.options import BODY, HERE, STATE, add_delight, load_subject, pick_device
from humannorm.commands.report import write_report

if TYPE_CHECKING:
    import torch

    from humannorm.body import Body
    from humannorm.guidance import DiffusersDenoiser
    from humannorm.mesh import Mesh
    from humannorm.texture.multiview import MultiviewPainting, MultiviewProgress, MultiviewSettings

__all__ = ["METHODS", "add_arguments", "is_meant", "refuse_options", "run"]

METHODS = ("views", "distil")
FRAMINGS = ("body", "plain")
WALK = "walk.safetensors"
PREVIEW_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sampling all views at once (--method views)")
    group.add_argument(
        "--method",
        choices=METHODS,
        help="sample all views at once, or distil as published; the preset's, and distil for --edit and --uv",
    )
    group.add_argument(
        "--level", type=float, help="where the walk begins, 0..1: below 1 from the colours that the mesh has (1)"
    )
    group.add_argument(
        "--framing", default="body", choices=FRAMINGS, help="close-ups of a body's parts, or plain rings around a thing"
    )
    group.add_argument("--views", type=int, default=8, help="views of each ring")
    group.add_argument("--texture-size", type=int, help="texels a side of the texture (the preset's)")
    add_delight(group)
    group.add_argument(
        "--control",
        default="normal",
        metavar="KIND",
        help="what the ControlNet in --models is shown: normal, normal_directx, normal_bae, depth, canny, openpose or"
        " labels; none: it is left aside, for folders without one",
    )
    group.add_argument(
        "--add-control",
        action="append",
        default=[],
        metavar="KIND=DIR",
        help="a further ControlNet of diffusers in DIR, and what it is shown; as often as you like",
    )


def refuse_options(args: argparse.Namespace) -> None:
    """An error where options of this method stand beside another."""
    from humannorm.checks import InputError

    for name, given in (
        ("delight", args.delight),
        ("control", args.control != "normal"),
        ("add-control", args.add_control),
    ):
        if given:
            raise InputError(f"--method: expected views with --{name}, got distil")


def is_meant(args: argparse.Namespace) -> bool:
    """Whether these arguments ask for this method."""
    if args.method is not None:
        return bool(args.method == "views")
    return args.preset != "paper" and args.edit is None and args.uv is None


def run(args: argparse.Namespace) -> int:
    from humannorm.checks import InputError
    from humannorm.request import network_prompt
    from humannorm.stages import paint_any_mesh
    from humannorm.texture.state import save_state

    begin = time.monotonic()
    for name in ("edit", "uv", "fine_loss", "vgg16"):
        if getattr(args, name) is not None:
            raise InputError(f"--method: expected distil with --{name.replace('_', '-')}, got views")
    for name in ("nfsd", "annealed"):
        if getattr(args, name):
            raise InputError(f"--method: expected distil with --{name}, got views")
    settings, device, out = chosen_settings(args), pick_device(args.device), args.out
    checkpoint = args.resume if args.resume not in (None, HERE) else out / WALK
    if args.resume is None and (checkpoint.exists() or (out / STATE).exists()):
        raise InputError(f"--out: expected a folder without a run, or --resume to go on, got {out}, which holds one")
    mesh = load_subject(args.mesh, args).to(device)
    guide, precision = guide_for(args, device)
    guide.body = body_for(args, mesh, {settings.control, *guide.control_kinds})
    out.mkdir(parents=True, exist_ok=True)
    bar = ViewsProgress(out)
    painting = paint_any_mesh(
        mesh,
        network_prompt(args.prompt, args.models) if args.framing == "body" else args.prompt,
        settings,
        guide,
        seed=args.seed,
        negative=args.negative,
        from_colors=args.level is not None and args.level < 1,
        callback=bar,
        checkpoint=checkpoint,
    )
    bar.close()
    save_state(painting.state, out / STATE)
    files = write_results(out, painting, settings)
    facts = {
        "method": "views",
        "control": [settings.control, *guide.control_kinds],
        "faces": painting.mesh.num_faces,
        **{name: round(value, 4) for name, value in painting.figures.items()},
    }
    seconds = write_report(out / "paint.json", args, precision, begin, facts)
    print(f"{', '.join(map(str, files))}; {seconds} s in all")
    return 0


def guide_for(args: argparse.Namespace, device: torch.device) -> tuple[DiffusersDenoiser, str]:
    """The network behind --models, --control and --add-control, and the precision that it computes in."""
    from humannorm.checks import InputError, check_choice
    from humannorm.controls import CONTROL_KINDS
    from humannorm.guidance import find_guides
    from humannorm.guidance.stages import add_control_of, published_in

    added = [word.partition("=") for word in args.add_control]
    for kind, _, folder in added:
        check_choice("--add-control", kind, CONTROL_KINDS)
        if not folder:
            raise InputError(f"--add-control: expected KIND=DIR, got {kind!r}")
    if args.control != "none" or published_in(args.models):
        guides = find_guides(args.models, device, kinds=("color",), precision=args.precision)
        guide = guides.aligned()
        if args.control == "none":
            guide.controlnet = None
    else:
        guides = find_guides(args.models, device, kinds=("normal",), precision=args.precision)
        guide = guides.aligned()  # of one folder that draws everything
    for kind, _, folder in added:
        add_control_of(guide, kind, folder)
    return guide, guides.precision


def body_for(args: argparse.Namespace, mesh: Mesh, kinds: set[str]) -> Body | None:
    """The body in the mesh, in the working box, where a picture of these kinds is drawn of it."""
    from humannorm.body import load_body
    from humannorm.rigging.fitting import fit_body
    from humannorm.working_box import to_working_box

    if not kinds & {"openpose", "labels"}:
        return None
    if args.mesh == BODY:
        return load_body().in_working_box()
    print(f"laying a body into {args.mesh}, for its skeleton")
    return fit_body(to_working_box(mesh)).body


def chosen_settings(args: argparse.Namespace) -> MultiviewSettings:
    """The settings behind the options."""
    from humannorm.checks import check_choice, check_range
    from humannorm.models import camera_plan, has_few_steps
    from humannorm.rings import body_rings, plain_rings
    from humannorm.texture.delighting import DelightSettings
    from humannorm.texture.multiview import CONTROLS, multiview_preset

    # Those weights know one number of steps, and without guidance nothing leads away from a negative text.
    few_steps = args.steps is None and not args.negative and has_few_steps(args.models)
    settings = multiview_preset("standard" if args.preset == "paper" else args.preset, few_steps=few_steps)
    level, whole = args.level or 1.0, settings.walk.from_noise().steps
    check_range("--level", level, 0.05, 1.0)
    steps = args.steps if args.steps is not None else max(1, round(whole * level))
    check_range("--steps", steps, 1, 1000)
    check_range("--views", args.views, 1, 64)
    check_choice("--control", args.control, CONTROLS)
    is_body = args.framing == "body"
    return dataclasses.replace(
        settings,
        walk=dataclasses.replace(settings.walk, level=level, steps=steps),
        rings=body_rings(*[args.views] * 4) if is_body else plain_rings(args.views),
        plan=camera_plan(args.models) or settings.plan,
        text_rule=settings.text_rule if is_body else "published",  # which names no part of a body
        texture_size=args.texture_size or settings.texture_size,
        control=args.control,
        delight=DelightSettings() if args.delight else None,
    )


def write_results(out: Path, painting: MultiviewPainting, settings: MultiviewSettings) -> list[Path]:
    """The sheets of the surface and of the views, the texture, and the mesh as GLB and PLY in the user's frame."""
    from humannorm.export import ExportSettings, export_mesh, with_maps, write_glb
    from humannorm.images import contact_sheet, save_png
    from humannorm.texture.pictures import save_sheet

    sheet, views, texture = out / "sheet_paint.png", out / "sheet_views.png", out / "texture.png"
    cameras = painting.cameras
    has_parts = any(part != "full" for part in cameras.part)
    save_sheet(sheet, painting.state.mesh, {"painted": painting.state.field}, settings.plan, close_ups=has_parts)
    labels = [f"{part}, {azimuth:.0f}" for part, azimuth in zip(cameras.part, cameras.azimuth.tolist(), strict=True)]
    save_png(views, contact_sheet(list(painting.pictures.cpu()), labels, columns=8))
    save_png(texture, painting.texture.cpu())
    plain = ExportSettings(normal_map=False)
    files = [write_glb(out / "paint.glb", with_maps(painting.mesh, plain), overwrite=True)]
    files += export_mesh(out / "paint.ply", painting.mesh, plain, overwrite=True)
    return [sheet, views, texture, *files]


class ViewsProgress:
    """One line that is kept up to date, and a picture of the first view on disk."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._shown = self._drawn = 0.0

    def __call__(self, progress: MultiviewProgress) -> None:
        from humannorm.images import save_png

        now, is_last = time.monotonic(), progress.step == progress.steps
        if now - self._shown > 1.0 or is_last:
            self._shown = now
            sys.stderr.write(
                f"\rlevel {progress.step} of {progress.steps}, batch {progress.walk.batch} of {progress.walk.batches},"
                f" {progress.seconds_left:.0f} s left   "
            )
            sys.stderr.flush()
        if now - self._drawn > PREVIEW_SECONDS or is_last:
            self._drawn = now
            save_png(self.out / "preview.png", progress.picture.cpu())

    def close(self) -> None:
        sys.stderr.write("\n")
