"""Unwrapping a human of 20k, 100k and 400k faces against xatlas; then the whole way to a GLB with 2K textures."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import machine, measure, table, timing_rows, version
from benchmarks.human import human
from humannorm.export import ExportSettings, decimate, export_mesh, unwrap
from humannorm.mesh import Mesh
from humannorm.rendering.texels import find_texels

OURS, PEER = "humannorm", "xatlas"
SIZE, PADDING = 2048, 8
AT_MOST = {20_000: 3, 100_000: 2, 400_000: 1}
"""Faces: measured rounds at most, as xatlas takes minutes."""


def ours(mesh: Mesh) -> tuple[Mesh, int]:
    atlas = unwrap(mesh, SIZE, PADDING)
    return Mesh(mesh.vertices[atlas.vertex], atlas.faces, uvs=atlas.uvs), int(atlas.chart.max()) + 1


def peer(mesh: Mesh) -> tuple[Mesh, int]:
    """xatlas with its own chart options, packed at the same resolution and padding."""
    import xatlas

    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.vertices.numpy(), mesh.faces.numpy().astype(np.uint32))
    options = xatlas.PackOptions()
    options.resolution, options.padding, options.create_image = SIZE, PADDING, False
    atlas.generate(xatlas.ChartOptions(), options)
    vertex, faces, uvs = atlas[0]
    placed = Mesh(
        mesh.vertices[torch.from_numpy(vertex.astype(np.int64))],
        torch.from_numpy(faces.astype(np.int64)),
        uvs=torch.from_numpy(uvs),
    )
    return placed, atlas.chart_count


def field(points: Tensor) -> Tensor:
    """A cheap field, so that the time is the exporter's own."""
    return 0.5 + 0.5 * torch.sin(points * 9 + points[:, [1, 2, 0]] * 5)


def run(rounds: int, threads: int | None, quick: bool) -> None:
    torch.set_num_threads(threads or os.cpu_count() or 1)
    print(machine(torch.get_num_threads(), ["torch", "warp-lang", "scipy", "fast-simplification", PEER]))
    calls: dict[str, Callable[[Mesh], tuple[Mesh, int]]] = {OURS: ours}
    if version(PEER) == "not installed":
        print("xatlas is not installed: pip install xatlas")
    else:
        calls[PEER] = peer
    full = human(0 if quick else 2)
    for faces in (5_000,) if quick else AT_MOST:
        mesh = decimate(full, faces)
        results: dict[str, tuple[Mesh, int]] = {}

        def keep(name: str, mesh: Mesh = mesh, results: dict[str, tuple[Mesh, int]] = results) -> None:
            results[name] = calls[name](mesh)

        timings = measure(
            {name: (lambda name=name: keep(name)) for name in calls},
            min(rounds, AT_MOST.get(faces, 2)),
            warm_up=1 if faces <= 20_000 else 0,
        )
        rows = timing_rows(timings, OURS, scale=1)
        for row in rows:
            placed, charts = results[row[0]]
            row += [str(charts), f"{_wasted(placed):.1%}"]
        print(f"\nUnwrapping {mesh.num_faces:,} faces for {SIZE} x {SIZE} texels, {PADDING} between charts\n")
        print(table(["unwrap", "s, median", "min - max", "times ours", "CPU s", "charts", "texels wasted"], rows))
    steps: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = ExportSettings(faces=5_000 if quick else 400_000, texture_size=512 if quick else SIZE, height_m=1.75)

        def note(step: str, _: float) -> None:
            steps.append((step, time.perf_counter()))

        (path,) = export_mesh(Path(folder) / "human.glb", full, settings, field=field, progress=note)
        size = path.stat().st_size / 2**20
    times = [[step, f"{after - at:.1f}"] for (step, at), (_, after) in itertools.pairwise(steps)]
    times.append(["together", f"{steps[-1][1] - steps[0][1]:.1f}"])
    print(f"\n{full.num_faces:,} faces to a GLB of {settings.faces:,} with colours and normal map, {size:.0f} MiB\n")
    print(table(["step", "s"], times), flush=True)


def _wasted(mesh: Mesh) -> float:
    """Share of the square's texels whose centre no chart covers."""
    return 1 - float(find_texels(mesh, SIZE).covered.float().mean())
