"""A surface that knows what each of its faces is, and tells it of any surface that grew out of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from humannorm.checks import InputError, check_tensor
from humannorm.distance.signed_distance import SignedDistance
from humannorm.labels import LABELS
from humannorm.mesh import Mesh

__all__ = ["LabelledSurface"]


@dataclass(frozen=True, eq=False)
class LabelledSurface:
    """A closed surface with a label for each face (`humannorm.labels`)."""

    mesh: Mesh
    labels: Int64[Tensor, " F"]

    def __post_init__(self) -> None:
        check_tensor("labels", self.labels, f"{self.mesh.num_faces}", dtype="int")
        if self.labels.numel() and not (int(self.labels.min()) >= 0 and int(self.labels.max()) < len(LABELS)):
            raise InputError(f"labels: expected 0 to {len(LABELS) - 1}, got {self.labels.aminmax()}")

    @cached_property
    def distance(self) -> SignedDistance:
        """Signed distance of the surface."""
        return SignedDistance(self.mesh.vertices, self.mesh.faces)

    def labels_at(self, points: Float[Tensor, "N 3"]) -> Int64[Tensor, " N"]:
        """Of points on any surface that grew out of this one: the label of the nearest face."""
        return self.labels[self.distance.closest(points.detach()).face]

    def labels_of(self, mesh: Mesh) -> Int64[Tensor, " F"]:
        """Of the faces of a surface that grew out of this one; its own where it is this one."""
        same = mesh.faces.shape == self.mesh.faces.shape and torch.equal(mesh.faces, self.mesh.faces)
        if same and torch.equal(mesh.vertices, self.mesh.vertices):
            return self.labels
        return self.labels_at(mesh.vertices[mesh.faces].mean(1))

    def to(self, device: torch.device | str) -> LabelledSurface:
        """A copy on another device."""
        return LabelledSurface(self.mesh.to(device), self.labels.to(device))
