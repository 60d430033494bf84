"""Held regions stay where they are whatever the guidance wants; the rest is free."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import trimesh

from humannorm.body import BodyShape, load_body
from humannorm.body.regions import BODY_REGIONS, region_vertices, share_of_regions
from humannorm.checks import InputError
from humannorm.distance.signed_distance import SignedDistance
from humannorm.geometry.holding import FINGERS, Hold, RememberedHold, hold_all_but, hold_regions
from humannorm.geometry.sculpt import sculpt
from humannorm.geometry.settings import QUICK, GeometrySettings, edit_settings
from humannorm.geometry.start import prepare_start
from humannorm.geometry.state import extract_mesh, load_state, save_state, start_state
from humannorm.mesh import Mesh, is_watertight, vertex_normals
from humannorm.schedules import constant


def ball(radius: float) -> Mesh:
    shape = trimesh.creation.icosphere(3, radius)
    return Mesh(torch.tensor(shape.vertices, dtype=torch.float32), torch.tensor(shape.faces, dtype=torch.int64))


@pytest.mark.slow
def test_the_held_half_of_a_ball_stays_while_the_free_half_grows(
    small_settings: GeometrySettings, believes_in_mesh: Any, tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        small_settings, steps=25, learning_rate=constant(6e-3), sdf_record_step=None,
        laplacian_weight=constant(0.0), normal_consistency_weight=constant(0.0),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    start = prepare_start(ball(0.5), 1.0)
    state = start_state(start, settings, generator)[0]
    share = torch.zeros(8, 8, 8)
    share[..., :4] = 1  # x below -1/7; a cell of transition
    core = torch.ones(8, 8, 8, dtype=torch.bool)  # of a ball that only grows it takes nothing
    state = dataclasses.replace(state, hold=Hold(start.mesh, share, core=core))
    guide = believes_in_mesh(ball(0.62))
    done = sculpt(state, "a ball", settings, normal=guide, depth=guide, generator=generator)
    mesh = extract_mesh(done).mesh
    assert is_watertight(mesh.faces)
    radius, x = mesh.vertices.norm(dim=1), mesh.vertices[:, 0]
    held, free = radius[x < -0.2], radius[x > 0.25]
    cell = 2 / settings.resolution(settings.steps)
    assert float((held - 0.5).abs().max()) < 0.15 * cell  # the lattice's own error
    assert float(free.mean()) > 0.53
    save_state(done, tmp_path / "state.safetensors")
    again = load_state(tmp_path / "state.safetensors")
    points = torch.rand(500, 3) * 2 - 1
    assert torch.equal(again.signed_distance(points), done.signed_distance(points))
    assert again.hold is not None and torch.equal(again.hold.core, core)
    assert done.edited(None).hold is None and done.edited(None).step == 0


def test_parts_cover_the_body_and_sit_where_they_should() -> None:
    body = load_body()
    masks = {region: region_vertices(body, [region]) for region in BODY_REGIONS}
    assert bool(region_vertices(body, [region for region in BODY_REGIONS if region != "face"]).all())
    disjoint = sum(mask.int() for region, mask in masks.items() if region != "face")
    assert int(disjoint.max()) == 1
    heights = {region: body.vertices[mask, 1].mean() / body.height_m for region, mask in masks.items()}
    assert heights["shoes"] < heights["bottom"] < heights["top"] < heights["head"]
    assert not bool((masks["face"] & ~masks["head"]).any()) and masks["face"].sum() < 0.9 * masks["head"].sum()
    assert float(body.vertices[masks["face"], 2].mean()) > float(body.vertices[masks["head"], 2].mean())
    assert float(body.vertices[masks["hands"], 0].abs().min()) > 0.2
    with pytest.raises(InputError, match="region: expected one of head, face, top"):
        region_vertices(body, ["elbow"])
    with pytest.raises(InputError, match="regions: expected at least one"):
        share_of_regions(body.vertices, body, [])


@pytest.mark.slow
@pytest.mark.parametrize("pose", ["a-pose", "fight"])
def test_held_hands_are_the_templates_own(pose: str) -> None:
    """A field that has forgotten the hands altogether, with the template's held."""
    body = load_body(pose=pose).in_working_box()
    template = body.to_mesh(normalized=False)
    hold = hold_regions(template, body, ["hands"])
    wrong = hold.applied(lambda points: points.norm(dim=1) - 0.1)
    hands = region_vertices(body, ["hands"])
    tips = body.vertices[hands]
    normal = torch.nn.functional.normalize(torch.randn(len(tips), 3, generator=torch.Generator().manual_seed(0)), dim=1)
    near = tips + 0.004 * normal
    exact = SignedDistance(template.vertices, template.faces)(near)
    # Half a per cent of the height is asked for.
    assert float((wrong(near) - exact).abs().max()) < 0.005 * 1.8
    trunk = body.vertices[region_vertices(body, ["head"])]
    assert float(hold.share_at(trunk).max()) == 0


@pytest.mark.slow
def test_fingers_are_found_again_in_the_finished_surface_whatever_the_lattice_lost(
    small_settings: GeometrySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the lattice of the sculpting a finger falls between two vertices; the finished mesh must have it."""
    monkeypatch.setattr("humannorm.geometry.holding.FINGERS", FINGERS)
    body = load_body().in_working_box()
    start = prepare_start(body.to_mesh(normalized=False))
    state, _ = start_state(start, small_settings, torch.Generator().manual_seed(0))
    held = dataclasses.replace(state, hold=hold_regions(start.mesh, body, ["hands"]))
    hands = body.vertices[region_vertices(body, ["hands"])]
    lost, found = (
        (SignedDistance(mesh.vertices, mesh.faces, inside_out="flip").closest(hands).point - hands).norm(dim=1)
        for mesh in (extract_mesh(state).mesh, extract_mesh(held).mesh)
    )
    height = 1.8
    assert float(lost.max()) > 0.02 * height
    assert float(found.max()) < 0.005 * height  # half a per cent
    assert held.edited(None).hold is held.hold
    limited = held.edited(hold_all_but(start.mesh, body, ["top"])).hold
    assert limited is not None and held.hold is not None and limited.resolution == held.hold.resolution


@pytest.mark.slow
def test_an_edit_of_the_top_leaves_shoes_and_head_alone() -> None:
    body = load_body().in_working_box()
    hold = hold_all_but(body.to_mesh(normalized=False), body, ["top"])
    shares = {region: hold.share_at(body.vertices[region_vertices(body, [region])]) for region in BODY_REGIONS}
    for region in ("shoes", "head", "hands"):
        assert float(shares[region].median()) == pytest.approx(1, abs=1e-4)
    assert float(shares["top"].median()) == pytest.approx(0, abs=1e-4)
    beside = torch.tensor([[0.0, float(body.joint("spine02")[1]), 0.35]])  # a coat may grow in front of the chest
    assert float(hold.share_at(beside)) < 0.05


def test_edits_run_at_the_detail_they_find() -> None:
    settings = edit_settings(QUICK, levels=7, resolution=160)
    assert settings.active_levels(0) == 7 and settings.resolution(0) == 160 == settings.resolution(1000)
    assert settings.normal_t_range[1](0) == 0.5 and settings.sdf_record_step == 0
    with pytest.raises(InputError, match="strength: expected 0.02 to 1"):
        edit_settings(QUICK, 7, 160, strength=2.0)


@pytest.mark.slow
@pytest.mark.parametrize("pose", ["a-pose", "run"])
def test_a_guide_that_takes_the_arms_away_leaves_their_core_between_body_and_hands(pose: str) -> None:
    body = load_body(BodyShape(weight=0.1), pose).in_working_box()
    mesh = body.to_mesh(normalized=False)
    hold = hold_regions(mesh, body, ["hands"])
    trunk = (
        region_vertices(body, ["hands"])
        | torch.tensor([name.startswith(("upperarm", "lowerarm", "wrist")) for name in body.joint_names])[
            body.weight_joints[:, 0]
        ]
    )
    armless = mesh.vertices[~trunk]

    def field(points: torch.Tensor) -> torch.Tensor:
        """Inside only what is near a vertex of the rest of the body."""
        return torch.cdist(points, armless[::7]).amin(1) - 0.06

    inside = hold.distance(mesh.vertices - 0.018 * vertex_normals(mesh.vertices, mesh.faces)) < -0.0175
    deep = (mesh.vertices - 0.018 * vertex_normals(mesh.vertices, mesh.faces))[trunk & inside]
    assert len(deep) > 200
    lost, kept = field(deep), hold.applied(field)(deep)
    assert float((lost > 0).float().mean()) > 0.5 and float(kept.max()) < 0
    far = mesh.vertices[region_vertices(body, ["shoes"])]
    assert torch.equal(hold.applied(field)(far), field(far))  # elsewhere nothing is added
    assert hold_regions(mesh, body, ["face"]).core is None
    elbow = body.joint("lowerarm01.L")
    assert float((hold.kept_points() - elbow).norm(dim=1).min()) < 0.06  # the lattice learns where the core runs


@pytest.mark.slow
def test_remembered_hold_is_the_hold_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients at all points and at some, over two tensors of points; distances are asked for once each."""
    body = load_body().in_working_box()
    mesh = body.to_mesh(normalized=False)
    skirt = Mesh(mesh.vertices * 1.2, mesh.faces)
    hold = hold_regions(mesh, body, ["hands"], worn=skirt)
    generator = torch.Generator().manual_seed(0)
    asked: list[int] = []
    distance = SignedDistance.__call__

    def counted(self: SignedDistance, points: torch.Tensor) -> torch.Tensor:
        asked.append(len(points))
        return distance(self, points)

    radius = torch.tensor(0.3, requires_grad=True)

    def field(points: torch.Tensor) -> torch.Tensor:
        return points.norm(dim=1) - radius

    for points in (2 * torch.rand(9000, 3, generator=generator) - 1 for _ in range(2)):
        remembered = RememberedHold(hold)
        rows = torch.randint(9000, (500,), generator=generator)
        pairs = (
            (hold.applied(field)(points), remembered.blended(field(points), points)),
            (hold.applied(field)(points[rows]), remembered.blended(field(points[rows]), points, rows)),
        )
        for expected, got in pairs:
            assert torch.equal(expected, got)
            want, have = (torch.autograd.grad(values.square().sum(), radius)[0] for values in (expected, got))
            assert float(want) != 0 and torch.equal(want, have)
        assert not torch.equal(pairs[0][0], field(points))
        with monkeypatch.context() as patch:
            patch.setattr(SignedDistance, "__call__", counted)
            remembered.blended(field(points), points)
            assert not asked
            remembered.blended(field(points), points.clone())
            assert asked
        asked.clear()
    learned = field(points)
    assert RememberedHold(None).blended(learned, points) is learned
