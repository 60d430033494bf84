"""What networks are shown of a sentence's person: everything in its place, in its colour, from the asked side."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from humannorm.body import load_body, pose_of_words
from humannorm.body.outfit import DENIM_BLUE
from humannorm.cameras import CAMERA_PLANS
from humannorm.colours import colour_value
from humannorm.labels import label_number
from humannorm.models import camera_plan
from humannorm.start_pictures import DressedStart, StartPictures, labels_of_vertices, start_of_sentence

PROMPT = "a fair-skinned man with black short hair in a red t-shirt, blue jeans and white sneakers"
SIZE = 96


@pytest.fixture(scope="module")
def start() -> DressedStart:
    return start_of_sentence(PROMPT, camera_plan("bundled"))


@pytest.fixture(scope="module")
def whole(start) -> StartPictures:
    return start.pictures("full", [0.0, 180.0], SIZE)


def test_views_may_look_down(start, whole):
    """Of a normal map seen from above more is turned upwards; from the horizon it is the same as without a word."""
    above, level = (start.pictures("full", [0.0], SIZE, elevation=angle) for angle in (30.0, 0.0))
    assert torch.equal(level.normals[0], whole.normals[0])
    inside = above.covered[0, ..., 0] > 0, level.covered[0, ..., 0] > 0
    means = [float(each.normals[0][where][:, 1].mean()) for each, where in zip((above, level), inside, strict=True)]
    assert means[0] < means[1] - 0.05  # camera space: what faces the horizon faces down, seen from above


def test_what_is_worn_has_its_colour_where_it_is(whole):
    """Rows of a standing body from the top: hair, top, bottom, shoes; the middle column but between the legs."""
    flat = whole.flat[0]
    seen = {tuple(round(float(value), 2) for value in pixel) for pixel in flat[whole.covered[0, ..., 0] > 0]}
    for colour in (colour_value("red"), DENIM_BLUE, colour_value("white")):
        assert tuple(round(value, 2) for value in colour) in seen
    reds = (flat - torch.tensor(colour_value("red"))).abs().amax(-1) < 0.02
    blues = (flat - torch.tensor(DENIM_BLUE)).abs().amax(-1) < 0.02
    rows = torch.arange(SIZE)[:, None].expand(SIZE, SIZE)
    assert float(rows[reds].float().mean()) + 10 < float(rows[blues].float().mean())


def test_backgrounds_are_those_that_networks_know(whole):
    outside = whole.covered[..., 0] == 0
    assert bool((whole.entry("color")[outside] == 1).all()) and bool((whole.flat[outside] == 0).all())
    for kind in ("normal", "depth"):
        assert float(whole.entry(kind)[:, :4].abs().max()) == 0
    assert (whole.depth.amax((1, 2, 3)) > 0.95).all()


def test_the_control_is_told_colours_but_for_depth(whole):
    control = whole.control("normal")
    assert control is not None and torch.equal(control, torch.cat([whole.normals, whole.flat], -1))
    drawn = torch.rand_like(whole.normals)
    control = whole.control("color", drawn)
    assert control is not None and torch.equal(control[..., :3], drawn) and torch.equal(control[..., 3:], whole.flat)
    assert whole.control("depth") is None


def test_a_face_is_in_front_and_not_behind(start):
    """Of heads: skin with eyes and brows that are darker than it, and hair alone behind."""
    front, behind = start.pictures("head", [0.0, 180.0], SIZE).flat
    hair = torch.tensor(colour_value("black"))
    face = front[SIZE // 4 : SIZE // 2, SIZE // 3 : -SIZE // 3].flatten(0, 1)
    bright = face.mean(-1) > float(hair.mean()) + 0.2
    assert float(bright.float().mean()) > 0.4 and float(face[bright].mean(-1).std()) > 0.05
    back = behind[SIZE // 4 : SIZE // 2, SIZE // 3 : -SIZE // 3].flatten(0, 1)
    assert float((back.mean(-1) < float(hair.mean()) + 0.1).float().mean()) > 0.9


def test_views_are_concatenated_in_order(start, whole):
    one, other = (start.pictures("full", [azimuth], SIZE) for azimuth in (0.0, 180.0))
    both = StartPictures.concatenate([one, other])
    for field in dataclasses.fields(StartPictures):
        torch.testing.assert_close(getattr(both, field.name), getattr(whole, field.name))


def test_patterns_and_folds_enter(start):
    """Stripes are in what a walk of colours begins from, and not in the flat colours that the ControlNet is told."""
    striped = start_of_sentence(PROMPT.replace("red t-shirt", "red striped t-shirt"), camera_plan("bundled"))
    assert bool(striped.look.patterned.any()) and not bool(start.look.patterned.any())
    seen = striped.pictures("upper", [0.0], SIZE)
    red = (seen.flat[0] - torch.tensor(colour_value("red"))).abs().amax(-1) < 0.02
    assert float(seen.worn[0][red].std(0).amax()) > 0.2
    assert float(start.look.lean.norm(dim=1).max()) > 0.05


def test_labels_of_vertices_are_those_of_a_face_of_theirs(start):
    surface = start.surface
    found = labels_of_vertices(surface)
    corners = found[surface.mesh.faces.long()]
    assert bool((corners == surface.labels[:, None]).any(1).float().mean() > 0.99)
    assert bool((corners >= surface.labels[:, None]).all())  # the highest of a vertex' faces
    assert set(found.unique().tolist()) >= {label_number(name) for name in ("skin", "hair", "top", "bottom", "shoes")}


def test_the_pose_is_the_words_or_a_bodys():
    plan = CAMERA_PLANS["full_body"]
    running = start_of_sentence("a man in shorts, running", plan)
    assert running.body.pose == "run"
    assert running.plan.crop("head") != plan.crop("head")  # follows the posed head
    sitting = start_of_sentence("a man in shorts, running", plan, body=load_body(None, "sit"))
    assert sitting.body.pose == "sit"


@pytest.mark.parametrize(
    ("words", "pose"),
    [
        ("a man running in the rain", "run"),
        ("a woman in running shoes", "a-pose"),
        ("an old man seated", "sit"),
        ("a boxer, fighting", "fight"),
        ("a woman with her arms stretched out", "t-pose"),
        ("a man", "a-pose"),
        ("a man standing", "a-pose"),
        ("a man who stands relaxed", "standing"),
    ],
)
def test_poses_that_words_name(words, pose):
    assert pose_of_words(words) == pose
