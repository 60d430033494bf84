"""Payloads rest on the host's offload device; an optimiser takes them to the one that it works on."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import comfy.model_management
import torch

__all__ = ["moved", "rest_device", "work_device"]


def work_device() -> torch.device:
    return comfy.model_management.get_torch_device()


def rest_device() -> torch.device:
    return comfy.model_management.intermediate_device()


def moved(value: Any, device: torch.device) -> Any:
    """A payload with its tensors and modules on a device; what is there already is not copied."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, torch.nn.Module):
        if all(tensor.device == device for tensor in value.state_dict().values()):
            return value
        return copy.deepcopy(value).to(device)
    if isinstance(value, Mapping):
        return {name: moved(item, device) for name, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {field.name: moved(getattr(value, field.name), device) for field in dataclasses.fields(value)}
        same = all(changes[field.name] is getattr(value, field.name) for field in dataclasses.fields(value))
        return value if same else dataclasses.replace(value, **changes)
    return value
