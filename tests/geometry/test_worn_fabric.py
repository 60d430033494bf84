"""Shade, folds and strands of what a start wears, and normals that lean by them."""

from __future__ import annotations

import math

import pytest
import torch

from humannorm.body import load_body
from humannorm.body.fabrics import fabric_of
from humannorm.body.outfit import Outfit, Piece
from humannorm.body.wardrobe import GARMENTS, fitted
from humannorm.cameras import orbit
from humannorm.checks import InputError
from humannorm.colours import COLOURS, colour_value
from humannorm.evaluation.pictures import nearest_colour
from humannorm.export import ExportSettings, load_baked, slopes_on, with_maps, write_glb
from humannorm.geometry.outfits import dress
from humannorm.geometry.worn_fabric import (
    BRIGHTEST,
    BUTTON_SHADE,
    CLOSING,
    EDGE_SHADE,
    FINEST,
    PATTERN_STEP,
    REACH,
    WornFabric,
    pattern_at,
    second_colour,
)
from humannorm.labels import SKIN, label_number
from humannorm.mesh import Mesh, leaning, vertex_normals
from humannorm.rendering import render


@pytest.fixture(scope="module")
def worn() -> WornFabric:
    pieces = (Piece("jeans", "bottom"), Piece("t-shirt", "top"), Piece("long hair", "hair"))
    return WornFabric(load_body(pose="a-pose").in_working_box(), Outfit(pieces))


def points_of(worn: WornFabric, name: str) -> torch.Tensor:
    mesh = fitted(worn.body, name)
    return mesh.vertices[mesh.faces].mean(1)


@pytest.mark.parametrize("name", GARMENTS)
def test_every_garment_has_a_fabric_on_its_own_faces(name: str) -> None:
    fabric = fabric_of(name)
    assert len(fabric.faces) == fitted(load_body(), name).num_faces
    assert int(fabric.faces.max()) < len(fabric.uvs)
    assert 0 <= float(fabric.uvs.min()) <= float(fabric.uvs.max()) <= 1
    assert (fabric.opacity is not None) == (GARMENTS[name].label == "hair")
    middle = fabric.shade.median()
    assert 0.5 < float(middle) < 1.6


def test_an_unknown_garment_is_refused() -> None:
    with pytest.raises(InputError, match="name: expected one of"):
        fabric_of("toga")


@pytest.mark.parametrize("cut", ["shorts", "bermudas", "hot pants"])
def test_shorts_have_folds_and_shade_down_to_their_hem(cut: str) -> None:
    """The wardrobe's own end in fringes, and the hulls of their legs have nothing."""
    body = load_body(pose="a-pose").in_working_box()
    surface = dress(body, Outfit((Piece(cut, "bottom"),))).surface
    points, labels = surface.mesh.vertices[surface.mesh.faces].mean(1), surface.labels
    legs = labels == label_number("bottom")
    look = WornFabric(body, Outfit((Piece(cut, "bottom"),))).look_at(points[legs], labels[legs])
    low = points[legs][:, 1] < points[legs][:, 1].quantile(0.4)
    assert float((look.shade[low] != 1).float().mean()) > 0.9
    assert float(look.shade[low].std()) > 0.03 and float(look.lean[low].norm(dim=1).mean()) > 0.01
    dark = look.shade[low] < 0.4
    assert float(dark.float().mean()) < 0.02  # no fringe


def test_blue_denim_is_greyer_than_blue_cloth() -> None:
    cloth, denim = (Piece(cut, "bottom", ("blue",)).colour() for cut in ("trousers", "jeans"))
    assert cloth == colour_value("blue") and Piece("shorts", "bottom", ("blue",), material="denim").colour() == denim
    assert max(denim) - min(denim) < max(cloth) - min(cloth)
    assert nearest_colour(torch.tensor([denim]), COLOURS) == "blue"
    assert Piece("jeans", "bottom", ("red",)).colour() == colour_value("red")


def test_skin_and_what_is_far_from_a_garment_look_plain(worn: WornFabric) -> None:
    points = points_of(worn, "jeans-2")
    bare = worn.look_at(points, torch.full((len(points),), SKIN))
    far = worn.look_at(
        points + torch.tensor([0.0, 0.0, 4 * REACH + 1]), torch.full((len(points),), label_number("bottom"))
    )
    for look in (bare, far):
        assert torch.equal(look.shade, torch.ones(len(points)))
        assert torch.equal(look.fine, torch.ones(len(points)))
        assert torch.equal(look.lean, torch.zeros(len(points), 3))


def test_denim_and_hair_show_their_weave_and_a_plain_shirt_none(worn: WornFabric) -> None:
    names = {"bottom": "jeans-2", "hair": "long", "top": "t-shirt-2"}
    looks = {}
    for label, name in names.items():
        points = points_of(worn, name)
        looks[label] = worn.look_at(points, torch.full((len(points),), label_number(label)))
    spread = {label: float(look.fine.std()) for label, look in looks.items()}
    assert spread["bottom"] > 0.02 and spread["hair"] > 0.02
    assert spread["top"] < 0.02  # its picture has a logo, which nobody asked for
    assert all(float(look.lean.norm(dim=1).max()) > 0.1 for look in looks.values())  # the shirt's from another's folds
    for look in looks.values():
        assert FINEST <= float(look.fine.min()) <= float(look.fine.max()) <= BRIGHTEST


def test_folds_lie_along_the_cloth(worn: WornFabric) -> None:
    mesh = fitted(worn.body, "jeans-2")
    points = mesh.vertices[mesh.faces].mean(1)
    normals = vertex_normals(mesh.vertices, mesh.faces)[mesh.faces].mean(1)
    lean = worn.look_at(points, torch.full((len(points),), label_number("bottom"))).lean
    bent = lean.norm(dim=1) > 0.05
    cosine = torch.nn.functional.cosine_similarity(lean[bent], normals[bent], dim=1).abs()
    assert float(cosine.mean()) < 0.2


def test_stripes_lie_around_the_body_and_checks_cross() -> None:
    steps = torch.tensor([[0.0, 0.5, 0.0], [0.0, 1.5, 0.0], [7.0, 0.5, 0.3]]) * PATTERN_STEP
    assert pattern_at("striped", steps).tolist() == [1.0, 0.0, 1.0]
    corners = torch.tensor([[0.5, 0.5, 0.0], [0.5, 1.5, 0.0], [1.5, 1.5, 0.0]]) * PATTERN_STEP
    assert pattern_at("plaid", corners).tolist() == [1.0, 0.5, 0.0]
    dots = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 2.0, 0.0]]) * PATTERN_STEP
    assert pattern_at("polka-dot", dots).tolist() == [1.0, 0.0, 1.0]


def test_a_pattern_has_the_second_colour_said_or_one_that_shows() -> None:
    said = Piece("t-shirt", "top", ("red", "black"), "striped")
    dark, light = (Piece("t-shirt", "top", (name,), "striped") for name in ("navy", "white"))
    assert second_colour(said).sum() < 0.5 < second_colour(dark).min() and second_colour(light).max() < 0.5


def test_a_striped_shirt_is_patterned_and_jeans_are_not() -> None:
    pieces = (Piece("jeans", "bottom"), Piece("t-shirt", "top", ("red",), "striped"))
    worn = WornFabric(load_body(pose="a-pose").in_working_box(), Outfit(pieces))
    for label, name, expected in (("top", "t-shirt-2", True), ("bottom", "jeans-2", False)):
        points = points_of(worn, name)
        look = worn.look_at(points, torch.full((len(points),), label_number(label)))
        assert bool((look.patterned == expected).all())
        assert (float(look.share.std()) > 0.3) == expected


def test_a_coat_shows_where_it_closes_and_only_in_front() -> None:
    body = load_body(pose="a-pose").in_working_box()
    worn = WornFabric(body, Outfit((Piece("coat", "outer"),)))
    waist = body.joint("spine04")
    edge = waist + torch.tensor([[CLOSING, -0.3, 0.3], [0.1, -0.3, 0.3], [CLOSING, -0.3, -0.3], [-CLOSING, 0.0, 0.3]])
    shade = worn.look_at(edge, torch.full((4,), label_number("outer"))).shade
    assert shade.tolist() == pytest.approx([EDGE_SHADE, 1.0, 1.0, BUTTON_SHADE])


@pytest.mark.parametrize("slope", [0.0, 0.5, 2.0])
def test_a_normal_leans_by_the_arc_tangent(slope: float) -> None:
    up = torch.tensor([[0.0, 0.0, 3.0]])
    leant = leaning(up, torch.tensor([[slope, 0.0, 7.0]]))  # what points along the normal does not count
    assert torch.allclose(leant, torch.tensor([[math.sin(math.atan(slope)), 0.0, math.cos(math.atan(slope))]]))


def quad() -> Mesh:
    corners = torch.tensor([[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]])
    uvs = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    return Mesh(corners, faces, uvs=uvs, texture=torch.full((8, 8, 3), 0.5))


def test_a_picture_of_slopes_shows_in_the_normal_map() -> None:
    slopes = torch.tensor([0.75, 0.0, 0.0]).expand(8, 8, 3)
    for azimuth in (0.0, 40.0):
        camera = orbit([azimuth])
        shown = render(quad(), camera, (32, 32), ("normal",), slopes=slopes).normal
        assert shown is not None
        world = torch.tensor([0.6, 0.0, 0.8])
        expected = camera.world_to_camera()[0, :3, :3] @ world / 2 + 0.5
        assert torch.allclose(shown[0, 16, 16], expected, atol=1e-5)


def test_slopes_need_texture_coordinates() -> None:
    plain = Mesh(quad().vertices, quad().faces)
    with pytest.raises(InputError, match="slopes: expected a mesh with texture coordinates"):
        render(plain, orbit([0.0]), (8, 8), ("normal",), slopes=torch.zeros(4, 4, 3))


def test_slopes_travel_through_a_file(tmp_path) -> None:
    generator = torch.Generator().manual_seed(3)
    slopes = torch.cat([torch.rand(32, 32, 2, generator=generator) - 0.5, torch.zeros(32, 32, 1)], -1)
    baked = with_maps(quad(), ExportSettings(texture_size=32), slopes=slopes)
    write_glb(tmp_path / "quad.glb", baked)
    found = slopes_on(load_baked(tmp_path / "quad.glb"))
    assert found is not None
    assert float((found - slopes).abs().max()) < 0.03  # eight bits
    assert with_maps(quad(), ExportSettings(texture_size=32)).normal_map is None
