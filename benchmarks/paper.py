"""The paper preset, to the letter, on networks of Stable Diffusion 1.5's size with random weights: time and memory.

What comes out is noise; what is shown is that the real path runs, in which precision and memory. Two networks with text
encoder and VAE of their own, as the published weights are. On a CPU a step takes minutes.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import machine, peak_gigabytes, table
from humannorm.body import load_body
from humannorm.geometry.sculpt import STAGES, sculpt
from humannorm.geometry.settings import preset
from humannorm.geometry.start import prepare_start
from humannorm.geometry.state import extract_mesh, start_state
from humannorm.guidance import DiffusersDenoiser
from humannorm.mesh import is_watertight
from humannorm.models import bundled_folder
from humannorm.optimisation import OptimiserProgress

STEPS, QUICK_STEPS = 24, 3
SCHEDULER = {  # of SD1.5
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}


def random_sd15(device: torch.device) -> DiffusersDenoiser:
    """UNet, VAE and text encoder as in SD1.5's configuration files, freshly drawn. The vocabulary is the small model's:
    random embeddings know no words."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    parts: dict[str, Any] = {
        "unet": UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        "vae": AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
        ),
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, bos_token_id=0,
                eos_token_id=1,
            )
        ),
    }  # fmt: skip
    tokenizer = CLIPTokenizer.from_pretrained(Path(bundled_folder()) / "tokenizer", local_files_only=True)
    moved = {name: part.to(device) for name, part in parts.items()}
    return DiffusersDenoiser(tokenizer=tokenizer, scheduler_config=SCHEDULER, **moved)


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
    normal, depth = random_sd15(device), random_sd15(device)
    count = sum(parameter.numel() for module in normal.modules for parameter in module.parameters())
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
