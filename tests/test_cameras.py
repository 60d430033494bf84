"""Camera frames, the published plans and the evaluation set."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from humannorm.cameras import (
    CAMERA_PLANS,
    PARTS,
    TEXTURE_CAMERA_PLANS,
    VIEW_AZIMUTHS,
    CameraPlan,
    Cameras,
    Crop,
    evaluation_cameras,
    orbit,
    sample_cameras,
    target_cameras,
    turntable,
    view_label,
    wrap_degrees,
)
from humannorm.checks import InputError
from humannorm.schedules import constant


def seen_at(cameras: Cameras, *point: float) -> torch.Tensor:
    """Normalised device coordinates (x right, y up) of a world point in every view."""
    clip = cameras.clip_from_world(torch.tensor([point], dtype=torch.float32))[:, 0]
    return clip[:, :3] / clip[:, 3:]


def test_azimuth_zero_looks_at_the_front_and_grows_toward_the_subjects_left():
    position = orbit([0, 90, 180, -90], distance=3).position()
    expected = torch.tensor([[0.0, 0, 3], [3, 0, 0], [0, 0, -3], [-3, 0, 0]])
    torch.testing.assert_close(position, expected, atol=1e-5, rtol=0)
    assert orbit([0], elevation=30).position()[0, 1] == pytest.approx(1.5)


def test_view_matrix_is_a_rotation_with_opengl_axes():
    cameras = sample_cameras(CAMERA_PLANS["full_body"], 0, 64, torch.Generator().manual_seed(3))
    matrix = cameras.world_to_camera().double()
    rotation = matrix[:, :3, :3]
    eye = torch.eye(3).double().expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), eye, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(64).double(), atol=1e-6, rtol=0)
    centre = torch.cat([cameras.position().double(), torch.ones(64, 1).double()], dim=1)
    torch.testing.assert_close((matrix @ centre[:, :, None])[:, :3, 0], torch.zeros(64, 3).double(), atol=1e-5, rtol=0)
    toward_viewer = (cameras.position() - cameras.target).double()
    depth_axis = torch.nn.functional.normalize(toward_viewer, dim=1)
    torch.testing.assert_close(rotation[:, 2], depth_axis, atol=1e-6, rtol=0)
    assert bool((rotation[:, 1, 1] > 0).all())  # upright
    torch.testing.assert_close(rotation[:, 0, 1], torch.zeros(64).double())  # level


def test_right_of_the_picture_is_the_subjects_left_seen_from_the_front():
    x, y, _ = seen_at(orbit([0]), 0.5, 0.2, 0.0)[0].tolist()
    assert x > 0 and y > 0
    x, _, _ = seen_at(orbit([90]), 0.0, 0.0, 0.5)[0].tolist()
    assert x < 0  # the subject's front, seen from its left, is to the left


def test_target_is_the_centre_and_focal_length_follows_fov_and_zoom():
    cameras = orbit([20], elevation=10, part="head")
    torch.testing.assert_close(seen_at(cameras, 0.0, 0.6, 0.0)[0, :2], torch.zeros(2), atol=1e-6, rtol=0)
    for zoom in (1.0, 2.5):
        edge = 3.0 * math.tan(math.radians(22.5)) / zoom
        point = seen_at(orbit([0], distance=3, fov_y=45, zoom=zoom), edge, edge, 0.0)[0]
        torch.testing.assert_close(point[:2], torch.ones(2))


def test_depth_runs_from_minus_one_at_near_to_one_at_far():
    cameras = orbit([0], distance=3)
    assert float(seen_at(cameras, 0.0, 0.0, 2.9)[0, 2]) == pytest.approx(-1.0, abs=1e-4)
    assert float(seen_at(cameras, 0.0, 0.0, -997.0)[0, 2]) == pytest.approx(1.0, abs=1e-4)
    clip = cameras.clip_from_world(torch.zeros(1, 3))[0, 0]
    # What the depth map inverts: clip z is the distance less 0.2 (near 0.1, far 1000).
    assert float(clip[3]) == pytest.approx(3.0) and float(clip[2]) == pytest.approx(3.0 - 0.2, abs=1e-3)


def test_aspect_is_width_over_height():
    point = torch.tensor([[0.3, 0.3, 0.0]])
    square, wide = (orbit([0]).clip_from_world(point, aspect)[0, 0] for aspect in (1.0, 2.0))
    assert float(wide[0]) == pytest.approx(float(square[0]) / 2) and float(wide[1]) == float(square[1])


def test_clip_keeps_dtype_and_gradient():
    points = torch.rand(5, 3, dtype=torch.float64, requires_grad=True)
    clip = orbit([0, 40]).clip_from_world(points)
    assert clip.dtype == torch.float64 and clip.shape == (2, 5, 4)
    assert torch.autograd.gradcheck(lambda p: orbit([0, 40]).clip_from_world(p), points)


@pytest.mark.parametrize(
    ("azimuth", "label"),
    [(0, "front"), (44.9, "front"), (-44.9, "front"), (45, "left"), (90, "left"), (135, "left"), (135.1, "back"),
     (180, "back"), (-180, "back"), (-135.1, "back"), (-135, "right"), (-90, "right"), (-45, "right"), (270, "right"),
     (450, "left"), (-359, "front")],
)  # fmt: skip
def test_view_labels(azimuth, label):
    assert view_label(azimuth) == label
    assert orbit([azimuth]).view_labels() == (label,)


def test_angles_wrap_to_minus_180_exclusive_180_inclusive():
    assert [wrap_degrees(a) for a in (0, 180, -180, 190, 540, -190, 359)] == [0, 180, 180, -170, 180, 170, -1]
    assert [view_label(azimuth) for azimuth in VIEW_AZIMUTHS.values()] == list(VIEW_AZIMUTHS)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("plan", "iteration", "expected"),
    [
        ("full_body", 0, {"full": 0.7, "head": 0.1, "upper": 0.1, "lower": 0.1}),
        ("full_body", 9999, {"full": 0.7, "head": 0.1, "upper": 0.1, "lower": 0.1}),
        ("full_body", 10000, {"full": 0.1, "head": 0.3, "upper": 0.3, "lower": 0.3}),
        ("half_body", 0, {"head": 0.3, "upper": 0.7}),
        ("head_only", 0, {"head": 1.0}),
    ],
)
def test_part_frequencies_follow_the_schedule(plan, iteration, expected):
    count = 20000
    parts = sample_cameras(CAMERA_PLANS[plan], iteration, count, torch.Generator().manual_seed(0)).part
    for part in PARTS:
        share = expected.get(part, 0.0)
        sigma = math.sqrt(share * (1 - share) / count)
        assert abs(parts.count(part) / count - share) <= 4 * sigma


@pytest.mark.parametrize("plans", [CAMERA_PLANS, TEXTURE_CAMERA_PLANS])
@pytest.mark.parametrize("name", list(CAMERA_PLANS))
def test_samples_fill_their_ranges(plans, name):
    plan = plans[name]
    cameras = sample_cameras(plan, 0, 4000, torch.Generator().manual_seed(1))
    for field in ("distance", "elevation", "fov_y", "azimuth"):
        low, high = getattr(plan, field)
        values = getattr(cameras, field)
        slack = 0.01 * (high - low)
        assert low - 1e-3 <= float(values.min()) <= low + slack and high - slack <= float(values.max()) <= high + 1e-3
    crops = {crop.part: (crop.zoom, crop.target_y) for crop in plan.crops}
    framed = {
        part: (float(z), float(t[1])) for part, z, t in zip(cameras.part, cameras.zoom, cameras.target, strict=True)
    }
    assert set(framed) == set(crops) and all(framed[part] == pytest.approx(crops[part]) for part in crops)
    assert float(cameras.target[:, [0, 2]].abs().max()) == 0.0  # crops shift along the world's up axis only


def test_published_ranges():
    table = {name: (plan.distance, plan.elevation, plan.fov_y) for name, plan in CAMERA_PLANS.items()}
    assert table == {
        "full_body": ((3.0, 3.5), (-10.0, 10.0), (40.0, 45.0)),
        "half_body": ((3.0, 4.0), (-5.0, 10.0), (40.0, 45.0)),
        "head_only": ((3.0, 5.0), (-5.0, 15.0), (40.0, 45.0)),
    }
    assert {plan.distance for plan in TEXTURE_CAMERA_PLANS.values()} == {(3.0, 3.0)}


def test_elevation_is_half_uniform_in_degrees_half_by_sphere_area():
    plan = CameraPlan("wide", (3.0, 3.0), (0.0, 80.0), CAMERA_PLANS["head_only"].crops)
    elevation = sample_cameras(plan, 0, 40000, torch.Generator().manual_seed(2)).elevation
    below = float((elevation < 30).float().mean())
    by_area = math.sin(math.radians(30)) / math.sin(math.radians(80))
    assert below == pytest.approx((30 / 80 + by_area) / 2, abs=0.01)


def test_the_same_seed_gives_the_same_cameras():
    first, second = (
        sample_cameras(CAMERA_PLANS["full_body"], 5, 16, torch.Generator().manual_seed(9)) for _ in range(2)
    )
    assert torch.equal(first.azimuth, second.azimuth) and first.part == second.part


def test_a_plan_survives_its_plain_form():
    import json

    for plan in CAMERA_PLANS.values():
        assert CameraPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    with pytest.raises(InputError, match=r"camera plan: expected the fields .*, got \['name'\]"):
        CameraPlan.from_dict({"name": "half"})


def test_evaluation_set_of_the_full_body_is_four_turns_of_thirty():
    cameras = evaluation_cameras("full_body", torch.Generator().manual_seed(0))
    assert len(cameras) == 120
    crops = {"full": (1.0, 0.0), "head": (4.0, 0.6), "upper": (2.0, 0.3), "lower": (2.0, -0.5)}
    for part, (zoom, height) in crops.items():
        group = cameras.select([i for i, p in enumerate(cameras.part) if p == part])
        assert len(group) == 30 and len(set(group.azimuth.tolist())) == 30
        assert float(group.zoom.unique()) == zoom and float(group.target[:, 1].unique()) == pytest.approx(height)
    assert float(cameras.distance.unique()) == 3.0 and float(cameras.fov_y.unique()) == 45.0
    assert -5 <= float(cameras.elevation.min()) < 0 and 10 < float(cameras.elevation.max()) <= 15
    assert [len(evaluation_cameras(p, torch.Generator())) for p in ("half_body", "head_only")] == [120, 120]
    with pytest.raises(InputError, match="count: expected a positive multiple of 4"):
        evaluation_cameras("full_body", torch.Generator(), count=30)


def test_turntable_starts_at_the_front_and_turns_evenly():
    cameras = turntable(8)
    assert cameras.view_labels() == ("front", "left", "left", "left", "back", "right", "right", "right")
    assert cameras.azimuth.tolist() == [0, 45, 90, 135, 180, -135, -90, -45] and float(cameras.elevation[0]) == 5.0


def test_select_and_concatenate():
    cameras = Cameras.concatenate([orbit([0, 90]), orbit([180], part="head")])
    assert len(cameras) == 3 and cameras.part == ("full", "full", "head")
    picked = cameras.select(torch.tensor([2, 0]))
    assert picked.part == ("head", "full") and picked.azimuth.tolist() == [180, 0]
    assert cameras.to("cpu").device == torch.device("cpu")


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: orbit([0], elevation=90), "elevation: expected -89.99 to 89.99, got 90"),
        (lambda: orbit([0], fov_y=0), "fov_y: expected 0.01 to 179, got 0"),
        (lambda: orbit([0], distance=-1), "distance: expected above 0, got -1"),
        (lambda: orbit([0], part="feet"), "part: expected one of full, head, upper, lower, got 'feet'"),
        (lambda: orbit([math.nan]), "azimuth: expected finite values"),
        (lambda: orbit([0, 1], elevation=[0]), r"elevation: expected float tensor \[2\], got float32 \[1\]"),
        (lambda: turntable(0), "count: expected at least 1, got 0"),
        (lambda: Cameras.concatenate([]), "batches: expected at least one"),
        (lambda: orbit([0]).clip_from_world(torch.zeros(3)), r"vertices: expected float tensor \[V, 3\]"),
    ],
)  # fmt: skip
def test_impossible_cameras_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_targets_of_a_published_plan_are_its_test_set():
    cameras = target_cameras(TEXTURE_CAMERA_PLANS["full_body"], 120, torch.Generator().manual_seed(0))
    assert len(cameras) == 120
    assert [cameras.part.count(part) for part in ("full", "head", "upper", "lower")] == [30] * 4
    assert set(cameras.zoom.tolist()) == {1.0, 2.0, 4.0} and set(cameras.distance.tolist()) == {3.0}


def test_targets_of_a_models_own_plan_keep_its_crops():
    plan = CameraPlan(
        "small_model", (3.0, 3.2), (-10.0, 10.0),
        (Crop("full", 1.15, 0.0, constant(0.5)), Crop("head", 5.0, 0.74, constant(0.5))),
    )  # fmt: skip
    cameras = target_cameras(plan, 7, torch.Generator().manual_seed(0))
    assert cameras.part == ("full",) * 4 + ("head",) * 4
    assert cameras.zoom.tolist() == pytest.approx([1.15] * 4 + [5.0] * 4)
    assert cameras.azimuth.tolist() == [0, 90, 180, -90] * 2
    assert float(cameras.elevation.abs().max()) <= 10
    moved = dataclasses.replace(TEXTURE_CAMERA_PLANS["full_body"], elevation=(0.0, 0.0))
    assert float(target_cameras(moved, 8, torch.Generator().manual_seed(0)).elevation.abs().max()) == 0


def test_targets_look_where_a_posed_plan_aims():
    plan = TEXTURE_CAMERA_PLANS["full_body"].aimed(lambda part, at: (at[0] + 0.2, at[1], at[2] - 0.1))
    cameras = target_cameras(plan, 8, torch.Generator().manual_seed(0))
    wanted = [[0.2, crop.target_y, -0.1] for crop in plan.crops for _ in range(2)]
    torch.testing.assert_close(cameras.target, torch.tensor(wanted))
