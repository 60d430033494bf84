"""The ControlNet of six channels beside the one of three: what its file holds, and which of the two is heard when."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file, save_file

from humannorm.checks import InputError
from humannorm.guidance import DiffusersDenoiser
from humannorm.guidance.hints_controlnet import (
    load_hints_controlnet,
    read_hints_controlnet,
    save_hints_controlnet,
)
from humannorm.models import HINTS_CONTROLNET, bundled_folder
from humannorm.training.widening import with_hint_channels

PLACE = {"device": "cpu", "dtype": torch.float32}


@pytest.fixture
def both(tiny_sd, tmp_path: Path) -> tuple[Path, ControlNetModel]:
    """A tiny folder with both ControlNets, and the trained one as it was before it was written."""
    folder = tmp_path / "both"
    shutil.copytree(tiny_sd("v_prediction"), folder)
    base = ControlNetModel.from_pretrained(folder / "controlnet")
    trained = with_hint_channels(ControlNetModel.from_pretrained(folder / "controlnet"), 6)
    with torch.no_grad():
        for number, parameter in enumerate(trained.parameters()):
            drawn = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter += 0.05 * drawn
    save_hints_controlnet(trained, base, folder / HINTS_CONTROLNET, rank=512)  # of all directions
    return folder, trained


def test_what_was_written_is_read_again(both):
    folder, trained = both
    config, weights = read_hints_controlnet(folder)
    assert config["conditioning_channels"] == 6 and set(weights) == set(trained.state_dict())
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(weights[name], value, atol=2e-3, rtol=5e-3)


def test_low_rank_keeps_the_strongest_directions(both, tmp_path: Path):
    """A change of rank 1 is kept whole in rank 1; of any other the error is what its weaker directions hold."""
    folder, trained = both
    base = ControlNetModel.from_pretrained(folder / "controlnet")
    name = next(name for name, value in trained.state_dict().items() if value.ndim == 2 and min(value.shape) > 8)
    change = trained.state_dict()[name] - base.state_dict()[name]
    save_hints_controlnet(trained, base, folder / HINTS_CONTROLNET, rank=1)
    found = read_hints_controlnet(folder)[1][name] - base.state_dict()[name]
    assert int(torch.linalg.matrix_rank(found, atol=1e-2)) == 1
    left_out = torch.linalg.svdvals(change)[1:].square().sum().sqrt()
    torch.testing.assert_close((found - change).norm(), left_out, rtol=1e-2, atol=0)


def test_the_control_says_which_is_heard(both):
    folder, _ = both
    guide = DiffusersDenoiser.load(folder, control=True)
    plain = DiffusersDenoiser.load(folder, control=True)
    plain.hints_controlnet = None
    hinted = DiffusersDenoiser.load(folder, control=True)
    hinted.controlnet, hinted.hints_controlnet = load_hints_controlnet(folder, **PLACE), None
    assert (guide.hint_channels, plain.hint_channels, hinted.hint_channels) == (6, 3, 6)
    side = guide.resolution // guide.downscale
    x = torch.randn(1, guide.channels, side, side, generator=torch.Generator().manual_seed(0))
    control = torch.rand(1, guide.resolution, guide.resolution, 6, generator=torch.Generator().manual_seed(1))

    def drawn(by: DiffusersDenoiser, shown: torch.Tensor) -> torch.Tensor:
        condition = by.condition(["a man"], guidance_scale=1.0, control=shown)
        return by.denoise(x, torch.ones(1), condition)

    assert torch.equal(drawn(guide, control), drawn(hinted, control))
    assert torch.equal(drawn(guide, control[..., :3]), drawn(plain, control[..., :3]))
    assert not torch.equal(drawn(guide, control), drawn(guide, control[..., :3]))
    assert torch.equal(drawn(plain, control), drawn(plain, control[..., :3]))  # who reads three takes three
    with pytest.raises(InputError, match="control: expected"):
        guide.condition(["a man"], guidance_scale=1.0, control=control[..., :4])


def test_another_file_is_refused(both):
    folder, _ = both
    path = folder / HINTS_CONTROLNET
    written = load_file(path)
    save_file(written, path)  # without what it says of itself
    with pytest.raises(InputError, match="expected what parts a ControlNet"):
        read_hints_controlnet(folder)
    facts = {"conditioning_channels": "6", "widths": "16 32 96 256"}
    save_file({name: value for name, value in written.items() if "mid_block" not in name}, path, facts)
    with pytest.raises(InputError, match="expected"):
        load_hints_controlnet(folder, **PLACE)
    save_file({"stray.weight": torch.ones(2)}, path, facts)
    with pytest.raises(InputError, match="stray"):
        read_hints_controlnet(folder)


def test_the_bundled_model_has_both():
    guide = DiffusersDenoiser.load(control=True)
    assert guide.hint_channels == 6 and guide.controlnet.config.conditioning_channels == 3
    few = guide.in_few_steps()
    assert few.hints_controlnet is guide.hints_controlnet in guide.modules
    config = json.loads((bundled_folder() / "controlnet" / "config.json").read_text())
    assert config["conditioning_channels"] == 3
