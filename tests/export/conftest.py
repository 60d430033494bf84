"""Small surfaces to export, and colours that are known everywhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import trimesh
from torch import Tensor

from humannorm.body import load_body
from humannorm.mesh import Mesh


def _mesh(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(torch.tensor(shape.vertices).float(), torch.tensor(shape.faces).long())


@pytest.fixture(scope="session")
def sphere() -> Mesh:
    """Radius 1, 5120 faces."""
    return _mesh(trimesh.creation.icosphere(subdivisions=4))


@pytest.fixture(scope="session")
def ball() -> Mesh:
    """Radius 1, 320 faces: where the surface does not matter."""
    return _mesh(trimesh.creation.icosphere(subdivisions=2))


@pytest.fixture(scope="session")
def torus() -> Mesh:
    return _mesh(trimesh.creation.torus(1.0, 0.3, major_sections=64, minor_sections=32))


@pytest.fixture(scope="session")
def body() -> Mesh:
    return load_body().to_mesh()


@pytest.fixture(scope="session")
def colorful() -> Callable[[Tensor], Tensor]:
    """A smooth field with all colours."""

    def field(points: Tensor) -> Tensor:
        waves = points * points.new_tensor([9.0, 7.0, 11.0]) + points[:, [1, 2, 0]] * 5
        return 0.5 + 0.5 * torch.sin(waves)

    return field
