"""Many humans on many machines: jobs handed to a Ray cluster, their finished folders brought back.

The machines need no common disk: a job's files travel through the cluster, all but its checkpoints. A model folder
named with `--models` must stand at the same path on every machine. What comes back is what one machine would have made:
the same code runs there with the same number of threads.
"""

from __future__ import annotations

import dataclasses
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from humannorm.checks import InputError
from humannorm.pipeline import make_human
from humannorm.processor import network_precision
from humannorm.request import HumanJob

__all__ = ["Outcome", "make_humans"]

CONNECT_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a job of the cluster ended."""

    index: int  # of the job
    error: str | None  # what went wrong, in words


def make_humans(address: str, jobs: Mapping[Path, HumanJob], *, device: torch.device) -> Iterator[Outcome]:
    """Make every job's human on a Ray cluster and write its files into its folder; one outcome each, as they end.

    address: as `ray.init` takes it, such as "auto", "10.0.0.1:6379" or "ray://10.0.0.1:10001". A machine takes as many
    jobs at a time as it has that many threads, or graphics cards, as this process. A job whose machine is lost begins
    again elsewhere.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("Ray is needed to hand prompts to a cluster: pip install 'humannorm[ray]'") from error

    def decided(job: HumanJob) -> HumanJob:  # "auto" is what it is here, whatever the other machine can do
        precision = network_precision(job.request.precision, device)
        return dataclasses.replace(job, request=dataclasses.replace(job.request, precision=precision))

    threads = torch.get_num_threads()
    _check_reachable(address)
    try:
        ray.init(address, ignore_reinit_error=True, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"--ray: expected the address of a running Ray cluster, got {address!r} ({error})") from error
    try:
        task = ray.remote(num_cpus=threads, num_gpus=int(device.type == "cuda"), max_retries=2)(_make_remotely)
        waiting = {task.remote(decided(job), device.type, threads): index for index, job in enumerate(jobs.values())}
        folders = list(jobs)
        while waiting:
            (ended,), _ = ray.wait(list(waiting), num_returns=1)
            index = waiting.pop(ended)
            try:
                _write_all(folders[index], ray.get(ended))
            except (ray.exceptions.RayError, OSError) as error:
                yield Outcome(index, _cause(error))
            else:
                yield Outcome(index, None)
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuse a host and port where nobody listens: Ray itself would go on trying for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto" and the like
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise InputError(f"--ray: expected the address of a running Ray cluster, got {address!r} ({error})") from error


def _make_remotely(job: HumanJob, device: str, threads: int) -> dict[str, bytes]:
    """One job on a machine of the cluster: the bytes of the files that it made, by name."""
    from humannorm.guidance import find_guides

    torch.set_num_threads(threads)
    guides = find_guides(job.request.models, torch.device(device), precision=job.request.precision)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "human"
        make_human(job, guides, out, device=device)
        return {file.name: file.read_bytes() for file in sorted(out.iterdir()) if file.is_file()}


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    """The files of a job; its record last, as it says that all is there."""
    from humannorm.files import write_files
    from humannorm.pipeline import RECORD

    for name in sorted(files, key=lambda name: name == RECORD):
        write_files({folder / name: files[name]})


def _cause(error: Any) -> str:
    """What failed on the other machine, without Ray's account of where."""
    return str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
