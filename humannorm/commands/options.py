"""Options that mean the same in every verb, and what their words stand for."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

    from humannorm.mesh import Mesh

__all__ = [
    "BODY",
    "add_course",
    "add_device",
    "add_models",
    "add_out",
    "add_preset",
    "add_seed",
    "chosen_settings",
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


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto takes CUDA if present")


def add_preset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="quick", choices=("quick", "standard", "paper"), help="length and detail")


def add_course(parser: argparse.ArgumentParser) -> None:
    """The options of a stage that optimises: length, what to go on from, preset, models, seed, device and folder."""
    parser.add_argument("--steps", type=int, help="length of the run; the preset's schedules are stretched with it")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on from a state.safetensors of this command")
    add_preset(parser)
    add_models(parser)
    add_seed(parser)
    add_device(parser)
    add_out(parser)


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
