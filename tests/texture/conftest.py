"""A ball to paint, a guide whose belief is known, and a short run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import trimesh
from torch import Tensor

from humannorm.cameras import TEXTURE_CAMERA_PLANS
from humannorm.fields.hash_grid import GridLayout
from humannorm.mesh import Mesh
from humannorm.texture.fields import HashColorSettings
from humannorm.texture.settings import QUICK, TextureSettings

SIZE = 48
Color = tuple[float, float, float]


def pixel_distance(images: Tensor, targets: Tensor) -> Tensor:
    return (images - targets).square().mean()


def ball(radius: float = 0.8) -> Mesh:
    shape = trimesh.creation.icosphere(4, radius)
    return Mesh(torch.tensor(shape.vertices, dtype=torch.float32), torch.tensor(shape.faces, dtype=torch.int64))


@pytest.fixture(name="ball")
def _ball() -> Mesh:
    return ball()


@pytest.fixture
def believes_in_color(believes_in: Any) -> Callable[[Color, Color], Any]:
    """A denoiser that is certain of one colour for the subject's front and another elsewhere."""

    def make(front: Color, elsewhere: Color) -> Any:
        def picture(prompt: str) -> Tensor:
            return torch.tensor(front if "front" in prompt else elsewhere).expand(SIZE, SIZE, 3)

        return believes_in(picture)

    return make


@pytest.fixture(name="pixel_distance")
def _pixel_distance() -> Any:
    return pixel_distance


@pytest.fixture
def small_settings() -> TextureSettings:
    """Six coarse and eight fine steps of two views."""
    return dataclasses.replace(
        QUICK,
        coarse_steps=6,
        steps=14,
        plan=TEXTURE_CAMERA_PLANS["full_body"],
        views=2,
        render_size=SIZE,
        field=HashColorSettings(GridLayout(levels=6, log2_table=13, base=8, growth=1.4), hidden=16),
        fine_views=4,
        perceptual_weight=1.0,
        refresh_every=5,
    )
