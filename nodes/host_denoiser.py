"""The library's denoiser interface on the host's MODEL, through the host's own guider and sampling machinery.

An optimiser is run as the body of a sampler: the guider loads the models, resolves hooks and patches and cleans up, and
every prediction inside goes through `CFGGuider`, so that a LoRA, a patch, an IP-Adapter or another base model before
our nodes acts on the gradient. With two models one guider runs inside the other's sampler.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import comfy.model_management
import comfy.model_patcher
import comfy.sampler_helpers
import comfy.samplers
import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError, check_tensor
from humannorm.guidance.diffusers_denoiser import resized

from .payloads import DISTILLS, Conditioning, GuidancePayload, model_facts

__all__ = [
    "HostDenoiser",
    "check_fit",
    "check_size",
    "latent_size",
    "native_resolution",
    "ordinary_tensors",
    "with_control",
    "with_denoisers",
]

Result = TypeVar("Result")
SMALLEST, LARGEST = 4, 4  # that a picture may be smaller and larger than those a model was trained at
NOMINAL_STEPS = 20  # of the schedule that patches may look at; the optimisers draw their own noise levels


def ordinary_tensors() -> AbstractContextManager[Any]:
    """Leaves the inference mode that the host runs nodes in: tensors made inside can have gradients."""
    stack = ExitStack()
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.enable_grad())
    return stack


@dataclass(frozen=True, eq=False)
class HostCondition:
    """Conds as the guider reads them, made ready for the model."""

    conds: dict[str, list[dict[str, Any]]]


class HostVae:
    """The host's VAE with gradients to the pictures.

    The host's own `encode` runs on inference tensors, through which no gradient passes: the encoder here is a copy with
    ordinary ones, which the host's memory manager loads and evicts like any model.
    """

    def __init__(self, vae: Any, latent_format: Any, resolution: int) -> None:
        self.vae, self.latent_format, self.resolution = vae, latent_format, resolution
        self.network = copy.deepcopy(vae.first_stage_model).requires_grad_(False)
        made = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
        self.patcher = made(self.network, load_device=vae.device, offload_device=vae.patcher.offload_device)

    def encode(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B C h w"]:
        """Scaled latents (posterior mode) of pictures 0..1, resized to the network's resolution; differentiable."""
        check_tensor("images", images, "B H W 3")
        comfy.model_management.load_models_gpu([self.patcher])
        pixels = self.vae.process_input(resized(images.permute(0, 3, 1, 2), self.resolution))
        latents = self.network.encode(pixels.to(self.vae.device, self.vae.vae_dtype))
        return self.latent_format.process_in(latents.to(images.device, torch.float32))

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B H W 3"]:
        """Pictures 0..1 of scaled latents."""
        images = self.vae.decode(self.latent_format.process_out(latents))
        return images.to(latents.device, torch.float32).clone()

    def features(self, images: Float[Tensor, "B H W 3"]) -> list[Tensor]:
        """What the encoder's first convolution and its levels see, for the perceptual loss; differentiable."""
        encoder: Any = getattr(self.network, "encoder", None)
        if not hasattr(encoder, "conv_in") or not hasattr(encoder, "down"):
            raise InputError("vae: expected a VAE of Stable Diffusion's kind for the perceptual loss, got another kind")
        comfy.model_management.load_models_gpu([self.patcher])
        pixels = self.vae.process_input(images.permute(0, 3, 1, 2))
        x = encoder.conv_in(pixels.to(self.vae.device, self.vae.vae_dtype))
        found = [x]
        for level in encoder.down:
            for block in level.block:
                x = block(x, None)
            if hasattr(level, "downsample"):
                x = level.downsample(x)
            found.append(x)
        return [feature.to(images.device, torch.float32) for feature in found]


class HostDenoiser:
    """`humannorm.guidance.Denoiser` on a running guider.

    CFG scale and negative text are those of the HUMANNORM_GUIDANCE: those that an optimiser names are for engines that
    have no sockets for them.
    """

    def __init__(self, payload: GuidancePayload, guider: Any, arguments: dict[str, Any], latent: Tensor) -> None:
        self.payload, self.guider, self.arguments = payload, guider, arguments
        self.sampling = payload.model.get_model_object("model_sampling")
        self.vae = HostVae(payload.vae, payload.model.get_model_object("latent_format"), payload.resolution)
        self._latent = latent
        self._device = payload.model.load_device

    @property
    def timesteps(self) -> int:
        return int(getattr(self.sampling, "num_timesteps", 1000))

    @property
    def resolution(self) -> int:
        return self.payload.resolution

    @property
    def hint_channels(self) -> int:
        """Of a ControlNet of ours what it reads, 3 of any other; 0 without one."""
        if self.payload.control_net is None:
            return 0
        block = getattr(getattr(self.payload.control_net, "control_model", None), "input_hint_block", None)
        return 3 if block is None else int(getattr(block[0], "in_channels", 3))

    def sigma(self, timestep: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Noise level by the model's own schedule."""
        return self.sampling.sigma(timestep.float()).to(timestep.device, torch.float32)

    def condition(
        self,
        prompts: Sequence[str],
        *,
        guidance_scale: float,
        negative: str = "",
        control: Float[Tensor, "B H W C"] | None = None,
        control_scale: float = 1.0,
    ) -> HostCondition:
        """See `Denoiser.condition`; `control_scale` multiplies the guidance's own strength."""
        payload = self.payload
        positive = payload.prompts.conditioning(prompts)
        conds = with_control(payload, positive, payload.prompts.negative, control, control_scale)
        latent = self._latent[:1].expand(len(prompts), -1, -1, -1)
        ready = comfy.samplers.process_conds(
            self.guider.inner_model,
            latent,
            {name: comfy.sampler_helpers.convert_cond(cond) for name, cond in conds.items()},
            self._device,
            latent_image=latent,
            seed=self.arguments.get("seed"),
        )
        return HostCondition(ready)

    @torch.no_grad()
    def denoise(
        self, x: Float[Tensor, "B C h w"], sigma: Float[Tensor, "B"], condition: HostCondition
    ) -> Float[Tensor, "B C h w"]:
        """z0 with everything that was put before our node; interrupts between any two calls."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.guider.conds = condition.conds
        denoised = self.guider(x.to(self._device), sigma.to(self._device), **self.arguments)
        return denoised.to(x)

    def encode_images(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B C h w"]:
        return self.vae.encode(images)

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B H W 3"]:
        return self.vae.decode(latents)


class _OptimizerSampler(comfy.samplers.Sampler):
    """A sampler whose sampling is whatever is to be done while the guider is ready."""

    def __init__(self, body: Callable[[Any, dict[str, Any], Tensor], Any]) -> None:
        self.body = body
        self.result: Any = None

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        self.result = self.body(model_wrap, extra_args, noise)
        return noise


def with_denoisers(
    payloads: Sequence[GuidancePayload], views: int, seed: int, work: Callable[[list[HostDenoiser]], Result]
) -> Result:
    """`work` with a denoiser for each payload, all models loaded together; inside `ordinary_tensors`.

    views: the batch that memory is requested for. seed: passed to hooks and patches.
    """
    _refuse_rival_patches(payloads)
    models = [payload.model.clone() for payload in payloads]
    for model in models:
        model.model_options[DISTILLS] = True

    def enter(number: int, ready: list[HostDenoiser]) -> Result:
        if number == len(payloads):
            return work(ready)
        payload = payloads[number]
        model = models[number]
        if number == 0:
            others = [other for other in models[1:] if other.model is not model.model]
            model.set_additional_models("humannorm", others)
        guider = comfy.samplers.CFGGuider(model)
        encoded = next(iter(payload.prompts.encoded.values()))
        conds = with_control(payload, encoded, payload.prompts.negative, None, 1.0)
        guider.set_conds(conds["positive"], conds["negative"])
        guider.set_cfg(payload.cfg)
        latent = torch.zeros(views, *latent_size(payload))
        sampler = _OptimizerSampler(
            lambda wrap, arguments, noise: enter(number + 1, [*ready, HostDenoiser(payload, wrap, arguments, noise)])
        )
        sampling = model.get_model_object("model_sampling")
        sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", NOMINAL_STEPS)
        guider.sample(latent, latent, sampler, sigmas, disable_pbar=True, seed=seed)
        return sampler.result

    return enter(0, [])


def with_control(
    payload: GuidancePayload,
    positive: Conditioning,
    negative: Conditioning,
    control: Float[Tensor, "B H W C"] | None,
    scale: float,
) -> dict[str, Conditioning]:
    """Both conditionings with the ControlNet put on as the host's ControlNetApplyAdvanced does.

    Without pictures its hint is black: that is for making the host load the network before there is a picture.
    """
    if payload.control_net is None:
        if control is not None:
            raise InputError("guidance: expected one with a CONTROL_NET (normal-aligned model), got one without")
        return {"positive": positive, "negative": negative}
    if control is None:
        control = torch.zeros(1, payload.resolution, payload.resolution, 3)
    # A fresh copy each time: the host keeps the hint of a control network that has run.
    applied = payload.control_net.copy().set_cond_hint(
        control.detach().movedim(-1, 1), payload.control_strength * scale, (0.0, 1.0), vae=payload.vae
    )
    return {
        name: [[tensor, {**extra, "control": applied, "control_apply_to_uncond": False}] for tensor, extra in cond]
        for name, cond in (("positive", positive), ("negative", negative))
    }


def latent_size(payload: GuidancePayload) -> tuple[int, int, int]:
    """Channels, height and width of the latents at the guidance's resolution."""
    side = payload.resolution // payload.vae.spacial_compression_encode()
    return payload.model.get_model_object("latent_format").latent_channels, side, side


def native_resolution(model: Any, vae: Any) -> int:
    """Pixels a side that a model was made for: a bundled one says so, SD1.x and SD2.x have 64 latents a side."""
    facts = model_facts(model)
    return facts.resolution if facts is not None else 64 * int(vae.spacial_compression_encode())


def check_size(name: str, size: int, model: Any, vae: Any) -> None:
    """Refuse a size (0: the model's own) that the model draws nothing sensible at, and may take hours for."""
    native = native_resolution(model, vae)
    low, high = native // SMALLEST, native * LARGEST
    if size and not low <= size <= high:
        raise InputError(
            f"{name}: expected 0 or {low} to {high} pixels a side for a model made for {native}, got {size}"
        )


def check_fit(model: Any, width: int, what: str) -> None:
    """Raise `InputError` where a model does not take these prompts.

    width: channels of the text embedding. what: name of the socket that has the prompts.
    """
    settings = getattr(getattr(model.model, "model_config", None), "unet_config", {})
    if not isinstance(settings.get("context_dim"), int):
        raise InputError(
            f"model: expected a Stable Diffusion-class MODEL (SD1.5, SD2.x or the bundled one), got {_kind(model)}"
        )
    if settings["context_dim"] != width:
        raise InputError(
            f"{what}: expected prompts encoded by the CLIP that belongs to the model ({settings['context_dim']}"
            f" channels), got {width} channels; {_kind(model)} and this CLIP are of different families"
        )


def _kind(model: Any) -> str:
    return type(getattr(model.model, "model_config", model.model)).__name__


def _refuse_rival_patches(payloads: Sequence[GuidancePayload]) -> None:
    """The host patches weights in place: one set of weights cannot be two differently patched models at once."""
    for number, payload in enumerate(payloads):
        for other in payloads[:number]:
            same_weights = payload.model.model is other.model.model
            if same_weights and not payload.model.clone_has_same_weights(other.model):
                raise InputError(
                    "depth_guidance: expected a MODEL of its own or the same LoRAs as the normal guidance, got the same"
                    " weights patched differently; load the model a second time with another loader node"
                )
