"""The main job's parts on one thread and on all, on an idle machine and beside a busy process on each core.

Each case runs in a process of its own, since OpenMP reads its environment once. The last case waits as torch does
without `humannorm.processor.prepare_threads`: by spinning.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import ROOT, machine, table
from humannorm.processor import WAITING, core_quota, network_precision, prepare_threads

ROUNDS = 1
PROMPT = "a young woman with long brown hair, wearing a red t-shirt, blue jeans and white shoes"
PARTS = ("start", "paint", "export")
CASE_SECONDS = 150.0  # a case that takes longer is stopped; what it did by then is shown
MOST_BUSY, MOST_SHARED = 3.5, 0.65  # the aims: time beside other work over idle, time on all threads over one
IDLE_SHARE = 0.9  # of a core that one thread gets where nobody else works


@dataclass(frozen=True)
class Case:
    """One way of running the parts."""

    name: str
    threads: int
    busy: bool  # beside one busy process per core
    spins: bool = False  # waits as torch does by default


@dataclass(frozen=True)
class Measured:
    """One part in one case."""

    seconds: float  # by the clock
    processor_seconds: float  # of all threads

    @property
    def words(self) -> str:
        return f"{self.seconds:.1f} ({self.processor_seconds:.1f})"


def run(rounds: int, threads: int | None, quick: bool) -> None:
    cores = max(1, int(core_quota() or os.cpu_count() or 1))
    every = threads or cores
    cases = [Case("1, idle", 1, False)]
    if every > 1:
        cases.append(Case("all, idle", every, False))
    cases.append(Case("1, busy", 1, True))
    if every > 1:
        cases += [Case("all, busy", every, True), Case("all spinning, busy", every, True, spins=True)]
    print(machine(every, ["torch", "diffusers"]), f"Networks in {network_precision('auto', 'cpu')}.", flush=True)
    results: dict[str, dict[str, Measured]] = {}
    for _ in range(rounds):
        for case in cases:
            with busy_processes(cores if case.busy else 0):
                found = measure_case(case, quick)
            best = results.setdefault(case.name, {})
            for part, measured in found.items():
                if part not in best or measured.seconds < best[part].seconds:
                    best[part] = measured
    print("\n" + comparison(results, every))
    for line in verdicts(results):
        print(line)


def measure_case(case: Case, quick: bool) -> dict[str, Measured]:
    """The parts in a fresh process; those that it ended in time."""
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    environment |= {"OMP_NUM_THREADS": str(case.threads), "MKL_NUM_THREADS": str(case.threads)}
    command = [sys.executable, "-m", "benchmarks.threads", *(["--spin"] if case.spins else [])]
    command += ["--quick"] if quick else []
    try:
        output = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, timeout=CASE_SECONDS, check=True
        ).stdout
    except subprocess.TimeoutExpired as late:
        output = late.output or b""
    return measured_in(output)


def measured_in(output: bytes) -> dict[str, Measured]:
    """What a case printed, a line for each part."""
    lines = [json.loads(line) for line in output.decode("utf-8").splitlines() if line.startswith("{")]
    return {line["part"]: Measured(line["seconds"], line["processor_seconds"]) for line in lines}


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that compute all the time."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def comparison(results: Mapping[str, Mapping[str, Measured]], threads: int) -> str:
    """Seconds of each part in each case by the clock, and of the processor."""
    rows = []
    for part in (*PARTS, "all"):
        cells = [total(found) if part == "all" else found.get(part) for found in results.values()]
        rows.append([part, *("not in time" if cell is None else cell.words for cell in cells)])
    head = [name.replace("all", str(threads)) for name in results]
    return "Seconds by the clock (of the processor), by threads\n\n" + table(["part", *head], rows)


def total(found: Mapping[str, Measured]) -> Measured | None:
    """All parts together; None where some did not end."""
    if any(part not in found for part in PARTS):
        return None
    return Measured(sum(found[part].seconds for part in PARTS), sum(found[part].processor_seconds for part in PARTS))


def verdicts(results: Mapping[str, Mapping[str, Measured]]) -> list[str]:
    """The aims with what was measured, in words; and whether the machine was idle at all."""
    sums = {name: total(found) for name, found in results.items()}
    lines = [""]

    def compare(above: str, below: str, title: str, most: float) -> None:
        first, second = sums.get(above), sums.get(below)
        if second is None or above not in sums:
            return
        if first is None:
            lines.append(f"{title}: more than {CASE_SECONDS / second.seconds:.1f} (aim: at most {most})")
        else:
            ratio = first.seconds / second.seconds
            lines.append(f"{title}: {ratio:.2f} (aim: at most {most}, {'met' if ratio <= most else 'MISSED'})")

    compare("all, idle", "1, idle", "all threads over one, idle", MOST_SHARED)
    compare("1, busy", "1, idle", "one thread, beside a busy process per core, over idle", MOST_BUSY)
    compare("all, busy", "all, idle", "all threads, beside a busy process per core, over idle", MOST_BUSY)
    compare("all spinning, busy", "all, idle", "the same with threads that spin", MOST_BUSY)
    alone = sums.get("1, idle")
    if alone is not None and alone.processor_seconds < IDLE_SHARE * alone.seconds:
        share = alone.processor_seconds / alone.seconds
        lines.append(f"Not idle: one thread alone got {share:.0%} of a core; measure again when nothing else runs.")
    return lines


def measure_parts(quick: bool) -> None:
    """Run the parts in this process and print what each took: the bundled model, `quick` with few views and levels."""
    import dataclasses

    import torch

    from humannorm.export import with_maps, write_glb
    from humannorm.geometry.state import extract_mesh
    from humannorm.guidance import find_guides
    from humannorm.request import HumanRequest, job_of
    from humannorm.rings import body_rings
    from humannorm.stages import (
        begin_sculpture_of,
        paint_views_of,
        place_start,
        textured_mesh,
    )
    from humannorm.texture.multiview import MultiviewSettings

    @contextlib.contextmanager
    def measured(part: str) -> Iterator[None]:
        begin, begin_processor = time.perf_counter(), time.process_time()
        yield
        seconds, used = time.perf_counter() - begin, time.process_time() - begin_processor
        print(json.dumps({"part": part, "seconds": seconds, "processor_seconds": used}), flush=True)

    job = job_of(HumanRequest(PROMPT))
    texture, export = job.settings.texture, dataclasses.replace(job.settings.export, faces=30_000)
    assert isinstance(texture, MultiviewSettings) and job.body is not None
    walk = dataclasses.replace(texture.walk, steps=1 if quick else 2)
    texture = dataclasses.replace(texture, walk=walk, rings=body_rings(*[2 if quick else 4] * 4))
    job = dataclasses.replace(job, settings=dataclasses.replace(job.settings, texture=texture, export=export))
    guide = find_guides("bundled", torch.device("cpu"), kinds=("color",)).aligned()
    guide.encode_images(torch.zeros(1, 128, 128, 3))  # loads the libraries behind it
    with measured("start"):
        state = begin_sculpture_of(job, place_start(job.start, job.body), torch.Generator().manual_seed(0)).state
    with measured("paint"):
        painting = paint_views_of(job, state, guide)
    with measured("export"), tempfile.TemporaryDirectory() as folder:
        baked = with_maps(textured_mesh(painting.state), export, extract_mesh(state).mesh, slopes=painting.state.folds)
        write_glb(Path(folder) / "human.glb", baked)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description="One case of the benchmark.")
    parser.add_argument("--spin", action="store_true", help="wait as torch does by default")
    parser.add_argument("--quick", action="store_true", help="one step of each")
    arguments = parser.parse_args()
    if not arguments.spin:
        prepare_threads()
    measure_parts(arguments.quick)
