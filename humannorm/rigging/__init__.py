"""Rigging a finished human: fitting the body, skin weights, poses and clips on it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humannorm.rigging.fitting import BodyFit, BodyFitSettings, fit_body
    from humannorm.rigging.human import RiggedHuman, rig_human
    from humannorm.rigging.relaxation import RelaxationSettings, relaxed_skin
    from humannorm.rigging.transfer import TransferSettings, transfer_weights

# Name -> module, imported on first use: the transfer needs scipy, which importing the library must not cost.
_HOMES = {
    **dict.fromkeys(("BodyFit", "BodyFitSettings", "fit_body"), "fitting"),
    **dict.fromkeys(("RiggedHuman", "rig_human"), "human"),
    **dict.fromkeys(("RelaxationSettings", "relaxed_skin"), "relaxation"),
    **dict.fromkeys(("TransferSettings", "transfer_weights"), "transfer"),
}

__all__ = [
    "BodyFit",
    "BodyFitSettings",
    "RelaxationSettings",
    "RiggedHuman",
    "TransferSettings",
    "fit_body",
    "relaxed_skin",
    "rig_human",
    "transfer_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
