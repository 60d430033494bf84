"""Time callables against each other in one process, and print what came out."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TRIAL_SECONDS = 120


@dataclass(frozen=True)
class Timings:
    """Every measured call of one candidate, in the order of the rounds."""

    seconds: tuple[float, ...]
    """by the clock"""
    processor_seconds: tuple[float, ...]
    """used by all threads of the process: hardly changed by what else the machine does"""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def measure(candidates: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 1) -> dict[str, Timings]:
    """Call the candidates in turn, A B A B ..., so that a slow spell of the machine meets all of them alike.

    The first ``warm_up`` rounds (compilation, caches, first touch of memory) are not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    processor: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(warm_up + rounds):
        for name, call in candidates.items():
            start, start_processor = time.perf_counter(), time.process_time()
            call()
            elapsed, used = time.perf_counter() - start, time.process_time() - start_processor
            if turn >= warm_up:
                seconds[name].append(elapsed)
                processor[name].append(used)
    return {name: Timings(tuple(seconds[name]), tuple(processor[name])) for name in candidates}


def ratios(timings: Timings, reference: Timings) -> tuple[float, float, float]:
    """Median, smallest and largest of the ratios pair by pair: each call over the reference's of the same round."""
    pairs = [mine / other for mine, other in zip(timings.seconds, reference.seconds, strict=True)]
    return statistics.median(pairs), min(pairs), max(pairs)


def timing_rows(results: Mapping[str, Timings], ours: str, scale: float = 1e3) -> list[list[str]]:
    """Rows: name, median, smallest - largest, how many times the time of ``ours``, and the processor's time (median).

    ``scale`` 1e3: milliseconds.
    """
    rows = []
    for name, timings in sorted(results.items(), key=lambda item: item[1].median):
        low, high = min(timings.seconds) * scale, max(timings.seconds) * scale
        ratio = "1" if name == ours else "{:.2f} ({:.2f} - {:.2f})".format(*ratios(timings, results[ours]))
        used = statistics.median(timings.processor_seconds) * scale
        rows.append([name, f"{timings.median * scale:.1f}", f"{low:.1f} - {high:.1f}", ratio, f"{used:.1f}"])
    return rows


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(head), line(["-" * width for width in widths]), *map(line, rows)])


def machine(threads: int, packages: Sequence[str]) -> str:
    """Cores, threads and versions in one line; nothing that names the machine."""
    versions = [f"{name} {version(name)}" for name in packages]
    return (
        f"Machine: {os.cpu_count()} cores ({processor()}), {threads} threads for torch and Warp, "
        f"OMP_WAIT_POLICY {os.environ.get('OMP_WAIT_POLICY', 'not set')}; "
        f"Python {platform.python_version()}, {', '.join(versions)}."
    )


def processor() -> str:
    """Architecture, and the processor's model where the system tells it."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.machine()
    models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return ", ".join([platform.machine(), *models[:1]])


def peak_gigabytes() -> float:
    """Peak resident memory of this process so far, in GB of 2^30 bytes.

    On Linux from the kernel's status page: getrusage also counts the parent's, from before this program was started.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**20
    import resource  # not on every system

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def trial(module: str, peer: str) -> str | None:
    """Run ``python -m MODULE PEER`` on a small case in a process of its own: None if it works, else why it does not.

    Native libraries of peers abort the process when a driver or shared library is missing; here they may.
    """
    command = [sys.executable, "-m", module, peer]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"no result within {TRIAL_SECONDS} s"
    if done.returncode == 0:
        return None
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in said if "Error" in line or "error" in line]
    return (errors or said or [f"exit status {done.returncode}"])[-1][:200]
