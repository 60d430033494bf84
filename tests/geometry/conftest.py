"""A guide to sculpt with whose belief is known, and a short run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from humannorm.cameras import CAMERA_PLANS, Crop, orbit
from humannorm.fields.hash_grid import GridLayout
from humannorm.geometry.fields import HashFieldSettings
from humannorm.geometry.fitting import FitSettings
from humannorm.geometry.settings import QUICK, GeometrySettings
from humannorm.mesh import Mesh
from humannorm.rendering.passes import render
from humannorm.schedules import Schedule, constant, ramp, step

SIZE = 48


SAME_FROM_ALL_SIDES = dataclasses.replace(
    CAMERA_PLANS["full_body"],
    distance=(3.0, 3.0),
    fov_y=(45.0, 45.0),
    elevation=(0.0, 0.0),
    crops=(Crop("full", 1.0, 0.0),),
)
"""Cameras all around, but so that a sphere looks the same to each."""


@pytest.fixture
def believes_in_mesh(believes_in: Any) -> Callable[[Mesh], Any]:
    """A denoiser that is certain of a mesh's normal and depth map, as it looks from the front."""

    def make(mesh: Mesh) -> Any:
        passes = render(mesh, orbit([0.0]), (SIZE, SIZE), ("normal", "depth"))
        assert passes.normal is not None and passes.depth is not None
        normal, depth = passes.normal[0], passes.depth[0]
        return believes_in(lambda prompt: normal if "normal map" in prompt else depth)

    return make


@pytest.fixture(scope="session")
def small_settings() -> GeometrySettings:
    """A short run with every term in it."""
    return dataclasses.replace(
        QUICK,
        steps=12,
        plan=SAME_FROM_ALL_SIDES,
        targets=None,
        learning_rate=ramp(0, 2e-3, 12, 1e-3),
        views=2,
        render_size=SIZE,
        field=HashFieldSettings(GridLayout(levels=6, log2_table=13, base=8, growth=1.4), hidden=16),
        fit=FitSettings(steps=60, points=2048, pool=20_000),
        active_levels=Schedule(((0, 4), (4, 4), (4, 5))),
        resolution=Schedule(((0, 24), (6, 24), (6, 32))),
        normal_weight=constant(1.0),
        depth_weight=step(8, 1.0, 0.0),
        normal_t_range=(0.02, constant(0.8)),
        depth_t_range=(0.02, constant(0.8)),
        sdf_record_step=4,
        sdf_weight=constant(10.0),
        sdf_points=500,
        laplacian_weight=constant(10.0),
        normal_consistency_weight=constant(1.0),
    )
