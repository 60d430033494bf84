"""Files on a disk that takes no more: what is there stays, nothing half is left, and the error names the file."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from humannorm.files import save_tensors, write_files

resource = pytest.importorskip("resource", reason="limits of file sizes are POSIX's")


LIMIT = 64_000_000  # more than a log that the tests are written to, which the limit holds for as well


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond `LIMIT` bytes: the system refuses as it does on a full disk, with another number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def bytes_to(path: Path) -> None:
    write_files({path: bytes(LIMIT + 1)})


def tensors_to(path: Path) -> None:
    save_tensors(path, {"numbers": torch.zeros(LIMIT // 4)}, {})


@pytest.mark.parametrize("write", [bytes_to, tensors_to])
@pytest.mark.usefixtures("full_disk")
def test_what_was_there_stays(write: Callable[[Path], None], tmp_path: Path) -> None:
    target = tmp_path / "state.safetensors"
    target.write_bytes(b"before")
    with pytest.raises(OSError) as caught:
        write(target)
    assert target.read_bytes() == b"before" and [path.name for path in tmp_path.iterdir()] == [target.name]
    assert str(target) in str(caught.value) and caught.value.errno == errno.EFBIG


@pytest.mark.slow
def test_a_verb_says_so_in_one_sentence(tmp_path: Path) -> None:
    """In a process of its own, whose pipes no limit holds for."""
    code = (
        "import resource, sys; from humannorm import cli; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        " sys.exit(cli.main(sys.argv[1:]))"
    )
    words = ["render", "body", "--size", "64", "--views", "front", "--out", str(tmp_path)]
    ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    said = ended.stderr.splitlines()[-1]
    assert ended.returncode == 1
    assert said.startswith("humannorm: ") and str(tmp_path) in said and "file too large" in said
