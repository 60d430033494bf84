"""The bundled small model: a diffusers folder inside the package."""

from __future__ import annotations

from pathlib import Path

from humannorm.checks import InputError


def bundled_folder() -> Path:
    """The folder of the bundled model; an error says what to do if the weights are not there."""
    folder = Path(__file__).parent / "bundled"
    if not (folder / "unet").is_dir():
        raise InputError(
            f"{folder}: expected the bundled model (unet, vae, ...), got none; train one with `humannorm train small`"
            " or name a diffusers folder with --models"
        )
    return folder
