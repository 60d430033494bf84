"""Which networks the stages get from --models: one folder that does everything, or the published four."""

from __future__ import annotations

import shutil

import pytest
import torch

from humannorm.checks import InputError
from humannorm.guidance import PUBLISHED_FOLDERS, DiffusersDenoiser, find_guides

CPU = torch.device("cpu")


@pytest.fixture
def published(tiny_sd, tmp_path):
    """The published layout: three diffusers folders and a ControlNet of its own."""
    source = tiny_sd("epsilon")
    for name in PUBLISHED_FOLDERS[:3]:
        shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("controlnet"))
    shutil.copytree(source / "controlnet", tmp_path / PUBLISHED_FOLDERS[3])
    return tmp_path


def test_one_folder_is_loaded_once_for_all_stages(tiny_sd):
    guides = find_guides(tiny_sd("epsilon"), CPU)
    assert guides.normal is guides.depth is guides.aligned()
    assert guides.aligned().controlnet is not None
    assert find_guides(tiny_sd("epsilon"), CPU, paint=False).aligned().controlnet is None


def test_the_published_four_are_loaded_when_asked(published):
    guides = find_guides(published, CPU)
    assert isinstance(guides.normal(), DiffusersDenoiser) and guides.depth().controlnet is None
    assert guides.aligned().controlnet is not None


def test_what_is_missing_is_told_before_any_stage(published, tiny_sd):
    shutil.rmtree(published / "controlnet-normal-sd1.5")
    find_guides(published, CPU, paint=False)
    with pytest.raises(InputError, match="controlnet-normal-sd1.5: expected beside normal-adapted-sd1.5"):
        find_guides(published, CPU)
    shutil.rmtree(published / "depth-adapted-sd1.5" / "vae")
    with pytest.raises(InputError, match=r"vae: expected in a diffusers folder"):
        find_guides(published, CPU, paint=False)
