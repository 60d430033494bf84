"""The bundled small model: a diffusers folder inside the package, and what a model's card says to the stages."""

from __future__ import annotations

import json
from pathlib import Path

from humannorm.cameras import CameraPlan
from humannorm.checks import InputError

__all__ = [
    "CARD",
    "FEW_STEPS",
    "HINTS_CONTROLNET",
    "JOINT_FILTER",
    "bundled_folder",
    "camera_plan",
    "has_few_steps",
    "names_poses",
    "resolution_over_start",
    "write_card",
]

CARD = "model_card.json"
FEW_STEPS = "few_steps_lora.safetensors"
"""A LoRA of a model's UNet that draws in few DDIM steps without guidance, in its folder."""

HINTS_CONTROLNET = "hints_controlnet.safetensors"
"""How a ControlNet of six hint channels differs from a model's own of three (`guidance.hints_controlnet`)."""

JOINT_FILTER = "joint_filter.safetensors"
"""A network beside a model's, which sharpens what it draws under a hint (`guidance.joint_filter`)."""


def bundled_folder() -> Path:
    """The folder of the bundled model; an error says what to do if the weights are not there."""
    folder = Path(__file__).parent / "bundled"
    if not (folder / "unet").is_dir():
        raise InputError(
            f"{folder}: expected the bundled model (unet, vae, ...), got none; train one with `humannorm train small`"
            " or name a diffusers folder with --models"
        )
    return folder


def camera_plan(models: str | Path) -> CameraPlan | None:
    """The cameras that a model was trained at, if its folder has a card that says so; `None` means the published ones.

    The small model's are tighter, since at 128 pixels a head at the published cameras is 10 pixels wide.
    """
    path = _card(models)
    if not path.is_file():
        return None
    try:
        return CameraPlan.from_dict(json.loads(path.read_text(encoding="utf-8"))["camera_plan"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected a JSON object with a camera_plan, got another ({error})") from error


def names_poses(models: str | Path) -> bool:
    """Whether a model learnt from captions that name the pose, as the small models do and the published ones do not."""
    return _card(models).is_file()


def resolution_over_start(models: str | Path) -> int | None:
    """Pixels a side of the pictures that a model draws under what its ControlNet is shown of a dressed start, if its
    card names another size than it draws from words. The bundled one, made of pictures of 128, draws finer ones there
    at 256: body and view, which a network loses beyond its own size, are shown."""
    path = _card(models)
    if not path.is_file():
        return None
    size = json.loads(path.read_text(encoding="utf-8")).get("resolution_over_start")
    if size is not None and (not isinstance(size, int) or size <= 0):
        raise InputError(f"{path}: expected resolution_over_start to be a number of pixels, got {size!r}")
    return size


def has_few_steps(models: str | Path) -> bool:
    """Whether a model's folder has weights for few steps without guidance."""
    return (_folder(models) / FEW_STEPS).is_file()


def _card(models: str | Path) -> Path:
    return _folder(models) / CARD


def _folder(models: str | Path) -> Path:
    return bundled_folder() if str(models) == "bundled" else Path(models)


def write_card(folder: Path, plan: CameraPlan, **facts: object) -> None:
    """Write the machine-readable card: the camera plan and plain facts (steps, figures, licence ...)."""
    text = json.dumps({**facts, "camera_plan": plan.to_dict()}, indent=2)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")
