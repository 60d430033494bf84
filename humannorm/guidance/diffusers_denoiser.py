"""The denoiser interface on a diffusers folder: SD1.5-class models, the bundled small one among them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError, check_range, check_tensor
from humannorm.guidance.folders import (
    WEAK_UNET,
    load_component,
    load_tokenizer,
    model_folder,
    read_config,
)
from humannorm.images import from_network, to_network
from humannorm.prompt_fitting import fit_prompt

__all__ = ["TEXTS_KEPT", "Autoguidance", "DiffusersCondition", "DiffusersDenoiser", "resized", "to_denoised"]

TEXTS_KEPT = 256  # embeddings; a person in all parts and views takes 16 for each kind of picture
# Of a schedule that ends in pure noise (Lin et al. 2024, "zero terminal SNR"), where sigma would be infinite: the last
# alphabar that the host takes as well. A picture's share of the input there is 1 in 4519.
LEAST_ALPHABAR = 4.8973451890853435e-08


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
class DiffusersCondition:
    """Text embeddings and, for an aligned model, the normal maps to follow."""

    positive: Float[Tensor, "B T D"]
    negative: Float[Tensor, "1 T D"]
    guidance_scale: float
    control: Float[Tensor, "B C H W"] | None = None
    control_scale: float = 1.0


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
        from diffusers import DDPMScheduler

        self.unet, self.text_encoder, self.tokenizer, self.vae = unet, text_encoder, tokenizer, vae
        self.controlnet, self.weak_unet, self.autoguidance = controlnet, weak_unet, autoguidance
        self.scheduler_config = scheduler_config
        self.prediction_type = str(scheduler_config.get("prediction_type", "epsilon"))
        alphabar = DDPMScheduler.from_config(scheduler_config).alphas_cumprod.double().clamp_min(LEAST_ALPHABAR)
        self._log_sigmas = (((1 - alphabar) / alphabar).sqrt().log()).float().to(unet.device)
        self._texts: OrderedDict[str, Tensor] = OrderedDict()  # embeddings of the prompts used last
        for module in self.modules:
            module.eval().requires_grad_(False)

    @classmethod
    def load(
        cls,
        models: str | Path = "bundled",
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        control: bool = False,
        autoguidance: Autoguidance | None = None,
    ) -> DiffusersDenoiser:
        """From a diffusers folder on disk, or "bundled"; nothing is fetched.

        `control` also loads the ControlNet in its `controlnet` folder, `autoguidance` the UNet in a `weak_unet` folder
        if there is one. Errors name the file and what was expected.
        """
        import diffusers
        import transformers

        folder = model_folder(models)
        options: dict[str, Any] = {"device": torch.device(device), "dtype": dtype}
        unets = diffusers.UNet2DConditionModel
        weak = autoguidance is not None and (folder / WEAK_UNET).is_dir()
        return cls(
            unet=load_component(folder, "unet", unets, **options),
            weak_unet=load_component(folder, WEAK_UNET, unets, **options) if weak else None,
            autoguidance=autoguidance,
            scheduler_config=read_config(folder, "scheduler"),
            text_encoder=load_component(folder, "text_encoder", transformers.CLIPTextModel, **options),
            tokenizer=load_tokenizer(folder),
            vae=load_component(folder, "vae", diffusers.AutoencoderKL, **options),
            controlnet=load_component(folder, "controlnet", diffusers.ControlNetModel, **options) if control else None,
        )

    @property
    def modules(self) -> list[torch.nn.Module]:
        every = (self.unet, self.text_encoder, self.vae, self.controlnet, self.weak_unet)
        return [module for module in every if module is not None]

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def timesteps(self) -> int:
        return len(self._log_sigmas)

    @property
    def channels(self) -> int:
        """Latent channels."""
        return int(self.unet.config.in_channels)

    @property
    def downscale(self) -> int:
        """Image pixels per latent pixel along a side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def resolution(self) -> int:
        return int(self.unet.config.sample_size) * self.downscale

    @property
    def hint_channels(self) -> int:
        """What the ControlNet is told: 3 a normal map, 6 flat colours by label too; 0 without one."""
        return 0 if self.controlnet is None else int(self.controlnet.config.conditioning_channels)

    def sigma(self, timestep: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Noise level of fractional timesteps, log-linear between the schedule's entries."""
        at = timestep.to(self._log_sigmas).clamp(0, self.timesteps - 1)
        below, above = at.floor().long(), at.ceil().long()
        return torch.lerp(self._log_sigmas[below], self._log_sigmas[above], at - below).exp()

    def timestep(self, sigma: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """The inverse of `sigma`, clamped to the schedule."""
        table = self._log_sigmas
        log_sigma = sigma.to(table).log().clamp(table[0], table[-1])
        above = torch.searchsorted(table, log_sigma).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        return (above - 1) + (log_sigma - low) / (high - low)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Float[Tensor, "B T D"]:
        """The text encoder's last hidden states. Of longer prompts the user's last words are cut, and a warning says
        so; weights and the like, which mean nothing to the encoder, are left out: see `humannorm.prompt_fitting`."""
        length = self.text_encoder.config.max_position_embeddings
        fitted = [fit_prompt(prompt, length - 2, self._count_tokens) for prompt in prompts]  # begin and end apart
        tokens = self.tokenizer(fitted, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        return self.text_encoder(tokens.input_ids.to(self.device)).last_hidden_state

    def _count_tokens(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    def condition(
        self,
        prompts: Sequence[str],
        *,
        guidance_scale: float,
        negative: str = "",
        control: Float[Tensor, "B H W C"] | None = None,
        control_scale: float = 1.0,
    ) -> DiffusersCondition:
        """See `Denoiser.condition`. `control` needs a guide loaded with `control=True`."""
        if control is not None and self.controlnet is None:
            raise InputError("control: expected a guide with a ControlNet (load with control=True), got one without")
        if control is not None:
            control = self._hint(control, len(prompts))
        positive = torch.cat([self._embedding(prompt) for prompt in prompts])
        return DiffusersCondition(positive, self._embedding(negative), guidance_scale, control, control_scale)

    def _hint(self, control: Float[Tensor, "B H W C"], count: int) -> Float[Tensor, "B N H W"]:
        """As the ControlNet takes it. Normals alone suit one that can also be told colours: those are absent then."""
        if control.ndim == 4 and control.shape[-1] == 3 < self.hint_channels:
            control = torch.nn.functional.pad(control, (0, self.hint_channels - 3))
        check_tensor("control", control, f"{count} H W {self.hint_channels}")
        return control.permute(0, 3, 1, 2).to(self.device, self.dtype)

    def _embedding(self, prompt: str) -> Float[Tensor, "1 T D"]:
        """A prompt's embedding, kept for the next request. Each is made alone: the bytes hang on the prompt only."""
        if prompt not in self._texts:
            self._texts[prompt] = self.encode_prompts([prompt])
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
        if condition.guidance_scale == 1.0:
            guided = denoised = self._predict(x, sigma, condition.positive, condition)
        else:
            text = torch.cat([condition.negative.expand_as(condition.positive), condition.positive])
            unguided, guided = self._predict(x.repeat(2, 1, 1, 1), sigma.repeat(2), text, condition).chunk(2)
            denoised = unguided + condition.guidance_scale * (guided - unguided)
        if self.weak_unet is None or self.autoguidance is None:
            return denoised
        weight = self.autoguidance.weight(controlled=condition.control is not None)
        weak = self._estimate(self.weak_unet, x, sigma, condition.positive)
        return denoised + (weight - 1.0) * (guided - weak)

    def _predict(
        self,
        x: Float[Tensor, "B C h w"],
        sigma: Float[Tensor, "B"],
        text: Float[Tensor, "B T D"],
        condition: DiffusersCondition,
    ) -> Float[Tensor, "B C h w"]:
        """z0 by the UNet, which follows the ControlNet where there is a control."""
        residuals: dict[str, Any] = {}
        if condition.control is not None and self.controlnet is not None:
            hint = condition.control.repeat(len(x) // len(condition.control), 1, 1, 1)
            down, middle = self.controlnet(
                self._scaled(x, sigma),
                self.timestep(sigma),
                text,
                controlnet_cond=resized(hint, x.shape[-1] * self.downscale),
                conditioning_scale=condition.control_scale,
                return_dict=False,
            )
            residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        return self._estimate(self.unet, x, sigma, text, **residuals)

    def _estimate(
        self, unet: Any, x: Float[Tensor, "B C h w"], sigma: Float[Tensor, "B"], text: Tensor, **residuals: Any
    ) -> Float[Tensor, "B C h w"]:
        """z0 by a UNet."""
        output = unet(self._scaled(x, sigma), self.timestep(sigma), text, **residuals).sample.to(x)
        return to_denoised(output, x, sigma[:, None, None, None].to(x), self.prediction_type)

    def _scaled(self, x: Float[Tensor, "B C h w"], sigma: Float[Tensor, "B"]) -> Float[Tensor, "B C h w"]:
        """What networks read: x in the variance preserving form."""
        return (x * (1 + sigma[:, None, None, None].to(x).square()).rsqrt()).to(self.dtype)

    def encode_images(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B C h w"]:
        """The posterior's mean, scaled; images are resized to the network's resolution. Differentiable."""
        check_tensor("images", images, "B H W 3")
        network = resized(to_network(images), self.resolution).to(self.device, self.dtype)
        return (self.vae.encode(network).latent_dist.mode() * self.vae.config.scaling_factor).to(images.dtype)

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B H W 3"]:
        """Images 0..1 of scaled latents."""
        decoded = self.vae.decode(latents.to(self.dtype) / self.vae.config.scaling_factor).sample
        return from_network(decoded.to(latents.dtype))


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
