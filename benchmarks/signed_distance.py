"""Signed distances to a 107k-face human: 100k and 1M points, uniform in the box and near the surface."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from benchmarks.distance_peers import PEERS, Distance
from benchmarks.harness import machine, measure, table, timing_rows, trial
from benchmarks.human import human, query_points
from humannorm.distance.signed_distance import SignedDistance
from humannorm.mesh import Mesh

OURS = "humannorm"
FEW = 2000
"""Points for peers that take more than 0.1 ms a point."""
PLACES: dict[Literal["box", "surface"], str] = {
    "box": "uniform in the box",
    "surface": "within about 0.01 of the surface",
}
SLOW = ("trimesh",)
NOT_AT_A_MILLION = ("libigl, pseudo-normal",)


def ours(mesh: Mesh) -> Distance:
    distance = SignedDistance(mesh.vertices, mesh.faces)
    distance(mesh.vertices[:1])  # also what the signs need
    return lambda points: distance(torch.from_numpy(points)).numpy()


def run(rounds: int, threads: int | None, quick: bool) -> None:
    torch.set_num_threads(threads or os.cpu_count() or 1)
    missing = {name: trial("benchmarks.distance_peers", name) for name in PEERS}
    builders = {OURS: ours} | {name: build for name, (_, build) in PEERS.items() if missing[name] is None}
    mesh = human(0 if quick else 1)
    generator = torch.Generator().manual_seed(0)
    print(f"{mesh.num_faces:,} faces.")
    print(
        machine(
            torch.get_num_threads(), ["torch", "warp-lang", *dict.fromkeys(package for package, _ in PEERS.values())]
        )
    )

    fast = {name: build for name, build in builders.items() if name not in SLOW}
    built = measure({name: (lambda build=build: build(mesh)) for name, build in fast.items()}, min(rounds, 3))
    print("\nFrom vertices and faces to the first answer (for the pseudo-normal of libigl nothing is kept)\n")
    print(table(["build", "wall ms, median", "min - max", "times ours", "CPU ms"], timing_rows(built, OURS)))

    functions = {name: build(mesh) for name, build in fast.items()}
    for count in (10_000,) if quick else (100_000, 1_000_000):
        taking = {n: f for n, f in functions.items() if count <= 100_000 or n not in NOT_AT_A_MILLION}
        for where in PLACES:
            points = query_points(mesh, count, where, generator).numpy()
            large = count > 100_000
            results = measure(_calls(taking, points), min(rounds, 2) if large else rounds, warm_up=0 if large else 1)
            rows = timing_rows(results, OURS)
            expected = functions[OURS](points)
            for row in rows:
                row.append(f"{results[row[0]].median / count * 1e6:.2f}")
                row.append(_agreement(taking[row[0]](points), expected))
            print(f"\n{count:,} points, {PLACES[where]}\n")
            head = ["query", "wall ms, median", "min - max", "times ours", "CPU ms", "us a point", "differs from ours"]
            print(table(head, rows))

    for name in SLOW:
        if name in builders:
            points = query_points(mesh, FEW, "surface", generator).numpy()
            results = measure(_calls({OURS: functions[OURS], name: builders[name](mesh)}, points), 1)
            print(f"\n{name}: {results[name].median / FEW * 1e6:.0f} us a point on {FEW:,} points near the surface.")
    print("\nNot measured:", "; ".join(f"{n} ({why})" for n, why in missing.items() if why) or "none", flush=True)


def _calls(functions: dict[str, Distance], points: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    return {name: (lambda function=function: function(points)) for name, function in functions.items()}


def _agreement(distance: np.ndarray, expected: np.ndarray) -> str:
    """Largest difference of the sizes, and how many signs differ."""
    signs = int(((distance < 0) != (expected < 0)).sum())
    return f"{np.abs(np.abs(distance) - np.abs(expected)).max():.0e}, {signs} signs"
