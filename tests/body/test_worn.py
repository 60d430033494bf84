"""Hair, skirt and shorts of a start body: read from the prompt, closed, on the body, and never over the face."""

from __future__ import annotations

from itertools import cycle

import pytest
import torch

from humannorm.body import BodyShape, load_body, worn_of_words
from humannorm.body.regions import region_vertices
from humannorm.body.worn import HAIR_STYLES, Worn, solids_of
from humannorm.checks import InputError
from humannorm.distance.signed_distance import SignedDistance
from humannorm.geometry.dressing import dressed
from humannorm.geometry.start import prepare_start
from humannorm.mesh import connected_components, is_watertight


@pytest.mark.parametrize(
    ("prompt", "hair", "skirt"),
    [
        ("a man in a suit", "none", False),
        ("a man in a dress shirt, dress shoes and jeans", "none", False),
        ("a well-dressed woman with long black hair, wearing a red skirt", "long", True),
        ("a woman with black long hair and blue shorts", "long", False),
        ("a blond girl's mother in a ponytail, wearing an evening gown", "ponytail", True),
        ("an old man with short grey hair in a long brown coat", "short", True),
        ("a bald man in a kilt", "none", True),
        ("a woman with braids", "braid", False),
        ("a young man with an afro", "afro", False),
        ("a long-haired man with a long coat", "long", True),
        ("a woman in a long red dress, chin-length hair", "bob", True),
    ],
)
def test_hair_and_skirt_are_those_of_the_prompt(prompt, hair, skirt):
    worn = worn_of_words(prompt)
    assert (worn.hair, worn.hem > 0) == (hair, skirt)


def test_lengths_follow_the_words():
    ends = [worn_of_words(f"a woman in a {words}").hem for words in ("mini skirt", "skirt", "long coat", "ball gown")]
    assert ends == sorted(ends) and ends[0] < ends[-1]


@pytest.mark.parametrize(("sex", "style"), zip(cycle((0.05, 0.95)), HAIR_STYLES, strict=False))
def test_solids_are_closed_sit_on_the_body_and_leave_the_face_free(style, sex):
    body = load_body(BodyShape(sex=sex)).in_working_box()
    solids = solids_of(body, Worn(style, hem=0.5, flare=0.05))
    face = body.vertices[region_vertices(body, ["face"])]
    front = face[(face[:, 2] > face[:, 2].max() - 0.03) & (face[:, 1] < body.joint("eye.L")[1] + 0.02)]
    outside = SignedDistance(body.vertices, body.faces)
    for solid in solids:
        corners = solid.vertices[solid.faces].double()
        assert is_watertight(solid.faces)
        assert float(torch.linalg.det(corners).sum()) > 0, "wound outward"
        around = SignedDistance(solid.vertices, solid.faces)
        assert bool((around(body.vertices) < 0).any()) and bool((outside(solid.vertices) > 0).any())
        assert bool((around(front) > 0).all())
    start = dressed(prepare_start(body.to_mesh(normalized=False)), solids)
    pieces = connected_components(start.mesh.faces, start.mesh.num_vertices)[start.mesh.faces[:, 0]]
    assert is_watertight(start.mesh.faces) and len(pieces.unique()) == 1


def test_a_skirt_reaches_its_hem_and_covers_both_legs():
    body = load_body().in_working_box()
    hips, ankles = float(body.joint("upperleg01.L")[1]), float(body.joint("foot.L")[1])
    (skirt,) = solids_of(body, Worn(hem=0.5))
    assert float(skirt.vertices[:, 1].min()) == pytest.approx(hips + 0.5 * (ankles - hips), abs=0.01)
    distance = SignedDistance(skirt.vertices, skirt.faces)
    height = hips + 0.3 * (ankles - hips)
    legs = body.vertices[region_vertices(body, ["bottom"])]
    assert bool((distance(legs[(legs[:, 1] - height).abs() < 0.05]) < 0).all())


def test_shorts_are_read_and_end_above_the_knees_around_each_leg_alone():
    assert worn_of_words("a woman with black long hair and blue shorts").legs > 0
    assert worn_of_words("a man in trousers").legs == 0 == worn_of_words("a woman in a short dress").legs
    ends = [worn_of_words(f"a man in {words}").legs for words in ("hot pants", "shorts", "bermudas")]
    assert ends == sorted(ends) and 0 < ends[0] < ends[-1]

    body = load_body(BodyShape(sex=0.05)).in_working_box()
    hips, knees, ankles = (float(body.joint(f"{name}.L")[1]) for name in ("upperleg01", "lowerleg01", "foot"))
    solids = solids_of(body, Worn(legs=0.42))
    assert len(solids) == 3 and all(is_watertight(solid.faces) for solid in solids)
    for solid in solids:
        assert float(torch.linalg.det(solid.vertices[solid.faces].double()).sum()) > 0, "wound outward"
    lowest = min(float(solid.vertices[:, 1].min()) for solid in solids)
    assert lowest == pytest.approx(hips + 0.42 * (ankles - hips), abs=1e-3) and lowest > knees
    start = dressed(prepare_start(body.to_mesh(normalized=False)), solids)
    pieces = connected_components(start.mesh.faces, start.mesh.num_vertices)[start.mesh.faces[:, 0]]
    assert is_watertight(start.mesh.faces) and len(pieces.unique()) == 1
    distance = SignedDistance(start.mesh.vertices, start.mesh.faces)
    between = torch.tensor([[0.0, lowest + 0.02, float(body.joint("lowerleg01.L")[2])]])
    assert float(distance(between)) > 0
    thighs = body.vertices[(body.vertices[:, 1] - lowest - 0.08).abs() < 0.03]
    thighs = thighs[thighs[:, 0].abs() < 0.2]
    assert len(thighs) and float(distance(thighs).max()) < -0.005  # wider than the leg all around


@pytest.mark.parametrize(
    ("words", "bare"),
    [
        ("blue shorts", True),
        ("hot pants", True),
        ("red skirt and a white blouse", True),
        ("short dress", True),
        ("long blue dress", False),
        ("long brown coat", False),
        ("skirt over black leggings", False),
        ("jeans", False),
    ],
)
def test_shins_show_below_what_ends_above_them(words, bare):
    assert worn_of_words(f"a person wearing {words}").bare == bare


def test_nothing_hangs_straight_on_a_body_that_sits():
    assert solids_of(load_body(pose="sit").in_working_box(), Worn("long", 0.5)) == ()


def test_an_unknown_hair_style_is_refused():
    with pytest.raises(InputError, match="hair"):
        Worn("mohawk")
