"""The texture step: what it costs beyond the networks, stage by stage, with the bundled model."""

from __future__ import annotations

import dataclasses
import os

import torch

from benchmarks.harness import machine, table
from humannorm.body import load_body
from humannorm.guidance import DiffusersDenoiser
from humannorm.models import camera_plan
from humannorm.optimisation import OptimiserProgress
from humannorm.texture.fields import UvColorSettings
from humannorm.texture.paint import STAGES, paint
from humannorm.texture.perceptual import make_perceptual
from humannorm.texture.settings import QUICK, TextureSettings
from humannorm.texture.state import start_state

PROMPT = "a young woman with brown hair, wearing a red t-shirt, blue jeans and white shoes"
WARM_UP = 2  # steps that are not counted: compilation, caches, first touch of memory


def run(rounds: int, threads: int | None, quick: bool) -> None:
    torch.set_num_threads(threads or os.cpu_count() or 1)
    print(machine(torch.get_num_threads(), ["torch", "warp-lang", "diffusers"]))
    guide = DiffusersDenoiser.load("bundled", control=True)
    plan = camera_plan("bundled") or QUICK.plan
    steps = WARM_UP + (3 if quick else 4 * rounds)
    coarse = dataclasses.replace(QUICK, plan=plan, coarse_steps=steps, steps=steps)
    fine = dataclasses.replace(coarse, coarse_steps=0)
    candidates: dict[str, TextureSettings] = {
        "coarse": coarse,
        "coarse, UV texture of 1024": dataclasses.replace(coarse, field=UvColorSettings(1024)),
        "fine, as published": fine,
        "fine, as in the paper": dataclasses.replace(fine, fine_loss="paper"),
    }
    rows = []
    for name, settings in candidates.items():
        spent = _seconds(guide, settings)
        count = steps - WARM_UP
        over = sum(spent.values()) / spent["networks"]
        rows.append([name, *(f"{1e3 * spent[stage] / count:.0f}" for stage in STAGES), f"{over:.2f}"])
    print(f"\nOne step of {QUICK.views} views at {QUICK.render_size} pixels on the body, {steps - WARM_UP} steps\n")
    print(table(["step", "networks, ms", "render", "gradient", "update", "all over networks"], rows))


def _seconds(guide: DiffusersDenoiser, settings: TextureSettings) -> dict[str, float]:
    """Time of all counted steps by stage."""
    mesh = load_body().to_mesh(uvs=isinstance(settings.field, UvColorSettings))
    before: list[dict[str, float]] = []

    def look(progress: OptimiserProgress) -> None:
        if progress.step <= WARM_UP:
            before.append(dict(progress.times.seconds))
        after.append(dict(progress.times.seconds))

    after: list[dict[str, float]] = []
    paint(
        start_state(mesh, settings, torch.Generator().manual_seed(0)),
        PROMPT,
        settings,
        guide=guide,
        perceptual=make_perceptual("vae", guide),
        generator=torch.Generator().manual_seed(0),
        callback=look,
    )
    return {stage: after[-1][stage] - before[-1][stage] for stage in STAGES}
