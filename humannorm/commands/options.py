"""Options that mean the same in every verb, and what their words stand for."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

    from humannorm.body import Body
    from humannorm.geometry.settings import GeometrySettings
    from humannorm.guidance import Autoguidance
    from humannorm.mesh import Mesh

__all__ = [
    "BODY",
    "add_device",
    "add_edit",
    "add_guidance",
    "add_models",
    "add_out",
    "add_preset",
    "add_run_options",
    "add_seed",
    "autoguidance_of",
    "body_in",
    "chosen_regions",
    "chosen_settings",
    "following",
    "load_subject",
    "parse_views",
    "pick_device",
    "view_name",
]

BODY = "body"

Settings = TypeVar("Settings")


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


def add_preset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="quick", choices=("quick", "standard", "paper"), help="length and detail")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options of a stage that optimises: length, what to go on from, preset, models, seed, device and folder."""
    parser.add_argument("--steps", type=int, help="length of the run; the preset's schedules are stretched with it")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on from a state.safetensors of this command")
    add_preset(parser)
    add_models(parser)
    add_seed(parser)
    add_device(parser)
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
        help="parts that an edit may change: head, face, top, bottom, shoes, hands",
    )


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


def body_in(mesh: Mesh, stated: Body | None = None) -> Body:
    """The body inside of a figure in the working box: the stated one where the figure grew from it, refined."""
    from humannorm.rigging import fit_body

    return fit_body(mesh, stated).body


def following(settings: GeometrySettings, body: Body | None) -> GeometrySettings:
    """The settings with head, upper and lower crops that follow the joints of a posed start body."""
    from humannorm.body import plan_for_body
    from humannorm.cameras import CAMERA_PLANS

    if body is None or body.pose == "a-pose":  # the plans' own
        return settings
    plan = settings.camera_plan or CAMERA_PLANS[settings.plan]
    return dataclasses.replace(settings, camera_plan=plan_for_body(plan, body))


def chosen_settings(
    args: argparse.Namespace, preset: Callable[[str], Settings], shortened: Callable[[Settings, int], Settings]
) -> Settings:
    """The settings behind --preset and --steps, by the stage's own `preset` and `shortened`."""
    from humannorm.checks import check_range

    settings = preset(args.preset)
    if args.steps is None:
        return settings
    check_range("--steps", args.steps, 1, 1_000_000)
    return shortened(settings, args.steps)


def pick_device(name: str) -> torch.device:
    """The device behind --device."""
    import torch

    from humannorm.checks import InputError

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device: expected cpu or auto, as torch sees no CUDA device here, got cuda")
    return torch.device(name)


def parse_views(text: str) -> dict[str, float]:
    """'front,left,30' as azimuths in degrees by name; a view is front, left, back, right or a number of degrees."""
    from humannorm.cameras import VIEW_AZIMUTHS
    from humannorm.checks import InputError

    views = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        try:
            azimuth = VIEW_AZIMUTHS[word] if word in VIEW_AZIMUTHS else float(word)
        except ValueError:
            raise InputError(f"--views: expected front, left, back, right or degrees, got {word!r}") from None
        if not abs(azimuth) <= 360:
            raise InputError(f"--views: expected degrees from -360 to 360, got {word}")
        views[word if word in VIEW_AZIMUTHS else view_name(azimuth)] = azimuth
    if not views:
        raise InputError(f"--views: expected at least one view, got {text!r}")
    return views


def view_name(azimuth: float) -> str:
    """How a picture's name says its view: front, left, back, right where exact, else degrees such as 030 or m045."""
    from humannorm.cameras import VIEW_AZIMUTHS, wrap_degrees

    angle = wrap_degrees(azimuth)
    for name, exact in VIEW_AZIMUTHS.items():
        if angle == exact:
            return name
    return ("m" if angle < 0 else "") + f"{abs(angle):0>3.6g}"


def load_subject(text: str) -> Mesh:
    """The mesh file of that name, or for the word `body` the neutral adult that comes along."""
    if text == BODY:
        from humannorm.body import load_body

        return load_body().to_mesh()
    from humannorm.mesh_io import load_mesh

    return load_mesh(text)
