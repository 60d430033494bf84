"""Training a denoiser: normal-, depth- and colour-adapted models (eq. 5) and the normal ControlNet (eq. 8).

One task serves the fine-tuning of a Stable Diffusion folder and the small model made from nothing; they differ in what
is trained and in their settings. Latents are encoded once, before the training, so the VAE is no part of it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from humannorm.checks import InputError
from humannorm.files import save_tensors
from humannorm.guidance.denoiser import HINT_CHANNELS
from humannorm.guidance.diffusers_denoiser import DiffusersDenoiser
from humannorm.guidance.folders import WEAK_UNET, lora_name
from humannorm.guidance.samplers import sample_images
from humannorm.images import contact_sheet, save_png
from humannorm.training.config import DiffusionConfig, TextConfig, UnetConfig
from humannorm.training.hints import HINT_KINDS, draw_hint, hints_of
from humannorm.training.loop import Task
from humannorm.training.shards import HEAD_SHARE, KINDS, Shards, at_size, uppermost
from humannorm.training.text import draw_prompt, fixed_prompt, tokenize, with_any_pose
from humannorm.training.vae import crop_around, cut_out

__all__ = [
    "SCHEDULE",
    "DenoiserTask",
    "LatentShards",
    "LoraTask",
    "build_controlnet",
    "build_unet",
    "control_residuals",
    "noise_and_target",
    "padded",
    "save_folder",
    "stratified_timesteps",
]

SCHEDULE = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
"""Stable Diffusion 1.5's noise schedule, which ComfyUI takes for granted."""

VALIDATION_SEED = 1234


def build_unet(config: UnetConfig, text: TextConfig, latent_size: int) -> Any:
    """A fresh diffusers `UNet2DConditionModel` of SD1.5's layout."""
    from diffusers import UNet2DConditionModel

    levels = len(config.channels)
    return UNet2DConditionModel(
        sample_size=latent_size,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * (levels - 1)),
        up_block_types=(*("CrossAttnUpBlock2D",) * (levels - 1), "UpBlock2D"),
        block_out_channels=config.channels,
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_groups,
        cross_attention_dim=text.hidden,
        attention_head_dim=tuple(width // config.head_channels for width in config.channels),  # heads, despite the name
    )


def build_controlnet(unet: Any, downscale: int) -> Any:
    """A diffusers `ControlNetModel` that starts as a copy of the UNet's encoder and adds nothing yet.

    The hint is shrunk by as much as the VAE shrinks images: 8 in Stable Diffusion, 4 in the small model.
    """
    from diffusers import ControlNetModel

    widths = {4: (16, 32, 64), 8: (16, 32, 96, 256)}
    if downscale not in widths:
        raise InputError(f"vae: expected one that shrinks images 4 or 8 times, got {downscale}")
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=widths[downscale])
    return controlnet.train()


class LatentShards(Shards):
    """Shards with their latents, as `encode_shards` wrote them; a shard without latents is not seen yet.

    Latents are held in memory: they are small, and random reads from a disk are slow. With `control` there are the
    normal maps, with `hints` also those of a ControlNet of six channels (`hints.HINT_KINDS`).
    """

    def __init__(
        self,
        folder: str | Path,
        cache: str | Path,
        *,
        kinds: Sequence[str] = KINDS,
        split: str = "train",
        control: bool,
        hints: bool = False,
    ) -> None:
        self.cache = Path(cache)
        self.kinds = tuple(kinds)
        control_maps = ("normal", *(HINT_KINDS if hints else ())) if control else ()
        super().__init__(folder, split=split, maps=("mask", *control_maps))

    def ready(self, name: str) -> bool:
        return all((self.cache / f"latent_{kind}_{name}.npy").is_file() for kind in self.kinds)

    def extra_maps(self, name: str) -> dict[str, np.ndarray]:
        return {
            f"latent_{kind}": np.load(self.cache / f"latent_{kind}_{name}.npy", allow_pickle=False)
            for kind in self.kinds
        }

    def latent(self, index: int, kind: str) -> Float[Tensor, "C h w"]:
        """Scaled latents of the index-th picture."""
        shard, row = self.rows[index]
        return torch.from_numpy(np.array(self.shards[shard].maps[f"latent_{kind}"][row])).float()


class DenoiserTask(Task):
    """Predict eps or v of noised latents, as the model's scheduler says, from prompts and at times normal maps."""

    alphabar: Tensor

    def __init__(
        self,
        *,
        unet: Any,
        text_encoder: Any,
        tokenizer: Any,
        vae: Any,
        scheduler_config: dict[str, Any],
        shards: LatentShards,
        held_out: LatentShards,
        config: DiffusionConfig,
        controlnet: Any | None = None,
        finer: tuple[LatentShards, LatentShards] | None = None,
    ) -> None:
        """finer: larger pictures, what is learnt and what is held out, for `config.crops`."""
        from diffusers import DDPMScheduler

        super().__init__()
        self.unet, self.text_encoder, self.controlnet = unet, text_encoder, controlnet
        # Not a sub-module: the VAE is neither trained nor needed on the device but for sheets.
        self.__dict__["vae"] = vae.requires_grad_(False).eval()
        self.downscale = 2 ** (len(vae.config.block_out_channels) - 1)
        self.tokenizer = tokenizer
        self.scheduler_config = scheduler_config
        self.prediction_type = str(scheduler_config.get("prediction_type", "epsilon"))
        if config.pure_noise and self.prediction_type != "v_prediction":
            raise InputError(
                "pure_noise: expected 0 for a model that does not predict v, which says nothing of noise alone"
            )
        if config.controlled_normals and self.hint_channels != HINT_CHANNELS:
            raise InputError(
                f"controlled_normals: expected 0 for a ControlNet of {self.hint_channels} hint channels, whose hint is "
                f"the finished normal map; only one of {HINT_CHANNELS} is told the start's"
            )
        alphabar = DDPMScheduler.from_config(scheduler_config).alphas_cumprod
        self.register_buffer("alphabar", alphabar.clone(), persistent=False)
        self.shards, self.held_out, self.finer, self.config = shards, held_out, finer, config

    def draw(self, generator: torch.Generator, batch_size: int, shards: LatentShards | None = None) -> dict[str, Any]:
        """A batch of these shards, else of the training's; crops of pictures that are larger than the network's."""
        if shards is None:
            crops = self.finer is not None and float(torch.rand((), generator=generator)) < self.config.crops
            shards = self.finer[0] if crops and self.finer is not None else self.shards
        words = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        controlled = round(batch_size * self.config.controlled)
        names = [kind for kind, _ in self.config.kinds]
        shares = torch.tensor([share for _, share in self.config.kinds])
        kinds = [
            names[i] for i in torch.multinomial(shares, batch_size, replacement=True, generator=generator).tolist()
        ]
        as_normals = round(controlled * self.config.controlled_normals)
        kinds[:controlled] = ["normal"] * as_normals + ["color"] * (controlled - as_normals)
        indices = shards.draw(controlled, generator, self.config.controlled_parts or self.config.parts)
        indices += shards.draw(batch_size - controlled, generator, self.config.parts)
        latents = torch.stack([shards.latent(index, kind) for index, kind in zip(indices, kinds, strict=True)])
        whole = torch.stack([shards.mask(index) for index in indices])
        parts = [shards.shot(index)["part"] for index in indices]
        masks = at_size(whole[:, None], whole, parts, latents.shape[-1] * self.downscale)
        mask = torch.nn.functional.interpolate(masks, latents.shape[-2:], mode="area")
        full = torch.tensor([part == "full" for part in parts])
        heads = full[:, None, None, None] * uppermost(mask, HEAD_SHARE)
        shots = [with_any_pose(shards.shot(index), words) for index in indices]
        prompts = [draw_prompt(shot, kind, words) for shot, kind in zip(shots, kinds, strict=True)]
        kept = torch.rand(batch_size, generator=generator) >= self.config.prompt_dropout
        batch = {
            "latents": latents,
            "weight": 1.0 + self.config.mask_weight * mask + self.config.head_weight * heads,
            "tokens": self.tokenize([text if keep else "" for text, keep in zip(prompts, kept.tolist(), strict=True)]),
            "timestep": stratified_timesteps(batch_size, len(self.alphabar), generator, self.config.noise_bias),
            "noise": torch.randn(latents.shape, generator=generator),
            "pure_noise": torch.rand(batch_size, generator=generator) < self.config.pure_noise,
        }
        if controlled:
            batch["hint"] = self.hints(shards, indices[:controlled], whole[:controlled], kinds[:controlled], words)
        side = int(self.unet.config.sample_size)
        if latents.shape[-1] > side:
            corners = [crop_around(each[0], side, generator) for each in mask]
            batch |= {name: cut_out(batch[name], corners, side) for name in ("latents", "weight", "noise")}
            if controlled:
                at, scale = corners[:controlled], self.downscale
                shown = [(scale * top, scale * left) for top, left in at]
                batch["hint"] = cut_out(batch["hint"], shown, scale * side)
        return batch

    def hints(
        self,
        shards: LatentShards,
        indices: Sequence[int],
        masks: Float[Tensor, "B R R"],
        kinds: Sequence[str],
        generator: np.random.Generator | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """What the ControlNet is told, at the resolution that the shards' latents were made from.

        Normal maps 0..1, and for a network of six channels flat colours (`hints.draw_hint` says whose and when; without
        a generator the start's, with its colours).
        """
        if self.hint_channels == HINT_CHANNELS:
            drawn = [("start", True) if generator is None else draw_hint(kind, generator) for kind in kinds]
            maps = hints_of(shards, indices, *zip(*drawn, strict=True)).permute(0, 3, 1, 2)
        else:
            maps = torch.stack([shards.image(index, "normal") for index in indices]).permute(0, 3, 1, 2)
        size = shards.latent(indices[0], shards.kinds[0]).shape[-1] * self.downscale
        if size == maps.shape[-1]:
            return maps
        return at_size(maps, masks, [shards.shot(index)["part"] for index in indices], size)

    @property
    def hint_channels(self) -> int:
        """Of the ControlNet; 0 without one."""
        return 0 if self.controlnet is None else int(self.controlnet.config.conditioning_channels)

    def tokenize(self, prompts: Sequence[str]) -> Int[Tensor, "B T"]:
        """Token ids, padded and cut to the text encoder's length."""
        return tokenize(self.tokenizer, prompts, self.text_encoder.config.max_position_embeddings)

    def forward(self, batch: dict[str, Any]) -> Tensor:
        latents, noise = batch["latents"], batch["noise"]
        timestep = torch.where(batch["pure_noise"], len(self.alphabar) - 1, batch["timestep"])
        alphabar = torch.where(batch["pure_noise"], 0.0, self.alphabar[timestep])
        noised, target = noise_and_target(latents, noise, alphabar, self.prediction_type)
        return self.weighted_error(self.predicted(self.unet, noised, timestep, batch), target, batch["weight"])

    def predicted(
        self, unet: Any, noised: Float[Tensor, "B C h w"], timestep: Int[Tensor, "B"], batch: dict[str, Any]
    ) -> Float[Tensor, "B C h w"]:
        """A UNet's output for noised latents in variance preserving form; the batch's first samples may have hints."""
        text = self.text_encoder(batch["tokens"]).last_hidden_state
        residuals = control_residuals(self.controlnet, noised, timestep, text, batch)
        return unet(noised, timestep, text, **residuals).sample.float()

    @staticmethod
    def weighted_error(
        predicted: Float[Tensor, "B C h w"], target: Float[Tensor, "B C h w"], weight: Float[Tensor, "B 1 h w"]
    ) -> Float[Tensor, ""]:
        """Mean squared error, weighted by latent pixel."""
        return ((predicted - target).square() * weight).sum() / (weight.sum() * target.shape[1])

    @property
    def guide(self) -> DiffusersDenoiser:
        """The present weights as a denoiser, for sheets. Leaves the modules' gradients switched as they are."""
        wanted = {name: value.requires_grad for name, value in self.named_parameters()}
        guide = DiffusersDenoiser(
            unet=self.unet,
            scheduler_config=self.scheduler_config,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            vae=self.vae,
            controlnet=self.controlnet,
        )
        for name, value in self.named_parameters():
            value.requires_grad_(wanted[name])
        return guide

    @torch.no_grad()
    def validate(self, folder: Path, step: int) -> Mapping[str, float]:
        """The loss on held-out people, and a sheet of fixed prompts and seeds in all kinds, parts and views."""
        self.shards.refresh()
        guide = self.guide
        generator = torch.Generator().manual_seed(VALIDATION_SEED)
        batch = self.draw(generator, 4 * self.config.sheet_prompts, self.held_out)
        figures = {"held_out_loss": float(self({k: v.to(guide.device) for k, v in batch.items()}))}
        if self.finer is not None:
            crops = self.draw(generator, 4 * self.config.sheet_prompts, self.finer[1])
            figures["held_out_loss_crops"] = float(self({k: v.to(guide.device) for k, v in crops.items()}))
        indices = self._validation_shots()[: self.config.sheet_prompts]
        pictures: list[Tensor] = []
        labels: list[str] = []
        for kind in [kind for kind, _ in self.config.kinds]:
            prompts = [fixed_prompt(self.held_out.shot(index), kind) for index in indices]
            controls: list[Tensor | None] = [None]
            if self.config.controlled and (kind == "color" or (kind == "normal" and self.config.controlled_normals)):
                masks = torch.stack([self.held_out.mask(index) for index in indices])
                hints = self.hints(self.held_out, indices, masks, [kind] * len(indices))
                controls.append(hints.permute(0, 2, 3, 1))
                controls = controls[-1:] if self.config.controlled == 1 else controls
            for control in controls:
                pictures += sample_images(
                    guide,
                    prompts,
                    seeds=range(VALIDATION_SEED, VALIDATION_SEED + len(prompts)),
                    control=control,
                    steps=self.config.sheet_denoising_steps,
                )
                if control is not None:  # of six channels the colours, which the normals are easy to imagine under
                    pictures += list(control[..., -3:])
                named = [f"{self.held_out.shot(i)['part']} {self.held_out.shot(i)['view']}" for i in indices]
                labels += [f"{kind} {text}" for text in named]
                labels += named if control is not None else []
        save_png(folder / f"step_{step:06d}.png", contact_sheet(pictures, labels, len(indices)))
        self.train()
        return figures

    def _validation_shots(self) -> list[int]:
        """Twelve held-out shots: full bodies from the four sides, twice, then heads and halves."""
        wanted = [("full", view) for view in ("front", "left", "back", "right")]
        wanted += [("full", "front"), ("full", "back"), ("head", "front"), ("head", "left"), ("head", "back")]
        wanted += [("upper", "front"), ("upper", "back"), ("lower", "front")]
        chosen: list[int] = []
        for pair in wanted:
            found = (
                index
                for index in range(len(self.held_out))
                if index not in chosen
                and (self.held_out.shot(index)["part"], self.held_out.shot(index)["view"]) == pair
            )
            chosen.append(next(found, 0))
        return chosen

    def save(self, folder: Path) -> None:
        """A whole diffusers folder: what was trained, and what it needs beside it."""
        save_folder(
            folder,
            unet=self.unet,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            vae=self.vae,
            scheduler_config=self.scheduler_config,
            controlnet=self.controlnet,
        )


class LoraTask(DenoiserTask):
    """The same training, of adapters only; what is saved is the LoRA file that diffusers and ComfyUI read."""

    def save(self, folder: Path) -> None:
        from peft.utils import get_peft_model_state_dict

        kinds = {"lora_A": "lora_down", "lora_B": "lora_up"}
        tensors: dict[str, Tensor] = {}
        for name, value in get_peft_model_state_dict(self.unet).items():
            layer, kind, _ = name.rsplit(".", 2)
            tensors[f"{lora_name(layer)}.{kinds[kind]}.weight"] = value.contiguous()
        save_tensors(folder / "pytorch_lora_weights.safetensors", tensors, {"format": "pt"})


def stratified_timesteps(count: int, timesteps: int, generator: torch.Generator, bias: float = 0.0) -> Int[Tensor, "B"]:
    """Timesteps with density (t / T)^bias, one from each of `count` equally likely parts, in random order.

    Stratifying makes the loss steadier than independent draws.
    """
    offsets = torch.rand(count, generator=generator)
    places = (torch.randperm(count, generator=generator) + offsets) / count
    places = places ** (1.0 / (1.0 + bias))  # the inverse of the distribution function
    return (places * timesteps).long().clamp(max=timesteps - 1)


def noise_and_target(
    latents: Float[Tensor, "B C h w"],
    noise: Float[Tensor, "B C h w"],
    alphabar: Float[Tensor, "B"],
    prediction_type: str,
) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B C h w"]]:
    """Noised latents in DDPM's variance preserving form, and the network's target: eps, or v of Salimans and Ho."""
    signal, spread = alphabar.sqrt()[:, None, None, None], (1 - alphabar).sqrt()[:, None, None, None]
    noised = signal * latents + spread * noise
    if prediction_type == "epsilon":
        return noised, noise
    if prediction_type == "v_prediction":
        return noised, signal * noise - spread * latents
    raise InputError(f"prediction_type: expected epsilon or v_prediction, got {prediction_type!r}")


def control_residuals(
    controlnet: Any, noised: Float[Tensor, "B C h w"], timestep: Int[Tensor, "B"], text: Tensor, batch: dict[str, Any]
) -> dict[str, Any]:
    """What the ControlNet has the UNet add: for the batch's first samples, which have hints, and 0 for the others."""
    if "hint" not in batch:
        return {}
    count = len(batch["hint"])
    down, middle = controlnet(
        noised[:count], timestep[:count], text[:count], controlnet_cond=batch["hint"], return_dict=False
    )
    return {
        "down_block_additional_residuals": [padded(value, len(noised)) for value in down],
        "mid_block_additional_residual": padded(middle, len(noised)),
    }


def padded(values: Float[Tensor, "K ..."], count: int) -> Float[Tensor, "B ..."]:
    """Zeros for the samples of the batch that are not controlled."""
    if len(values) == count:
        return values
    return torch.cat([values, values.new_zeros(count - len(values), *values.shape[1:])])


def save_folder(
    folder: Path,
    *,
    unet: Any,
    text_encoder: Any,
    tokenizer: Any,
    vae: Any,
    scheduler_config: dict[str, Any],
    controlnet: Any | None = None,
    weak_unet: Any | None = None,
) -> None:
    """Write a Stable Diffusion pipeline folder, safetensors only."""
    unet.save_pretrained(folder / "unet")
    text_encoder.save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    for name in ("vocab.json", "merges.txt"):  # what older readers, ComfyUI among them, look for
        source = Path(tokenizer.name_or_path) / name
        if source.is_file() and source.parent.resolve() != (folder / "tokenizer").resolve():
            shutil.copyfile(source, folder / "tokenizer" / name)
    vae.save_pretrained(folder / "vae")
    if controlnet is not None:
        controlnet.save_pretrained(folder / "controlnet")
    if weak_unet is not None:
        weak_unet.save_pretrained(folder / WEAK_UNET)
    for path in folder.glob("*/config.json"):  # where the weights once lay on the trainer's disk is nobody's business
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    text = json.dumps(scheduler_config, indent=2) + "\n"
    (folder / "scheduler" / "scheduler_config.json").write_text(text, encoding="utf-8")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
        "scheduler": ["diffusers", scheduler_config.get("_class_name", "DDIMScheduler")],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
