"""Sculpting by views that are sampled together: follows their belief, stops, resumes to the same bytes, refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trimesh
from torch import Tensor

from humannorm.checks import InputError
from humannorm.geometry.fitting import FitSettings
from humannorm.geometry.holding import Hold
from humannorm.geometry.labelled import LabelledSurface
from humannorm.geometry.multiview import NormalSculptSettings, sculpt_synchronised
from humannorm.geometry.normal_fitting import NormalFitSettings
from humannorm.geometry.settings import GeometrySettings
from humannorm.geometry.start import prepare_start
from humannorm.geometry.state import GeometryState, extract_mesh, load_state, save_state, start_state
from humannorm.guidance.denoiser import HINT_CHANNELS
from humannorm.guidance.joint_filter import JointFilter
from humannorm.guidance.synchronised import SynchronisedSettings
from humannorm.mesh import Mesh, connected_components, is_watertight
from humannorm.optimisation import OptimiserProgress, RunError
from humannorm.rendering import render
from humannorm.rings import Ring, cameras_of_rings

RADIUS = 0.5


def ball() -> Mesh:
    shape = trimesh.creation.icosphere(3, RADIUS)
    return Mesh(torch.tensor(shape.vertices, dtype=torch.float32), torch.tensor(shape.faces, dtype=torch.int64))


@pytest.fixture
def settings(small_settings: GeometrySettings) -> NormalSculptSettings:
    return NormalSculptSettings(
        levels=(0.5, 0.25),
        walk=SynchronisedSettings(steps=8, level=1.0, batch=4),
        surface=NormalFitSettings(bound=0.04, outline=20.0, rounds=2),
        rings=(Ring(6, elevation=0.0),),
        plan=small_settings.plan,  # a ball looks the same to all
        guidance_scale=1.0,
        fit=FitSettings(steps=30, points=2048, pool=20_000),
        resolution=24,
    )


@pytest.fixture
def wider(believes_in_mesh: Callable[[Mesh], Any]) -> Any:
    """A guide that is certain of a larger ball."""
    larger = ball()
    return believes_in_mesh(larger.replace(vertices=larger.vertices * 1.1))


@pytest.fixture(scope="module")
def labelled(small_settings: GeometrySettings) -> GeometryState:
    """A ball that knows what it is, as a dressed start does."""
    start = prepare_start(ball(), 2 * RADIUS)
    labels = (start.mesh.vertices[start.mesh.faces].mean(1)[:, 1] > 0).long()
    start = dataclasses.replace(start, labelled=LabelledSurface(start.mesh, labels))
    return start_state(start, small_settings, torch.Generator().manual_seed(0))[0]


def plain(state: GeometryState) -> GeometryState:
    return dataclasses.replace(state, labelled=None, untouched=False)


def run(state: GeometryState, settings: NormalSculptSettings, guide: Any, **options: Any) -> Any:
    options = {"generator": torch.Generator().manual_seed(3)} | options
    return sculpt_synchronised(state, "a ball", settings, normal=guide, **options)


def contents(state: GeometryState) -> list[Tensor]:
    mesh = extract_mesh(state).mesh
    return [mesh.vertices, mesh.faces, state.band.keys, *state.field.state_dict().values()]


def test_a_labelled_surface_follows_the_views_and_keeps_its_faces(labelled, settings, wider) -> None:
    done = run(labelled, settings, wider)
    state, before, found = done.state, labelled.labelled, extract_mesh(done.state)
    assert torch.equal(found.mesh.faces, before.mesh.faces) and torch.equal(found.labels, before.labels)
    middle = before.mesh.vertices[:, 1].abs() < 0.2
    reach = found.mesh.vertices[middle].norm(dim=1).mean()
    assert reach > RADIUS + 0.005
    assert (found.mesh.vertices - before.mesh.vertices).norm(dim=1).max() <= 0.04 + 1e-5
    assert abs(state.signed_distance(found.mesh.vertices)).mean() < 0.01  # the field was drawn to it
    assert state.step == settings.steps == 4 + 2
    assert done.figures["forwards"] == 6 * 6
    assert done.figures["disagreement_last"] < 3


def test_a_network_that_draws_from_a_start_is_shown_the_surface(labelled, settings, wider) -> None:
    settings = dataclasses.replace(settings, levels=settings.levels[:1])
    run(labelled, settings, wider)
    assert all(control is None for control in wider.controls)  # of three channels: it would be shown its answer
    wider.controls.clear()
    wider.hint_channels = 6
    run(labelled, settings, wider)
    cameras = cameras_of_rings(settings.rings, settings.plan)
    own = render(labelled.labelled.mesh, cameras, (wider.resolution, wider.resolution), ("normal",)).normal
    shown = torch.cat(wider.controls)[: len(own)]
    assert torch.equal(shown[..., :3], own) and bool((shown[..., 3:] == 0).all())  # no colours


@pytest.mark.slow
def test_views_are_sharpened_by_the_surface_they_are_of(labelled, settings, believes_in_mesh) -> None:
    """A filter that takes all from its hint leaves the surface as it is, whatever the network believes; only one
    whose network is shown the surface is asked."""
    larger = ball()
    guide = believes_in_mesh(larger.replace(vertices=larger.vertices * 1.1))
    joint_filter = JointFilter()
    with torch.no_grad():
        joint_filter.last.bias[:4] = 1.0  # the share of the hint's normals, of each of 2 x 2 pixels
    guide.sharpened = lambda pictures, control: joint_filter.sharpened(pictures, control)
    followed = run(labelled, settings, guide)
    guide.hint_channels = HINT_CHANNELS
    kept = run(labelled, settings, guide)
    assert kept.figures["disagreement_last"] < 2.0
    assert float(kept.figures["moved"]) < 0.25 * float(followed.figures["moved"])


def test_a_surface_without_labels_is_marched_from_its_field(labelled, settings, wider) -> None:
    mesh = extract_mesh(run(plain(labelled), settings, wider).state).mesh
    assert is_watertight(mesh.faces)
    assert len(connected_components(mesh.faces, mesh.num_vertices).unique()) == 1


@pytest.mark.slow
def test_what_is_held_stays(labelled, settings, wider) -> None:
    surface = labelled.labelled.mesh
    share = torch.zeros(48, 48, 48)
    share[:, 24:] = 1  # the upper half
    done = run(dataclasses.replace(labelled, hold=Hold(surface, share)), settings, wider)
    way = (extract_mesh(done.state).mesh.vertices - surface.vertices).norm(dim=1)
    assert way[surface.vertices[:, 1] > 0.05].max() == 0
    assert way[surface.vertices[:, 1] < -0.05].max() > 1e-3


@pytest.mark.slow
def test_what_the_vae_alone_loses_is_given_back(labelled, settings, believes_in_mesh, monkeypatch) -> None:
    guide = believes_in_mesh(ball())
    blurred = torch.nn.AvgPool2d(5, 1, 2)
    monkeypatch.setattr(type(guide), "decode", lambda self, x: (blurred(x) / 2 + 0.5).permute(0, 2, 3, 1))

    def way(returned: float) -> Tensor:
        done = run(labelled, dataclasses.replace(settings, levels=(0.25,), returned=returned), guide)
        return (extract_mesh(done.state).mesh.vertices - labelled.labelled.mesh.vertices).norm(dim=1).max()

    assert way(1.0) < 0.1 * way(0.0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["labelled", "plain"])
def test_a_run_resumed_from_anywhere_ends_in_the_same_bytes(
    kind: str, labelled, settings, wider, sick, tmp_path: Path
) -> None:
    start = labelled if kind == "labelled" else plain(labelled)
    whole = contents(run(start, settings, wider).state)
    for at in (5, 11):  # two batches of 4 and 2 a level, 4 and 2 levels: in the first round, and in the second
        file = tmp_path / f"{at}.safetensors"
        generator = torch.Generator().manual_seed(3)
        wider.calls = 0
        with pytest.raises(KeyboardInterrupt):
            run(start, settings, sick(wider, at, interrupt=True), generator=generator, checkpoint=file)
        generator = torch.Generator().manual_seed(3)
        state = load_state(file, generator) if file.exists() else start
        assert state.step == (4 if at > 8 else 0)
        resumed = run(state, settings, wider, generator=generator, checkpoint=file)
        assert all(torch.equal(one, two) for one, two in zip(contents(resumed.state), whole, strict=True))
        assert [path.name for path in tmp_path.glob(f"{at}*")] == [file.name]  # nothing of the rounds is left


def test_progress_previews_and_the_callbacks_false(labelled, settings, wider, tmp_path: Path) -> None:
    seen: list[OptimiserProgress] = []

    def stop_in_the_second_round(progress: OptimiserProgress) -> bool:
        seen.append(progress)
        return progress.step < 5

    done = run(labelled, settings, wider, callback=stop_in_the_second_round, checkpoint=tmp_path / "state.safetensors")
    assert done.state.step == 4
    assert [progress.step for progress in seen] == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert all(progress.steps == 6 and progress.seconds_left >= 0 for progress in seen)
    assert seen[-1].picture.shape == (48, 48, 3)


def test_answers_that_are_not_finite_are_refused_with_the_last_whole_round(labelled, settings, wider, sick) -> None:
    with pytest.raises(RunError, match="not finite") as error:
        run(labelled, settings, sick(wider, 9))
    assert error.value.state.step == 4


def test_states_and_settings_that_do_not_fit_are_refused(labelled, settings, wider) -> None:
    with pytest.raises(InputError, match=r"state\.step: expected the begin of a round"):
        run(dataclasses.replace(labelled, step=3), settings, wider)
    for changes, name in (
        ({"levels": ()}, "levels"),
        ({"levels": (0.5, 1.5)}, "levels"),
        ({"rings": ()}, "rings"),
        ({"returned": 2.0}, "returned"),
        ({"walk": SynchronisedSettings(agree_on="latents")}, "agree_on"),
    ):
        with pytest.raises(InputError, match=name):
            dataclasses.replace(settings, **changes)
    assert settings.with_steps(20).steps == 15


@pytest.mark.slow
def test_a_saved_state_between_rounds_is_the_state(labelled, settings, wider, tmp_path: Path) -> None:
    half = run(labelled, dataclasses.replace(settings, levels=(0.5,)), wider).state
    save_state(half, tmp_path / "state.safetensors")
    again = load_state(tmp_path / "state.safetensors")
    assert again.untouched and all(torch.equal(a, b) for a, b in zip(contents(half), contents(again), strict=True))
