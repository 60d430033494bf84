"""Sockets of which just one is to be connected, and the surface of what comes in through them."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from humannorm.checks import InputError
from humannorm.geometry.state import GeometryState, extract_mesh
from humannorm.mesh import Mesh, vertex_normals

from .schema import Geometry, Texture, mesh_input

__all__ = ["check_one_connected", "sculpted_mesh", "subject_inputs"]


def subject_inputs(*names: str) -> list[io.Input]:
    """Optional sockets for a painting ("texture"), a sculpture ("geometry") and any "mesh", in the order given."""
    kinds = {"texture": (Texture, "A painting."), "geometry": (Geometry, "A sculpture.")}

    def socket(name: str) -> io.Input:
        if name == "mesh":
            return mesh_input(name, "Any mesh or 3D file. Connect one of the three.", optional=True)
        kind, what = kinds[name]
        return kind.Input(name, optional=True, tooltip=f"{what} Connect one of the three.")

    return [socket(name) for name in names]


def check_one_connected(**sockets: Any) -> None:
    """Raise `InputError` unless just one of the sockets has a value."""
    connected = [name for name, value in sockets.items() if value is not None]
    if len(connected) != 1:
        raise InputError(
            f"{', '.join(sockets)}: expected just one of them to be connected, got {' and '.join(connected) or 'none'}"
        )


def sculpted_mesh(state: GeometryState) -> Mesh:
    """The surface of a geometry with smooth normals."""
    surface = extract_mesh(state).mesh
    return surface.replace(normals=vertex_normals(surface.vertices, surface.faces))
