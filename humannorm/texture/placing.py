"""Where a user's mesh stands in the working box, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError
from humannorm.geometry.start import BODY_HEIGHT
from humannorm.mesh import Mesh, check_mesh

__all__ = ["Placement", "place"]

BOX = 1.0  # half side of the working box, world units
REACH = 0.95  # farthest coordinate after placing
SMALLEST = 1.0  # world units: what is inside the box and at least so large counts as placed


@dataclass(frozen=True)
class Placement:
    """world = (user - centre) * scale; scale is world units per unit of the user's file."""

    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0

    def to_user(self, vertices: Float[Tensor, "V 3"]) -> Float[Tensor, "V 3"]:
        """World positions in the frame of the user's file."""
        return vertices / self.scale + vertices.new_tensor(self.centre)

    def to_world(self, vertices: Float[Tensor, "V 3"]) -> Float[Tensor, "V 3"]:
        """Positions in the frame of the user's file in the working box."""
        return (vertices - vertices.new_tensor(self.centre)) * self.scale


def place(mesh: Mesh) -> tuple[Mesh, Placement]:
    """The mesh in the working box: as it is if it stands there already, else centred and as tall as a body.

    Axes are the file's own: +Y up, +Z the subject's front. A mesh too wide for the box is scaled to fit instead.
    """
    check_mesh(mesh)
    used = mesh.vertices[mesh.faces.flatten()]
    low, high = used.amin(0), used.amax(0)
    size = high - low
    if float(used.abs().max()) <= BOX and float(size.max()) >= SMALLEST:
        return mesh, Placement()
    if float(size[1]) <= 0:
        raise InputError("mesh: expected a height above 0 along Y, got a flat mesh")
    x, y, z = ((low + high) / 2).tolist()
    placement = Placement((x, y, z), min(BODY_HEIGHT / float(size[1]), 2 * REACH / float(size.max())))
    return mesh.replace(vertices=placement.to_world(mesh.vertices)), placement
