"""The denoiser interface on a diffusers folder: SD1.5-class models, the bundled small one among them.

`DiffusersDenoiser.load` opens folders of other families too: what differs stands in `sdxl_denoiser`, `sd3_denoiser`.
"""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from humannorm.checks import InputError, check_range, check_tensor
from humannorm.guidance.denoiser import HINT_CHANNELS
from humannorm.guidance.folders import (
    WEAK_UNET,
    few_steps_of,
    load_component,
    load_tokenizer,
    model_family,
    model_folder,
    read_config,
)
from humannorm.guidance.hints_controlnet import has_hints_controlnet, load_hints_controlnet
from humannorm.guidance.joint_filter import JointFilter
from humannorm.guidance.noise import NoiseTable
from humannorm.images import from_network, to_network
from humannorm.models import FEW_STEPS, JOINT_FILTER
from humannorm.prompt_fitting import fit_prompt

__all__ = [
    "TEXTS_KEPT",
    "Autoguidance",
    "DiffusersCondition",
    "DiffusersDenoiser",
    "ExtraControl",
    "resized",
    "to_denoised",
]

TEXTS_KEPT = 256  # embeddings; a person in all parts and views takes 16 for each kind of picture


@dataclass(frozen=True)
class Autoguidance:
    """Weights w of autoguidance, 1 without; by default those that suit sampling with the bundled model.

    Surfaces distilled with autoguidance came out rougher, so distillation goes without.
    """

    free: float = 2.75
    """Where the text alone is followed."""
    controlled: float = 1.7
    """Under a normal map, which leaves the weak UNet, who does not see it, further behind: 2.5 dyes faces there."""

    def __post_init__(self) -> None:
        check_range("autoguidance", self.free, 1.0, 100.0)
        check_range("controlled autoguidance", self.controlled, 1.0, 100.0)

    def weight(self, *, controlled: bool) -> float:
        return self.controlled if controlled else self.free


@dataclass(frozen=True, eq=False)
class ExtraControl:
    """A further ControlNet, and when it is heard."""

    kind: str  # of picture that it is shown, see `humannorm.controls.CONTROL_KINDS`
    network: Any
    strength: float = 1.0
    start: float = 0.0  # of the way from pure noise (0) to the picture (1)
    end: float = 1.0

    def __post_init__(self) -> None:
        check_range("strength", self.strength, 0.0, 10.0)
        check_range("start", self.start, 0.0, 1.0)
        check_range("end", self.end, self.start, 1.0)


@dataclass(frozen=True, eq=False)
class DiffusersCondition:
    """Text embeddings and, for an aligned model, the normal maps to follow."""

    positive: Float[Tensor, "B T D"]
    negative: Float[Tensor, "1 T D"]
    guidance_scale: float
    control: Float[Tensor, "B C H W"] | None = None
    control_scale: float = 1.0
    pooled: Float[Tensor, "B P"] | None = None  # of the whole texts, for the families that read such
    negative_pooled: Float[Tensor, "1 P"] | None = None
    more_controls: Mapping[str, Float[Tensor, "B 3 H W"]] = field(default_factory=dict)  # by kind


@dataclass(frozen=True, eq=False)
class Words:
    """What a network reads of texts."""

    states: Float[Tensor, "B T D"]
    pooled: Float[Tensor, "B P"] | None = None

    @staticmethod
    def cat(parts: Sequence[Words]) -> Words:
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return Words(torch.cat([part.states for part in parts]), torch.cat(pooled) if pooled else None)

    def repeated(self, count: int) -> Words:
        """A single text for as many samples."""
        pooled = None if self.pooled is None else self.pooled.expand(count, -1)
        return Words(self.states.expand(count, -1, -1), pooled)


class DiffusersDenoiser:
    """UNet, text encoder, VAE and, where there are such, the normal ControlNet and the weak UNet of a diffusers folder.

    A weak UNet is a smaller one that was trained for a shorter time on the same pictures, for autoguidance.
    """

    def __init__(
        self,
        *,
        unet: Any,
        scheduler_config: dict[str, Any],
        text_encoder: Any,
        tokenizer: Any,
        vae: Any,
        controlnet: Any | None = None,
        weak_unet: Any | None = None,
        autoguidance: Autoguidance | None = None,
    ) -> None:
        self.unet, self.text_encoder, self.tokenizer, self.vae = unet, text_encoder, tokenizer, vae
        self.controlnet, self.weak_unet, self.autoguidance = controlnet, weak_unet, autoguidance
        self.few_steps_unet: Callable[[], Any] | None = None  # loads the UNet with the LoRA beside it
        self.hints_controlnet: Any | None = None  # the one of six channels, where the other reads three
        self.joint_filter: JointFilter | None = None
        self.extra_controls: tuple[ExtraControl, ...] = ()
        self.body: Any = None  # posed, for the controls that show a skeleton
        self.resolution = int(unet.config.sample_size) * self.downscale  # pixels a side of what it draws
        self.scheduler_config = scheduler_config
        self.prediction_type = str(scheduler_config.get("prediction_type", "epsilon"))
        self._noise = self.noise_table(scheduler_config)
        self._texts: OrderedDict[str, Words] = OrderedDict()  # embeddings of the prompts used last
        for module in self.modules:
            module.eval().requires_grad_(False)

    @staticmethod
    def noise_table(config: dict[str, Any]) -> NoiseTable:
        """The noise levels that a scheduler's config describes."""
        from diffusers import DDPMScheduler

        alphabar = DDPMScheduler.from_config(config).alphas_cumprod.double()
        return NoiseTable.of(((1 - alphabar) / alphabar).sqrt(), len(alphabar))

    @classmethod
    def load(
        cls,
        models: str | Path = "bundled",
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        control: bool = False,
        autoguidance: Autoguidance | None = None,
        few_steps: bool = False,
    ) -> DiffusersDenoiser:
        """From a diffusers folder on disk, or "bundled"; nothing is fetched. Of SDXL and SD3 folders their own kind.

        `control` also loads the ControlNet in its `controlnet` folder and what stands beside it for use under hints,
        `autoguidance` the UNet in a `weak_unet` folder if there is one. `few_steps` adds the folder's LoRA to the UNet,
        which then draws in `few_steps_of` DDIM steps without guidance. Errors name the file and what was expected.
        """
        import diffusers
        import transformers

        folder = model_folder(models)
        family = model_family(folder)
        if family != "sd":
            from humannorm.guidance.sd3_denoiser import load_sd3
            from humannorm.guidance.sdxl_denoiser import load_sdxl

            opens = load_sdxl if family == "sdxl" else load_sd3
            return opens(folder, device=torch.device(device), dtype=dtype, control=control)
        options: dict[str, Any] = {"device": torch.device(device), "dtype": dtype}
        unets = diffusers.UNet2DConditionModel
        lora = folder / FEW_STEPS
        if few_steps and not few_steps_of(folder):
            raise InputError(f"{lora}: expected a LoRA that draws in few steps, got no such file")
        weak = autoguidance is not None and (folder / WEAK_UNET).is_dir()
        guide = cls(
            unet=load_component(folder, "unet", unets, lora=lora if few_steps else None, **options),
            weak_unet=load_component(folder, WEAK_UNET, unets, **options) if weak else None,
            autoguidance=autoguidance,
            scheduler_config=read_config(folder, "scheduler"),
            text_encoder=load_component(folder, "text_encoder", transformers.CLIPTextModel, **options),
            tokenizer=load_tokenizer(folder),
            vae=load_component(folder, "vae", diffusers.AutoencoderKL, **options),
            controlnet=load_component(folder, "controlnet", diffusers.ControlNetModel, **options) if control else None,
        )
        if control and has_hints_controlnet(folder):
            guide.hints_controlnet = load_hints_controlnet(folder, **options)
        if control and (folder / JOINT_FILTER).is_file():
            on_processor = torch.device(device).type == "cpu"  # where bf16 takes so thin a network a third longer
            guide.joint_filter = JointFilter.load(
                folder / JOINT_FILTER, device=device, dtype=torch.float32 if on_processor else dtype
            )
        if lora.is_file():
            guide.few_steps_unet = functools.cache(
                lambda: load_component(folder, "unet", unets, lora=lora, **options).eval().requires_grad_(False)
            )
        return guide

    def in_few_steps(self) -> DiffusersDenoiser:
        """This guide with the LoRA of its folder, with which it draws in `few_steps_of` DDIM steps without guidance;
        all but the UNet is shared. `InputError` where the folder has none."""
        if self.few_steps_unet is None:
            raise InputError(f"guide: expected a model with {FEW_STEPS} in its folder, got one without")
        few = copy.copy(self)
        few.unet, few.weak_unet = self.few_steps_unet(), None
        return few

    def at_resolution(self, pixels: int) -> DiffusersDenoiser:
        """This guide drawing pictures of another size, all networks shared. Under a body's normal maps and colours the
        bundled model, made of pictures of 128 pixels, draws finer ones of 256; from words alone it draws a crowd.
        `InputError` for a side that the networks cannot divide as they do."""
        widths, patch = self.unet.config.get("block_out_channels"), self.unet.config.get("patch_size", 1)
        least = self.downscale * (2 ** (len(widths) - 1) if widths else patch)  # a transformer cuts patches instead
        if pixels <= 0 or pixels % least:
            raise InputError(f"resolution: expected a multiple of {least} pixels, got {pixels}")
        other = copy.copy(self)
        other.resolution = pixels
        return other

    @property
    def modules(self) -> list[torch.nn.Module]:
        every = (self.unet, self.text_encoder, self.vae, self.controlnet, self.hints_controlnet, self.weak_unet)
        more = (extra.network for extra in getattr(self, "extra_controls", ()))
        return [module for module in (*every, *more) if module is not None]

    def add_control(
        self, kind: str, network: Any, *, strength: float = 1.0, start: float = 0.0, end: float = 1.0
    ) -> None:
        """Have a further ControlNet heard, which the stages show pictures of this kind."""
        added = ExtraControl(kind, network.eval().requires_grad_(False), strength, start, end)
        self.extra_controls = (*self.extra_controls, added)

    @property
    def control_kinds(self) -> tuple[str, ...]:
        """What the further ControlNets are to be shown."""
        return tuple(extra.kind for extra in self.extra_controls)

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def timesteps(self) -> int:
        return self._noise.timesteps

    @property
    def channels(self) -> int:
        """Latent channels."""
        return int(self.unet.config.in_channels)

    @property
    def _latent_scale(self) -> float:
        return float(self.vae.config.scaling_factor)

    @property
    def downscale(self) -> int:
        """Image pixels per latent pixel along a side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def hint_channels(self) -> int:
        """See `Denoiser`; of two ControlNets those of the one that is told more."""
        return HINT_CHANNELS if self.hints_controlnet is not None else self._own_channels

    @property
    def _own_channels(self) -> int:
        return 0 if self.controlnet is None else int(self.controlnet.config.get("conditioning_channels", 3))

    def sigma(self, timestep: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Noise level of fractional timesteps, log-linear between the schedule's entries."""
        return self._noise.sigma(timestep.to(self.device))

    def timestep(self, sigma: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """The inverse of `sigma`, clamped to the schedule."""
        return self._noise.timestep(sigma.to(self.device))

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Float[Tensor, "B T D"]:
        """The text encoder's last hidden states. Of longer prompts the user's last words are cut, and a warning says
        so; weights and the like, which mean nothing to the encoder, are left out: see `humannorm.prompt_fitting`."""
        length = self.text_encoder.config.max_position_embeddings
        tokens = self._tokens(self.tokenizer, prompts, length)
        return self.text_encoder(tokens).last_hidden_state

    def _tokens(self, tokenizer: Any, prompts: Sequence[str], length: int) -> Int[Tensor, "B T"]:
        def count(text: str) -> int:
            return len(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

        fitted = [fit_prompt(prompt, length - 2, count) for prompt in prompts]  # begin and end apart
        tokens = tokenizer(fitted, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        return tokens.input_ids.to(self.device)

    def _read(self, prompt: str) -> Words:
        """What the network is to read of one prompt."""
        return Words(self.encode_prompts([prompt]))

    def _read_negative(self, negative: str) -> Words:
        """The same of what guidance leads away from."""
        return self._embedding(negative)

    def condition(
        self,
        prompts: Sequence[str],
        *,
        guidance_scale: float,
        negative: str = "",
        control: Float[Tensor, "B H W C"] | None = None,
        control_scale: float = 1.0,
        more_controls: Mapping[str, Float[Tensor, "B H W 3"]] | None = None,
    ) -> DiffusersCondition:
        """See `Denoiser.condition`. `control` needs a guide loaded with `control=True`."""
        if control is not None and self.controlnet is None:
            raise InputError("control: expected a guide with a ControlNet (load with control=True), got one without")
        if control is not None:
            hinted = self.hints_controlnet is not None and control.shape[-1] == HINT_CHANNELS
            control = self._hint(control, len(prompts), HINT_CHANNELS if hinted else self._own_channels)
        positive, away = Words.cat([self._embedding(prompt) for prompt in prompts]), self._read_negative(negative)
        missing = set(self.control_kinds) - set(more_controls or {})
        if missing:
            raise InputError(f"more_controls: expected pictures for the ControlNets of {', '.join(sorted(missing))}")
        hints = {
            kind: self._hint(pictures, len(prompts), 3)
            for kind, pictures in (more_controls or {}).items()
            if kind in self.control_kinds
        }
        return DiffusersCondition(
            positive.states, away.states, guidance_scale, control, control_scale, positive.pooled, away.pooled, hints
        )

    def _hint(self, control: Float[Tensor, "B H W C"], count: int, channels: int) -> Float[Tensor, "B N H W"]:
        """As a ControlNet takes it: colours that are not there are absent to one that reads some, and those that are
        there are nothing to one that reads none."""
        if control.ndim == 4 and {control.shape[-1], channels} == {3, HINT_CHANNELS}:
            control = torch.nn.functional.pad(control, (0, channels - control.shape[-1]))
        check_tensor("control", control, f"{count} H W {channels}")
        return control.permute(0, 3, 1, 2).to(self.device, self.dtype)

    def _embedding(self, prompt: str) -> Words:
        """A prompt's embedding, kept for the next request. Each is made alone: the bytes hang on the prompt only."""
        if prompt not in self._texts:
            self._texts[prompt] = self._read(prompt)
        self._texts.move_to_end(prompt)
        if len(self._texts) > TEXTS_KEPT:
            self._texts.popitem(last=False)
        return self._texts[prompt]

    @torch.no_grad()
    def denoise(
        self, x: Float[Tensor, "B C h w"], sigma: Float[Tensor, "B"], condition: DiffusersCondition
    ) -> Float[Tensor, "B C h w"]:
        """z0 with classifier-free guidance `uncond + s * (cond - uncond)`; at s = 1 the empty prompt is not run.

        With a weak UNet the difference from what that one believes is added, `(w - 1) * (cond - weak)`: autoguidance
        (Karras et al. 2024, eq. 3, beside eq. 4's classifier-free guidance). Errors that the two share, the weak one
        more of them, are taken back. The weak one sees no control: under one, guidance pulls towards it too.
        """
        words = Words(condition.positive, condition.pooled)
        if condition.guidance_scale == 1.0:
            guided = denoised = self._predict(x, sigma, words, condition)
        else:
            away = Words(condition.negative, condition.negative_pooled).repeated(len(words.states))
            text = Words.cat([away, words])
            unguided, guided = self._predict(x.repeat(2, 1, 1, 1), sigma.repeat(2), text, condition).chunk(2)
            denoised = unguided + condition.guidance_scale * (guided - unguided)
        if self.weak_unet is None or self.autoguidance is None:
            return denoised
        weight = self.autoguidance.weight(controlled=condition.control is not None)
        weak = self._estimate(self.weak_unet, x, sigma, words)
        return denoised + (weight - 1.0) * (guided - weak)

    def _predict(
        self,
        x: Float[Tensor, "B C h w"],
        sigma: Float[Tensor, "B"],
        text: Words,
        condition: DiffusersCondition,
    ) -> Float[Tensor, "B C h w"]:
        """z0 by the UNet, which follows the ControlNets that are shown something."""
        heard = [
            self._control_residuals(network, hint, strength, x, sigma, text)
            for network, hint, strength in self._controls(condition, sigma)
        ]
        return self._estimate(self.unet, x, sigma, text, **self._residuals(heard))

    def _controls(
        self, condition: DiffusersCondition, sigma: Float[Tensor, "B"]
    ) -> list[tuple[Any, Float[Tensor, "N C H W"], Float[Tensor, "B"]]]:
        """Networks, what they are shown, and how strongly each sample hears them at its noise level."""
        found = []
        if condition.control is not None and self.controlnet is not None:
            of_colours = condition.control.shape[1] != self._own_channels
            network = self.hints_controlnet if of_colours else self.controlnet
            found.append((network, condition.control, torch.full_like(sigma, condition.control_scale)))
        way = 1 - self.timestep(sigma) / (self.timesteps - 1)
        for extra in self.extra_controls:
            strength = torch.where((way >= extra.start) & (way <= extra.end), extra.strength, 0.0)
            if bool(strength.any()):
                found.append((extra.network, condition.more_controls[extra.kind], strength))
        return found

    def _control_residuals(
        self, network: Any, hint: Tensor, strength: Float[Tensor, "B"], x: Tensor, sigma: Tensor, text: Words
    ) -> list[Tensor]:
        """What a ControlNet adds to each level of the UNet, the middle last."""
        hint = hint.repeat(len(x) // len(hint), 1, 1, 1)
        down, middle = network(
            self._scaled(x, sigma),
            self.timestep(sigma),
            text.states,
            controlnet_cond=resized(hint, x.shape[-1] * self.downscale),
            return_dict=False,
            **self._added(text),
        )
        return [level * strength[:, None, None, None].to(level) for level in (*down, middle)]

    def _residuals(self, heard: Sequence[Sequence[Tensor]]) -> dict[str, Any]:
        """All that was heard, as the UNet takes it."""
        if not heard:
            return {}
        *down, middle = (sum(each[1:], start=each[0]) for each in zip(*heard, strict=True))
        return {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": middle}

    def _estimate(
        self, unet: Any, x: Float[Tensor, "B C h w"], sigma: Float[Tensor, "B"], text: Words, **residuals: Any
    ) -> Float[Tensor, "B C h w"]:
        """z0 by a UNet."""
        given = {**residuals, **self._added(text)}
        output = unet(self._scaled(x, sigma), self.timestep(sigma), text.states, **given).sample.to(x)
        return to_denoised(output, x, sigma[:, None, None, None].to(x), self.prediction_type)

    def _added(self, text: Words) -> dict[str, Any]:
        """What networks of this family read beside the texts' states."""
        return {}

    def _scaled(self, x: Float[Tensor, "B C h w"], sigma: Float[Tensor, "B"]) -> Float[Tensor, "B C h w"]:
        """What networks read: x in the variance preserving form."""
        return (x * (1 + sigma[:, None, None, None].to(x).square()).rsqrt()).to(self.dtype)

    def encode_images(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B C h w"]:
        """The posterior's mean, scaled; images are resized to the network's resolution. Differentiable."""
        check_tensor("images", images, "B H W 3")
        return self._encoded(resized(to_network(images), self.resolution)).to(images.dtype)

    def _encoded(self, network: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Scaled latents of pictures -1..1."""
        return self.vae.encode(network.to(self.device, self.vae.dtype)).latent_dist.mode() * self._latent_scale

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B H W 3"]:
        """Images 0..1 of scaled latents."""
        decoded = self.vae.decode(latents.to(self.vae.dtype) / self._latent_scale).sample
        return from_network(decoded.to(latents.dtype))

    def sharpened(
        self, pictures: Float[Tensor, "B H W 3"], control: Float[Tensor, "B h w C"] | None
    ) -> Float[Tensor, "B H W 3"]:
        """See `Denoiser.sharpened`."""
        if self.joint_filter is None or control is None:
            return pictures
        control = resized(control.permute(0, 3, 1, 2), pictures.shape[1]).permute(0, 2, 3, 1)
        return self.joint_filter.sharpened(pictures, control)


def to_denoised(output: Tensor, x: Tensor, sigma: Tensor, prediction_type: str) -> Tensor:
    """A network's output at x = z + sigma * eps as an estimate of z.

    eps-prediction: z = x - sigma * eps. v-prediction (v = sqrt(abar) * eps - sqrt(1 - abar) * z, Salimans and Ho
    2022): z = x / (1 + sigma^2) - v * sigma / sqrt(1 + sigma^2).
    """
    if prediction_type == "epsilon":
        return x - sigma * output
    if prediction_type == "v_prediction":
        return x / (1 + sigma.square()) - output * sigma * (1 + sigma.square()).rsqrt()
    raise InputError(
        f"prediction_type: expected epsilon or v_prediction in the scheduler's config, got {prediction_type!r}"
    )


def resized(images: Float[Tensor, "B C H W"], size: int) -> Float[Tensor, "B C S S"]:
    """Bilinear, with the blur that a reduction needs; the image itself where the size is right."""
    if images.shape[-2:] == (size, size):
        return images
    wide = images.float()  # a CPU resizes no bf16 with antialiasing
    small = torch.nn.functional.interpolate(wide, (size, size), mode="bilinear", align_corners=False, antialias=True)
    return small.to(images.dtype)
