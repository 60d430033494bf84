"""A ball to paint, a guide whose belief is known, and a short course."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import trimesh
from torch import Tensor

from humannorm.cameras import TEXTURE_CAMERA_PLANS
from humannorm.geometry.hash_grid import GridLayout
from humannorm.images import from_network, to_network
from humannorm.mesh import Mesh
from humannorm.texture.fields import HashColorSettings
from humannorm.texture.settings import QUICK, TextureSettings

SIZE = 48


class BelievesInColor:
    """A denoiser on plain pixels that is certain of one colour for each side of the subject, whatever it is shown."""

    timesteps = 100
    resolution = SIZE

    def __init__(self, front: tuple[float, float, float], elsewhere: tuple[float, float, float]) -> None:
        self.front, self.elsewhere = torch.tensor(front), torch.tensor(elsewhere)
        self.prompts: list[str] = []
        self.controls: list[Tensor] = []
        self.asked = 0

    def sigma(self, timestep: Tensor) -> Tensor:
        return 0.05 * 1.05**timestep

    def condition(
        self,
        prompts: Sequence[str],
        *,
        guidance_scale: float,
        negative: str = "",
        control: Tensor | None = None,
        control_scale: float = 1.0,
    ) -> Any:
        assert control is not None
        self.prompts += prompts
        self.controls.append(control)
        colors = torch.stack([self.front if "front" in prompt else self.elsewhere for prompt in prompts])
        return to_network(colors[:, None, None].expand(-1, SIZE, SIZE, -1))

    def denoise(self, x: Tensor, sigma: Tensor, condition: Any) -> Tensor:
        self.asked += 1
        return condition

    def encode_images(self, images: Tensor) -> Tensor:
        return to_network(images)

    def decode(self, latents: Tensor) -> Tensor:
        return from_network(latents)


def pixel_distance(images: Tensor, targets: Tensor) -> Tensor:
    return (images - targets).square().mean()


def ball(radius: float = 0.8) -> Mesh:
    shape = trimesh.creation.icosphere(4, radius)
    return Mesh(torch.tensor(shape.vertices, dtype=torch.float32), torch.tensor(shape.faces, dtype=torch.int64))


@pytest.fixture(name="ball")
def _ball() -> Mesh:
    return ball()


@pytest.fixture(name="believes_in_color")
def _believes_in_color() -> type[BelievesInColor]:
    return BelievesInColor


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
        refresh_every=5,
    )
