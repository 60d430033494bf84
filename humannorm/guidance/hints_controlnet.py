"""A ControlNet of six hint channels beside one of three: the file holds how far it went from that one, in low rank.

The two are wanted side by side: one follows a finished normal map of anything, the other a dressed start's normals and
flat colours by label, and draws normals as well as colours. Trained from the same weights they share most of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from humannorm.checks import InputError
from humannorm.files import save_tensors
from humannorm.guidance.denoiser import HINT_CHANNELS
from humannorm.guidance.folders import component_weights, placed, read_config, read_weights
from humannorm.models import HINTS_CONTROLNET

__all__ = ["RANK", "has_hints_controlnet", "load_hints_controlnet", "read_hints_controlnet", "save_hints_controlnet"]

RANK = 48
"""Of a change of matrices and convolutions: held-out loss 0.0983 before and after; 0.104 in rank 24."""
_EMBEDDING = "controlnet_cond_embedding."  # of the hint: wider than the other's, so there is nothing to subtract
_UP, _DOWN = ".up", ".down"


def has_hints_controlnet(folder: Path) -> bool:
    """Whether a diffusers folder has both ControlNets."""
    return (folder / HINTS_CONTROLNET).is_file() and (folder / "controlnet").is_dir()


def save_hints_controlnet(trained: Any, base: Any, path: Path, rank: int = RANK) -> None:
    """Write what parts a trained `ControlNetModel` of six hint channels from the one of three it began as, in half
    precision."""
    kept: dict[str, Tensor] = {}
    before = base.state_dict()
    for name, value in trained.state_dict().items():
        change = value.float() if name.startswith(_EMBEDDING) else value.float() - before[name].float()
        if name.startswith(_EMBEDDING) or change.ndim < 2 or min(change.flatten(1).shape) <= 2 * rank:
            kept[name] = change
            continue
        left, strengths, right = torch.linalg.svd(change.flatten(1), full_matrices=False)
        kept[name + _UP], kept[name + _DOWN] = left[:, :rank] * strengths[:rank], right[:rank]
    facts = {
        "format": "pt",
        "conditioning_channels": str(trained.config.conditioning_channels),
        "widths": " ".join(map(str, trained.config.conditioning_embedding_out_channels)),
    }
    save_tensors(path, {name: value.half().contiguous() for name, value in kept.items()}, facts)


def read_hints_controlnet(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights, fp32, as diffusers names them, of the ControlNet of six channels in a folder."""
    from safetensors import safe_open

    path = folder / HINTS_CONTROLNET
    changes, before = read_weights(path), component_weights(folder, "controlnet")[1]
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
        widths = tuple(map(int, facts["widths"].split()))
        config = {
            **read_config(folder, "controlnet"),
            "conditioning_channels": int(facts["conditioning_channels"]),
            "conditioning_embedding_out_channels": widths,
        }
        if config["conditioning_channels"] != HINT_CHANNELS:
            raise KeyError(f"{config['conditioning_channels']} hint channels in place of {HINT_CHANNELS}")
        return config, _whole(changes, before)
    except (KeyError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path}: expected what parts a ControlNet of {HINT_CHANNELS} hint channels from the one in controlnet/,"
            f" got another file: {error}"
        ) from error


def load_hints_controlnet(folder: Path, *, device: str | torch.device, dtype: torch.dtype) -> Any:
    """The `ControlNetModel` of six channels in a diffusers folder that has one beside its own."""
    from diffusers import ControlNetModel

    config, weights = read_hints_controlnet(folder)
    network = ControlNetModel.from_config(config)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"{folder / HINTS_CONTROLNET}: expected weights for the one in controlnet/: {error}"
        ) from error
    return placed(network, torch.device(device), dtype)


def _whole(changes: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that the changes lead to."""
    whole: dict[str, Tensor] = {}
    for name, value in changes.items():
        if name.startswith(_EMBEDDING):
            whole[name] = value.float()
        elif name.endswith(_DOWN):
            continue
        elif name.endswith(_UP):
            place = name.removesuffix(_UP)
            change = value.float() @ changes[place + _DOWN].float()
            whole[place] = before[place].float() + change.view_as(before[place])
        else:
            whole[name] = before[name].float() + value.float()
    return whole
