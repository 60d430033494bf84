"""How threads wait, how many there are, and in which precision networks run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from humannorm.checks import InputError
from humannorm.processor import (
    core_quota,
    has_native_bf16,
    network_dtype,
    network_precision,
    prepare_threads,
    waiting_policy,
)

OPENMP = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing of threads, with torch not loaded yet as far as anyone can see."""
    for name in OPENMP:
        monkeypatch.setenv(name, "")  # so that it is taken back after the test, whoever sets it
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "torch")


def test_threads_sleep_where_the_user_has_said_nothing(unset: None) -> None:
    prepare_threads()
    assert waiting_policy() == {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


@pytest.mark.parametrize("name", OPENMP[:3])
def test_what_the_user_said_of_waiting_stays_as_it_is(unset: None, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "7")
    prepare_threads()
    assert waiting_policy() == {name: "7"}


def test_nothing_is_touched_once_torch_is_there(unset: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch)
    before = dict(os.environ)
    prepare_threads()
    assert dict(os.environ) == before and waiting_policy() == {}


def test_the_command_prepares_and_the_library_does_not() -> None:
    """In one fresh interpreter: importing leaves the environment alone, the command does not, and what it sets is there
    before torch is, which the command's help does not need."""
    code = """
import json, os, sys
before = dict(os.environ)
import humannorm.processor, humannorm.cli
library = dict(os.environ) == before
try:
    humannorm.cli.main([])  # shows the help
except SystemExit:
    pass
print(json.dumps([library, "torch" in sys.modules, {k: v for k, v in os.environ.items() if k not in before}]))
"""
    environment = {name: value for name, value in os.environ.items() if name not in OPENMP}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    library, torch_there, added = json.loads(done.stdout.splitlines()[-1])
    assert library and not torch_there
    added.pop("OMP_NUM_THREADS", None)  # in a container with a quota
    assert added == {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "not what was promised"}, None),
        ({}, None),
    ],
)
def test_a_containers_share_of_the_cores(tmp_path: Path, files: dict[str, str], cores: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert core_quota(tmp_path) == cores


@pytest.mark.parametrize(("quota", "threads"), [(1.5, "1"), (0.5, "1"), (None, None), (1e6, None)])
def test_a_share_of_the_cores_is_as_many_threads(
    unset: None, monkeypatch: pytest.MonkeyPatch, quota: float | None, threads: str | None
) -> None:
    monkeypatch.setattr("humannorm.processor.core_quota", lambda: quota)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    prepare_threads()
    assert os.environ.get("OMP_NUM_THREADS") == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    prepare_threads()
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_auto_is_bf16_where_the_cpu_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("humannorm.processor.has_native_bf16", lambda device, native=native: native)
        assert network_precision("auto", "cpu") == precision
    assert network_precision("auto", "cuda") == "fp16" and network_precision("fp32", "cuda") == "fp32"
    assert network_dtype("bf16", "cpu") is torch.bfloat16 and network_dtype("fp16", "cpu") is torch.float16
    with pytest.raises(InputError, match="precision: expected one of auto, fp32, bf16, fp16, got 'half'"):
        network_precision("half", "cpu")


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the system does not tell its processor's instructions")
def test_native_bf16_is_what_the_system_says_of_its_processor() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").split()
    assert has_native_bf16("cpu") == bool({"avx512_bf16", "amx_bf16"} & set(flags))
