"""Relaxed weights: a sheet whose halves follow two joints is torn nowhere, however fine its mesh."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from humannorm.body.skin_binding import SkinBinding
from humannorm.mesh import Mesh, unique_edges
from humannorm.rigging import RelaxationSettings, relaxed_skin

SETTINGS = RelaxationSettings()
APART = 0.2  # heights that the joints part, across the sheet


def sheet(cells: int) -> Mesh:
    """A square of height 1 in the plane of the joints' motion, two triangles a cell."""
    line = torch.linspace(0, 1, cells + 1)
    y, x = torch.meshgrid(line, line, indexing="ij")
    corner = (torch.arange(cells)[:, None] * (cells + 1) + torch.arange(cells)).flatten()
    low, high = (corner, corner + 1, corner + cells + 2), (corner, corner + cells + 2, corner + cells + 1)
    faces = torch.cat([torch.stack(low, 1), torch.stack(high, 1)])
    return Mesh(torch.stack([x.flatten(), y.flatten(), torch.zeros((cells + 1) ** 2)], 1), faces)


def two_halves(mesh: Mesh) -> SkinBinding:
    right = (mesh.vertices[:, 0] > 0.5).float()
    weights = torch.stack([1 - right, right, torch.zeros_like(right), torch.zeros_like(right)], 1)
    joints = torch.tensor([0, 1, 0, 0]).expand(len(right), 4).clone()
    order = weights.argsort(dim=1, descending=True, stable=True)
    names = ("left", "right", "unused 1", "unused 2", "unused 3", "unused 4")
    places = torch.tensor([[0.0, 0, 0]] + [[1.0, 0, 0]] * 5)
    return SkinBinding(names, (-1, 0, 0, 0, 0, 0), places, joints.gather(1, order), weights.gather(1, order))


def apart() -> list[Tensor]:
    frame = torch.eye(4).repeat(6, 1, 1)
    frame[1, 0, 3] = APART
    return [frame]


def worst_stretch(mesh: Mesh, skin: SkinBinding) -> float:
    edges = unique_edges(mesh.faces)
    before, after = (
        (vertices[edges[:, 0]] - vertices[edges[:, 1]]).norm(dim=1)
        for vertices in (mesh.vertices, skin.moved(mesh.vertices, apart()[0]))
    )
    return float((after / before).max())


@pytest.mark.slow
@pytest.mark.parametrize("cells", [20, 80, 240])
def test_no_edge_is_left_torn_at_any_fineness(cells: int) -> None:
    mesh = sheet(cells)
    skin = two_halves(mesh)
    nothing = torch.zeros(mesh.num_vertices, dtype=torch.bool)
    assert worst_stretch(mesh, skin) > SETTINGS.limit
    relaxed = relaxed_skin(mesh, skin, apart(), nothing, SETTINGS)
    assert worst_stretch(mesh, relaxed) < 2.7  # where the rounds end on the finest; 3 is what may be seen
    # The halves' far ends still follow their own joint, and each height of the sheet moves alike.
    moved = relaxed.moved(mesh.vertices, apart()[0]) - mesh.vertices
    ends = (mesh.vertices[:, 0] - 0.5).abs() > 0.35
    torch.testing.assert_close(moved[ends, 0], APART * (mesh.vertices[ends, 0] > 0.5).float())


def test_what_is_not_torn_and_what_may_fold_is_left_alone() -> None:
    mesh = sheet(40)
    skin = two_halves(mesh)
    everything = torch.ones(mesh.num_vertices, dtype=torch.bool)
    folded = relaxed_skin(mesh, skin, apart(), everything, SETTINGS)
    whole = relaxed_skin(mesh, skin, [torch.eye(4).repeat(6, 1, 1)], ~everything, SETTINGS)
    none = relaxed_skin(mesh, skin, apart(), ~everything, dataclasses.replace(SETTINGS, rounds=0))
    for same in (folded, whole, none):
        assert torch.equal(same.weights, skin.weights) and torch.equal(same.weight_joints, skin.weight_joints)
