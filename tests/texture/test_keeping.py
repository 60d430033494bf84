"""What an edit keeps of a painting: the colour where the label is the same and near, and nowhere else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from humannorm.body import BodyShape
from humannorm.cameras import orbit
from humannorm.checks import InputError
from humannorm.labels import label_number
from humannorm.mesh import Mesh
from humannorm.texture.keeping import KEPT_WITHIN, kept_colors
from humannorm.texture.multiview import uv_field
from humannorm.texture.state import PaintedPerson, TextureState, load_state, save_state
from humannorm.working_box import Placement

TOP, BOTTOM = label_number("top"), label_number("bottom")
SIZE = 64


@pytest.fixture
def painting() -> TextureState:
    """A square in the plane z = 0: a red top above, a blue bottom below."""
    corners = torch.tensor([[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.5, 0.5, 0.0], [-0.5, 0.5, 0.0]])
    uvs = torch.stack([corners[:, 0] + 0.5, 0.5 - corners[:, 1]], 1)
    mesh = Mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]), uvs=uvs)
    upper = torch.arange(SIZE)[:, None].expand(SIZE, SIZE) < SIZE // 2
    texture = torch.where(upper[..., None], torch.tensor([0.8, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.8]))
    labels = torch.where(upper, TOP, BOTTOM).to(torch.uint8)
    return TextureState(mesh, Placement(), uv_field(texture, mesh), orbit([0.0]), labels=labels)


def test_a_place_keeps_its_colour_where_it_is_what_it_was(painting: TextureState) -> None:
    high, low = [0.1, 0.3, 0.0], [0.1, -0.3, 0.0]
    off = [0.1, -0.3, 2 * KEPT_WITHIN]
    points = torch.tensor([high, low, low, off])
    labels = torch.tensor([TOP, BOTTOM, TOP, BOTTOM])
    colors, stays = kept_colors(painting, {TOP})(points, labels)
    assert stays.tolist() == [False, True, False, False]  # to be changed; kept; another thing now; too far away
    assert torch.allclose(colors[1], torch.tensor([0.1, 0.1, 0.8]), atol=1e-3)
    assert kept_colors(painting, ())(points, labels)[1].tolist() == [True, True, False, False]


def test_a_painting_without_labels_keeps_nothing(painting: TextureState) -> None:
    with pytest.raises(InputError, match="painting: expected a texture with labels"):
        kept_colors(dataclasses.replace(painting, labels=None), ())


def test_a_painting_remembers_whom_it_is_of(painting: TextureState, tmp_path: Path) -> None:
    person = PaintedPerson("an old woman in a red coat, standing", "dark", BodyShape(sex=0.95, age=0.9), "a-pose")
    for whom in (person, None):
        save_state(dataclasses.replace(painting, person=whom), tmp_path / "painting.safetensors")
        assert load_state(tmp_path / "painting.safetensors").person == whom
