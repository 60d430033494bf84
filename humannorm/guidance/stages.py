"""Which networks the stages ask: those of one folder that does everything, or the published set of four folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from humannorm.checks import InputError
from humannorm.guidance.denoiser import Denoiser
from humannorm.guidance.diffusers_guide import DiffusersGuide
from humannorm.guidance.folders import find_folders, load_component, model_folder, read_config

__all__ = ["PUBLISHED_FOLDERS", "StageGuides", "find_guides"]

NORMAL, DEPTH = "normal-adapted-sd1.5", "depth-adapted-sd1.5"
ALIGNED, CONTROL = "normal-aligned-sd1.5", "controlnet-normal-sd1.5"
PUBLISHED_FOLDERS = (NORMAL, DEPTH, ALIGNED, CONTROL)
"""Names of the published weights; a folder that holds them all serves all stages."""

LoadGuide = Callable[[], DiffusersGuide]


@dataclass(frozen=True)
class StageGuides:
    """How to load each stage's network. Nothing is loaded before it is asked for."""

    normal: Denoiser | LoadGuide
    depth: Denoiser | LoadGuide
    aligned: LoadGuide  # with its normal ControlNet


def find_guides(models: str | Path, device: torch.device, *, sculpt: bool = True, paint: bool = True) -> StageGuides:
    """The networks of "bundled", of one diffusers folder, or of a folder with the published ones.

    Half precision on CUDA. sculpt, paint: which stages will ask, so that a missing folder is told now and not after the
    first stage; a single folder's one network is loaded once and shared by all.
    """
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    folder = Path(models)
    asked = ((NORMAL, DEPTH) if sculpt else ()) + ((ALIGNED, CONTROL) if paint else ())
    there = {} if str(models) == "bundled" else find_folders(folder, PUBLISHED_FOLDERS)
    if not there:
        if paint:
            read_config(model_folder(models), "controlnet")
        guide = DiffusersGuide.load(models, device=device, dtype=dtype, control=paint)
        return StageGuides(guide, guide, lambda: guide)
    for name in asked:
        if name not in there:
            raise InputError(f"{folder / name}: expected beside {next(iter(there))}, got no such folder")
        if name == CONTROL:
            read_config(there[name].parent, there[name].name)
        else:
            model_folder(there[name])

    def load(name: str) -> DiffusersGuide:
        return DiffusersGuide.load(there[name], device=device, dtype=dtype)

    def load_aligned() -> DiffusersGuide:
        import diffusers

        guide = load(ALIGNED)
        place = there[CONTROL]
        control = load_component(place.parent, place.name, diffusers.ControlNetModel, device=device, dtype=dtype)
        guide.controlnet = control.eval().requires_grad_(False)
        return guide

    return StageGuides(lambda: load(NORMAL), lambda: load(DEPTH), load_aligned)
