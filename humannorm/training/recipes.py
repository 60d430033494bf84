"""What `humannorm train` does: fine-tune a Stable Diffusion folder, or make the small model from nothing.

| recipe         | trains                                   | on                            | paper  |
|----------------|------------------------------------------|-------------------------------|--------|
| `normal`       | the UNet, whole or LoRA                  | normal maps                   | eq. 5  |
| `depth`        | the UNet, whole or LoRA                  | depth maps                    | eq. 5  |
| `aligned`      | a ControlNet that starts from the UNet   | colour, under its normal map  | eq. 8  |
| `small`        | VAE; text encoder; UNet and ControlNet   | all of them                   | both   |
| `few-steps`    | a LoRA of the UNet                       | the guided sampler's walks    |        |
| `joint-filter` | what sharpens decoded pictures           | pictures drawn under hints    |        |
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from humannorm.cameras import CameraPlan
from humannorm.checks import InputError, check_choice, check_range
from humannorm.guidance.denoiser import HINT_CHANNELS
from humannorm.guidance.diffusers_denoiser import Autoguidance, DiffusersDenoiser
from humannorm.guidance.folders import few_steps_of, load_component, load_tokenizer, model_folder, read_config
from humannorm.guidance.hints_controlnet import has_hints_controlnet, load_hints_controlnet
from humannorm.guidance.joint_filter import JointFilter
from humannorm.models import FEW_STEPS, JOINT_FILTER, names_poses, write_card
from humannorm.training.attributes import AttributeTask
from humannorm.training.config import DiffusionConfig, LoopConfig, TextConfig, UnetConfig, VaeConfig
from humannorm.training.dataset import read_description
from humannorm.training.detail import with_detail
from humannorm.training.diffusion import (
    SCHEDULE,
    DenoiserTask,
    LatentShards,
    LoraTask,
    build_controlnet,
    build_unet,
    save_folder,
)
from humannorm.training.few_steps import AlignedFewStepsTask, FewStepsConfig, FewStepsTask, Walks, draw_walks
from humannorm.training.hints import HINT_KINDS
from humannorm.training.joint_filter import Drawn, JointFilterConfig, JointFilterTask, draw_pairs
from humannorm.training.loop import autocast_precision, train
from humannorm.training.shards import KINDS, Shards
from humannorm.training.text import build_text_encoder, draw_prompt, train_tokenizer
from humannorm.training.vae import (
    VaeTask,
    build_vae,
    encode_shards,
    latent_statistics,
    normalise_latents,
)
from humannorm.training.widening import with_hint_channels, with_latents

__all__ = [
    "EXPORT_SHARE",
    "STAGE_SHARES",
    "Clock",
    "FineTuneConfig",
    "SmallModelConfig",
    "downscale",
    "fine_tune",
    "train_few_steps",
    "train_joint_filter",
    "train_small",
]

logger = logging.getLogger(__name__)

RECIPES = ("normal", "depth", "aligned")
KIND_OF_RECIPE = {"normal": "normal", "depth": "depth", "aligned": "color"}

SD15_LOOP = LoopConfig(
    steps=15_000, batch_size=4, accumulate=4, learning_rate=1e-5, warmup_steps=500, ema_decay=0.9999, betas=(0.9, 0.999)
)
"""A GPU's run at 512 pixels: 16 samples a step on one."""
LARGE = 100_000_000
"""Parameters of a network whose activations a GPU's memory has to be spared for; the small model's has 7 million."""

SMALL_VAE_LOOP = LoopConfig(steps=6_000, batch_size=16, learning_rate=1e-3, cooldown=0.5, ema_decay=0.99)
GROWN_VAE_RATE = 2.5e-4
"""At most, where a trained VAE gets more latent channels: at 5e-4 and more its loss rose by a tenth within a hundred
steps, and two hundred more did not win that back."""
SMALL_TEXT_LOOP = LoopConfig(
    steps=3_000, batch_size=64, learning_rate=2e-3, optimizer="muon", warmup_steps=40, cooldown=0.5, ema_decay=0.99
)
"""Muon learns to bind a colour to its garment in three quarters of the steps that AdamW takes; in the UNet its
orthogonalisation costs a CPU as much as it gains."""
SMALL_COARSE_LOOP = LoopConfig(steps=6_000, batch_size=32, learning_rate=1e-3, warmup_steps=60, cooldown=0.1)
SMALL_FINE_LOOP = LoopConfig(steps=20_000, batch_size=16, learning_rate=7e-4, warmup_steps=60, cooldown=0.6)
SMALL_DIFFUSION = DiffusionConfig(
    pure_noise=0.08,
    noise_bias=0.5,
    controlled=0.375,
    kinds=(("normal", 0.65), ("depth", 0.28), ("color", 0.07)),
    head_weight=4.0,
)
"""Three eighths of each batch are colour under its normal map; of the rest two thirds are normals, the most wanted."""


SMALL_WEAK_COARSE_LOOP = LoopConfig(steps=1_200, batch_size=32, learning_rate=2e-3, warmup_steps=60, ema_decay=0.995)
SMALL_WEAK_FINE_LOOP = LoopConfig(
    steps=350, batch_size=32, learning_rate=1.5e-3, warmup_steps=60, cooldown=0.6, ema_decay=0.995
)
"""Of the weak UNet: a thirtieth of what the UNet of the shipped weights has seen."""
SMALL_WEAK_DIFFUSION = DiffusionConfig(
    pure_noise=0.08, noise_bias=0.5, kinds=(("normal", 0.55), ("depth", 0.2), ("color", 0.25)), head_weight=4.0
)


@dataclass(frozen=True)
class FineTuneConfig:
    """Fine-tuning of an existing Stable Diffusion 1.5-class model; the numbers suit SD1.5 at 512 pixels."""

    loop: LoopConfig = SD15_LOOP
    lora_rank: int = 0
    """0 trains the whole UNet; else the rank of the adapters in its attention layers."""
    gradient_checkpointing: bool | None = None
    """Recompute activations in the backward pass: a third more time for about half the memory. None: where more than
    `LARGE` parameters are trained."""
    controlled_normals: float = 0.0
    """`aligned`: share of the samples that are normals. Above 0 the ControlNet reads hints of six channels
    (`hints`), and the data needs them."""
    few_steps: float = 0.0
    """`aligned`: share of the steps that are taken under the UNet with the base's LoRA for few steps, at its levels."""
    coarse_steps: int = 0
    """`aligned`: so many steps at half resolution come first, of twice the samples each, at a quarter of the cost."""
    crops_of: str | Path | None = None
    """`aligned`: a dataset of larger pictures, crops of which are learnt beside the whole pictures of the other: for
    drawing beyond the base's own size."""
    crops: float = 0.5
    """Share of the steps that see such crops."""
    parts: tuple[tuple[str, float], ...] = ()
    """How often each body part, or one side or pose of it, is drawn; empty: as often as the dataset shows it."""
    prompt_dropout: float = 0.1
    sheet_prompts: int = 12
    sheet_denoising_steps: int = 16


@dataclass(frozen=True)
class SmallModelConfig:
    """The bundled small model, from nothing. The recipe of the shipped weights is on the model card."""

    vae: VaeConfig = field(default_factory=VaeConfig)
    unet: UnetConfig = field(default_factory=UnetConfig)
    text: TextConfig = field(default_factory=TextConfig)
    vae_loop: LoopConfig = SMALL_VAE_LOOP
    text_loop: LoopConfig = SMALL_TEXT_LOOP
    coarse_loop: LoopConfig = SMALL_COARSE_LOOP
    """At half resolution, where a sample costs a quarter: kind, view, pose and the words are learnt there."""
    fine_loop: LoopConfig = SMALL_FINE_LOOP
    """At full resolution, from the coarse stage's weights."""
    diffusion: DiffusionConfig = SMALL_DIFFUSION
    weak_unet: UnetConfig = field(default_factory=lambda: UnetConfig(channels=(32, 64, 96, 96)))
    """For autoguidance: the same errors as the UNet's, but more of them, at a quarter of its parameters and time."""
    weak_coarse_loop: LoopConfig = SMALL_WEAK_COARSE_LOOP
    weak_fine_loop: LoopConfig = SMALL_WEAK_FINE_LOOP
    weak_diffusion: DiffusionConfig = SMALL_WEAK_DIFFUSION
    minutes: float = 0.0
    """Be done after so many minutes, all weights written; each stage then gets its share of them (`STAGE_SHARES`) and
    ends without a sheet of its own, and as many shards as there is time for are encoded. 0: no limit."""


STAGE_SHARES = {
    "vae": 0.3,
    "text": 0.05,
    "latents_coarse": 0.03,
    "coarse": 0.25,
    "latents_fine": 0.07,
    "fine": 0.25,
    "weak_coarse": 0.03,
    "weak_fine": 0.02,
}
"""Of a run's minutes, in the order of the stages: about what the sittings of the bundled model took."""
WALKS_SHARE = 0.35
"""Of a few-step run's minutes, for the teacher's walks."""
DRAWN_SHARE = 0.3
"""Of a joint filter's minutes, for drawing what it is to sharpen."""
EXPORT_SHARE = 0.1
"""Of a run's minutes, kept for saving and exporting. Smaller runs than a minute or two go over."""


class Clock:
    """Hands a run's minutes out to its stages. What one leaves over, or takes too much, the later ones share."""

    def __init__(self, minutes: float) -> None:
        check_range("minutes", minutes, 0.0, float("inf"))
        self.end = time.monotonic() + 60.0 * (1.0 - EXPORT_SHARE) * minutes if minutes else None

    def minutes(self, stage: str) -> float:
        """Of a stage that begins now; 0 without a limit."""
        check_choice("stage", stage, tuple(STAGE_SHARES))
        if self.end is None:
            return 0.0
        later = list(STAGE_SHARES)[list(STAGE_SHARES).index(stage) :]
        share = STAGE_SHARES[stage] / sum(STAGE_SHARES[name] for name in later)
        return max((self.end - time.monotonic()) / 60.0 * share, 1e-3)

    def loop(self, stage: str, loop: LoopConfig) -> LoopConfig:
        """The stage's loop with its minutes."""
        return replace(loop, minutes=self.minutes(stage))


def fine_tune(
    recipe: str, base: str | Path, data: str | Path, out: str | Path, config: FineTuneConfig, *, device: str = "auto"
) -> Path:
    """Fine-tune the model in the diffusers folder `base` on the shards of `data`; returns the folder of the result.

    The base's text encoder, VAE and noise schedule are kept. The base decides whether eps or v is predicted. Latents
    are encoded first, into `out/latents`.
    """
    import diffusers
    import transformers

    check_choice("recipe", recipe, RECIPES)
    check_range("lora_rank", config.lora_rank, 0, 1024)
    if recipe == "aligned" and config.lora_rank:
        raise InputError("lora_rank: expected 0 for aligned, which trains a ControlNet, got a LoRA")
    if recipe != "aligned" and config.coarse_steps:
        raise InputError(f"coarse_steps: expected 0 for {recipe}, got {config.coarse_steps}: only aligned has them")
    check_range("controlled_normals", config.controlled_normals, 0.0, 1.0)
    if recipe != "aligned" and config.controlled_normals:
        raise InputError(f"controlled_normals: expected 0 for {recipe}, which has no ControlNet, got a share")
    check_range("few_steps", config.few_steps, 0.0, 1.0)
    if recipe != "aligned" and config.few_steps:
        raise InputError(f"few_steps: expected 0 for {recipe}, which has no ControlNet, got a share")
    if config.crops_of is not None:
        if recipe != "aligned":
            raise InputError(f"crops_of: expected none for {recipe}, got {config.crops_of}: aligned learns crops")
        _check_larger(data, config.crops_of)
    check_range("crops", config.crops, 0.0, 1.0)
    folder, out, kind = model_folder(base, ("sd",)), Path(out), KIND_OF_RECIPE[recipe]
    if config.few_steps and not few_steps_of(folder):
        raise InputError(f"few_steps: expected 0 for a base without {FEW_STEPS}, got {config.few_steps:g}")
    place: dict[str, Any] = {"device": torch.device("cpu"), "dtype": torch.float32}
    vae = load_component(folder, "vae", diffusers.AutoencoderKL, **place)
    unet = load_component(folder, "unet", diffusers.UNet2DConditionModel, **place)
    text_encoder = load_component(folder, "text_encoder", transformers.CLIPTextModel, **place)
    control, hints = recipe == "aligned", config.controlled_normals > 0
    kinds = ("normal", "color") if hints else (kind,)
    unet.requires_grad_(not control and not config.lora_rank)
    text_encoder.requires_grad_(False)
    with _seeded(config.loop.seed):
        controlnet = _first_controlnet(folder, unet, vae, hints=hints).requires_grad_(True) if control else None
    _spare_memory(config.gradient_checkpointing, unet, controlnet)
    if _count(unet) <= LARGE:
        _suit_attention(unet, controlnet)
    if config.lora_rank:
        with _seeded(config.loop.seed):
            add_lora(unet, config.lora_rank)
    make_task: Callable[..., DenoiserTask] = LoraTask if config.lora_rank else DenoiserTask
    if config.few_steps:
        few = load_component(folder, "unet", diffusers.UNet2DConditionModel, lora=folder / FEW_STEPS, **place)
        _suit_attention(few)
        make_task = partial(AlignedFewStepsTask, few_steps_unet=few, steps=few_steps_of(folder), share=config.few_steps)
    scheduler, tokenizer = read_config(folder, "scheduler"), load_tokenizer(folder)
    maps: dict[str, Any] = {"kinds": kinds, "control": control, "hints": hints}
    begun = time.monotonic()

    def stage(latents: Path, size: int, loop: LoopConfig, written: Path) -> Path:
        encode(vae, data, latents, kinds=kinds, device=device, size=size)
        unet.register_to_config(sample_size=size // downscale(vae))
        shards, held_out = _split(data, latents, maps)
        finer = None
        if config.crops_of is not None and size == resolution:
            encode(vae, config.crops_of, out / "latents_crops", kinds=kinds, device=device)
            finer = _split(config.crops_of, out / "latents_crops", maps)
        task = make_task(
            unet=unet,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            vae=vae,
            scheduler_config=scheduler,
            shards=shards,
            held_out=held_out,
            config=_how_to_tune(config, scheduler, kinds, control=control, small=names_poses(folder)),
            controlnet=controlnet,
            finer=finer,
        )
        return train(task, loop, written, device=device)

    loop, resolution = config.loop, Shards(data, maps=("mask",)).resolution
    if config.coarse_steps:
        coarse = replace(loop, steps=config.coarse_steps, batch_size=2 * loop.batch_size, minutes=loop.minutes / 4)
        _, controlnet = _trained(stage(out / "latents_coarse", resolution // 2, coarse, out / "coarse"))
        _suit_attention(controlnet)
        if loop.minutes:
            loop = replace(loop, minutes=max(loop.minutes - (time.monotonic() - begun) / 60.0, 1e-3))
    return stage(out / "latents", resolution, loop, out)


def _check_larger(data: str | Path, crops_of: str | Path) -> None:
    own, larger = (Shards(folder, maps=("mask",)).resolution for folder in (data, crops_of))
    if larger <= own:
        raise InputError(f"crops_of: expected pictures larger than the {own} pixels of {data}, got {larger}")


def _how_to_tune(
    config: FineTuneConfig, scheduler: dict[str, Any], kinds: tuple[str, ...], *, control: bool, small: bool
) -> DiffusionConfig:
    """What is drawn and how errors weigh: for a small model as it was made, for others every pixel alike."""
    how = DiffusionConfig(mask_weight=0.0)
    if small:
        pure_noise = SMALL_DIFFUSION.pure_noise if scheduler.get("prediction_type") == "v_prediction" else 0.0
        how = replace(SMALL_DIFFUSION, pure_noise=pure_noise)
    return replace(
        how,
        prompt_dropout=config.prompt_dropout,
        kinds=tuple((name, 1.0) for name in kinds),
        parts=config.parts,
        crops=config.crops,
        controlled=float(control),
        controlled_normals=config.controlled_normals,
        sheet_prompts=config.sheet_prompts,
        sheet_denoising_steps=config.sheet_denoising_steps,
    )


def train_few_steps(
    base: str | Path,
    data: str | Path,
    out: str | Path,
    config: FewStepsConfig,
    *,
    minutes: float = 0.0,
    device: str = "auto",
) -> Path:
    """A LoRA with which the model in the diffusers folder `base` draws in a few unguided steps what it draws guided;
    returns the folder of the LoRA.

    The guided sampler's walks for prompts and normal maps of `data` are drawn first, into `out/walks`, in
    `WALKS_SHARE` of the minutes if there are any. Colours are among them where the base has a ControlNet.
    """
    from accelerate import PartialState

    folder, out, seed = model_folder(base, ("sd",)), Path(out), config.loop.seed
    control = (folder / "controlnet").is_dir()
    if not control:
        config = replace(config, kinds=tuple((kind, count) for kind, count in config.kinds if kind != "color"))
    place = PartialState(cpu=device == "cpu").device
    half = torch.bfloat16 if autocast_precision(config.loop.precision, device) == "bf16" else torch.float32
    teacher = DiffusersDenoiser.load(folder, device=place, dtype=half, control=control, autoguidance=Autoguidance())
    shards, held_out = (Shards(data, split=split, maps=("normal",)) for split in ("train", "held_out"))
    begun = time.monotonic()
    draw_walks(teacher, held_out, out / "walks_held_out", config, files=1, seed=seed + 1)
    draw_walks(teacher, shards, out / "walks", config, files=config.files, minutes=WALKS_SHARE * minutes, seed=seed)
    left = max(minutes - (time.monotonic() - begun) / 60.0, 1e-3) if minutes else 0.0
    student = DiffusersDenoiser.load(folder, dtype=torch.float32, control=control)
    _suit_attention(*(network for network in (student.unet, student.controlnet) if network is not None))
    with _seeded(seed):
        task = FewStepsTask(
            model=student,
            walks=Walks(out / "walks", shards),
            held_out=Walks(out / "walks_held_out", held_out),
            config=config,
        )
    return train(task, replace(config.loop, minutes=left), out, device=device)


def train_joint_filter(
    base: str | Path,
    data: str | Path,
    out: str | Path,
    config: JointFilterConfig,
    *,
    crops_of: str | Path | None = None,
    minutes: float = 0.0,
    device: str = "auto",
) -> Path:
    """A joint filter for what the model in the diffusers folder `base` draws under hints; returns its folder.

    Pictures of `data`, which needs `--hints`, are drawn anew by the base first, into `out/drawn`, in `DRAWN_SHARE` of
    the minutes if there are any. One that the base has is trained on. crops_of: such data of larger pictures, which
    are learnt as often; the base draws them at their size.
    """
    from accelerate import PartialState

    folder, out, seed = model_folder(base, ("sd",)), Path(out), config.loop.seed
    place = PartialState(cpu=device == "cpu").device
    half = torch.bfloat16 if autocast_precision(config.loop.precision, device) == "bf16" else torch.float32
    guide = DiffusersDenoiser.load(folder, device=place, dtype=half, control=(folder / "controlnet").is_dir())
    if few_steps_of(folder):
        guide, config = guide.in_few_steps(), replace(config, steps=few_steps_of(folder))
    maps = ("normal", "color", "mask", *HINT_KINDS)
    resolution = Shards(data, maps=maps).resolution
    if resolution != guide.resolution:
        raise InputError(f"{data}: expected pictures of {guide.resolution} pixels, as the base draws, got {resolution}")
    if crops_of is not None:
        _check_larger(data, crops_of)
    begun, minutes_each = time.monotonic(), DRAWN_SHARE * minutes / (1 if crops_of is None else 2)

    def drawn(source: str | Path, name: str, file: int) -> tuple[Drawn, Drawn]:
        """Pairs to learn from and held-out ones; file: of how many pairs a file is."""
        people, held_out = (Shards(source, split=split, maps=maps) for split in ("train", "held_out"))
        drawer, how = guide.at_resolution(people.resolution), replace(config, file=file)
        where, beside = out / f"drawn{name}", out / f"drawn_held_out{name}"
        draw_pairs(drawer, held_out, beside, how, files=1, seed=seed + 1)
        draw_pairs(drawer, people, where, how, files=config.files, minutes=minutes_each, seed=seed)
        return Drawn(where, people), Drawn(beside, held_out)

    sizes = [drawn(data, "", config.file)]
    if crops_of is not None:
        sizes.append(drawn(crops_of, "_crops", max(1, config.file // 4)))
    left = max(minutes - (time.monotonic() - begun) / 60.0, 1e-3) if minutes else 0.0
    with _seeded(seed):
        known = folder / JOINT_FILTER
        network = JointFilter.load(known, dtype=torch.float32) if known.is_file() else JointFilter()
    learnt, held_out = zip(*sizes, strict=True)
    task = JointFilterTask(network.train().requires_grad_(True), learnt, held_out, config)
    return train(task, replace(config.loop, minutes=left), out, device=device)


def _first_controlnet(folder: Path, unet: Any, vae: Any, *, hints: bool) -> Any:
    """The base's own ControlNet, if it has one, under hints the one it has for them, else one that starts as a copy of
    its UNet's encoder."""
    from diffusers import ControlNetModel

    if (folder / "controlnet").is_dir():
        place: dict[str, Any] = {"device": torch.device("cpu"), "dtype": torch.float32}
        if hints and has_hints_controlnet(folder):
            return load_hints_controlnet(folder, **place)
        controlnet = load_component(folder, "controlnet", ControlNetModel, **place)
    else:
        controlnet = build_controlnet(unet, downscale(vae))
    return with_hint_channels(controlnet, HINT_CHANNELS) if hints else controlnet


def _spare_memory(wanted: bool | None, unet: Any, controlnet: Any | None) -> None:
    """Gradient checkpointing of what gradients flow through."""
    trained = unet if controlnet is None else controlnet
    if not (_count(trained) > LARGE if wanted is None else wanted):
        return
    for network in (unet, controlnet):
        if network is not None:
            network.enable_gradient_checkpointing()


def _split(data: str | Path, latents: Path, options: dict[str, Any]) -> tuple[LatentShards, LatentShards]:
    """What is learnt, and what is held out: the same where fewer than ten scans leave nothing to hold out."""
    shards = LatentShards(data, latents, **options)
    if len(shards) < sum(len(shard.shots) for shard in shards.shards):
        return shards, LatentShards(data, latents, split="held_out", **options)
    logger.warning("%s: nothing is held out (fewer than ten scans): the held-out loss is of what is learnt", data)
    return shards, shards


def add_lora(unet: Any, rank: int) -> None:
    """Low-rank adapters on the UNet's attention projections; only they are trained."""
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ImportError("LoRA training needs the package peft: pip install peft") from error
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))


def train_small(
    data: str | Path,
    out: str | Path,
    config: SmallModelConfig,
    *,
    start: str | Path | None = None,
    device: str = "auto",
) -> Path:
    """The small model in six stages, each resumable: VAE; text encoder on attributes; UNet and ControlNet at half
    resolution; the same at full resolution; the weak UNet likewise.

    With `start`, a small model's folder, all stages begin with its weights and its tokenizer, and its weak UNet stays
    as it is, since it is to be weak. If `config.vae` has more latent channels than that model, its own stay as they
    are and the others are learnt, from nothing, by all networks, the weak UNet among them. A stage that is at its last
    step is not run again. Returns the folder of the whole model in half precision, with a card that carries the
    dataset's camera plan.
    """
    plan = read_plan(data)  # fails now rather than at the end
    begun = None
    if start is not None:
        begun = DiffusersDenoiser.load(start, dtype=torch.float32, control=True, autoguidance=Autoguidance())
    grows = begun is not None and begun.channels < config.vae.latent_channels
    if begun is not None and grows:
        config = _grow(begun, config)
    stages = _SmallStages(data, Path(out), config, begun, device)
    vae = stages.vae()
    tokenizer, text_encoder = stages.text()
    frozen = _Frozen(vae, text_encoder.eval().requires_grad_(False), tokenizer)
    folder, hints = stages.denoiser(frozen)
    weak = None if begun is None else begun.weak_unet
    if weak is None or grows:
        weak = stages.weak_denoiser(frozen, weak, hints)
    return export_half(folder, Path(out) / "model", plan, weak_unet=weak)


@dataclass(frozen=True)
class _Frozen:
    """What the denoisers of the small model are trained with."""

    vae: Any
    text_encoder: Any
    tokenizer: Any


class _SmallStages:
    """The stages of one call of `train_small`, in their order."""

    def __init__(
        self,
        data: str | Path,
        out: Path,
        config: SmallModelConfig,
        begun: DiffusersDenoiser | None,
        device: str,
    ) -> None:
        self.data, self.out, self.config, self.begun, self.device = data, out, config, begun, device
        self.shards, self.held_out = Shards(data), Shards(data, split="held_out")
        self.clock = Clock(config.minutes)

    def vae(self) -> Any:
        """Trained, with normalised latents."""
        config = self.config
        with _seeded(config.vae_loop.seed):
            vae = build_vae(config.vae, self.shards.resolution) if self.begun is None else self.begun.vae
        task = VaeTask(vae.train().requires_grad_(True), self.shards, self.held_out, config.vae)
        train(task, self.clock.loop("vae", config.vae_loop), self.out / "vae", device=self.device)
        return _normalised(self.out, self.shards, config.vae.kept_channels)

    def text(self) -> tuple[Any, Any]:
        """Tokenizer, and text encoder trained on attributes."""
        config, begun = self.config, self.begun
        tokenizer = _tokenizer(self.out, self.shards, config.text) if begun is None else begun.tokenizer
        with _seeded(config.text_loop.seed):
            text_encoder = build_text_encoder(tokenizer, config.text) if begun is None else begun.text_encoder
            text_encoder = text_encoder.train().requires_grad_(True)
            words = AttributeTask(text_encoder, tokenizer, self.shards, self.held_out)
        loop = self.clock.loop("text", config.text_loop)
        return tokenizer, _text_encoder(train(words, loop, self.out / "text", device=self.device))

    def denoiser(self, frozen: _Frozen) -> tuple[Path, bool]:
        """The folder of UNet and ControlNet, and whether their shots carry hints."""
        config, begun = self.config, self.begun
        with _seeded(config.coarse_loop.seed):
            unet = self._new_unet(config.unet, frozen) if begun is None else begun.unet
            controlnet: Any = build_controlnet(unet, downscale(frozen.vae)) if begun is None else begun.controlnet
            if config.diffusion.controlled_normals:
                controlnet = with_hint_channels(controlnet, HINT_CHANNELS)
        hints = int(controlnet.config.conditioning_channels) == HINT_CHANNELS
        loops = (config.coarse_loop, config.fine_loop)
        return self._both_resolutions(frozen, "", unet, controlnet, loops, config.diffusion, hints=hints), hints

    def weak_denoiser(self, frozen: _Frozen, unet: Any | None, hints: bool) -> Any:
        """The weak UNet, from nothing unless one is given. hints: as in `denoiser`."""
        config = self.config
        with _seeded(config.weak_coarse_loop.seed):
            unet = self._new_unet(config.weak_unet, frozen) if unet is None else unet
        loops = (config.weak_coarse_loop, config.weak_fine_loop)
        weak, _ = _trained(
            self._both_resolutions(frozen, "weak_", unet, None, loops, config.weak_diffusion, hints=hints)
        )
        return weak

    def _new_unet(self, config: UnetConfig, frozen: _Frozen) -> Any:
        return build_unet(config, self.config.text, self.shards.resolution // downscale(frozen.vae))

    def _both_resolutions(
        self,
        frozen: _Frozen,
        name: str,
        unet: Any,
        controlnet: Any | None,
        loops: tuple[LoopConfig, LoopConfig],
        how: DiffusionConfig,
        *,
        hints: bool,
    ) -> Path:
        """A denoiser at half resolution, then from there at full; the folder of the second."""
        folder = self.out
        for stage, loop, shrink in zip(("coarse", "fine"), loops, (2, 1), strict=True):
            latents = self.out / f"latents_{stage}"
            minutes = self.clock.minutes(f"latents_{stage}")
            size = self.shards.resolution // shrink
            encode(frozen.vae, self.data, latents, kinds=KINDS, device=self.device, size=size, minutes=minutes)
            unet.register_to_config(sample_size=size // downscale(frozen.vae))
            _suit_attention(unet, controlnet)
            maps: dict[str, Any] = {"control": controlnet is not None, "hints": hints}
            task = DenoiserTask(
                unet=unet.train().requires_grad_(True),
                text_encoder=frozen.text_encoder,
                controlnet=None if controlnet is None else controlnet.train().requires_grad_(True),
                tokenizer=frozen.tokenizer,
                vae=frozen.vae,
                scheduler_config={**SCHEDULE, "prediction_type": how.prediction_type},
                shards=LatentShards(self.data, latents, **maps),
                held_out=LatentShards(self.data, latents, split="held_out", **maps),
                config=how,
            )
            folder = train(task, self.clock.loop(name + stage, loop), self.out / (name + stage), device=self.device)
            unet, controlnet = _trained(folder)
        return folder


def encode(
    vae: Any,
    data: str | Path,
    cache: Path,
    *,
    kinds: tuple[str, ...],
    device: str,
    size: int | None = None,
    minutes: float = 0.0,
) -> None:
    """Latents of all shards, of pictures shrunk to `size`; the processes of `accelerate launch` share the work.

    With `minutes`, of as many shards as there is time for, one at least.

    In bf16 where the device computes it natively: twice as fast, and off by half a percent of the latents' spread.
    """
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu")
    vae.to(state.device)
    with _native_half(device):
        workers = {"worker": state.process_index, "workers": state.num_processes}
        encode_shards(vae, data, cache, kinds=kinds, size=size, minutes=minutes, **workers)
    vae.to("cpu")
    state.wait_for_everyone()


def _native_half(device: str) -> torch.autocast:
    """bf16 where the device computes it natively."""
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    return torch.autocast(kind, torch.bfloat16, enabled=autocast_precision("auto", device) == "bf16")


def downscale(vae: Any) -> int:
    """Image pixels per latent pixel along a side."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


def export_half(folder: str | Path, out: str | Path, plan: CameraPlan, *, weak_unet: Any) -> Path:
    """Write a trained small model as it is bundled: float16 safetensors in diffusers layout, and its card."""
    guide = DiffusersDenoiser.load(folder, dtype=torch.float16, control=True)
    guide.weak_unet = torch.nn.Module.to(weak_unet, dtype=torch.float16)  # diffusers' own `to` warns of casts
    out = Path(out)
    save_folder(
        out,
        unet=guide.unet,
        text_encoder=guide.text_encoder,
        tokenizer=guide.tokenizer,
        vae=guide.vae,
        scheduler_config=guide.scheduler_config,
        controlnet=guide.controlnet,
        weak_unet=guide.weak_unet,
    )
    write_card(out, plan, resolution=guide.resolution, parameters=sum(_count(module) for module in guide.modules))
    return out


def read_plan(data: str | Path) -> CameraPlan:
    """The cameras a dataset was rendered with, as its dataset.json says."""
    return CameraPlan.from_dict(read_description(data)["camera_plan"])


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _grow(guide: DiffusersDenoiser, config: SmallModelConfig) -> SmallModelConfig:
    """More latent channels for all networks of a small model, in place; it still draws what it drew. The settings
    that keep the channels it has."""
    channels, kept = config.vae.latent_channels, guide.channels
    with _seeded(config.vae_loop.seed):
        guide.vae = with_detail(guide.vae, channels)
    guide.unet, guide.controlnet = with_latents(guide.unet, channels), with_latents(guide.controlnet, channels)
    if guide.weak_unet is not None:
        guide.weak_unet = with_latents(guide.weak_unet, channels)
    rate = min(config.vae_loop.learning_rate, GROWN_VAE_RATE)
    return replace(
        config,
        vae=replace(config.vae, kept_channels=kept),
        vae_loop=replace(config.vae_loop, learning_rate=rate),
    )


def _normalised(out: Path, shards: Shards, kept: int) -> Any:
    """The trained VAE with normalised latents; the first `kept` channels are what denoisers know them as."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(out / "vae" / "model").eval()
    with _native_half("cpu"):
        mean, std = latent_statistics(vae, shards)
    mean[:kept], std[:kept] = 0.0, 1.0 / vae.config.scaling_factor
    normalise_latents(vae, mean, std)
    return vae


def _tokenizer(out: Path, shards: Shards, config: TextConfig) -> Any:
    """Learnt from wordings of the training shots; kept for later stages, since the weights hang on it."""
    import numpy as np
    from accelerate import PartialState
    from transformers import CLIPTokenizer

    def texts() -> Iterator[str]:
        words = np.random.default_rng(0)
        for index in range(len(shards)):
            for kind in KINDS:
                yield draw_prompt(shards.shot(index), kind, words)

    state = PartialState()
    if state.is_main_process and not (out / "tokenizer" / "vocab.json").is_file():
        train_tokenizer(texts(), out / "tokenizer", config)
    state.wait_for_everyone()
    return CLIPTokenizer.from_pretrained(out / "tokenizer")


def _suit_attention(*networks: Any) -> None:
    """On a CPU plain matrix products are a fifth faster in training than torch's fused attention, at this size."""
    from accelerate import PartialState
    from diffusers.models.attention_processor import AttnProcessor

    for network in networks:
        if network is not None and PartialState().device.type == "cpu":
            network.set_attn_processor(AttnProcessor())


def _trained(folder: Path) -> tuple[Any, Any | None]:
    """UNet and, where there is one, ControlNet."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    if not (folder / "controlnet").is_dir():
        return unet, None
    return unet, ControlNetModel.from_pretrained(folder / "controlnet", torch_dtype=torch.float32)


def _text_encoder(folder: Path) -> Any:
    from transformers import CLIPTextModel

    return CLIPTextModel.from_pretrained(folder, dtype=torch.float32)


class _seeded:
    """Weights that start at random are the same on every process and every run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        self.state = torch.get_rng_state()
        torch.manual_seed(self.seed)

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self.state)
