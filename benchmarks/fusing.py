"""Bringing the pictures of many views together on a human's texels and showing them again: Warp against plain torch."""

from __future__ import annotations

import dataclasses
import os

import torch

from benchmarks.harness import machine, measure, table, timing_rows
from benchmarks.human import human
from humannorm.export import ExportSettings, unwrapped
from humannorm.models import camera_plan
from humannorm.rendering.fusing import observe
from humannorm.texture.agreement import FusingSettings, texel_surface
from humannorm.texture.multiview import MULTIVIEW_PRESETS, ring_cameras

OURS = "warp"


def run(rounds: int, threads: int | None, quick: bool) -> None:
    torch.set_num_threads(threads or os.cpu_count() or 1)
    settings = MULTIVIEW_PRESETS["quick"]
    settings = dataclasses.replace(settings, plan=camera_plan("bundled") or settings.plan)
    size = 256 if quick else settings.texture_size
    mesh = unwrapped(human(0), ExportSettings(texture_size=size))
    surface, cameras = texel_surface(mesh, size), ring_cameras(settings)
    pictures = torch.rand(len(cameras), 128, 128, 3, generator=torch.Generator().manual_seed(0))
    print(f"{mesh.num_faces:,} faces, {len(surface.points.points):,} texels, {len(cameras)} views of 128 x 128.")
    print(machine(torch.get_num_threads(), ["torch", "warp-lang"]))
    views = observe(mesh, surface.points, cameras, 128)
    engines = {name: dataclasses.replace(views, engine=name) for name in (OURS, "torch")}
    colors = views.fuse(pictures, power=3.0)[0]
    settings_of_fusing = FusingSettings()
    jobs = {
        "find what every view sees": lambda name: observe(mesh, surface.points, cameras, 128, engine=name),
        "fuse": lambda name: engines[name].fuse(pictures, power=3.0, detail=settings_of_fusing.detail),
        "show": lambda name: engines[name].show(colors, pictures),
    }
    for title, job in jobs.items():
        results = measure({name: (lambda name=name, job=job: job(name)) for name in engines}, min(rounds, 5))
        print(f"\n{title.capitalize()}\n")
        head = ["engine", "wall ms, median", "min - max", "times ours", "CPU ms"]
        print(table(head, timing_rows(results, OURS)), flush=True)
