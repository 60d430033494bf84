"""The geometry optimiser: goes where the guidance points, stops, resumes to the same bytes, survives bad gradients."""

from __future__ import annotations

import dataclasses
import gc
import math
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import trimesh

from humannorm.checks import InputError
from humannorm.geometry.losses import progressive_sdf_loss, record_sdf
from humannorm.geometry.sculpt import sculpt
from humannorm.geometry.settings import (
    PAPER,
    PRESETS,
    QUICK,
    GeometrySettings,
    TargetSettings,
    preset,
    single_looks,
)
from humannorm.geometry.start import prepare_start
from humannorm.geometry.state import LOSS_NAMES, GeometryState, extract_mesh, load_state, save_state, start_state
from humannorm.mesh import Mesh, is_watertight, mesh_volume
from humannorm.optimisation import OptimiserProgress, RunError
from humannorm.optimiser_settings import levels_at
from humannorm.schedules import constant, ramp


def ball(radius: float) -> Mesh:
    shape = trimesh.creation.icosphere(3, radius)
    return Mesh(torch.tensor(shape.vertices, dtype=torch.float32), torch.tensor(shape.faces, dtype=torch.int64))


FITTED: dict[object, GeometryState] = {}


def fresh(settings: GeometrySettings) -> GeometryState:
    """A ball's first state; fitted once, since a run leaves it as it is."""
    what = (settings.field, settings.fit, settings.deformable, settings.active_levels, settings.resolution)
    if what not in FITTED:
        FITTED[what] = start_state(prepare_start(ball(0.5), 1.0), settings, torch.Generator().manual_seed(0))[0]
    return FITTED[what]


def radius_of(state: GeometryState) -> float:
    mesh = extract_mesh(state).mesh
    assert is_watertight(mesh.faces)
    return (float(mesh_volume(mesh.vertices, mesh.faces)) * 3 / (4 * math.pi)) ** (1 / 3)


def tensors(state: GeometryState) -> dict[str, torch.Tensor]:
    assert state.moments is not None and state.history is not None
    deformation = {} if state.deformation is None else state.deformation.state_dict(prefix="deformation.")
    return {
        **state.field.state_dict(),
        **deformation,
        **state.moments,
        **{f"{kind}.{name}": value for kind, cache in state.targets.items() for name, value in cache.tensors.items()},
        "keys": state.band.keys,
        "history": state.history,
    }


TARGETS = TargetSettings(views=4, refresh_every=5, level=ramp(0, 0.9, 12, 0.5), stride=30, weight=2000.0)
"""All four are renewed once in a short run."""

both_ways = pytest.mark.parametrize("targets", [None, TARGETS], ids=["sds", "targets"])


@pytest.mark.slow
@both_ways
def test_the_surface_becomes_what_the_guide_believes_in(
    small_settings: GeometrySettings, believes_in_mesh: Any, targets: TargetSettings | None
) -> None:
    settings = dataclasses.replace(
        small_settings,
        steps=50,
        targets=targets,
        learning_rate=constant(6e-3),
        sdf_record_step=None,
        laplacian_weight=constant(0.0),
        normal_consistency_weight=constant(0.0),
    )
    start = fresh(settings)
    guide = believes_in_mesh(ball(0.62))
    end = sculpt(start, "a ball", settings, normal=guide, depth=guide, generator=torch.Generator().manual_seed(1))
    assert radius_of(start) == pytest.approx(0.5, abs=0.01)
    assert radius_of(end) == pytest.approx(0.62, abs=0.03)
    assert end.step == 50 and start.step == 0
    assert end.history is not None and end.history.shape == (50, len(LOSS_NAMES))


@pytest.mark.slow
@pytest.mark.parametrize(("deformable", "targets"), [(False, None), (True, None), (False, TARGETS)])
def test_resumed_run_ends_in_the_same_bytes(
    small_settings: GeometrySettings,
    believes_in_mesh: Any,
    tmp_path: Path,
    deformable: bool,
    targets: TargetSettings | None,
) -> None:
    small_settings = dataclasses.replace(small_settings, deformable=deformable, targets=targets)
    guide = believes_in_mesh(ball(0.6))
    unbroken = sculpt(
        fresh(small_settings), "a ball", small_settings, normal=guide, depth=guide,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    file = tmp_path / "state.safetensors"
    seen: list[int] = []

    def stop_at_seven(progress: OptimiserProgress) -> bool:
        seen.append(progress.step)
        return progress.step < 7

    sculpt(
        fresh(small_settings), "a ball", small_settings, normal=guide, depth=guide,
        generator=torch.Generator().manual_seed(1), callback=stop_at_seven, checkpoint=file,
    )  # fmt: skip
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    generator = torch.Generator().manual_seed(99)
    state = load_state(file, generator)
    assert state.step == 7
    resumed = sculpt(state, "a ball", small_settings, normal=guide, depth=guide, generator=generator)
    first, second = tensors(unbroken), tensors(resumed)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert unbroken.gradient_scale == resumed.gradient_scale
    moved = (unbroken.moved(unbroken.band) - unbroken.band.positions).detach()
    assert (float(moved.abs().max()) > 0) == deformable
    assert float(moved.abs().max()) <= 0.25 * unbroken.band.lattice.cell_size
    assert is_watertight(extract_mesh(unbroken).mesh.faces)


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 10, 15])  # requests: two a step until step 8; step 4 records and changes levels
def test_interruption_within_a_step_loses_that_step_only(
    small_settings: GeometrySettings, believes_in_mesh: Any, sick: Any, tmp_path: Path, at: int
) -> None:
    guide = believes_in_mesh(ball(0.6))
    file = tmp_path / "state.safetensors"
    unbroken = sculpt(
        fresh(small_settings), "a ball", small_settings, normal=guide, depth=guide,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    guide.calls = 0
    ill = sick(guide, at, interrupt=True)
    with pytest.raises(KeyboardInterrupt):
        sculpt(
            fresh(small_settings), "a ball", small_settings, normal=ill, depth=ill,
            generator=torch.Generator().manual_seed(1), checkpoint=file,
        )  # fmt: skip
    generator = torch.Generator()
    state = load_state(file, generator)
    assert state.step == (at - 1) // 2
    resumed = sculpt(state, "a ball", small_settings, normal=guide, depth=guide, generator=generator)
    first, second = tensors(unbroken), tensors(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_a_target_serves_until_it_is_due_and_one_is_renewed_a_step(
    small_settings: GeometrySettings, believes_in_mesh: Any
) -> None:
    """Four cameras, due after five steps: made at steps 0 to 3, again at 5 to 8, two a third time at 10 and 11."""
    settings = dataclasses.replace(small_settings, targets=TARGETS, depth_weight=constant(0.0))
    guide = believes_in_mesh(ball(0.6))
    end = sculpt(
        fresh(settings), "a ball", settings, normal=guide, depth=None, generator=torch.Generator().manual_seed(1)
    )
    assert set(end.targets) == {"normal"}
    assert sorted(end.targets["normal"].step.tolist()) == [7, 8, 10, 11]


@pytest.mark.slow
def test_targets_of_another_prompt_are_made_anew(small_settings: GeometrySettings, believes_in_mesh: Any) -> None:
    settings = dataclasses.replace(small_settings, targets=TARGETS, steps=2)
    guide, generator = believes_in_mesh(ball(0.6)), torch.Generator().manual_seed(1)
    first = sculpt(fresh(settings), "a ball", settings, normal=guide, depth=guide, generator=generator)
    longer = dataclasses.replace(settings, steps=4)
    second = sculpt(first, "another ball", longer, normal=guide, depth=guide, generator=generator)
    assert all(int(cache.step.max()) >= 2 for cache in second.targets.values())
    assert all(int(cache.step[cache.step >= 0].min()) >= 2 for cache in second.targets.values())


@pytest.mark.slow
def test_a_target_that_is_not_finite_is_not_kept(
    small_settings: GeometrySettings, believes_in_mesh: Any, sick: Any
) -> None:
    settings = dataclasses.replace(small_settings, targets=TARGETS)
    reports: list[str | None] = []
    end = sculpt(
        fresh(settings), "a ball", settings, normal=sick(believes_in_mesh(ball(0.6)), 2), depth=None,
        generator=torch.Generator().manual_seed(1), callback=lambda progress: reports.append(progress.rejected),
    )  # fmt: skip
    assert reports[0] == "the gradient at step 0 is not finite" and not any(reports[1:])
    assert bool(end.targets["normal"].latents.isfinite().all())


def test_the_input_state_is_left_alone(small_settings: GeometrySettings, believes_in_mesh: Any) -> None:
    start = fresh(small_settings)
    before = [parameter.clone() for parameter in start.field.parameters()]
    guide = believes_in_mesh(ball(0.6))
    sculpt(start, "a ball", small_settings, normal=guide, depth=None, generator=torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(before, start.field.parameters(), strict=True))
    assert start.step == 0 and start.moments is None


def test_schedules_are_followed(small_settings: GeometrySettings, believes_in_mesh: Any) -> None:
    guide = believes_in_mesh(ball(0.6))
    steps: list[OptimiserProgress] = []
    end = sculpt(
        fresh(small_settings), "a ball", small_settings, normal=guide, depth=guide,
        generator=torch.Generator().manual_seed(1), callback=lambda progress: steps.append(progress),
    )  # fmt: skip
    assert [progress.losses["depth_sds"] > 0 for progress in steps] == [True] * 8 + [False] * 4
    assert [progress.losses["sdf"] > 0 for progress in steps] == [False] * 4 + [True] * 8
    assert end.active_levels == 5
    assert end.band.lattice.resolution == 32
    assert steps[-1].seconds_left == 0
    assert steps[0].picture.shape == (48, 48, 3)


@pytest.mark.slow
def test_depth_network_is_let_go(small_settings: GeometrySettings, believes_in_mesh: Any) -> None:
    guide = believes_in_mesh(ball(0.6))
    alive: list[bool] = []
    loaded: list[weakref.ref[Any]] = []

    def load_depth() -> Any:
        network = believes_in_mesh(ball(0.6))
        loaded.append(weakref.ref(network))
        return network

    def look(progress: OptimiserProgress) -> None:
        gc.collect()
        alive.append(bool(loaded) and loaded[0]() is not None)

    sculpt(
        fresh(small_settings), "a ball", small_settings, normal=guide, depth=load_depth,
        generator=torch.Generator().manual_seed(1), callback=look,
    )  # fmt: skip
    assert len(loaded) == 1
    assert alive == [True] * 7 + [False] * 5


def test_one_bad_gradient_is_rejected_and_reported(
    small_settings: GeometrySettings, believes_in_mesh: Any, sick: Any
) -> None:
    reports: list[str | None] = []
    end = sculpt(
        fresh(small_settings), "a ball", small_settings, normal=sick(believes_in_mesh(ball(0.6)), 3), depth=None,
        generator=torch.Generator().manual_seed(1), callback=lambda progress: reports.append(progress.rejected),
    )  # fmt: skip
    assert [report is not None for report in reports] == [False, False, True] + [False] * 9
    assert reports[2] == "the gradient at step 2 is not finite"
    assert all(bool(parameter.isfinite().all()) for parameter in end.field.parameters())


def test_lasting_bad_gradients_stop_the_run_with_its_state(
    small_settings: GeometrySettings, believes_in_mesh: Any, sick: Any, tmp_path: Path
) -> None:
    settings = dataclasses.replace(small_settings, max_rejections=3)
    file = tmp_path / "state.safetensors"
    with pytest.raises(RunError, match="3 steps in a row were rejected") as caught:
        sculpt(
            fresh(settings), "a ball", settings, normal=sick(believes_in_mesh(ball(0.6)), 4, lasting=True), depth=None,
            generator=torch.Generator().manual_seed(1), checkpoint=file,
        )  # fmt: skip
    assert caught.value.state.step == 6
    assert load_state(file).step == 6
    assert all(bool(parameter.isfinite().all()) for parameter in caught.value.state.field.parameters())


def test_recorded_distances_pull_back(generator: torch.Generator) -> None:
    """Equation 7 on a field that has moved by 0.1 everywhere: count * 0.01."""
    surface = torch.nn.functional.normalize(torch.randn(500, 3, generator=generator), dim=1) * 0.5
    record = record_sdf(lambda points: points.norm(dim=1) - 0.5, surface, generator, count=3000)
    assert record.points.shape == (3000, 3)
    assert float(record.values.abs().mean()) < 0.06
    distance = record.points.norm(dim=1)
    assert float(progressive_sdf_loss(distance - 0.4, record.values)) == pytest.approx(3000 * 0.01, rel=1e-4)
    assert float(progressive_sdf_loss(distance - 0.5, record.values)) < 1e-9


def test_published_schedules() -> None:
    """Levels, grids and ranges at the steps that the published configuration names."""
    assert [PAPER.active_levels(at) for at in (0, 999, 1000, 1499, 1500, 4499, 4500, 15000)] == [
        8,
        8,
        9,
        9,
        10,
        15,
        16,
        16,
    ]
    assert [PAPER.resolution(at) for at in (0, 2999, 3000, 5999, 6000)] == [128, 128, 256, 256, 512]
    assert [PAPER.depth_weight(at) for at in (0, 6000, 6001)] == [1, 1, 0]
    assert [PAPER.laplacian_weight(at) for at in (5000, 5001)] == [0, 1000]
    assert PAPER.normal_t_range[1](9999) == 0.80 and PAPER.normal_t_range[1](10000) == 0.21
    assert PAPER.depth_t_range[1](6000) == pytest.approx(0.58, abs=0.01)


def test_shortened_run_keeps_its_shape() -> None:
    short = PAPER.with_steps(1500)
    for at in (0, 120, 299, 301, 460, 700, 1400):
        assert short.active_levels(at) == PAPER.active_levels(10 * at)
        assert short.resolution(at) == PAPER.resolution(10 * at)
        assert short.normal_t_range[1](at) == PAPER.normal_t_range[1](10 * at)
    assert short.sdf_record_step == 300


def test_every_preset_is_listed() -> None:
    assert set(PRESETS) == {"paper", "standard", "quick"}
    with pytest.raises(InputError, match="preset: expected one of paper, standard, quick"):
        preset("fast")


def test_state_files(small_settings: GeometrySettings, tmp_path: Path) -> None:
    state = fresh(small_settings)
    save_state(state, tmp_path / "a" / "state.safetensors")
    again = load_state(tmp_path / "a" / "state.safetensors")
    points = torch.rand(100, 3) * 2 - 1
    assert torch.equal(state.signed_distance(points), again.signed_distance(points))
    assert torch.equal(state.band.keys, again.band.keys)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((tmp_path / "a" / "state.safetensors").read_bytes()[:1000])
    with pytest.raises(InputError, match="expected a geometry state"):
        load_state(broken)


def test_finished_state_is_refused(small_settings: GeometrySettings, believes_in_mesh: Any) -> None:
    state = dataclasses.replace(fresh(small_settings), step=12)
    guide = believes_in_mesh(ball(0.6))
    with pytest.raises(InputError, match=r"settings\.steps: expected more than the 12 steps done"):
        sculpt(state, "a ball", small_settings, normal=guide, depth=None, generator=torch.Generator())


def test_single_looks_may_be_noise_free_and_fall_in_level() -> None:
    settings = single_looks(QUICK, nfsd=True, falling=True)
    assert settings.targets is None and settings.distillation == "nfsd" and settings.guidance_scale == 7.5
    for ends in (settings.normal_t_range, settings.depth_t_range):
        levels = [levels_at(ends, step) for step in (0, 120, 239, 240)]
        assert all(low == high for low, high in levels)
        assert [low for low, _ in levels] == pytest.approx([0.60, 0.6 - 0.55 * 120 / 239, 0.05, 0.05])
    half = settings.with_steps(120)
    assert levels_at(half.normal_t_range, 60) == pytest.approx(levels_at(settings.normal_t_range, 120))
    plain = single_looks(QUICK)
    assert plain.distillation == "sds" and plain.normal_t_range == QUICK.normal_t_range
    with pytest.raises(InputError, match="distillation: expected one of sds, nfsd, got 'vsd'"):
        dataclasses.replace(QUICK, distillation="vsd")
