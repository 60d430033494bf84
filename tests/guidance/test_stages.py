"""Which networks the stages get from --models: one folder that does everything, or the published_sd four."""

from __future__ import annotations

import shutil

import pytest
import torch

from humannorm.checks import InputError
from humannorm.guidance import Autoguidance, DiffusersDenoiser, find_guides, load_networks

CPU = torch.device("cpu")


def test_one_folder_is_loaded_once_for_all_stages(tiny_sd):
    guides = find_guides(tiny_sd("epsilon"), CPU)
    assert guides.normal is guides.depth is guides.aligned()
    assert guides.aligned().controlnet is not None
    assert find_guides(tiny_sd("epsilon"), CPU, kinds=("normal", "depth")).aligned().controlnet is None


def test_the_published_four_are_loaded_when_asked(published_sd):
    guides = find_guides(published_sd, CPU)
    assert isinstance(guides.normal(), DiffusersDenoiser) and guides.depth().controlnet is None
    assert guides.aligned().controlnet is not None


def test_what_is_missing_is_told_before_any_stage(published_sd, tiny_sd):
    shutil.rmtree(published_sd / "controlnet-normal-sd1.5")
    find_guides(published_sd, CPU, kinds=("normal", "depth"))
    with pytest.raises(InputError, match="controlnet-normal-sd1.5: expected beside normal-adapted-sd1.5"):
        find_guides(published_sd, CPU)
    shutil.rmtree(published_sd / "depth-adapted-sd1.5" / "vae")
    with pytest.raises(InputError, match=r"vae: expected in a diffusers folder"):
        find_guides(published_sd, CPU, kinds=("normal", "depth"))


def test_networks_for_sampling_are_loaded_by_kind(published_sd, tiny_sd):
    networks = load_networks(published_sd, kinds=("normal", "color"))
    assert list(networks) == ["normal", "color"] and networks["normal"] is not networks["color"]
    assert networks["normal"].controlnet is None and networks["color"].controlnet is not None
    alone = load_networks(tiny_sd("epsilon"), kinds=("normal", "color"), autoguidance=Autoguidance())
    assert alone["normal"] is alone["color"] and alone["color"].controlnet is not None
    shutil.rmtree(published_sd / "depth-adapted-sd1.5")
    load_networks(published_sd, kinds=("normal",))
    with pytest.raises(InputError, match="depth-adapted-sd1.5: expected beside normal-adapted-sd1.5"):
        load_networks(published_sd, kinds=("depth",))
    with pytest.raises(InputError, match="kind: expected one of normal, depth, color, got 'albedo'"):
        load_networks(published_sd, kinds=("albedo",))


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_networks_come_in_the_precision_asked_for(tiny_sd, precision, dtype):
    guides = find_guides(tiny_sd("epsilon"), CPU, precision=precision)
    assert guides.precision == precision
    assert {parameter.dtype for module in guides.aligned().modules for parameter in module.parameters()} == {dtype}
