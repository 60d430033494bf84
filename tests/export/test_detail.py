"""Levels of detail: small files of the same surface, with its colours and its skin."""

from __future__ import annotations

import pytest
import torch

from humannorm.body import load_body
from humannorm.body.skin_binding import JointMotion, SkinBinding
from humannorm.checks import InputError
from humannorm.distance.signed_distance import SignedDistance
from humannorm.export.detail import LEVELS, DetailLevel, level_of_detail, skin_on, write_levels
from humannorm.export.skinned import read_skinned_glb
from humannorm.mesh import Mesh


def painted() -> Mesh:
    """The body, red above its middle and blue below."""
    mesh = load_body().to_mesh()
    above = mesh.vertices[:, 1:2] > 0
    return mesh.replace(colors=torch.where(above, torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0])))


@pytest.mark.slow
def test_a_level_is_small_and_skinned(tmp_path):
    body, mesh = load_body(), painted()
    skin = SkinBinding(body.joint_names, body.parents, torch.zeros(163, 3), body.weight_joints, body.weights)
    still = JointMotion("still", torch.eye(3).repeat(60, 163, 1, 1), torch.zeros(60, 3), 1 / 30)
    (file,) = write_levels(tmp_path / "human.glb", mesh, 1, skin, [still])
    assert file.name == "human_lod1.glb" and file.stat().st_size < 500_000
    found = read_skinned_glb(file)
    assert 500 < found.mesh.num_faces <= 1.5 * LEVELS[0].faces
    assert len(found.skin.weights) == found.mesh.num_vertices
    apart = SignedDistance(mesh.vertices, mesh.faces).closest(found.mesh.vertices).point - found.mesh.vertices
    assert float(apart.norm(dim=1).max()) < 0.02  # of 1.8 units
    with pytest.raises(InputError, match="levels_of_detail: expected 0 to 2, got 3"):
        write_levels(tmp_path / "more.glb", mesh, 3)


@pytest.mark.slow
def test_a_level_has_the_colours_of_its_places():
    low = level_of_detail(painted(), DetailLevel(1500, 128))
    assert low.normal_map is None and low.mesh.texture is not None
    assert low.mesh.texture.shape == (128, 128, 3)
    red, blue = ((low.mesh.texture - torch.tensor(color)).abs().amax(-1) < 0.02 for color in ([1.0, 0, 0], [0, 0, 1.0]))
    assert float(red.float().mean()) > 0.1 and float(blue.float().mean()) > 0.1


def test_the_skin_of_the_same_surface_is_the_same_and_of_a_midpoint_the_mean():
    full = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
    skin = SkinBinding(
        ("a", "b", "c"),
        (-1, 0, 0),
        torch.zeros(3, 3),
        torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0]]),
        torch.tensor([[1.0, 0, 0, 0]] * 3),
    )
    middle = Mesh(torch.tensor([[0.5, 0, 0], [0, 1, 0], [0, 0, 0]]), torch.tensor([[0, 1, 2]]))
    found = skin_on(middle, full, skin)
    shares = torch.zeros(3, 3).scatter_add_(1, found.weight_joints, found.weights)
    torch.testing.assert_close(shares, torch.tensor([[0.5, 0.5, 0], [0, 0, 1], [1, 0, 0]]), atol=1e-6, rtol=0)
