"""The sculpting parts: hash grid against plain torch, extraction against other wheels, cost by resolution, fits."""

from __future__ import annotations

import importlib
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import Timings, machine, measure, table, timing_rows
from benchmarks.human import human
from humannorm.distance.signed_distance import SignedDistance
from humannorm.fields.hash_grid import GridLayout, HashGridEncoding
from humannorm.geometry.band import Band, band_at_points, box_field, settle_band
from humannorm.geometry.fields import DenseFieldSettings, FieldSettings, HashFieldSettings, make_field
from humannorm.geometry.fitting import fit_field
from humannorm.geometry.lattice import CELL_TETRAHEDRA, Lattice
from humannorm.geometry.marching import marching_tetrahedra
from humannorm.geometry.start import prepare_start
from humannorm.mesh import Mesh, is_watertight

OURS = "humannorm"
ACTIVE = 8  # levels at the start of the published run


def run(rounds: int, threads: int | None, quick: bool) -> None:
    torch.set_num_threads(threads or os.cpu_count() or 1)
    mesh = prepare_start(human(0 if quick else 1)).mesh
    distance = SignedDistance(mesh.vertices, mesh.faces)
    packages = ["torch", "warp-lang", "scikit-image", "diso", "PyMCubes"]
    print(f"{mesh.num_faces:,} faces.")
    print(machine(torch.get_num_threads(), packages))
    _hash_grid(mesh, distance, rounds, quick)
    _extraction(mesh, distance, rounds, quick)
    _resolutions(mesh, distance, rounds, quick)
    _fits(mesh, quick)


def _hash_grid(mesh: Mesh, distance: SignedDistance, rounds: int, quick: bool) -> None:
    """Forward and backward of the published encoding at the vertices of a narrow band."""
    band, _ = band_at_points(Lattice(64 if quick else 192), mesh.vertices, box_field(distance))
    points = ((band.positions + 1) / 2).contiguous()
    for levels in (ACTIVE, 16):
        encodings: dict[str, HashGridEncoding] = {
            OURS: HashGridEncoding(GridLayout(), torch.Generator().manual_seed(0)),
            "plain torch": HashGridEncoding(GridLayout(), torch.Generator().manual_seed(0), engine="torch"),
        }
        upstream = torch.randn(len(points), 32)

        def call(encoding: HashGridEncoding, levels: int = levels, upstream: Tensor = upstream) -> tuple[Tensor, ...]:
            return torch.autograd.grad(encoding(points, levels), list(encoding.tables)[:levels], upstream)

        gradients = [call(encoding) for encoding in encodings.values()]
        difference = max(float((a - b).abs().max()) for a, b in zip(*gradients, strict=True))
        results = measure({name: (lambda e=e: call(e)) for name, e in encodings.items()}, rounds)
        print(f"\nHash grid, {len(points):,} points, {levels} of 16 levels, forward and backward")
        print(f"(gradients differ by {difference:.0e})\n")
        print(table(["encoding", "wall ms, median", "min - max", "times ours", "CPU ms"], timing_rows(results, OURS)))


def _extraction(mesh: Mesh, distance: SignedDistance, rounds: int, quick: bool) -> None:
    """From given field values to a triangle mesh, at about equal face counts; evaluation of the field not included."""
    band, sdf = band_at_points(Lattice(64 if quick else 192), mesh.vertices, box_field(distance))
    band.cells, band.border_edges  # noqa: B018 (made once per band, not per extraction)
    faces = marching_tetrahedra(band, sdf)[1]
    spacing = _spacing_for(mesh, len(faces))
    side = int(2 / spacing) + 1
    line = torch.linspace(-1, 1, side)
    volume = distance(torch.cartesian_prod(line, line, line)).reshape(side, side, side).numpy()
    candidates: dict[str, Callable[[], Any]] = {
        OURS: lambda: marching_tetrahedra(band, sdf),
        "DMTet in torch, same tetrahedra": _dmtet(band, sdf),
    }
    for name, (package, prepare) in MARCHING_PEERS.items():
        try:
            candidates[name] = prepare(importlib.import_module(package), volume)
        except ImportError:
            print(f"{name}: not installed")
    counts = {name: len(call()[1]) for name, call in candidates.items()}
    results = measure(candidates, rounds)
    rows = timing_rows(results, OURS)
    for row in rows:
        row.append(f"{counts[row[0]]:,}")
    print(f"\nExtraction ({'closed' if is_watertight(faces) else 'OPEN'}), peers on a dense grid of side {side}\n")
    print(table(["method", "wall ms, median", "min - max", "times ours", "CPU ms", "faces"], rows))


def _spacing_for(mesh: Mesh, faces: int) -> float:
    """Grid spacing at which marching cubes gives about so many faces: some 2.6 triangles to a squared spacing."""
    from humannorm.mesh import face_areas

    return float((2.6 * face_areas(mesh.vertices, mesh.faces).sum() / faces) ** 0.5)


def _skimage(module: Any, volume: np.ndarray) -> Callable[[], Any]:
    return lambda: module.marching_cubes(volume, 0.0)[:2]


def _diso(module: Any, volume: np.ndarray) -> Callable[[], Any]:
    marching, values = module.DiffMC(dtype=torch.float32), torch.from_numpy(volume)
    return lambda: marching(values, None)


def _mcubes(module: Any, volume: np.ndarray) -> Callable[[], Any]:
    return lambda: module.marching_cubes(volume, 0.0)


MARCHING_PEERS: dict[str, tuple[str, Callable[[Any, np.ndarray], Callable[[], Any]]]] = {
    "scikit-image marching cubes, dense": ("skimage.measure", _skimage),
    "PyMCubes marching cubes, dense": ("mcubes", _mcubes),
    "diso marching cubes, dense": ("diso", _diso),
}


def _dmtet(band: Band, sdf: Tensor) -> Callable[[], Any]:
    """The published way: sort and unite the edges of all crossed tetrahedra in every call (DMTet, `torch.unique`)."""
    table_ = torch.tensor(_DMTET_TRIANGLES)
    counts = torch.tensor([0, 1, 1, 2, 1, 2, 2, 1, 1, 2, 2, 1, 2, 1, 1, 0])
    ends = torch.tensor([0, 1, 0, 2, 0, 3, 1, 2, 1, 3, 2, 3])
    tetrahedra = band.cells[:, torch.tensor(CELL_TETRAHEDRA)].reshape(-1, 4).long()

    def call() -> tuple[Tensor, Tensor]:
        inside = sdf > 0
        corners = inside[tetrahedra]
        crossed = (corners.sum(1) > 0) & (corners.sum(1) < 4)
        edges = tetrahedra[crossed][:, ends].reshape(-1, 2).sort(1).values
        unique, index = torch.unique(edges, dim=0, return_inverse=True)
        mixed = inside[unique].sum(1) == 1
        mapping = torch.full((len(unique),), -1)
        mapping[mixed] = torch.arange(int(mixed.sum()))
        index = mapping[index].reshape(-1, 6)
        ab = sdf[unique[mixed]]
        positions = band.positions[unique[mixed]]
        weights = torch.stack((ab[:, 1], -ab[:, 0]), 1) / (ab[:, 1] - ab[:, 0])[:, None]
        pattern = (corners[crossed] * torch.tensor([1, 2, 4, 8])).sum(1)
        one, two = counts[pattern] == 1, counts[pattern] == 2
        faces = torch.cat(
            (
                index[one].gather(1, table_[pattern[one]][:, :3]),
                index[two].gather(1, table_[pattern[two]][:, :6]).reshape(-1, 3),
            )
        )
        return (positions * weights[..., None]).sum(1), faces

    return call


_DMTET_TRIANGLES = [
    [0, 0, 0, 0, 0, 0], [1, 0, 2, 0, 0, 0], [4, 0, 3, 0, 0, 0], [1, 4, 2, 1, 3, 4],
    [3, 1, 5, 0, 0, 0], [2, 3, 0, 2, 5, 3], [1, 4, 0, 1, 5, 4], [4, 2, 5, 0, 0, 0],
    [4, 5, 2, 0, 0, 0], [4, 1, 0, 4, 5, 1], [3, 2, 0, 3, 5, 2], [1, 3, 5, 0, 0, 0],
    [4, 1, 2, 4, 3, 1], [3, 0, 4, 0, 0, 0], [2, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0],
]  # fmt: skip


def _resolutions(mesh: Mesh, distance: SignedDistance, rounds: int, quick: bool) -> None:
    """Cost as the resolution doubles; extraction on one core."""
    threads = torch.get_num_threads()
    rows = []
    for resolution in (64, 128) if quick else (64, 128, 256, 512):
        begin = time.process_time()
        band, sdf = band_at_points(Lattice(resolution), mesh.vertices, box_field(distance))
        banding = time.process_time() - begin
        band.cells, band.border_edges  # noqa: B018
        torch.set_num_threads(1)
        extraction: Timings = measure({OURS: lambda b=band, s=sdf: marching_tetrahedra(b, s)}, min(rounds, 5))[OURS]
        torch.set_num_threads(threads)
        faces = marching_tetrahedra(band, sdf)[1]
        settle_band(band, box_field(distance))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append(
            [
                str(resolution),
                f"{len(faces):,}",
                f"{band.num_vertices:,}",
                f"{12 * (2 / band.lattice.cell_size) ** 3:,.0f}",
                f"{banding:.2f}",
                f"{statistics.median(extraction.processor_seconds) * 1e3:.1f}",
                f"{peak:.2f}",
            ]
        )
    print("\nNarrow band by resolution\n")
    head = [
        "resolution",
        "faces",
        "band vertices",
        "tetrahedra if dense",
        "band, CPU s",
        "extraction, CPU ms",
        "peak GiB so far",
    ]
    print(table(head, rows))


def _fits(mesh: Mesh, quick: bool) -> None:
    """Seconds and error of fitting a field to the start mesh, and the published fit on the same distances."""
    start = prepare_start(mesh)
    kinds: dict[str, FieldSettings] = {
        "hash grid, published size": HashFieldSettings(),
        "hash grid, quick preset": HashFieldSettings(GridLayout(levels=10, log2_table=16)),
        "dense grids 16 to 128": DenseFieldSettings(),
    }
    rows = []
    for name, settings in kinds.items():
        generator = torch.Generator().manual_seed(0)
        field = make_field(settings, generator)
        report = fit_field(field, start, generator, None if isinstance(settings, DenseFieldSettings) else ACTIVE)
        rows.append([name, f"{report.seconds:.1f}", f"{report.mean_error:.5f}", f"{report.p99_error:.5f}"])
    if not quick:
        rows.append(_published_fit(start.mesh, start.signed_distance, steps=100))
    print("\nFitting a field to the start mesh (error in world units at points of the mesh)\n")
    print(table(["field", "seconds", "mean error", "99th percentile"], rows))


def _published_fit(mesh: Mesh, distance: SignedDistance, steps: int) -> list[str]:
    """Adam 1e-3, 40,000 uniform points a step, MSE; timed over `steps` and scaled to the published 2000."""
    from humannorm.geometry.start import sample_surface

    generator = torch.Generator().manual_seed(0)
    field = make_field(HashFieldSettings(), generator)
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-3, fused=True)
    begin = time.perf_counter()
    for _ in range(steps):
        points = torch.rand(40_000, 3, generator=generator) * 2 - 1
        optimizer.zero_grad()
        (field(points, ACTIVE) - distance(points)).square().mean().backward()
        optimizer.step()
    seconds = (time.perf_counter() - begin) * 2000 / steps
    with torch.no_grad():
        error = field(sample_surface(mesh, 20_000, generator), ACTIVE).abs()
    name = f"hash grid, the published fit (errors after {steps} of 2000 steps, seconds for all)"
    return [name, f"{seconds:.0f}", f"{error.mean():.5f}", f"{error.quantile(0.99):.5f}"]
