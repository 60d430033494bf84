"""Pictures for ControlNets: edges, stick figures, conventions of normals, labels."""

from __future__ import annotations

import pytest
import torch

from humannorm.body import load_body
from humannorm.cameras import orbit
from humannorm.checks import InputError
from humannorm.controls import (
    BODY_KEYPOINTS,
    CONTROL_KINDS,
    body_keypoints,
    control_picture,
    draw_openpose,
    hidden_left_out,
)
from humannorm.controls.edges import canny
from humannorm.controls.openpose import COLORS, body_points
from humannorm.labels import label_number, label_picture

SIZE = 128
FACE = ("nose", "eye.R", "eye.L")


@pytest.fixture(scope="module")
def body():
    return load_body(pose="a-pose").in_working_box()


@pytest.fixture(scope="module")
def mesh(body):
    return body.to_mesh(normalized=False)


def keypoints(body, mesh, azimuths):
    cameras = orbit(azimuths)
    return hidden_left_out(body_keypoints(body, cameras, SIZE), body, mesh, cameras, SIZE)


def seen(points, view=0):
    return {name for name, shown in zip(BODY_KEYPOINTS, points.body_seen[view].tolist(), strict=True) if shown}


def test_edges_of_a_square_are_its_outline():
    picture = torch.zeros(1, 40, 40, 3)
    picture[:, 10:30, 10:30, 1] = 1.0  # in one channel alone
    edges = canny(picture)[0]
    rows, columns = edges.nonzero().unbind(1)
    inner = torch.zeros_like(edges)
    inner[12:28, 12:28] = True
    assert not bool((edges & inner).any())
    assert rows.min() in (9, 10) and rows.max() in (29, 30) and columns.min() in (9, 10) and columns.max() in (29, 30)
    assert edges[20].sum() == 2 and edges[:, 20].sum() == 2  # one pixel thick on each side
    assert 72 <= int(edges.sum()) <= 84


def test_weak_edges_stay_where_they_hang_on_strong_ones():
    across = torch.linspace(0.1, 1.0, 60)
    picture = torch.zeros(1, 60, 60, 1)
    picture[0, 30:, :, 0] = across  # a step that fades to the left
    alone = torch.zeros(1, 60, 60, 1)
    alone[0, 30:, :20, 0] = across[:20]  # its weak end, cut off
    whole, cut = canny(picture)[0], canny(alone)[0]
    strict = canny(picture, low=0.35)[0]
    assert whole[28:32].any(0).sum() > strict[28:32].any(0).sum() + 5
    assert int(cut[28:32, :15].sum()) == 0
    assert not bool(canny(torch.full((1, 20, 20, 3), 0.5)).any())
    with pytest.raises(InputError, match="expected 0 < low <= high"):
        canny(picture, low=0.5, high=0.2)


def test_from_the_front_all_is_seen_and_the_left_is_on_the_right(body, mesh):
    points = keypoints(body, mesh, [0.0])
    assert seen(points) == set(BODY_KEYPOINTS)
    at = dict(zip(BODY_KEYPOINTS, points.body[0], strict=True))
    for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "eye", "ear"):
        left, right = at[f"{name}.L"], at[f"{name}.R"]
        assert left[0] > SIZE / 2 > right[0]
        assert float(left[0] + right[0]) == pytest.approx(SIZE, abs=1.5)
        assert float(left[1]) == pytest.approx(float(right[1]), abs=1.0)
    heights = [float(at[name][1]) for name in ("eye.L", "nose", "neck", "elbow.L", "hip.L", "knee.L", "ankle.L")]
    assert heights == sorted(heights)


def test_what_a_detector_does_not_see_is_left_out(body, mesh):
    points = keypoints(body, mesh, [180.0, 90.0, -90.0])
    behind, left, right = (seen(points, view) for view in range(3))
    assert not set(FACE) & behind and {"ear.L", "ear.R", "neck", "elbow.L", "knee.R"} <= behind
    assert not bool(points.face_seen[0].any())
    assert "ear.L" in left and "ear.R" not in left and "eye.R" not in left
    assert "ear.R" in right and "ear.L" not in right and "nose" in right
    assert "wrist.R" not in left and "wrist.L" in left  # behind the trunk


def test_points_outside_of_the_picture_are_left_out(body, mesh):
    cameras = orbit([0.0], part="head")
    points = hidden_left_out(body_keypoints(body, cameras, SIZE), body, mesh, cameras, SIZE)
    assert set(FACE) <= seen(points) and "ankle.L" not in seen(points)


def test_the_figure_is_drawn_in_the_detectors_colours(body, mesh):
    points = keypoints(body, mesh, [0.0])
    picture = draw_openpose(points, SIZE)[0]
    assert picture.shape == (SIZE, SIZE, 3) and float(picture[0, 0].sum()) == 0
    for name in ("elbow.R", "knee.L", "ankle.R"):
        number = BODY_KEYPOINTS.index(name)
        column, row = points.body[0, number].long().tolist()
        torch.testing.assert_close(picture[row, column], torch.tensor(COLORS[number]), atol=0.35, rtol=0)
    middle = (points.body[0, BODY_KEYPOINTS.index("knee.L")] + points.body[0, BODY_KEYPOINTS.index("ankle.L")]) / 2
    column, row = middle.long().tolist()
    limb = torch.tensor(COLORS[11]) * 0.6  # the limb from knee to ankle is the detector's twelfth
    torch.testing.assert_close(picture[row, column], limb, atol=0.2, rtol=0)


def test_the_figure_follows_the_pose():
    for pose, higher in (("t-pose", True), ("standing", False)):
        body = load_body(pose=pose).in_working_box()
        whole, hands, _ = body_points(body)
        wrist, shoulder = (whole[BODY_KEYPOINTS.index(name)] for name in ("wrist.L", "shoulder.L"))
        assert (float(shoulder[1] - wrist[1]) < 0.05) is higher
        torch.testing.assert_close(hands[0], wrist)
        reach = (hands[:21] - hands[0]).norm(dim=1)
        assert 0.1 < float(reach.max()) < 0.25  # a hand's length in a person of 1.8
        for finger in range(5):
            along = reach[1 + 4 * finger : 5 + 4 * finger]
            assert bool((along.diff() > 0).all()) or pose == "standing"  # straight fingers reach on and on


def test_conventions_of_normals(mesh):
    cameras = orbit([30.0])
    ours, down, left = (
        control_picture(kind, mesh, cameras, SIZE)[0] for kind in ("normal", "normal_directx", "normal_bae")
    )
    inside = ours[..., 2] > 0.9  # looks at the viewer: no edge
    for turned, channel in ((down, 1), (left, 0)):
        away = (turned[inside][:, channel] - (1 - ours[inside][:, channel])).abs()
        assert float(away.quantile(0.99)) < 0.02  # but where an arm's edge is blended with the trunk
    assert torch.equal(down[..., 0], ours[..., 0]) and torch.equal(left[..., 1:], ours[..., 1:])
    black = ours.sum(-1) == 0
    assert float(down[black].sum()) == float(left[black].sum()) == 0


def test_every_kind_is_drawn_and_labels_are_nearest(body, mesh):
    labels = torch.where(mesh.vertices[mesh.faces].mean(1)[:, 1] < 0, label_number("bottom"), label_number("top"))
    for kind in CONTROL_KINDS:
        picture = control_picture(kind, mesh, orbit([0.0, 90.0]), 64, body=body, labels=labels)
        assert picture.shape == (2, 64, 64, 3) and bool(picture.isfinite().all())
        assert float(picture.min()) >= 0 and 0.3 < float(picture.max()) <= 1, kind
    colors = {tuple(color) for color in picture.flatten(0, 2).tolist()}
    wanted = label_picture(torch.tensor([0, label_number("top"), label_number("bottom")])).tolist()
    assert colors == {tuple(color) for color in wanted}
    with pytest.raises(InputError, match="body: expected a posed body"):
        control_picture("openpose", mesh, orbit([0.0]), 64)
