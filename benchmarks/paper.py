"""The paper preset, to the letter, on networks of Stable Diffusion 1.5's size with random weights: time and memory.

What comes out is noise; what is shown is that the real path runs, in which precision and memory. Two networks with text
encoder and VAE of their own, as the published weights are. On a CPU a step takes minutes.
"""

from __future__ import annotations

import os
import time

import torch

from benchmarks.harness import machine, peak_gigabytes, table
from benchmarks.random_networks import SCHEDULER, parameter_count, random_sd15
from humannorm.body import load_body
from humannorm.geometry.sculpt import STAGES, sculpt
from humannorm.geometry.settings import preset
from humannorm.geometry.start import prepare_start
from humannorm.geometry.state import extract_mesh, start_state
from humannorm.guidance import DiffusersDenoiser
from humannorm.mesh import is_watertight
from humannorm.optimisation import OptimiserProgress

STEPS, QUICK_STEPS = 24, 3


def run(rounds: int, threads: int | None, quick: bool) -> None:
    torch.set_num_threads(threads or os.cpu_count() or 1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(machine(torch.get_num_threads(), ["torch", "diffusers", "transformers"]))
    settings = preset("paper")
    start = prepare_start(load_body().to_mesh().to(device))
    generator = torch.Generator().manual_seed(0)
    state, report = start_state(start, settings, generator)
    print(f"field fitted in {report.seconds:.1f} s, mean error {report.mean_error:.1e}; {_peak()} so far", flush=True)
    torch.manual_seed(0)
    begin = time.monotonic()
    normal, depth = (DiffusersDenoiser(scheduler_config=SCHEDULER, **random_sd15(device)) for _ in range(2))
    count = parameter_count(*normal.modules)
    print(
        f"two networks of {count / 1e6:.0f} million parameters in {time.monotonic() - begin:.0f} s; {_peak()} so far",
        flush=True,
    )
    steps = QUICK_STEPS if quick else STEPS
    seen: list[OptimiserProgress] = []
    begin, begin_processor = time.monotonic(), time.process_time()

    def look(progress: OptimiserProgress) -> bool:
        seen.append(progress)
        clock, processor = time.monotonic() - begin, time.process_time() - begin_processor
        print(
            f"step {progress.step} after {clock:.0f} s ({processor:.0f} s of the processor), {progress.faces:,} faces,"
            f" {_peak()} so far",
            flush=True,
        )
        return progress.step < steps

    state = sculpt(state, "a man in a suit", settings, normal=normal, depth=depth, generator=generator, callback=look)
    last = seen[-1]
    rows = [[stage, f"{last.times.seconds[stage] / len(seen):.2f}"] for stage in STAGES]
    print(f"\n{len(seen)} steps of {settings.steps:,}, {settings.render_size} pixels, {settings.views} view a step\n")
    print(table(["stage", "seconds a step"], [*rows, ["all over networks", f"{last.times.overhead:.3f}"]]))
    mesh = extract_mesh(state).mesh
    print(
        f"\n{sum(p.rejected is not None for p in seen)} steps rejected; {mesh.num_faces:,} faces, "
        f"{'closed' if is_watertight(mesh.faces) else 'OPEN'}; peak {_peak()}"
    )


def _peak() -> str:
    return f"{peak_gigabytes():.1f} GiB"
