"""Options that mean the same in every verb, and what their words stand for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.processor import PRECISIONS

if TYPE_CHECKING:
    import torch

    from humannorm.guidance import Autoguidance
    from humannorm.mesh import Mesh
    from humannorm.start_pictures import DressedStart

__all__ = [
    "BODY",
    "STATE",
    "add_delight",
    "add_device",
    "add_edit",
    "add_guidance",
    "add_models",
    "add_out",
    "add_precision",
    "add_preset",
    "add_run_options",
    "add_seed",
    "add_single_looks",
    "add_standing",
    "add_start",
    "autoguidance_of",
    "chosen_regions",
    "dressed_start",
    "held_regions",
    "load_subject",
    "parse_views",
    "pick_device",
    "state_to_resume",
]

BODY = "body"
HERE = Path()
"""What a bare --resume stands for."""
STATE = "state.safetensors"


def add_out(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Asked for where there is no default."""
    folder = None if default is None else Path(default)
    text = "folder for everything that is written"
    parser.add_argument("--out", type=Path, default=folder, required=folder is None, metavar="DIR", help=text)


def add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="source of every random draw")


def add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models", default="bundled", metavar="bundled|DIR", help="the small model that comes along, or a folder"
    )


def add_guidance(parser: argparse.ArgumentParser) -> None:
    """Scale and autoguidance of pictures that are sampled. Not given: the library's."""
    parser.add_argument("--guidance", type=float, help="classifier-free guidance scale (default 4, colours 2)")
    parser.add_argument(
        "--autoguidance",
        type=float,
        metavar="W",
        help="weight where a model has a weak UNet (default 2.75, for colours under a normal map 1.7; 1: without)",
    )


def autoguidance_of(args: argparse.Namespace) -> Autoguidance | None:
    """The weight that `--autoguidance` gives for all, or the library's; None at 1."""
    from humannorm.guidance import Autoguidance

    if args.autoguidance is None:
        return Autoguidance()
    if args.autoguidance == 1.0:
        return None
    return Autoguidance(free=args.autoguidance, controlled=args.autoguidance)


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto takes CUDA if present")


def add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        default="auto",
        choices=PRECISIONS,
        help="of the networks; auto takes fp16 on CUDA, bf16 on a CPU that computes it natively, else fp32",
    )


def add_preset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="quick", choices=("quick", "standard", "paper"), help="length and detail")


def add_start(parser: argparse.ArgumentParser) -> None:
    """What the sculpting begins from, the same words in every verb that begins one."""
    parser.add_argument(
        "--body",
        "--start",
        default="auto",
        metavar="auto|neutral|SLIDERS|FILE",
        help="what the sculpting begins from: sex, age and build that the prompt names, the neutral adult, sliders such"
        " as sex=1,age=0.9,weight=0.3 (also muscle, height, proportions), or a mesh",
    )
    parser.add_argument(
        "--pose",
        default="a-pose",
        metavar="POSE|FILE.bvh",
        help="of the start body: a-pose, t-pose, standing, run, sit, fight, rest, or of a motion file",
    )
    parser.add_argument("--frame", type=int, default=0, metavar="N", help="which frame of --pose FILE.bvh")
    parser.add_argument(
        "--hold",
        metavar="PARTS|none",
        help="what stays as the start has them, such as hands or hands,face; quick from a body: hands,face, else none",
    )
    parser.add_argument(
        "--outfit",
        "--worn",
        default="auto",
        choices=("auto", "none"),
        help="clothes and hair that the start body wears: those that the prompt names, or none; quick completes and"
        " keeps them, paper begins without",
    )


def held_regions(text: str) -> tuple[str, ...]:
    """The regions of the body behind --hold."""
    from humannorm.body.regions import BODY_REGIONS
    from humannorm.checks import check_choice

    regions = () if text == "none" else tuple(region.strip() for region in text.split(","))
    for region in regions:
        check_choice("--hold", region, BODY_REGIONS)
    return regions


def add_method(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--method",
        default="auto",
        choices=("auto", "views", "distil"),
        help="how the surface is sculpted: views samples all sides together until they agree on its normals, distil"
        " asks for one gradient a step; auto: views in standard, distil in paper, and quick leaves its start as it is",
    )


def add_delight(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    parser.add_argument(
        "--delight",
        action="store_true",
        help="estimate the light that the model painted along with the colours and divide it out",
    )


def add_single_looks(parser: argparse.ArgumentParser) -> None:
    """How a network's single looks are distilled."""
    group = parser.add_argument_group("distilling by single looks (--method distil)")
    group.add_argument(
        "--nfsd", action="store_true", help="noise-free score distillation in place of SDS, at scale 7.5"
    )
    group.add_argument(
        "--annealed", action="store_true", help="levels of noise that fall with the steps, in place of drawn ones"
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options of a stage that optimises: length, what to go on from, preset, models, seed, device and folder."""
    parser.add_argument("--steps", type=int, help="length of the run; the preset's schedules are stretched with it")
    parser.add_argument(
        "--resume",
        nargs="?",
        type=Path,
        const=HERE,
        metavar="FILE",
        help="go on with what is in DIR, unfinished or not begun, or from another state.safetensors of this command",
    )
    add_preset(parser)
    add_models(parser)
    add_seed(parser)
    add_device(parser)
    add_precision(parser)
    add_out(parser)


def add_edit(parser: argparse.ArgumentParser) -> None:
    """--edit and --only."""
    parser.add_argument(
        "--edit", type=Path, metavar="FILE", help="a finished state.safetensors to change by the new prompt"
    )
    parser.add_argument(
        "--only",
        default="",
        metavar="PARTS",
        help="what an edit may change: head, face, top, bottom, shoes, hands",
    )


def state_to_resume(args: argparse.Namespace) -> Path | None:
    """The file behind --resume; None where the run begins anew. A bare --resume in a folder without a run begins one,
    and without it a folder that holds a run is refused."""
    from humannorm.checks import InputError

    own: Path = args.out / STATE
    if args.resume is None and own.exists():
        raise InputError(f"--out: expected a folder without a run, or --resume to go on, got one with {own.name}")
    if args.resume == HERE:
        return own if own.exists() else None
    return args.resume


def chosen_regions(args: argparse.Namespace, *names: str) -> dict[str, list[str]]:
    """Parts of the body behind the named options, such as `only`; an error where --edit does not fit in."""
    from humannorm.body.regions import BODY_REGIONS
    from humannorm.checks import InputError, check_choice

    found = {name: [word for word in getattr(args, name).split(",") if word] for name in names}
    for name, words in found.items():
        for word in words:
            check_choice(f"--{name}", word, BODY_REGIONS)
    if found["only"] and args.edit is None:
        raise InputError("--only: expected --edit FILE with it, got none")
    if args.edit is not None and args.resume is not None:
        raise InputError("--edit: expected no --resume beside it, got both")
    return found


def pick_device(name: str) -> torch.device:
    """The device behind --device."""
    from humannorm import request

    return request.pick_device(name)


def parse_views(text: str) -> dict[str, float]:
    """--views as azimuths in degrees, by the names that pictures are given."""
    from humannorm import cameras

    return {cameras.view_name(azimuth): azimuth for azimuth in cameras.parse_views(text, "--views")}


def add_standing(parser: argparse.ArgumentParser) -> None:
    """How a mesh stands in its file."""
    from humannorm.mesh_standing import UPS

    parser.add_argument("--up", choices=UPS, help="upward axis of the mesh (default: y; Blender and scanners: z)")
    parser.add_argument(
        "--front", type=float, metavar="DEGREES", help="where it faces: 0 is +Z (with z up: -Y), 90 is +X (default 0)"
    )
    parser.add_argument("--scale", type=float, default=1.0, metavar="FACTOR", help="of the mesh, as 0.01 for cm to m")


def _warn_of_standing(name: str, mesh: Mesh, up: str | None) -> None:
    """mesh: stood up by `up`, where that was stated."""
    import warnings

    from humannorm.rigging.standing import doubt_of_standing

    doubt = doubt_of_standing(mesh)
    if doubt is not None and (up is None or doubt.up == "y"):
        turn = f"--front={doubt.front:g}" if up else f"--up={doubt.up} --front={doubt.front:g}"
        warnings.warn(f"{name}: {doubt.said}; taken as y up and facing +Z, {turn} turns it", stacklevel=3)


def load_subject(text: str, standing: argparse.Namespace | None = None) -> Mesh:
    """The mesh file of that name, or for the word `body` the neutral adult that comes along.

    standing: the arguments of `add_standing`; the mesh is turned and scaled so. Where they do not say how it stands and
    it is a human that stands otherwise, a warning does.
    """
    if text == BODY:
        from humannorm.body import load_body

        mesh = load_body().to_mesh()
    else:
        from humannorm.mesh_io import load_mesh

        mesh = load_mesh(text)
    if standing is None:
        return mesh
    from humannorm.mesh_standing import stood_up

    mesh = stood_up(mesh, standing.up or "y", standing.front or 0.0, standing.scale)
    if text != BODY and standing.front is None:
        _warn_of_standing(text, mesh, standing.up)
    return mesh


def dressed_start(prompt: str, models: str, seed: int = 0) -> DressedStart:
    """The start of a person in words, as a model's cameras see it."""
    from humannorm.cameras import CAMERA_PLANS
    from humannorm.models import camera_plan
    from humannorm.start_pictures import start_of_sentence

    return start_of_sentence(prompt, camera_plan(models) or CAMERA_PLANS["full_body"], seed=seed)
