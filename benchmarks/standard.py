"""Two levels of `standard`'s painting on networks of Stable Diffusion 1.5's size with random weights: memory, seconds,
and by computation a whole person's time on a card.

What comes out is noise; what is shown is that the real path runs, in which precision and memory. The time on a card is
counted operations over a stated speed, and nothing that was measured on one.
"""

from __future__ import annotations

import dataclasses
import os
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import machine, peak_gigabytes, table
from benchmarks.human import human
from benchmarks.random_networks import SCHEDULER, parameter_count, random_sd15
from humannorm.export import ExportSettings, unwrapped
from humannorm.geometry.multiview import NORMAL_PRESETS
from humannorm.guidance import DiffusersDenoiser
from humannorm.rings import body_rings
from humannorm.texture.multiview import MULTIVIEW_PRESETS, MultiviewProgress, paint_synchronised

LEVELS = 2
SPEEDS = {"RTX 4090": 165.2, "A100": 312.0, "H200": 989.4}  # TFLOP/s, dense half precision, as NVIDIA states them
REACHED = 0.2  # of that, assumed: what attention and convolutions of this size get without compilation


def run(rounds: int, threads: int | None, quick: bool) -> None:
    from diffusers import ControlNetModel

    torch.set_num_threads(threads or os.cpu_count() or 1)
    print(machine(torch.get_num_threads(), ["torch", "diffusers", "transformers"]))
    painting, normals = MULTIVIEW_PRESETS["standard"], NORMAL_PRESETS["standard"]
    networks = _operations()
    rows = [[name, f"{count / 1e12:.2f}"] for name, count in networks.items()]
    print(f"\nOperations of a picture of 512 pixels\n\n{table(['part', 'TFLOP'], rows)}")
    guided = {"normals": 2 * networks["UNet"], "colours": 2 * (networks["UNet"] + networks["ControlNet"])}
    walks = {
        "normals": [normals.walk_from(level) for level in normals.levels],
        "colours": [painting.walk],
    }
    sides = {"normals": sum(r.views for r in normals.rings), "colours": sum(r.views for r in painting.rings)}
    forwards, operations, copies = 0, 0, 0
    for kind, rounds_of in walks.items():
        for walk in rounds_of:
            forwards += 2 * sides[kind] * walk.steps
            operations += sides[kind] * walk.steps * guided[kind]
            copies += sides[kind] * sum(map(walk.agrees_at, range(walk.steps))) * networks["VAE, there and back"]
    whole = operations + copies
    print(
        f"\nA person by `standard`: {forwards:,} forwards of the UNet, {operations / 1e15:.2f} PFLOP of networks and"
        f" {copies / 1e15:.2f} of the VAE for agreements\n"
    )
    cards = [[card, f"{speed:.0f}", f"{whole / 1e12 / (speed * REACHED):.0f}"] for card, speed in SPEEDS.items()]
    print(table(["card", "TFLOP/s stated", f"seconds at {REACHED:.0%} of it, computed"], cards), flush=True)

    mesh = unwrapped(human(0), ExportSettings(texture_size=512))
    torch.manual_seed(0)
    parts = {name: part if name == "tokenizer" else part.bfloat16() for name, part in random_sd15("cpu").items()}
    guide = DiffusersDenoiser(
        scheduler_config=SCHEDULER, controlnet=ControlNetModel.from_unet(parts["unet"]).bfloat16(), **parts
    )
    loaded = peak_gigabytes()
    count = parameter_count(*guide.modules)
    print(f"\nnetworks of {count / 1e6:.0f} million parameters in bf16; {loaded:.1f} GB so far", flush=True)
    levels, per_ring = (1, (1, 0, 0, 0)) if quick else (LEVELS, (1, 1, 1, 1))
    walk = dataclasses.replace(painting.walk, steps=levels, batch=2)
    settings = dataclasses.replace(painting, rings=body_rings(*per_ring), walk=walk, texture_size=512)
    views = sum(per_ring)
    begin, begin_processor = time.monotonic(), time.process_time()

    def tell(progress: MultiviewProgress) -> None:
        clock, processor = time.monotonic() - begin, time.process_time() - begin_processor
        print(
            f"level {progress.step}, batch {progress.walk.batch} after {clock:.0f} s"
            f" ({processor:.0f} s of the processor), {peak_gigabytes():.1f} GB at the peak",
            flush=True,
        )

    labels = torch.zeros(1, 3) + 0.5
    painted = paint_synchronised(
        mesh,
        "a man in a suit",
        settings,
        guide,
        labels_at=lambda points: torch.zeros(len(points), dtype=torch.int32),
        palette=labels,
        callback=tell,
    )
    figures = painted.figures
    parts_of = [[name, f"{figures[name]:.1f}"] for name in ("networks", "vae", "fusing", "preparing")]
    print(f"\n{levels} levels of {views} views\n\n{table(['part', 'seconds'], parts_of)}")
    rate = 2 * levels * views * (networks["UNet"] + networks["ControlNet"]) / 1e12 / figures["networks"]
    print(f"\nnetworks at {rate:.2f} TFLOP/s here; peak {peak_gigabytes():.1f} GB")


def _operations() -> dict[str, int]:
    """Floating-point operations of the networks for one picture of 512 pixels: counted, nothing is computed."""
    from diffusers import ControlNetModel

    parts = random_sd15("meta")
    unet, vae = parts["unet"], parts["vae"]
    with torch.device("meta"):
        control = ControlNetModel(cross_attention_dim=768)
        latents, text = torch.empty(1, 4, 64, 64), torch.empty(1, 77, 768)
        picture, step = torch.empty(1, 3, 512, 512), torch.empty(1)
        jobs = {
            "UNet": lambda: unet(latents, step, text),
            "ControlNet": lambda: control(latents, step, text, picture),
            "VAE, there and back": lambda: (vae.encode(picture), vae.decode(latents)),
        }
        counted: dict[str, int] = {}
        for name, job in jobs.items():
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                job()
            counted[name] = counter.get_total_flops()
    return counted
