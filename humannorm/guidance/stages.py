"""Which networks the stages use: those of one folder that does everything, or the published set of four folders."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from humannorm.checks import InputError, check_choice
from humannorm.guidance.denoiser import HINT_CHANNELS, Denoiser
from humannorm.guidance.diffusers_denoiser import Autoguidance, DiffusersDenoiser
from humannorm.guidance.folders import few_steps_of, find_folders, load_component, model_folder, read_config
from humannorm.guidance.hints_controlnet import has_hints_controlnet
from humannorm.processor import network_dtype, network_precision

__all__ = [
    "KINDS",
    "PUBLISHED_FOLDERS",
    "StageGuides",
    "add_control_of",
    "draws_under_starts",
    "few_steps_in",
    "find_guides",
    "load_networks",
]

NORMAL, DEPTH = "normal-adapted-sd1.5", "depth-adapted-sd1.5"
ALIGNED, CONTROL = "normal-aligned-sd1.5", "controlnet-normal-sd1.5"
PUBLISHED_FOLDERS = (NORMAL, DEPTH, ALIGNED, CONTROL)
"""Names of the published weights; a folder that holds them all serves all stages."""

KINDS = ("normal", "depth", "color")
"""What is drawn; colour pictures follow a normal map."""
FOLDERS_OF: Mapping[str, tuple[str, ...]] = {"normal": (NORMAL,), "depth": (DEPTH,), "color": (ALIGNED, CONTROL)}

LoadGuide = Callable[[], DiffusersDenoiser]


@dataclass(frozen=True)
class StageGuides:
    """How to load each stage's network. Nothing is loaded before it is needed."""

    normal: Denoiser | LoadGuide
    depth: Denoiser | LoadGuide
    aligned: LoadGuide  # with its normal ControlNet
    precision: str = "fp32"  # of the networks: fp32, bf16 or fp16


def find_guides(
    models: str | Path, device: torch.device, *, kinds: Collection[str] = KINDS, precision: str = "auto"
) -> StageGuides:
    """The networks of "bundled", of one diffusers folder, or of a folder with the published ones.

    kinds: which will be asked for, so that a missing folder is told now and not after the first stage; a single
    folder's one network is loaded once and shared by all. precision: see `processor.PRECISIONS`.
    """
    decided = network_precision(precision, device)
    check_folders(models, kinds)
    if not published_in(models):
        guide = _load(models, "color" if "color" in kinds else "normal", device, decided)
        return StageGuides(guide, guide, lambda: guide, decided)

    def loading(kind: str) -> LoadGuide:
        return lambda: _load(models, kind, device, decided)

    return StageGuides(loading("normal"), loading("depth"), loading("color"), decided)


def load_networks(
    models: str | Path,
    device: torch.device | str = "cpu",
    *,
    kinds: Collection[str] = KINDS,
    precision: str = "auto",
    autoguidance: Autoguidance | None = None,
    few_steps: bool = False,
) -> dict[str, DiffusersDenoiser]:
    """The networks of `find_guides` for sampling, by what they draw; one and the same where one folder draws all.

    few_steps: with the folder's LoRA, see `few_steps_in`.
    """
    check_folders(models, kinds)
    if published_in(models):
        return {kind: _load(models, kind, device, precision, autoguidance) for kind in kinds}
    first = "color" if "color" in kinds else "normal"
    return dict.fromkeys(kinds, _load(models, first, device, precision, autoguidance, few_steps))


def few_steps_in(models: str | Path) -> int:
    """The DDIM steps, without guidance, in which the LoRA in a model's folder draws; 0 where there is none."""
    return 0 if published_in(models) else few_steps_of(models)


def add_control_of(guide: DiffusersDenoiser, kind: str, folder: str | Path) -> None:
    """Have the guide hear a further ControlNet, that of a diffusers folder, which is shown pictures of this kind."""
    import diffusers

    place = Path(folder).resolve()
    config = read_config(place.parent, place.name)
    width, own = config.get("cross_attention_dim"), guide.unet.config.get("cross_attention_dim")
    if width != own:
        raise InputError(f"{folder}: expected a ControlNet for texts of {own} numbers, as the model's, got {width}")
    network = load_component(
        place.parent, place.name, diffusers.ControlNetModel, device=guide.device, dtype=guide.dtype
    )
    guide.add_control(kind, network)


def published_in(models: str | Path) -> dict[str, Path]:
    """Where the published folders stand in this one; none in a diffusers folder or in the bundled model."""
    return {} if str(models) == "bundled" else find_folders(Path(models), PUBLISHED_FOLDERS)


def check_folders(models: str | Path, kinds: Collection[str]) -> None:
    """Refuse a folder that cannot draw these kinds, by name of what is missing."""
    for kind in kinds:
        check_choice("kind", kind, KINDS)
    there = published_in(models)
    if not there:
        folder = model_folder(models)
        if "color" in kinds:
            read_config(folder, "controlnet")
        return
    for name in (name for kind in KINDS if kind in kinds for name in FOLDERS_OF[kind]):
        if name not in there:
            raise InputError(f"{Path(models) / name}: expected beside {next(iter(there))}, got no such folder")
        if name == CONTROL:
            read_config(there[name].parent, there[name].name)
        else:
            model_folder(there[name])


def draws_under_starts(models: str | Path) -> bool:
    """Whether a folder has a ControlNet that normals are drawn with, too."""
    if published_in(models):
        return False
    folder = model_folder(models)
    if not (folder / "controlnet").is_dir():
        return False
    channels = read_config(folder, "controlnet").get("conditioning_channels")
    return has_hints_controlnet(folder) or channels == HINT_CHANNELS


def _load(
    models: str | Path,
    kind: str,
    device: torch.device | str,
    precision: str,
    autoguidance: Autoguidance | None = None,
    few_steps: bool = False,
) -> DiffusersDenoiser:
    """The network that draws one kind; for colours with its ControlNet."""
    import diffusers

    dtype = network_dtype(precision, device)
    there = published_in(models)
    if not there:
        return DiffusersDenoiser.load(
            models,
            device=device,
            dtype=dtype,
            control=kind == "color" or draws_under_starts(models),
            autoguidance=autoguidance,
            few_steps=few_steps,
        )
    guide = DiffusersDenoiser.load(there[FOLDERS_OF[kind][0]], device=device, dtype=dtype, autoguidance=autoguidance)
    if kind == "color":
        place = there[CONTROL]
        control = load_component(
            place.parent, place.name, diffusers.ControlNetModel, device=torch.device(device), dtype=dtype
        )
        guide.controlnet = control.eval().requires_grad_(False)
    return guide
