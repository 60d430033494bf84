"""Hulls around the body: closed, on it, as long as asked, never over the face, and following its poses."""

from __future__ import annotations

import pytest
import torch

from humannorm.body import Body, BodyShape, load_body
from humannorm.body.hulls import hulls_of
from humannorm.body.outfit import CUTS, Cut, Tube
from humannorm.body.regions import region_vertices
from humannorm.distance.signed_distance import SignedDistance
from humannorm.mesh import is_watertight

WITH_HULLS = [name for name, cut in CUTS.items() if cut.tube or cut.solid]


@pytest.mark.few(4)
@pytest.mark.parametrize("name", WITH_HULLS)
@pytest.mark.parametrize("sex", [0.05, 0.95])
def test_hulls_are_closed_begin_inside_the_body_and_leave_the_face_free(name: str, sex: float) -> None:
    body = load_body(BodyShape(sex=sex)).in_working_box()
    face = body.vertices[region_vertices(body, ["face"])]
    front = face[(face[:, 2] > face[:, 2].max() - 0.03) & (face[:, 1] < body.joint("eye.L")[1] + 0.02)]
    outside = SignedDistance(body.vertices, body.faces)
    hulls = hulls_of(body, CUTS[name])
    assert hulls
    for hull in hulls:
        assert is_watertight(hull.faces)
        assert float(torch.linalg.det(hull.vertices[hull.faces].double()).sum()) > 0, "wound outward"
        around = SignedDistance(hull.vertices, hull.faces)
        assert bool((around(body.vertices) < 0).any()) and bool((outside(hull.vertices) > 0).any())
        assert bool((around(front) > 0).all())


@pytest.mark.parametrize("sex", [0.05, 0.95])
def test_a_hood_is_wrapped_around_the_neck(sex: float) -> None:
    body = load_body(BodyShape(sex=sex)).in_working_box()
    _, fall = hulls_of(body, CUTS["hood"])
    near = (body.vertices[:, 1] - body.joint("neck01")[1] + 0.01).abs() < 0.02  # below the jaw
    throat = body.vertices[near & (body.vertices[:, 0].abs() < 0.03)]
    throat = throat[throat[:, 2] > body.joint("neck01")[2]]
    assert len(throat) > 5 and bool((SignedDistance(fall.vertices, fall.faces)(throat) < 0).all())


def heights(body: Body) -> tuple[float, float]:
    """Of hips and ankles."""
    hips, ankles = (float(body.joint(f"{name}.L")[1]) for name in ("upperleg01", "foot"))
    return hips, ankles


def test_a_skirt_reaches_its_hem_and_covers_both_legs() -> None:
    body = load_body().in_working_box()
    hips, ankles = heights(body)
    (skirt,) = hulls_of(body, Cut("bottom", tube=Tube(0.5, 0.05)))
    assert float(skirt.vertices[:, 1].min()) == pytest.approx(hips + 0.5 * (ankles - hips), abs=0.01)
    distance = SignedDistance(skirt.vertices, skirt.faces)
    height = hips + 0.3 * (ankles - hips)
    legs = body.vertices[region_vertices(body, ["bottom"])]
    assert bool((distance(legs[(legs[:, 1] - height).abs() < 0.05]) < 0).all())


def test_legs_of_shorts_leave_a_gap_between_them() -> None:
    body = load_body(BodyShape(sex=0.05)).in_working_box()
    hips, ankles = heights(body)
    hulls = hulls_of(body, Cut("bottom", tube=Tube(0.42, legs=True)))
    lowest = min(float(hull.vertices[:, 1].min()) for hull in hulls)
    assert len(hulls) == 3 and lowest == pytest.approx(hips + 0.42 * (ankles - hips), abs=2e-3)
    between = torch.tensor([[0.0, lowest + 0.02, float(body.joint("lowerleg01.L")[2])]])
    assert min(float(SignedDistance(hull.vertices, hull.faces)(between)) for hull in hulls) > 0


def test_hulls_follow_a_pose_and_a_frame() -> None:
    standing, posed = (load_body(BodyShape(sex=0.9), pose).in_working_box() for pose in ("a-pose", "run"))
    bun = CUTS["bun"]
    (before,), (after,) = hulls_of(standing, bun), hulls_of(posed, bun)
    heads = [body.vertices[region_vertices(body, ["head"])] for body in (standing, posed)]
    gaps = [torch.cdist(hull.vertices, head).amin(1) for hull, head in zip((before, after), heads, strict=True)]
    torch.testing.assert_close(gaps[0], gaps[1], atol=0.02, rtol=0)
    metres = load_body(BodyShape(sex=0.9))
    (hull,) = hulls_of(metres, bun)
    size = hull.vertices.amax(0) - hull.vertices.amin(0)
    expected = (before.vertices.amax(0) - before.vertices.amin(0)) * standing.metres_per_unit
    torch.testing.assert_close(size, expected, atol=1e-4, rtol=0)


def test_a_cut_of_garments_alone_has_no_hulls() -> None:
    assert hulls_of(load_body(), CUTS["jeans"]) == ()
