"""Tests that need a real ComfyUI: COMFYUI_PATH names its folder, COMFYUI_PYTHON an interpreter that can run it."""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from server import ROOT, Host, running_host


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """The host's folder; without it these tests are skipped, and say so."""
    named = os.environ.get("COMFYUI_PATH")
    if not named:
        pytest.skip("COMFYUI_PATH is not set: no ComfyUI to test the nodes in")
    path = Path(named)
    assert (path / "main.py").is_file(), f"COMFYUI_PATH: expected a ComfyUI folder, got {path}"
    return path


@pytest.fixture(scope="session")
def host(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One server for all tests that talk to it."""
    with running_host(comfyui, tmp_path_factory.mktemp("host")) as host:
        yield host


@pytest.fixture(scope="session")
def pack(comfyui: Path) -> types.ModuleType:
    """The pack's `nodes` package in this process, with the host's modules importable on the CPU."""
    pytest.importorskip("torchsde", reason="this interpreter cannot run ComfyUI (set it up from its requirements)")
    sys.path.insert(0, str(comfyui))
    from comfy.cli_args import args

    args.cpu = True
    root = types.ModuleType("humannorm_pack")
    root.__path__ = [str(ROOT)]
    sys.modules["humannorm_pack"] = root
    return importlib.import_module("humannorm_pack.nodes")
