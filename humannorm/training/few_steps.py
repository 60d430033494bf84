"""Few steps: a low-rank addition to a UNet that draws in four steps, unguided, what the sampler draws guided in many.

The teacher is the sampler itself: guidance, autoguidance, DPM-Solver++. Its walks from noise to picture are drawn once
and kept at the levels t_0 > t_1 > ... where the student will stand. Between two of them the student's one DDIM step is
to end where the teacher's several steps end (progressive distillation, Salimans and Ho 2022, arXiv 2202.00512, with
the segments of PeRFlow, arXiv 2405.07510). A consistency model (LCM, arXiv 2310.04378) would have to learn from its
own estimates, one small step of the teacher at a time; here the teacher's end of each segment is known.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from humannorm.checks import InputError, check_range
from humannorm.files import save_tensors
from humannorm.guidance.diffusers_denoiser import DiffusersDenoiser
from humannorm.guidance.folders import lora_name
from humannorm.guidance.samplers import GUIDANCE_SCALES, latent_states
from humannorm.images import contact_sheet, from_network, save_png
from humannorm.models import FEW_STEPS
from humannorm.training.config import LoopConfig
from humannorm.training.diffusion import VALIDATION_SEED, DenoiserTask, LatentShards, control_residuals
from humannorm.training.loop import Task, to_device
from humannorm.training.shards import Shards
from humannorm.training.text import draw_prompt, tokenize, with_any_pose

__all__ = [
    "AlignedFewStepsTask",
    "FewStepsConfig",
    "FewStepsTask",
    "LowRank",
    "Walks",
    "add_low_rank",
    "draw_walks",
    "walk_generator",
    "write_files",
]

logger = logging.getLogger(__name__)

FEW_STEPS_LOOP = LoopConfig(
    steps=4_000, batch_size=16, learning_rate=2e-3, warmup_steps=30, cooldown=0.6, ema_decay=0.995
)


@dataclass(frozen=True)
class FewStepsConfig:
    """How the teacher's walks are drawn and what of them the student learns."""

    steps: int = 4
    """Of the student."""
    teacher_steps: int = 12
    """A multiple of `steps`. Of the bundled model 12 guided steps draw what 20 draw; 8 lose a leg now and then."""
    kinds: tuple[tuple[str, int], ...] = (("normal", 32), ("color", 24), ("depth", 8))
    """Walks of each kind in a file; colours follow a normal map of the data."""
    parts: tuple[tuple[str, float], ...] = (
        ("full", 0.5), ("full front", 0.08), ("head front", 0.16), ("head", 0.1), ("upper", 0.08), ("lower", 0.08),
    )  # fmt: skip
    """How often each body part is drawn; see `DiffusionConfig.parts`."""
    batch: int = 16
    """Walks at a time."""
    files: int = 60
    """Of walks, unless the minutes end before; one more of held-out people, for the loss and the sheet."""
    rank: int = 22
    """Of the addition to each convolution and matrix of the UNet: 5.5 MB in half precision for the bundled one. In its
    convolutions is most of what it knows, so attention alone would not do."""
    huber: float = 0.1
    """Errors below it count by their square, larger ones by their size."""
    mask_weight: float = 3.0
    """A latent pixel of the person weighs 1 + this, one of the background 1."""
    sheet: int = 8
    """Walks of each kind on a sheet."""
    loop: LoopConfig = FEW_STEPS_LOOP


def walk_generator(seed: int, number: int) -> torch.Generator:
    """Of everything that is drawn for one file of walks."""
    return torch.Generator().manual_seed(seed * 1_000_003 + number)


def draw_walks(
    teacher: DiffusersDenoiser,
    shards: Shards,
    folder: Path,
    config: FewStepsConfig,
    *,
    files: int,
    minutes: float = 0.0,
    seed: int = 0,
) -> None:
    """Files of the teacher's walks, `walks_00000.safetensors`, ...; those that are there already stay.

    Each has `states` float16 [N, steps + 1, C, h, w], noise first and clean latents last, in variance preserving form,
    and in its metadata which row of the data, which kind and which prompt each walk is of. With `minutes` no file is
    begun after so many minutes, but one there is at least.
    """
    check_range("teacher_steps", config.teacher_steps, config.steps, 1000)
    if config.teacher_steps % config.steps:
        raise InputError(
            f"teacher_steps: expected a multiple of the student's {config.steps}, got {config.teacher_steps}"
        )

    def write(path: Path, generator: torch.Generator) -> int:
        states, told = _walks(teacher, shards, config, generator)
        save_tensors(path, {"states": states}, {"walks": json.dumps(told)})
        return len(told)

    write_files(folder, "walks", write, files=files, minutes=minutes, seed=seed)


def write_files(
    folder: Path,
    name: str,
    write: Callable[[Path, torch.Generator], int],
    *,
    files: int,
    minutes: float = 0.0,
    seed: int = 0,
) -> None:
    """What a training draws once, `NAME_00000.safetensors`, ...; those that are there already stay.

    write: makes one from its generator and says how many things are in it. With `minutes` no file is begun after so
    many minutes, but one there is at least.
    """
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for number in range(files):
        path = folder / f"{name}_{number:05d}.safetensors"
        if path.is_file():
            continue
        if minutes and number and time.monotonic() - began > 60 * minutes:
            break
        count = write(path, walk_generator(seed, number))
        logger.info("%s: %d %s, %.0f s", path.name, count, name, time.monotonic() - began)


def _walks(
    teacher: DiffusersDenoiser, shards: Shards, config: FewStepsConfig, generator: torch.Generator
) -> tuple[Float[Tensor, "N L C h w"], list[dict[str, Any]]]:
    """The walks of one file, and what they are of."""
    words = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
    told: list[dict[str, Any]] = []
    for kind, count in config.kinds:
        for index in shards.draw(count, generator, config.parts):
            shot: Mapping[str, Any] = with_any_pose(shards.shot(index), words)
            told.append({"index": index, "kind": kind, "prompt": draw_prompt(shot, kind, words)})
    side = teacher.resolution // teacher.downscale
    noise = torch.randn(len(told), teacher.channels, side, side, generator=generator)
    found: list[Tensor] = []
    first = 0
    for kind, count in config.kinds:
        for start in range(first, first + count, config.batch):
            chosen = slice(start, min(start + config.batch, first + count))
            found.append(_batch(teacher, shards, config, told[chosen], noise[chosen], kind))
        first += count
    return torch.cat(found).half(), told


def _batch(
    teacher: DiffusersDenoiser,
    shards: Shards,
    config: FewStepsConfig,
    told: list[dict[str, Any]],
    noise: Float[Tensor, "B C h w"],
    kind: str,
) -> Float[Tensor, "B L C h w"]:
    """Walks of one kind at the student's levels."""
    control = torch.stack([shards.image(walk["index"], "normal") for walk in told]) if kind == "color" else None
    condition = teacher.condition(
        [walk["prompt"] for walk in told], guidance_scale=GUIDANCE_SCALES[kind], control=control
    )
    states = latent_states(
        teacher, condition, noise, scheduler_config=teacher.scheduler_config, steps=config.teacher_steps
    )
    every = config.teacher_steps // config.steps
    return torch.stack([noise, *(x for number, x in enumerate(states, 1) if number % every == 0)], 1)


class Walks:
    """The files of `draw_walks` in a folder, in memory; more may appear while a training runs (`refresh`)."""

    def __init__(self, folder: Path, shards: Shards) -> None:
        self.folder, self.shards = folder, shards
        self.states: list[Float[Tensor, "L C h w"]] = []
        self.told: list[dict[str, Any]] = []
        self._read: set[str] = set()
        self.refresh()
        if not self.states:
            raise InputError(f"{folder}: expected files of walks (walks_*.safetensors), got none")

    def __len__(self) -> int:
        return len(self.states)

    def refresh(self) -> None:
        """Take in the files that appeared since."""
        from safetensors import safe_open

        for path in sorted(self.folder.glob("walks_*.safetensors")):
            if path.name in self._read:
                continue
            with safe_open(path, framework="pt") as file:
                told, states = json.loads(file.metadata()["walks"]), file.get_tensor("states")
            self.states += list(states)
            self.told += told
            self._read.add(path.name)

    @property
    def steps(self) -> int:
        """Of the student."""
        return len(self.states[0]) - 1


class FewStepsTask(Task):
    """Each of the student's DDIM steps, unguided, is to end where the teacher's walk is at that level."""

    signal: Tensor
    spread: Tensor
    timesteps: Tensor
    vae: Any

    def __init__(self, *, model: DiffusersDenoiser, walks: Walks, held_out: Walks, config: FewStepsConfig) -> None:
        super().__init__()
        self.unet, self.controlnet, self.text_encoder = model.unet, model.controlnet, model.text_encoder
        # No sub-modules: neither is trained, and the VAE is not needed but for sheets.
        self.__dict__["vae"], self.tokenizer = model.vae, model.tokenizer
        self.prediction_type, self.scheduler_config = model.prediction_type, model.scheduler_config
        self.walks, self.held_out, self.config = walks, held_out, config
        timesteps, alphabar = levels_of(model.scheduler_config, walks.steps)
        self.register_buffer("timesteps", timesteps, persistent=False)
        self.register_buffer("signal", alphabar.sqrt().float(), persistent=False)
        self.register_buffer("spread", (1 - alphabar).sqrt().float(), persistent=False)
        self.layers = add_low_rank(self.unet, config.rank)

    def draw(self, generator: torch.Generator, batch_size: int, *, held_out: bool = False) -> dict[str, Any]:
        """Walks at random, each at one level, as many at one level as at another; those under a normal map first."""
        walks = self.held_out if held_out else self.walks
        chosen = torch.randint(len(walks), (batch_size,), generator=generator).tolist()
        chosen = sorted(chosen, key=lambda index: walks.told[index]["kind"] != "color")
        level = torch.randperm(batch_size, generator=generator) % walks.steps
        states = torch.stack([walks.states[index].float() for index in chosen])  # autocast stacks no half on a CPU
        rows = torch.arange(batch_size)
        return {
            "x": states[rows, level],
            "following": states[rows, level + 1],
            "level": level,
            "weight": 1.0 + self.config.mask_weight * drawn_on(states[:, -1]),
            **self.asked(walks, chosen),
        }

    def asked(self, walks: Walks, chosen: Sequence[int]) -> dict[str, Any]:
        """What the networks are told of these walks: tokens, and normal maps of those that have one, the first ones."""
        told = [walks.told[index] for index in chosen]
        length = self.text_encoder.config.max_position_embeddings
        found: dict[str, Any] = {"tokens": tokenize(self.tokenizer, [walk["prompt"] for walk in told], length)}
        hints = [walks.shards.image(walk["index"], "normal") for walk in told if walk["kind"] == "color"]
        if hints:
            found["hint"] = torch.stack(hints).permute(0, 3, 1, 2)
        return found

    def forward(self, batch: dict[str, Any]) -> Tensor:
        x, level = batch["x"], batch["level"]
        signal, spread = (part[:, None, None, None] for part in (self.signal, self.spread))
        wanted = ddim_target(x, batch["following"], signal[level], spread[level], signal[level + 1], spread[level + 1])
        target = output_for(wanted, x, signal[level], spread[level], self.prediction_type)
        return weighted_huber(self.predict(batch) - target, batch["weight"], self.config.huber)

    def predict(self, batch: dict[str, Any]) -> Float[Tensor, "B C h w"]:
        """The student's output."""
        x, timestep = batch["x"], self.timesteps[batch["level"]]
        with torch.no_grad():
            text = self.text_encoder(batch["tokens"]).last_hidden_state
            residuals = control_residuals(self.controlnet, x, timestep, text, batch)
        return self.unet(x, timestep, text, **residuals).sample.float()

    @torch.no_grad()
    def validate(self, folder: Path, step: int) -> Mapping[str, float]:
        """The loss on held-out people's walks, and a sheet: the teacher's pictures above the student's."""
        self.walks.refresh()
        generator = torch.Generator().manual_seed(VALIDATION_SEED)
        batches = [self.draw(generator, 16, held_out=True) for _ in range(4)]
        device = self.timesteps.device
        figures = {"held_out_loss": sum(float(self(to_device(batch, device))) for batch in batches) / len(batches)}
        pictures: list[Tensor] = []
        for kind, _ in self.config.kinds:
            chosen = [i for i, walk in enumerate(self.held_out.told) if walk["kind"] == kind][: self.config.sheet]
            ends = torch.stack([self.held_out.states[i][-1].float() for i in chosen])
            pictures += [*self.decoded(ends), *self.decoded(self.walked(chosen))]
        save_png(folder / f"step_{step:06d}.png", contact_sheet(pictures, [""] * len(pictures), self.config.sheet))
        self.train()
        return figures

    def walked(self, chosen: Sequence[int]) -> Float[Tensor, "B C h w"]:
        """Where the student's walks end that begin as these held-out ones."""
        noise = torch.stack([self.held_out.states[index][0].float() for index in chosen])
        batch: dict[str, Any] = {"x": noise, **self.asked(self.held_out, chosen)}
        batch = to_device(batch, self.timesteps.device)
        for level in range(self.walks.steps):
            batch["level"] = torch.full((len(chosen),), level, device=self.timesteps.device)
            x, output = batch["x"], self.predict(batch)
            a, b = self.signal[level], self.spread[level]
            clean = (x - b * output) / a if self.prediction_type == "epsilon" else a * x - b * output
            batch["x"] = ddim_step(x, clean, a, b, self.signal[level + 1], self.spread[level + 1])
        return batch["x"]

    def decoded(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B H W 3"]:
        with torch.autocast("cpu", enabled=False):
            return from_network(self.vae.decode(latents.cpu() / self.vae.config.scaling_factor).sample).float()

    def save(self, folder: Path) -> None:
        """The low-rank addition, half precision, under names that diffusers and ComfyUI read."""
        tensors: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            down, up = layer.factors()
            tensors[f"{lora_name(name)}.lora_down.weight"] = down.detach().half().contiguous().clone()
            tensors[f"{lora_name(name)}.lora_up.weight"] = up.detach().half().contiguous().clone()
        save_tensors(folder / FEW_STEPS, tensors, {"format": "pt", "steps": str(self.walks.steps)})


class AlignedFewStepsTask(DenoiserTask):
    """A ControlNet's training (eq. 8), part of it at the levels where a few-step LoRA stands, under the UNet with it.

    What the LoRA has learnt of guidance makes of a ControlNet's residuals something else than the UNet alone does. The
    wanted estimate is the picture itself: hints leave so little open that its mean over what they allow is sharp.
    """

    signal: Tensor
    spread: Tensor
    levels: Tensor

    def __init__(self, *, few_steps_unet: Any, steps: int, share: float, **of_denoiser: Any) -> None:
        super().__init__(**of_denoiser)
        check_range("few_steps", share, 0.0, 1.0)
        self.few_steps_unet, self.share = few_steps_unet.requires_grad_(False), share
        timesteps, alphabar = levels_of(self.scheduler_config, steps)
        self.register_buffer("levels", timesteps, persistent=False)
        self.register_buffer("signal", alphabar.sqrt().float(), persistent=False)
        self.register_buffer("spread", (1 - alphabar).sqrt().float(), persistent=False)

    def draw(self, generator: torch.Generator, batch_size: int, shards: LatentShards | None = None) -> dict[str, Any]:
        batch = super().draw(generator, batch_size, shards)
        if shards is None and float(torch.rand((), generator=generator)) < self.share:
            batch["level"] = torch.randperm(batch_size, generator=generator) % len(self.levels)
        return batch

    def forward(self, batch: dict[str, Any]) -> Tensor:
        if "level" not in batch:
            return super().forward(batch)
        level, latents, noise = batch["level"], batch["latents"], batch["noise"]
        a, b = (part[level][:, None, None, None] for part in (self.signal, self.spread))
        x = torch.where(level[:, None, None, None] == 0, noise, a * latents + b * noise)  # a walk begins at noise alone
        target = output_for(latents, x, a, b, self.prediction_type)
        predicted = self.predicted(self.few_steps_unet, x, self.levels[level], batch)
        return self.weighted_error(predicted, target, batch["weight"])


class LowRank(nn.Module):
    """weight + up down: a weight's parametrisation that trains two thin matrices. It begins at the weight itself."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.shape = tuple(weight.shape)
        inner = math.prod(self.shape[1:])
        rank = min(rank, self.shape[0], inner)
        self.down = nn.Parameter((2 * torch.rand(rank, inner) - 1) / math.sqrt(inner))
        self.up = nn.Parameter(torch.zeros(self.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return weight + (self.up @ self.down).view(self.shape)

    def factors(self) -> tuple[Tensor, Tensor]:
        """As a LoRA of such a layer keeps them: of a convolution [r, in, k, k] and [out, r, 1, 1]."""
        if len(self.shape) == 2:
            return self.down, self.up
        return self.down.view(-1, *self.shape[1:]), self.up[:, :, None, None]


def add_low_rank(unet: nn.Module, rank: int) -> dict[str, LowRank]:
    """Low-rank additions to all matrices and convolutions of a network, which alone are trained; by layer."""
    from torch.nn.utils.parametrize import register_parametrization

    unet.requires_grad_(False)
    found: dict[str, LowRank] = {}
    for name, layer in list(unet.named_modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            found[name] = LowRank(layer.weight, rank)
            register_parametrization(layer, "weight", found[name])
    return found


def levels_of(scheduler_config: Mapping[str, Any], steps: int) -> tuple[Int[Tensor, " S"], Float[Tensor, " S1"]]:
    """The student's timesteps, and alphabar there and, 1, behind the last: those of diffusers' trailing spacing."""
    from diffusers import DDIMScheduler

    config = {name: value for name, value in scheduler_config.items() if not name.startswith("_")}
    scheduler = DDIMScheduler.from_config({**config, "timestep_spacing": "trailing", "set_alpha_to_one": True})
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps.long()
    return timesteps, torch.cat([scheduler.alphas_cumprod[timesteps], torch.ones(1)])


def ddim_step(x: Tensor, clean: Tensor, a: Tensor, b: Tensor, a_next: Tensor, b_next: Tensor) -> Tensor:
    """DDIM's equation 12 at eta 0 (arXiv 2010.02502): x = a z + b eps, and the next level has the same z and eps.

    a, b: sqrt(alphabar) and sqrt(1 - alphabar) of a level.
    """
    return a_next * clean + b_next * (x - a * clean) / b


def ddim_target(
    x: Tensor, following: Tensor, a: Tensor, b: Tensor, a_next: Tensor, b_next: Tensor
) -> Float[Tensor, "B C h w"]:
    """The clean estimate with which `ddim_step` leads from x to `following`: progressive distillation's equation 8
    (Salimans and Ho 2022, appendix G)."""
    ratio = b_next / b
    return (following - ratio * x) / (a_next - a * ratio)


def output_for(clean: Tensor, x: Tensor, a: Tensor, b: Tensor, prediction_type: str) -> Float[Tensor, "B C h w"]:
    """A network's output at x whose estimate is `clean`: eps = (x - a z) / b, v = (a x - z) / b."""
    return (x - a * clean) / b if prediction_type == "epsilon" else (a * x - clean) / b


def weighted_huber(
    error: Float[Tensor, "B C h w"], weight: Float[Tensor, "B 1 h w"], width: float
) -> Float[Tensor, ""]:
    """Mean pseudo-Huber loss, sqrt(e^2 + width^2) - width: errors far above `width` count by their size, as edges
    do, those far below hardly, as bf16's rounding on the flat background."""
    loss = (error.square() + width**2).sqrt() - width
    return (loss * weight).sum() / (weight.sum() * error.shape[1])


def drawn_on(latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 1 h w"]:
    """1 where clean latents differ from those at the upper corners, which show the background."""
    corner = (latents[:, :, :2, :2].mean((2, 3), True) + latents[:, :, :2, -2:].mean((2, 3), True)) / 2
    return ((latents - corner).square().mean(1, keepdim=True).sqrt() > 0.35).float()
