"""Guides with further ControlNets are shown what they ask for, by the painter and by the sculptor."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from humannorm.body import load_body
from humannorm.cameras import orbit
from humannorm.controls import control_picture, more_controls
from humannorm.geometry.guides import View, make_guide
from humannorm.geometry.settings import QUICK
from humannorm.guidance.synchronised import SynchronisedSettings
from humannorm.rings import Ring
from humannorm.texture.multiview import MultiviewSettings, paint_synchronised


@pytest.fixture
def curious(believes_in):
    """A guide that asks for edges and the skeleton, and keeps what it is shown."""

    class Curious(believes_in):
        control_kinds = ("canny", "openpose")

        def __init__(self, body):
            super().__init__(lambda prompt: torch.full((48, 48, 3), 0.4))
            self.body, self.shown = body, []

        def condition(self, prompts, *, more_controls, **options):
            assert set(more_controls) == set(self.control_kinds)
            assert all(len(each) == len(prompts) for each in more_controls.values())
            self.shown.append(more_controls)
            return super().condition(prompts, **options)

    return Curious(load_body(pose="t-pose").in_working_box())


def test_a_painter_shows_every_view(curious):
    mesh = curious.body.to_mesh(normalized=False, uvs=True)
    settings = MultiviewSettings(
        walk=SynchronisedSettings(steps=1, level=1.0, batch=2), rings=(Ring(3),), texture_size=32, control="none"
    )
    paint_synchronised(mesh, "a person", settings, curious)
    edges, figures = (torch.cat([shown[kind] for shown in curious.shown]) for kind in curious.control_kinds)
    assert edges.shape == figures.shape == (3, 48, 48, 3)
    assert len(figures.flatten(1).unique(dim=0)) == 3 and float(edges.amax()) == 1.0
    assert curious.controls == [None, None]


def test_a_sculptor_shows_the_surface_as_it_is(curious):
    mesh = curious.body.to_mesh(normalized=False)
    guide = make_guide(curious, "a person", "normal", dataclasses.replace(QUICK), 4)
    cameras = orbit([0.0, 90.0, 180.0])
    guide.condition(View(0, cameras, [], mesh, 48), [2, 0])
    (shown,) = curious.shown
    expected = control_picture("openpose", mesh, cameras.select([2, 0]), 48, body=curious.body)
    assert torch.equal(shown["openpose"], expected)


def test_a_guide_that_asks_for_nothing_is_asked_as_before(believes_in):
    guide = believes_in(lambda prompt: torch.zeros(48, 48, 3))
    assert more_controls(guide, load_body().to_mesh(), orbit([0.0]), 48) == {}
