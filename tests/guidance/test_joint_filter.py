"""Pictures made sharp by what the ControlNet was shown."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import save_file

from humannorm.checks import InputError
from humannorm.guidance import DiffusersDenoiser
from humannorm.guidance.joint_filter import JointFilter
from humannorm.guidance.samplers import sample_images
from humannorm.models import JOINT_FILTER

SMALL = (8, 16, 16)


@pytest.fixture(scope="module")
def trained():
    """A filter that has learnt to draw the dark lines that its hints show into flat pictures."""
    torch.manual_seed(0)
    network, generator, steps = JointFilter(SMALL), torch.Generator().manual_seed(0), 300
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two take five times as long for so little
    optimiser = torch.optim.Adam(network.parameters())
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 50) * (1 - step / steps)
        pictures, hints, truth = without_lines(8, generator)
        (network(pictures, hints) - truth).abs().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    torch.set_num_threads(threads)
    return network.eval()


def without_lines(count, generator):
    """Flat pictures that have lost a line somewhere, hints that say where, and the pictures with it: [N, C, 16, 16]."""
    at = torch.randint(2, 14, (count, 1, 1, 1), generator=generator)
    line = (torch.arange(16)[None, None, None] == at).float().expand(-1, -1, 16, -1)
    flat = (0.4 + 0.6 * torch.rand(count, 3, 1, 1, generator=generator)).expand(-1, -1, 16, 16)
    return flat, line.expand(-1, 6, -1, -1).contiguous(), flat - 0.3 * line


def test_a_fresh_one_changes_nothing(generator):
    pictures, control = torch.rand(2, 16, 24, 3, generator=generator), torch.rand(2, 16, 24, 6, generator=generator)
    torch.testing.assert_close(JointFilter(SMALL).sharpened(pictures, control), pictures)


def test_lines_come_back_from_the_hint_and_only_from_there(trained, generator):
    pictures, hints, truth = (part.permute(0, 2, 3, 1) for part in without_lines(16, generator))
    before = (pictures - truth).abs().mean()
    assert (trained.sharpened(pictures, hints) - truth).abs().mean() < 0.3 * before
    assert (trained.sharpened(pictures, hints.roll(1, 0)) - truth).abs().mean() > 0.8 * before  # another's hint


def test_three_channels_are_six_without_colours(trained, generator):
    pictures, control = torch.rand(2, 16, 16, 3, generator=generator), torch.rand(2, 16, 16, 3, generator=generator)
    black = torch.cat([control, torch.zeros_like(control)], -1)
    assert torch.equal(trained.sharpened(pictures, control), trained.sharpened(pictures, black))


@pytest.mark.parametrize(("size", "control"), [((12, 16), (12, 16, 3)), ((16, 16), (16, 16, 4)), ((16, 16), (8, 8, 3))])
def test_other_shapes_are_refused(size, control):
    with pytest.raises(InputError, match="control"):
        JointFilter(SMALL).sharpened(torch.zeros(1, *size, 3), torch.zeros(1, *control))


def test_what_is_saved_is_what_is_loaded(trained, generator, tmp_path):
    trained.save(tmp_path / JOINT_FILTER)
    pictures, control = torch.rand(1, 16, 16, 3, generator=generator), torch.rand(1, 16, 16, 6, generator=generator)
    again = JointFilter.load(tmp_path / JOINT_FILTER)
    assert again.widths == SMALL
    torch.testing.assert_close(
        again.sharpened(pictures, control), trained.sharpened(pictures, control), atol=5e-3, rtol=0
    )


def test_other_files_are_refused(tmp_path):
    path = tmp_path / JOINT_FILTER
    save_file({"first.weight": torch.zeros(8, 36, 3, 3)}, path)
    with pytest.raises(InputError, match="JointFilter"):
        JointFilter.load(path)
    path.write_bytes(b"no weights")
    with pytest.raises(InputError, match="whole safetensors"):
        JointFilter.load(path)


def test_a_folders_filter_sharpens_what_is_drawn_under_control(tiny_sd, generator, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_sd("v_prediction"), folder)
    plain = DiffusersDenoiser.load(folder, control=True)
    network = JointFilter(SMALL)
    with torch.no_grad():
        network.last.bias[8:] = 0.25  # added: lighter by a quarter
    network.save(folder / JOINT_FILTER)
    guide = DiffusersDenoiser.load(folder, control=True)
    control = torch.rand(1, 32, 32, 3, generator=generator)  # of another size than the model's
    drawn, lighter = (
        sample_images(each, ["a man"], seeds=[1], control=control, steps=1, guidance_scale=1.0)
        for each in (plain, guide)
    )
    torch.testing.assert_close(lighter, (drawn + 0.25).clamp(0, 1))
    free = [sample_images(each, ["a man"], seeds=[1], steps=1, guidance_scale=1.0) for each in (plain, guide)]
    assert torch.equal(*free)  # without a hint there is nothing to sharpen by
