"""The working box: the frame in which all stages work, and the way of a user's mesh into it and back.

The box is [-1, 1]^3; a standing body is 1.8 units tall in it and centred, +Y up, +Z its front.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError
from humannorm.mesh import Mesh, check_mesh

__all__ = ["BODY_HEIGHT", "BOX", "REACH", "Placement", "place", "placement_of", "to_working_box"]

BOX = 1.0  # half side of the box, world units
BODY_HEIGHT = 1.8  # world units, of a standing body
REACH = 0.95  # farthest coordinate after placing, leaving room for clothes and hair
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


def placement_of(used: Float[Tensor, "N 3"], height: float = BODY_HEIGHT) -> Placement:
    """Where points are centred by their bounding box and stand `height` tall; less where they are too wide for the box.

    Axes stay. An extent of zero, such as a flat thing's, sets no limit.
    """
    low, high = used.amin(0), used.amax(0)
    size = (high - low).tolist()
    x, y, z = ((low + high) / 2).tolist()
    limits = ((height, size[1]), (2 * REACH, max(size)))
    return Placement((x, y, z), min((limit / extent for limit, extent in limits if extent > 0), default=1.0))


def place(mesh: Mesh) -> tuple[Mesh, Placement]:
    """The mesh in the working box: as it is if it stands there already, else centred and as tall as a body.

    Axes are the file's own: +Y up, +Z the subject's front. A mesh too wide for the box is scaled to fit instead.
    """
    check_mesh(mesh)
    used = mesh.vertices[mesh.faces.flatten()]
    size = used.amax(0) - used.amin(0)
    if float(used.abs().max()) <= BOX and float(size.max()) >= SMALLEST:
        return mesh, Placement()
    if float(size[1]) <= 0:
        raise InputError("mesh: expected a height above 0 along Y, got a flat mesh")
    placement = placement_of(used)
    return mesh.replace(vertices=placement.to_world(mesh.vertices)), placement


def to_working_box(mesh: Mesh) -> Mesh:
    """The mesh centred and as tall as a body, wherever it stood; smaller where it is too wide for the box."""
    return mesh.replace(vertices=placement_of(mesh.vertices).to_world(mesh.vertices))
