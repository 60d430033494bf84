"""A dressed body: one closed surface, labelled, the person that the outfit says."""

from __future__ import annotations

import pytest
import torch

from humannorm.body import BodyShape, Outfit, completed, load_body, outfit_of_words
from humannorm.checks import InputError
from humannorm.distance.signed_distance import SignedDistance
from humannorm.geometry.labelled import LabelledSurface
from humannorm.geometry.outfits import DressedBody, dress, rounded, split_faces
from humannorm.labels import LABELS, SKIN, label_number
from humannorm.mesh import Mesh, connected_components, face_areas, is_watertight, mesh_volume

COARSE = 128  # cells a side: enough to see what is where
WOMAN = BodyShape(sex=0.95)


def figure(prompt: str, pose: str = "a-pose", shape: BodyShape = WOMAN, resolution: int = COARSE) -> DressedBody:
    body = load_body(shape, pose).in_working_box()
    return dress(body, completed(outfit_of_words(prompt), shape), resolution)


@pytest.fixture(scope="module")
def woman() -> DressedBody:
    return figure("a woman with long hair, wearing a t-shirt, jeans, shoes and a hat")


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("prompt", "pose"),
    [
        ("a mini skirt over leggings, a crop top, braids", "sit"),
        ("a suit and a white shirt", "run"),
        ("a ball gown, hair in a bun", "a-pose"),
        ("a long coat over shorts, boots, a beanie", "a-pose"),
        ("a hijab and a long dress", "fight"),
    ],
)
def test_the_surface_is_closed_and_of_one_piece(prompt: str, pose: str) -> None:
    dressed = figure(prompt, pose)
    mesh = dressed.surface.mesh
    assert is_watertight(mesh.faces) and float(mesh_volume(mesh.vertices, mesh.faces)) > 0
    assert len(connected_components(mesh.faces, mesh.num_vertices).unique()) == 1
    assert len(mesh.vertices.unique(dim=0)) == mesh.num_vertices  # no two vertices are one in a file


def test_labels_are_where_the_things_are(woman: DressedBody) -> None:
    body = load_body(WOMAN).in_working_box()
    places = {
        "skin": body.joint("eye.L") + torch.tensor([0.0, -0.03, 0.05]),
        "top": body.joint("spine02") + torch.tensor([0.0, 0.0, 0.15]),
        "bottom": body.joint("lowerleg01.L") + torch.tensor([0.0, 0.0, 0.1]),
        "shoes": body.joint("foot.L") + torch.tensor([0.0, -0.08, 0.1]),
        "hair": body.joint("neck01") + torch.tensor([0.0, 0.0, -0.15]),
        "hat": body.joint("head") + torch.tensor([0.0, 0.3, 0.0]),
    }
    found = woman.surface.labels_at(torch.stack(list(places.values())))
    assert [LABELS[number] for number in found.tolist()] == list(places)


def test_no_skin_shows_through_cloth(woman: DressedBody) -> None:
    mesh, labels = woman.surface.mesh, woman.surface.labels
    centres, areas = mesh.vertices[mesh.faces].mean(1), face_areas(mesh.vertices, mesh.faces)
    body = load_body(WOMAN).in_working_box()
    covered = (centres[:, 1] > body.joint("foot.L")[1] + 0.08) & (centres[:, 1] < body.joint("spine01")[1])
    covered &= centres[:, 0].abs() < 0.2
    assert float(areas[covered & (labels == SKIN)].sum()) < 0.002 * float(areas[covered].sum())


def test_a_surface_that_grew_out_of_it_has_its_labels(woman: DressedBody) -> None:
    surface = woman.surface
    assert torch.equal(surface.labels_of(surface.mesh), surface.labels)
    grown = Mesh(surface.mesh.vertices * 1.005, surface.mesh.faces)
    assert float((surface.labels_of(grown) == surface.labels).float().mean()) > 0.97


@pytest.mark.slow
def test_the_shirt_below_a_suit_is_a_top() -> None:
    labels = figure("a black suit and a white shirt", shape=BodyShape(sex=0.05), resolution=64).surface.labels
    area = torch.bincount(labels, minlength=len(LABELS))
    assert 0 < int(area[label_number("top")]) < int(area[label_number("outer")])


@pytest.mark.slow
def test_a_jacket_stands_open_over_the_shirt_and_covers_the_rest() -> None:
    dressed = figure("a red jacket, a white t-shirt, jeans", resolution=256)
    mesh, labels = dressed.surface.mesh, dressed.surface.labels
    body = load_body(WOMAN).in_working_box()
    x, y, z = (mesh.vertices[mesh.faces].mean(1) - body.joint("spine02")).unbind(1)
    chest = (y.abs() < 0.05) & (z > 0.05)
    inside, outside = (labels[chest & mask] for mask in (x.abs() < 0.03, (x.abs() > 0.08) & (x.abs() < 0.12)))
    assert float((inside == label_number("top")).float().mean()) > 0.95
    assert float((outside == label_number("outer")).float().mean()) > 0.95
    back = labels[(y.abs() < 0.05) & (z < -0.05) & (x.abs() < 0.1)]
    assert float((back == label_number("outer")).float().mean()) > 0.95


@pytest.mark.slow
def test_a_dress_is_close_at_its_waist_and_has_no_gap_there() -> None:
    surface = figure("a teal gown", resolution=256).surface
    body = load_body(WOMAN).in_working_box()
    off = surface.mesh.vertices[surface.mesh.faces].mean(1) - body.joint("spine04")
    waist = (off[:, 1].abs() < 0.08) & (off[:, 0].abs() < 0.2)
    assert float((surface.labels[waist] == label_number("dress")).float().mean()) > 0.99
    away = SignedDistance(body.vertices, body.faces)(off[waist & (off[:, 1] > 0)] + body.joint("spine04"))
    assert float(away.mean()) < 0.02


@pytest.mark.slow
def test_long_cloth_is_told_to_be_short_in_poses_that_would_tear_it() -> None:
    outfit = outfit_of_words("a ball gown")
    assert dress(load_body(WOMAN).in_working_box(), outfit, 64).told == ()
    (sentence,) = dress(load_body(WOMAN, "sit").in_working_box(), outfit, 64).told
    assert "sit" in sentence and "ball gown" in sentence


@pytest.mark.slow
def test_a_body_without_an_outfit_is_itself() -> None:
    body = load_body(WOMAN).in_working_box()
    bare = dress(body, Outfit(), 256).surface
    assert bool((bare.labels == SKIN).all())
    whole = float(mesh_volume(body.vertices, body.faces))
    assert float(mesh_volume(bare.mesh.vertices, bare.mesh.faces)) == pytest.approx(whole, rel=0.01)


def test_labels_outside_the_table_are_refused(woman: DressedBody) -> None:
    mesh = woman.surface.mesh
    for wrong in (torch.full((mesh.num_faces,), len(LABELS)), torch.zeros(3, dtype=torch.int64)):
        with pytest.raises(InputError, match="labels"):
            LabelledSurface(mesh, wrong)


def test_splitting_keeps_a_surface_closed_and_where_it_was() -> None:
    body = load_body()
    mesh = Mesh(body.vertices, body.faces)
    marked = torch.rand(mesh.num_faces, generator=torch.Generator().manual_seed(0)) < 0.3
    fine, parent = split_faces(mesh, marked)
    assert is_watertight(fine.faces)
    areas = torch.zeros(mesh.num_faces).index_add(0, parent, face_areas(fine.vertices, fine.faces))
    torch.testing.assert_close(areas, face_areas(mesh.vertices, mesh.faces), atol=1e-8, rtol=1e-3)
    counts = parent.bincount(minlength=mesh.num_faces)
    assert bool((counts[marked] == 4).all()) and bool((counts >= 1).all())


def test_rounding_brings_a_coarse_sphere_nearer_to_the_sphere() -> None:
    tetrahedron = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    mesh = Mesh(
        torch.nn.functional.normalize(tetrahedron, dim=1), torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    )
    fine = rounded(rounded(mesh))
    assert is_watertight(fine.faces) and fine.num_faces == 64
    flat = mesh.vertices[mesh.faces].mean(1).norm(dim=1).min()
    assert float(fine.vertices.norm(dim=1).min()) > float(flat) + 0.2
