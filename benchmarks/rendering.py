"""Differentiable normal maps of a 107k-face human at 512 and 1024 pixels, and the memory of one with 400k faces."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import torch

from benchmarks.harness import ROOT, machine, measure, peak_gigabytes, table, timing_rows, trial
from benchmarks.rendering_peers import PEERS, Renderer, humannorm, scene

OURS = "humannorm"


def run(rounds: int, threads: int | None, quick: bool) -> None:
    torch.set_num_threads(threads or os.cpu_count() or 1)
    missing = {name: trial("benchmarks.rendering_peers", name) for name in PEERS}
    print(f"{scene(0 if quick else 1, 8).mesh.num_faces:,} faces, one view, new vertices in every call.")
    packages = ["torch", "warp-lang", *dict.fromkeys(package for package, _ in PEERS.values())]
    print(machine(torch.get_num_threads(), packages))
    for size in (128,) if quick else (512, 1024):
        given = scene(0 if quick else 1, size)
        renderers = {OURS: humannorm(given)}
        renderers |= {name: build(given) for name, (_, build) in PEERS.items() if missing[name] is None}
        results = measure({name: renderer.forward for name, renderer in renderers.items()}, rounds)
        rows = timing_rows(results, OURS)
        for row in rows:
            row.append(_picture_difference(renderers[row[0]], renderers[OURS]))
        head = ["forward", "wall ms, median", "min - max", "times ours", "CPU ms", "picture, mean difference"]
        print(f"\n{size} pixels, forward\n\n{table(head, rows)}")
        both = {name: renderer.backward for name, renderer in renderers.items() if renderer.backward is not None}
        head = ["forward and backward", "wall ms, median", "min - max", "times ours", "CPU ms"]
        print(f"\n{size} pixels, forward and backward\n\n{table(head, timing_rows(measure(both, rounds), OURS))}")
    print("\nNot measured:", "; ".join(f"{name} ({why})" for name, why in missing.items() if why) or "none")
    print(_memory(quick), flush=True)


def _picture_difference(renderer: Renderer, reference: Renderer) -> str:
    return f"{np.abs(renderer.forward() - reference.forward()).mean():.4f}"


def _memory(quick: bool) -> str:
    command = [sys.executable, "-m", "benchmarks.rendering", "0" if quick else "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else f"Memory: failed ({done.stderr.strip()[-200:]})"


def _peak(times: int) -> str:
    """Peak resident memory of this process before and after one 1024-pixel render with gradients."""
    given = scene(times, 1024)
    before = peak_gigabytes()
    renderer = humannorm(given)
    assert renderer.backward is not None
    renderer.backward()
    return (
        f"Memory: {given.mesh.num_faces:,} faces, 1024 pixels, forward and backward: peak {peak_gigabytes():.2f} GB of "
        f"resident memory, {before:.2f} GB of it before rendering (torch, the mesh)."
    )


if __name__ == "__main__":
    print(_peak(int(sys.argv[1])))
