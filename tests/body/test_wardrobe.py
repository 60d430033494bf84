"""Clothes of the wardrobe fit every shape of the body and follow every pose."""

from __future__ import annotations

import pytest
import torch

from humannorm.body import BodyShape, load_body
from humannorm.body.linear_blend_skinning import check_weights
from humannorm.body.outfit import CUTS
from humannorm.body.wardrobe import DATA, GARMENTS, fitted, garment_skin, hidden_under, rest_garment, worn_inside
from humannorm.checks import InputError
from humannorm.distance.signed_distance import SignedDistance
from humannorm.mesh import check_mesh

SHAPES = (BodyShape(sex=0.0, weight=1.0, height=1.0), BodyShape(sex=1.0, weight=0.0, muscle=1.0, height=0.0, age=1.0))


def test_the_package_grows_by_less_than_four_megabytes() -> None:
    assert DATA.stat().st_size < 4_000_000


@pytest.mark.few(3)
@pytest.mark.parametrize("name", GARMENTS)
def test_a_garment_lies_close_around_any_body(name: str) -> None:
    for shape in SHAPES:
        body = load_body(shape, "rest")
        garment = fitted(body, name)
        check_mesh(garment)
        away = SignedDistance(body.vertices, body.faces)(garment.vertices)
        loose = GARMENTS[name].label == "hair" or name == "skirt"
        assert float(away.median()) < (0.06 if loose else 0.025)  # metres
        assert float(away.max()) < 0.2


@pytest.mark.parametrize("pose", ["run", "sit", "fight"])
def test_a_garment_follows_a_pose_as_the_skin_below_it_does(pose: str) -> None:
    for name in ("t-shirt-2", "jeans-2", "sneakers", "short-2"):
        rest, posed = load_body(pose="rest"), load_body(pose=pose)
        before, after = fitted(rest, name), fitted(posed, name)
        near = SignedDistance(rest.vertices, rest.faces).closest(before.vertices)
        below = (posed.vertices[posed.faces[near.face]] * near.barycentric[..., None]).sum(1)
        gone = (after.vertices - below).norm(dim=1) - (before.vertices - near.point).norm(dim=1)
        assert float(gone.abs().mean()) < 0.01  # metres


def test_a_garment_is_the_same_in_metres_and_in_the_working_box() -> None:
    body = load_body(BodyShape(sex=0.9), "run")
    placed = body.in_working_box()
    scale = body.metres_per_unit / placed.metres_per_unit
    shift = placed.vertices[0] - scale * body.vertices[0]
    garment, moved = fitted(body, "skirt"), fitted(placed, "skirt")
    torch.testing.assert_close(moved.vertices, scale * garment.vertices + shift, atol=1e-5, rtol=0)


def test_shapes_between_anchors_lie_between_them() -> None:
    middle = rest_garment(BodyShape(weight=0.75), "shirt")
    ends = rest_garment(BodyShape(weight=0.5), "shirt"), rest_garment(BodyShape(weight=1.0), "shirt")
    assert float((middle - (ends[0] + ends[1]) / 2).norm(dim=1).max()) < 2e-3  # metres; scale lines are not linear


def test_weights_are_weights_and_hidden_skin_is_where_the_cloth_is() -> None:
    body = load_body(pose="rest")
    for name, garment in GARMENTS.items():
        check_weights(*garment_skin(name), len(body.joint_names))
        if garment.label in ("top", "bottom", "shoes"):
            hidden = body.vertices[hidden_under([name], len(body.vertices))]
            low, high = rest_garment(body.shape, name).aminmax(dim=0)
            inside = ((hidden > low - 0.05) & (hidden < high + 0.05)).all(1)
            assert len(hidden) > 50 and float(inside.float().mean()) > 0.9


def test_only_jackets_have_something_under_them() -> None:
    for name, garment in GARMENTS.items():
        share = float(worn_inside(name).float().mean())
        assert 0.02 < share < 0.5 if garment.label == "outer" else share == 0


def test_every_cut_is_made_of_garments_that_exist_and_every_garment_is_worn() -> None:
    used = {name for cut in CUTS.values() for name in (*cut.woman, *cut.man)}
    assert used == set(GARMENTS)
    with pytest.raises(InputError, match="name"):
        fitted(load_body(), "cape")
