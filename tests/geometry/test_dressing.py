"""What a start wears: united with it, and kept against any field."""

from __future__ import annotations

import torch

from humannorm.body import load_body
from humannorm.body.regions import following_vertices
from humannorm.body.worn import Worn, solids_of
from humannorm.distance.signed_distance import SignedDistance
from humannorm.geometry.dressing import dressed, kept_of_start, united
from humannorm.geometry.holding import WORN, hold_regions
from humannorm.geometry.settings import preset
from humannorm.geometry.start import StartMesh, prepare_start
from humannorm.geometry.state import extract_mesh, load_state, save_state, start_state
from humannorm.mesh import Mesh, connected_components, is_watertight


def ball(centre: tuple[float, float, float], radius: float) -> Mesh:
    import trimesh

    sphere = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    return Mesh(torch.tensor(sphere.vertices).float() + torch.tensor(centre), torch.tensor(sphere.faces).long())


def test_a_union_has_the_closed_form_distance_and_nothing_inside():
    left, right = ball((-0.15, 0.0, 0.0), 0.3), ball((0.15, 0.0, 0.0), 0.3)
    start = dressed(StartMesh(left, SignedDistance(left.vertices, left.faces), ()), [right])
    pieces = connected_components(start.mesh.faces, start.mesh.num_vertices)[start.mesh.faces[:, 0]]
    assert is_watertight(start.mesh.faces) and len(pieces.unique()) == 1
    points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    centres = torch.tensor([[-0.15, 0.0, 0.0], [0.15, 0.0, 0.0]])
    exact = (torch.cdist(points, centres) - 0.3).amin(1)
    outside = exact > 0.01
    torch.testing.assert_close(start.signed_distance(points)[outside], exact[outside], atol=2e-3, rtol=0)
    assert bool(((start.signed_distance(points) < 0) == (exact < 0))[exact.abs() > 2e-3].all())


def test_a_start_without_solids_stays_as_it_is():
    start = prepare_start(load_body().to_mesh())
    assert dressed(start, ()) is start


def test_what_is_worn_stays_whatever_the_field_says_and_survives_a_file(tmp_path):
    body = load_body().in_working_box()
    solids = solids_of(body, Worn("long", 0.5, 0.05))
    undressed = prepare_start(body.to_mesh(normalized=False))
    worn = united(solids)
    hold = hold_regions(undressed.mesh, body, ["hands", "face"], worn)
    points = worn.vertices - 0.05 * torch.nn.functional.normalize(worn.vertices - worn.vertices.mean(0), dim=1)
    points = points[hold.worn_distance(points) < -WORN - 0.005]
    assert len(points) > 1000

    def nothing_anywhere(places):
        return torch.ones(len(places))

    assert bool((hold.applied(nothing_anywhere)(points) < 0).all())
    face_and_hair = worn.vertices[hold.share_at(worn.vertices) > 0.9]
    assert len(face_and_hair) > 50, "hair at the face is kept to the full"
    assert float(hold.applied(nothing_anywhere)(face_and_hair).max()) < 0.1 + 1e-3

    settings = preset("quick").with_steps(4)
    state, _ = start_state(dressed(undressed, solids), settings, torch.Generator().manual_seed(0))
    state = type(state)(**{**vars(state), "hold": hold})
    save_state(state, tmp_path / "state.safetensors")
    again = load_state(tmp_path / "state.safetensors")
    assert again.hold is not None and again.hold.worn is not None
    assert torch.equal(extract_mesh(again, 128).mesh.vertices, extract_mesh(state, 128).mesh.vertices)
    torch.testing.assert_close(again.hold.applied(nothing_anywhere)(points), hold.applied(nothing_anywhere)(points))


def test_only_what_is_worn_can_be_kept():
    body = load_body().in_working_box()
    worn = united(solids_of(body, Worn(hem=0.5)))
    hold = hold_regions(body.to_mesh(normalized=False), body, (), worn)
    assert not bool(hold.share.any()) and hold.resolution == 0


def test_bare_shins_stay_bare_under_a_guide_that_knows_trousers():
    body = load_body().in_working_box()
    undressed = prepare_start(body.to_mesh(normalized=False))
    solids = solids_of(body, Worn(legs=0.42))
    shins = body.vertices[following_vertices(body, "lowerleg02")]
    wide = {
        bare: kept_of_start(
            undressed, solids, inside=lambda: body, regions=("hands",), keep_worn=True, bare=bare
        ).applied(lambda places: undressed.signed_distance(places) - 0.04)(shins)
        for bare in (True, False)
    }
    assert float(wide[True].abs().median()) < 1e-3 and float(wide[False].median()) < -0.039
