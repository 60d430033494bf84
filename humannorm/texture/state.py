"""The texture state: what an optimiser returns, takes again, and writes to disk."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.cameras import Cameras
from humannorm.checks import InputError
from humannorm.mesh import Mesh
from humannorm.texture.fields import (
    ColorField,
    color_settings_from_dict,
    color_settings_to_dict,
    make_color_field,
)
from humannorm.texture.fine import TargetCache, fine_cameras
from humannorm.texture.placing import Placement, place
from humannorm.texture.settings import TextureSettings

__all__ = ["LOSS_NAMES", "TextureState", "copy_field", "load_state", "save_state", "start_state"]

LOSS_NAMES = ("sds", "fidelity", "perceptual", "chroma", "gradient_norm")
FORMAT = "humannorm texture 1"
_MESH_PARTS = ("vertices", "faces", "normals", "uvs")
_CAMERA_PARTS = ("azimuth", "elevation", "distance", "fov_y", "zoom", "target")


@dataclass(frozen=True, eq=False)
class TextureState:
    """A frozen surface with its colour, and what the next step needs to go on as if never stopped."""

    mesh: Mesh  # in the working box
    placement: Placement  # of the user's file in the box
    field: ColorField
    cameras: Cameras  # of the fine steps
    step: int = 0  # steps done, coarse and fine together
    targets: TargetCache | None = None  # one per camera; None before the first fine step
    moments: dict[str, Tensor] | None = None  # of AdamW: `<parameter>.<moment>`; None before the first step
    gradient_scale: float = 0.0  # running mean of the gradient norm, 0 before the first step of a stage
    history: Float[Tensor, "S L"] | None = None  # of every step so far, columns `LOSS_NAMES`


def start_state(mesh: Mesh, settings: TextureSettings, generator: torch.Generator) -> TextureState:
    """A fresh grey field on any mesh, placed in the working box; colours that the mesh has are not used."""
    placed, placement = place(Mesh(mesh.vertices.detach().float(), mesh.faces, mesh.normals, mesh.uvs))
    field = make_color_field(settings.field, placed, generator)
    cameras = fine_cameras(settings.plan, settings.fine_views, generator)
    return TextureState(placed, placement, field, cameras.to(placed.device))


def copy_field(field: ColorField, mesh: Mesh) -> ColorField:
    """The same field with parameters of its own."""
    device = next(field.parameters()).device
    copied = make_color_field(field.settings, mesh, torch.Generator(device))
    copied.load_state_dict(field.state_dict())
    return copied


def save_state(state: TextureState, path: str | Path, generator_state: Tensor | None = None) -> None:
    """Write a state to one safetensors file, whole or not at all; its numbers are JSON in the file's header.

    generator_state: kept too, so that a resumed run draws what the unbroken one would have drawn.
    """
    from safetensors.torch import save_file

    tensors = {f"field.{name}": value for name, value in state.field.state_dict().items()}
    tensors |= {f"moments.{name}": value for name, value in (state.moments or {}).items()}
    tensors |= {f"mesh.{name}": value for name in _MESH_PARTS if (value := getattr(state.mesh, name)) is not None}
    tensors |= {f"cameras.{name}": getattr(state.cameras, name) for name in _CAMERA_PARTS}
    if state.targets is not None:
        for name in ("images", "latents", "weights", "step"):
            tensors[f"targets.{name}"] = getattr(state.targets, name)
    if state.history is not None:
        tensors["history"] = state.history
    if generator_state is not None:
        tensors["generator"] = generator_state
    numbers = {
        "format": FORMAT,
        "field": color_settings_to_dict(state.field.settings),
        "placement": dataclasses.asdict(state.placement),
        "cameras": {"part": state.cameras.part, "near": state.cameras.near, "far": state.cameras.far},
        "step": state.step,
        "prompt": None if state.targets is None else state.targets.prompt,
        "gradient_scale": state.gradient_scale,
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    whole = {name: value.detach().contiguous() for name, value in tensors.items()}
    save_file(whole, unfinished, {"state": json.dumps(numbers)})
    os.replace(unfinished, path)


def load_state(
    path: str | Path, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> TextureState:
    """Read what `save_state` wrote; the generator is set to where it was, if the file knows."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            numbers: dict[str, Any] = json.loads((file.metadata() or {}).get("state", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: expected a texture state (safetensors), got a broken file: {error}") from error
    if numbers.get("format") != FORMAT:
        raise InputError(f"{path}: expected the format {FORMAT!r}, got {numbers.get('format')!r}")

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    mesh = Mesh(**part("mesh."))
    field = make_color_field(color_settings_from_dict(numbers["field"]), mesh, torch.Generator(device))
    field.load_state_dict(part("field."))
    named = numbers["cameras"]
    cameras = Cameras(**part("cameras."), part=tuple(named["part"]), near=named["near"], far=named["far"])
    targets = part("targets.")
    if generator is not None and "generator" in tensors:
        generator.set_state(tensors["generator"].cpu())
    placement = numbers["placement"]
    return TextureState(
        mesh=mesh,
        placement=Placement(tuple(placement["centre"]), placement["scale"]),
        field=field,
        cameras=cameras,
        step=numbers["step"],
        targets=TargetCache(prompt=numbers["prompt"], **targets) if targets else None,
        moments=part("moments.") or None,
        gradient_scale=numbers["gradient_scale"],
        history=tensors.get("history"),
    )
