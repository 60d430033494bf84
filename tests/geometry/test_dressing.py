"""A dressed start: what it is, and that it is kept against any field."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from humannorm.body import Body, Outfit, load_body, outfit_of_words
from humannorm.checks import InputError
from humannorm.fields.hash_grid import GridLayout
from humannorm.geometry.dressing import dressed, kept_of_start
from humannorm.geometry.fields import HashFieldSettings
from humannorm.geometry.fitting import FitSettings
from humannorm.geometry.holding import WORN, Hold, hold_all_but_labels
from humannorm.geometry.settings import preset
from humannorm.geometry.start import StartMesh, prepare_start
from humannorm.geometry.state import GeometryState, extract_mesh, load_state, save_state, start_state
from humannorm.labels import label_number
from humannorm.schedules import constant

SMALL = dataclasses.replace(
    preset("quick").with_steps(4),
    field=HashFieldSettings(GridLayout(levels=6, log2_table=13, base=8, growth=1.5), hidden=16),
    fit=FitSettings(steps=30, points=2048, pool=10_000),
    active_levels=constant(6),
    resolution=constant(48),
)


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body().in_working_box()


@pytest.fixture(scope="module")
def bare(body: Body) -> StartMesh:
    return prepare_start(body.to_mesh(normalized=False))


@pytest.fixture(scope="module")
def start(body: Body, bare: StartMesh) -> StartMesh:
    return dressed(bare, body, outfit_of_words("long hair, a blue skirt and glasses"), resolution=128)


@pytest.fixture(scope="module")
def hold(body: Body, bare: StartMesh, start: StartMesh) -> Hold:
    found = kept_of_start(bare, start, inside=lambda: body, regions=("hands", "face"), keep_outfit=True)
    assert found is not None
    return found


def test_a_start_without_an_outfit_stays_as_it_is(body: Body, bare: StartMesh) -> None:
    assert dressed(bare, body, Outfit()) is bare


def test_it_says_what_it_wears_and_what_it_does_not(start: StartMesh) -> None:
    assert any("blue skirt" in sentence for sentence in start.repairs)
    assert any("glasses" in sentence for sentence in start.repairs)
    assert start.labelled is not None and start.labelled.mesh is start.mesh


@pytest.mark.slow
def test_what_is_worn_moves_little_whatever_the_field_says(start: StartMesh, hold: Hold) -> None:
    def field(value: float) -> tuple[Tensor, Tensor]:
        points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
        distance, kept = (
            start.signed_distance(points),
            hold.applied(lambda places: torch.full_like(places[:, 0], value)),
        )
        free = hold.share_at(points) == 0
        return (distance[free] < 0) != (kept(points)[free] < 0), distance[free]

    for value in (1.0, -1.0):  # nothing anywhere, everything everywhere
        wrong, distance = field(value)
        assert float(distance[wrong].abs().max()) <= WORN + 1e-4 and not bool(wrong[distance.abs() > WORN + 1e-4].any())


@pytest.mark.slow
def test_it_survives_a_file_and_is_its_own_surface_until_something_is_done(
    start: StartMesh, hold: Hold, tmp_path: Path
) -> None:
    state, _ = start_state(start, SMALL, torch.Generator().manual_seed(0))
    state = dataclasses.replace(state, hold=hold)
    save_state(state, tmp_path / "state.safetensors")
    again = load_state(tmp_path / "state.safetensors")
    assert start.labelled is not None and again.labelled is not None and again.hold is not None
    assert again.hold.worn is again.labelled.mesh  # written once
    surface = extract_mesh(again)
    assert torch.equal(surface.mesh.vertices, start.mesh.vertices)
    assert surface.labels is not None and torch.equal(surface.labels, start.labelled.labels)
    points = start.mesh.vertices[::50]
    expected = hold.applied(lambda places: places[:, 0])(points)
    torch.testing.assert_close(again.hold.applied(lambda places: places[:, 0])(points), expected)


@pytest.mark.slow
def test_labels_go_with_a_sculpture(start: StartMesh) -> None:
    state, _ = start_state(start, SMALL, torch.Generator().manual_seed(0))
    sculpted: GeometryState = dataclasses.replace(state, untouched=False, step=1)
    surface = extract_mesh(sculpted)
    assert start.labelled is not None and surface.labels is not None
    assert surface.labels.shape == (surface.mesh.num_faces,)
    assert set(surface.labels.unique().tolist()) == set(start.labelled.labels.unique().tolist())


def test_only_what_is_worn_can_be_kept(body: Body, bare: StartMesh, start: StartMesh) -> None:
    hold = kept_of_start(bare, start, inside=lambda: body, keep_outfit=True)
    assert hold is not None and not bool(hold.share.any()) and hold.resolution == 0
    assert kept_of_start(bare, bare, inside=lambda: body, keep_outfit=True) is None


@pytest.mark.slow
def test_an_edit_of_a_part_changes_its_labels_alone(start: StartMesh) -> None:
    assert start.labelled is not None
    mesh, labels = start.mesh, start.labelled.labels
    hold = hold_all_but_labels(mesh, labels, ["bottom"])
    share = hold.share_at(mesh.vertices[mesh.faces].mean(1))
    bottom = labels == label_number("bottom")
    assert float(share[bottom].mean()) < 0.15 and float(share[~bottom].mean()) > 0.95
    with pytest.raises(InputError, match="part"):
        hold_all_but_labels(mesh, labels, ["nose"])
