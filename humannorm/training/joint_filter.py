"""Training of a `guidance.joint_filter`: decoded pictures of people, their hints, and the renders they should be.

The filter has to mend what it will be given: pictures that the network drew, not copies alone. So its pairs are both:
a render through the VAE and back, and a render noised to one of the levels of few-step sampling and drawn from there,
which keeps its place and pose and loses what the network cannot draw. They are made once, before the training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError
from humannorm.files import save_tensors
from humannorm.guidance.denoiser import HINT_CHANNELS
from humannorm.guidance.diffusers_denoiser import DiffusersDenoiser
from humannorm.guidance.joint_filter import JointFilter
from humannorm.images import contact_sheet, save_png
from humannorm.models import JOINT_FILTER
from humannorm.training.config import LoopConfig, PictureLossConfig
from humannorm.training.few_steps import ddim_step, levels_of, write_files
from humannorm.training.hints import LABELS, draw_hint, hints_of
from humannorm.training.loop import Task
from humannorm.training.shards import Shards
from humannorm.training.text import draw_prompt
from humannorm.training.vae import crop_around, cut_out, picture_loss, psnr_inside

__all__ = ["Drawn", "JointFilterConfig", "JointFilterTask", "draw_pairs"]

SHEET = 12
"""Pictures on a sheet, and four times as many for the figures."""


@dataclass(frozen=True)
class JointFilterConfig:
    """What the pairs are and how errors weigh."""

    kinds: tuple[tuple[str, float], ...] = (("normal", 0.4), ("color", 0.6))
    parts: tuple[tuple[str, float], ...] = (
        ("full", 0.5), ("full front", 0.05), ("head front", 0.12), ("head", 0.11), ("upper", 0.12), ("lower", 0.1),
    )  # fmt: skip
    """How often each body part is drawn; see `DiffusionConfig.parts`."""
    copies: float = 0.4
    """Share of the pairs whose picture is the VAE's copy; the others are drawn by the network."""
    steps: int = 4
    """Of the sampler whose levels the drawn ones begin at: all but the first, where nothing of a render is left."""
    file: int = 256
    """Pairs in a file."""
    files: int = 40
    """Of pairs; one more of held-out people."""
    batch: int = 16
    """Pairs drawn at a time."""
    crop: int = 64
    """Pixels: side of the crops that the filter is trained on."""
    label_weights: tuple[tuple[str, float], ...] = (("shoes", 5.0), ("eyes", 4.0), ("hat", 2.0), ("hair", 1.5))
    """What a pixel of a label weighs, in the loss and where crops are taken; of others 1. Shoes and eyes are the
    smallest things that have a colour, and a person without them looks unfinished."""
    loss: PictureLossConfig = field(default_factory=lambda: PictureLossConfig(similarity_weight=0.3))
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=8_000,
            batch_size=32,
            learning_rate=1e-3,
            warmup_steps=100,
            cooldown=0.6,
            ema_decay=0.998,
            precision="no",
        )
    )
    """So thin a network takes a CPU half as long again in bf16."""


def draw_pairs(
    guide: DiffusersDenoiser,
    people: Shards,
    folder: Path,
    config: JointFilterConfig,
    *,
    files: int,
    minutes: float = 0.0,
    seed: int = 0,
) -> None:
    """Files of decoded pictures, `drawn_00000.safetensors`, ...; those that are there already stay.

    Each has `pictures` uint8 [N, R, R, 3] and in its metadata which row of the data, which kind and which hint each is
    of. guide: in few steps if it can. With `minutes` none is begun after so many, but one there is at least.
    """

    def write(path: Path, generator: torch.Generator) -> int:
        pictures, told = _drawn(guide, people, config, generator)
        save_tensors(path, {"pictures": pictures}, {"drawn": json.dumps(told)})
        return len(told)

    write_files(folder, "drawn", write, files=files, minutes=minutes, seed=seed)


def _drawn(
    guide: DiffusersDenoiser, people: Shards, config: JointFilterConfig, generator: torch.Generator
) -> tuple[Tensor, list[dict[str, Any]]]:
    """The pictures of one file uint8, and what each is of."""
    words = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
    names, shares = zip(*config.kinds, strict=True)
    pictures, told = [], []
    for _ in range(0, config.file, config.batch):
        kind = str(words.choice(names, p=np.array(shares) / sum(shares)))  # one kind a batch: networks are told by text
        facts = list[dict[str, Any]]()
        for index in people.draw(config.batch, generator, config.parts):
            source, coloured = draw_hint(kind, words)
            facts.append({"index": index, "kind": kind, "source": source, "coloured": coloured})
        images = torch.stack([people.image(fact["index"], kind) for fact in facts]).to(guide.device)
        latents = guide.encode_images(images)
        if words.random() >= config.copies:
            level = int(words.integers(1, config.steps))
            latents = _drawn_from(guide, people, facts, latents, level, config.steps, generator, words)
        pictures.append((guide.decode(latents).float().cpu().clamp(0, 1) * 255).round().to(torch.uint8))
        told += facts
    return torch.cat(pictures), told


def _drawn_from(
    guide: DiffusersDenoiser,
    people: Shards,
    facts: Sequence[Mapping[str, Any]],
    latents: Float[Tensor, "B C h w"],
    level: int,
    steps: int,
    generator: torch.Generator,
    words: np.random.Generator,
) -> Float[Tensor, "B C h w"]:
    """Clean latents drawn anew from one level down (SDEdit, arXiv 2108.01073), as few-step sampling walks.

    A ControlNet is shown what it can read; of three channels only the normal maps of colours, which it was trained on.
    """
    kind, control = facts[0]["kind"], None
    if guide.hint_channels == HINT_CHANNELS or (guide.hint_channels and kind == "color"):
        control = _hints(people, facts)
    texts = [draw_prompt(people.shot(fact["index"]), kind, words) for fact in facts]
    condition = guide.condition(texts, guidance_scale=1.0, control=control)
    timesteps, alphabar = levels_of(guide.scheduler_config, steps)
    signal, spread = alphabar.sqrt().float(), (1 - alphabar).sqrt().float()
    x = signal[level] * latents + spread[level] * torch.randn(latents.shape, generator=generator).to(latents)
    for step in range(level, steps):
        sigma = guide.sigma(timesteps[step : step + 1].float()).to(x)
        clean = guide.denoise(x / signal[step], sigma.expand(len(x)), condition)
        x = ddim_step(x, clean, signal[step], spread[step], signal[step + 1], spread[step + 1])
    return x


def _hints(people: Shards, facts: Sequence[Mapping[str, Any]]) -> Float[Tensor, "B R R 6"]:
    rows, sources, coloured = zip(*((fact["index"], fact["source"], fact["coloured"]) for fact in facts), strict=True)
    return hints_of(people, rows, sources, coloured)


class Drawn:
    """The files of `draw_pairs` in a folder, in memory, beside the data they were drawn from."""

    def __init__(self, folder: Path, people: Shards) -> None:
        from safetensors import safe_open

        self.people, self.told = people, list[dict[str, Any]]()
        pictures = []
        for path in sorted(folder.glob("drawn_*.safetensors")):
            with safe_open(path, framework="pt") as file:
                self.told += json.loads(file.metadata()["drawn"])
                pictures.append(file.get_tensor("pictures"))
        if not pictures:
            raise InputError(f"{folder}: expected files of pictures (drawn_*.safetensors), got none")
        self.pictures = torch.cat(pictures)

    def pairs(self, chosen: Sequence[int]) -> dict[str, Float[Tensor, "B ... H W"]]:
        """Pictures, hints, true pictures, all 0..1, silhouettes, and labels."""
        facts = [self.told[index] for index in chosen]
        truth = torch.stack([self.people.image(fact["index"], fact["kind"]) for fact in facts])
        return {
            "picture": self.pictures[list(chosen)].permute(0, 3, 1, 2).float() / 255.0,
            "hint": _hints(self.people, facts).permute(0, 3, 1, 2),
            "truth": truth.permute(0, 3, 1, 2),
            "mask": torch.stack([self.people.mask(fact["index"]) for fact in facts])[:, None],
            "labels": torch.stack([self.people.labels(fact["index"]) for fact in facts])[:, None],
        }


class JointFilterTask(Task):
    """The filter's answer is to be the render."""

    def __init__(
        self,
        network: JointFilter,
        drawn: Sequence[Drawn],
        held_out: Sequence[Drawn],
        config: JointFilterConfig,
    ) -> None:
        """drawn, held_out: pairs of one size of pictures, or of several, which are learnt equally often."""
        super().__init__()
        self.network, self.drawn, self.held_out, self.config = network, drawn, held_out, config
        self.weight_of = torch.ones(len(LABELS))
        for label, weight in config.label_weights:
            self.weight_of[LABELS.index(label)] = weight

    def draw(self, generator: torch.Generator, batch_size: int) -> dict[str, Any]:
        counts = [len(share) for share in torch.arange(batch_size).tensor_split(len(self.drawn))]
        parts = [self._crops(drawn, count, generator) for drawn, count in zip(self.drawn, counts, strict=True)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _crops(self, drawn: Drawn, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Of pictures of one size."""
        chosen = torch.randint(len(drawn.told), (count,), generator=generator).tolist()
        pairs, size = drawn.pairs(chosen), self.config.crop
        pairs["weight"] = pairs.pop("mask") * self.weight_of[pairs.pop("labels").long()]
        corners = [crop_around(weight[0], size, generator) for weight in pairs["weight"]]
        return {name: cut_out(values, corners, size) for name, values in pairs.items()}

    def forward(self, batch: dict[str, Any]) -> Tensor:
        picture, hint = (batch[name].contiguous(memory_format=torch.channels_last) for name in ("picture", "hint"))
        found = self.network(picture, hint).float()
        return picture_loss(found * 2 - 1, batch["truth"] * 2 - 1, batch["weight"], self.config.loss)

    @torch.no_grad()
    def validate(self, folder: Path, step: int) -> Mapping[str, float]:
        """Held-out people's pictures before and after, and their PSNR inside the silhouette by kind."""
        figures = dict[str, float]()
        for held_out in self.held_out:
            size = held_out.people.resolution
            pictures, labels = list[Tensor](), list[str]()
            drawn = {fact["kind"] for fact in held_out.told}
            for kind in [kind for kind, _ in self.config.kinds if kind in drawn]:
                shown, mask = self._before_and_after(held_out, kind)
                for name in ("before", "after"):
                    figures[f"psnr_{size}_{kind}_{name}"] = psnr_inside(shown[name], shown["truth"], mask)
                for name, values in shown.items():
                    pictures += list(values[:SHEET])
                    labels += [f"{kind}, {name}"] * len(values[:SHEET])
            save_png(folder / f"step_{step:06d}_{size}.png", contact_sheet(pictures, labels, SHEET))
        return figures

    def _before_and_after(self, held_out: Drawn, kind: str) -> tuple[dict[str, Tensor], Tensor]:
        """Pictures of a kind as they were drawn, as the filter leaves them, and as they should be, and silhouettes."""
        of_kind = [i for i, fact in enumerate(held_out.told) if fact["kind"] == kind]
        pairs = held_out.pairs(of_kind[: 4 * SHEET])
        parts = zip(pairs["picture"].split(16), pairs["hint"].split(16), strict=True)
        found = torch.cat([self.network(picture, hint).float().clamp(0, 1) for picture, hint in parts])
        rows = {"before": pairs["picture"], "after": found, "truth": pairs["truth"]}
        return {name: values.permute(0, 2, 3, 1) for name, values in rows.items()}, pairs["mask"].permute(0, 2, 3, 1)

    def save(self, folder: Path) -> None:
        self.network.save(folder / JOINT_FILTER)
