"""The library's denoiser interface on the host's MODEL, through the host's own guider and sampling machinery.

An optimiser is run as the body of a sampler: the guider loads the models, resolves hooks and patches and cleans up, and
every prediction inside goes through `CFGGuider`, so that a LoRA, a patch, an IP-Adapter or another base model before
our nodes acts on the gradient. With two models one guider runs inside the other's sampler.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import comfy.model_management
import comfy.model_patcher
import comfy.sampler_helpers
import comfy.samplers
import comfy.sd
import comfy.utils
import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body import Body
from humannorm.checks import InputError, check_tensor
from humannorm.guidance.denoiser import HINT_CHANNELS
from humannorm.guidance.diffusers_denoiser import resized
from humannorm.guidance.joint_filter import JointFilter

from .bases import HostNoise, base_of, check_base, kind_name, needs_frames, text_width
from .long_work import heard_inside
from .payloads import DISTILLS, HINTS_CONTROL, Conditioning, GuidancePayload, model_facts

__all__ = [
    "HostDenoiser",
    "check_fit",
    "check_size",
    "check_vae",
    "decoded_pictures",
    "hint_channels",
    "in_few_steps",
    "latent_size",
    "native_resolution",
    "ordinary_tensors",
    "with_control",
    "with_denoisers",
    "with_frames",
    "without_frames",
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
    """Conds as the guider reads them, made ready for the model; of the samples whose texts go through it together."""

    groups: list[tuple[list[int], dict[str, list[dict[str, Any]]]]]


class HostVae:
    """The host's VAE with gradients to the pictures.

    The host's own `encode` runs on inference tensors, through which no gradient passes: the encoder here is a copy with
    ordinary ones, which the host's memory manager loads and evicts like any model. Where the network or the VAE has an
    axis of time, a picture is a film of one frame to it, and to nobody else.
    """

    def __init__(self, vae: Any, latent_format: Any, resolution: int) -> None:
        self.vae, self.resolution = vae, resolution
        self.latent_format = copy.deepcopy(latent_format)  # some have tensors, of the host's inference mode
        self.films, self.films_of_latents = vae.latent_dim == 3, latent_format.latent_dimensions == 3
        self.network = copy.deepcopy(vae.first_stage_model).requires_grad_(False)
        made = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
        self.patcher = made(self.network, load_device=vae.device, offload_device=vae.patcher.offload_device)

    def encode(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B C h w"]:
        """Scaled latents (posterior mode) of pictures 0..1, resized to the network's resolution; differentiable."""
        check_tensor("images", images, "B H W 3")
        comfy.model_management.load_models_gpu([self.patcher])
        pixels = self.vae.process_input(resized(images.permute(0, 3, 1, 2), self.resolution))
        if self.films:
            pixels = pixels.unsqueeze(2)
        with heard_inside(self.vae.device):
            latents = self.network.encode(pixels.to(self.vae.device, self.vae.vae_dtype))
        formatted = getattr(self.vae, "format_encoded", None)
        latents = latents if formatted is None else formatted(latents)
        latents = with_frames(latents, self.films_of_latents).to(images.device, torch.float32)
        return without_frames(self.latent_format.process_in(latents))

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B H W 3"]:
        """Pictures 0..1 of scaled latents."""
        images = decoded_pictures(self.vae, self.latent_format.process_out(with_frames(latents, self.films_of_latents)))
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
        self.noise = HostNoise(payload.model.get_model_object("model_sampling"))
        self.frames = needs_frames(payload.model)
        self.vae = HostVae(payload.vae, payload.model.get_model_object("latent_format"), payload.resolution)
        self._latent = latent
        self._device = payload.model.load_device

    @property
    def timesteps(self) -> int:
        return self.noise.timesteps

    @property
    def resolution(self) -> int:
        return self.payload.resolution

    @property
    def control_kinds(self) -> tuple[str, ...]:
        """What the guidance's further ControlNets are to be shown."""
        return tuple(control.kind for control in self.payload.controls)

    @property
    def body(self) -> Body | None:
        return self.payload.body

    @property
    def hint_channels(self) -> int:
        """See `hint_channels`."""
        return hint_channels(self.payload.control_net)

    def in_few_steps(self) -> HostDenoiser:
        """Itself, if it was begun with what `in_few_steps` gives of a guidance."""
        if not self.payload.in_few_steps:
            raise InputError("guidance: expected a model with its LoRA for few steps, got one without")
        return self

    def sigma(self, timestep: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Noise level by the model's own schedule."""
        return self.noise.sigma(timestep)

    def condition(
        self,
        prompts: Sequence[str],
        *,
        guidance_scale: float,
        negative: str = "",
        control: Float[Tensor, "B H W C"] | None = None,
        control_scale: float = 1.0,
        more_controls: Mapping[str, Float[Tensor, "B H W 3"]] | None = None,
    ) -> HostCondition:
        """See `Denoiser.condition`; `control_scale` multiplies the guidance's own strengths."""
        more = more_controls or {}
        missing = sorted(set(self.control_kinds) - set(more))
        if missing:
            raise InputError(f"more_controls: expected pictures for the ControlNets of {', '.join(missing)}, got none")
        groups = []
        for chosen in self._groups(prompts, control is not None or bool(more)):
            shown = None if control is None else control[chosen]
            hints = {kind: pictures[chosen] for kind, pictures in more.items()}
            groups.append((chosen, self._conds([prompts[at] for at in chosen], shown, control_scale, hints)))
        return HostCondition(groups)

    def _groups(self, prompts: Sequence[str], controlled: bool) -> list[list[int]]:
        """Places of samples that the network sees together. A VAE of films takes pictures in a batch for frames: the
        control networks that have their pictures encoded by one get each by itself."""
        if controlled and self.vae.films and not self.payload.vae.not_video:
            return [[at] for at in range(len(prompts))]
        return self.payload.prompts.groups(prompts)

    def _conds(
        self, prompts: Sequence[str], control: Tensor | None, control_scale: float, more: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        payload = self.payload
        positive = payload.prompts.conditioning(prompts)
        conds = with_control(payload, positive, payload.prompts.negative, control, control_scale, more)
        latent = self._latent[:1].expand(len(prompts), *self._latent.shape[1:])
        return comfy.samplers.process_conds(
            self.guider.inner_model,
            latent,
            {name: comfy.sampler_helpers.convert_cond(cond) for name, cond in conds.items()},
            self._device,
            latent_image=latent,
            seed=self.arguments.get("seed"),
        )

    @torch.no_grad()
    def denoise(
        self, x: Float[Tensor, "B C h w"], sigma: Float[Tensor, "B"], condition: HostCondition
    ) -> Float[Tensor, "B C h w"]:
        """z0 with everything that was put before our node; interrupts between any two calls."""
        denoised = torch.empty_like(x)
        for chosen, conds in condition.groups:
            comfy.model_management.throw_exception_if_processing_interrupted()
            self.guider.conds = conds
            noisy, level = self.noise.to_host(x[chosen].to(self._device), sigma[chosen].to(self._device))
            with heard_inside(self._device):
                found = self.guider(with_frames(noisy, self.frames), level, **self.arguments)
            denoised[chosen] = without_frames(found).to(x)
        return denoised

    def encode_images(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B C h w"]:
        return self.vae.encode(images)

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B H W 3"]:
        return self.vae.decode(latents)

    def sharpened(self, pictures: Float[Tensor, "B H W 3"], control: Float[Tensor, "B H W C"]) -> Tensor:
        """See `Denoiser`; the pictures themselves where the model has no joint filter."""
        facts = model_facts(self.payload.model)
        if facts is None or facts.joint_filter is None:
            return pictures
        return _joint_filter(facts.joint_filter, pictures.device).sharpened(pictures, control)


@functools.lru_cache(maxsize=2)
def _joint_filter(path: Path, device: torch.device) -> JointFilter:
    """Two megabytes, for which no model is evicted."""
    return JointFilter.load(path, device=device)


def hint_channels(control_net: Any | None) -> int:
    """Of a ControlNet of ours what it reads, with the one beside it for hints; 3 of any other; 0 without one."""
    if control_net is None:
        return 0
    if getattr(control_net, HINTS_CONTROL, None) is not None:
        return HINT_CHANNELS
    block = getattr(getattr(control_net, "control_model", None), "input_hint_block", None)
    return 3 if block is None else int(getattr(block[0], "in_channels", 3))


def _shown_to(control_net: Any, control: Float[Tensor, "B H W C"]) -> tuple[Any, Float[Tensor, "B H W N"]]:
    """Which ControlNet is shown a picture, and as much of it as that one reads: of a bundled one's two the one for
    hints where there are flat colours."""
    if control.shape[-1] != HINT_CHANNELS:
        return control_net, control
    for_hints = getattr(control_net, HINTS_CONTROL, None)
    return (control_net if for_hints is None else for_hints), control[..., : hint_channels(control_net)]


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


def in_few_steps(payload: GuidancePayload) -> GuidancePayload | None:
    """The guidance with the LoRA with which its model draws in few steps, without cfg; None where the model has none,
    and where the user chose cfg or wrote a negative text, which does nothing without cfg."""
    facts = model_facts(payload.model)
    if facts is None or facts.few_steps is None or payload.cfg_chosen or payload.prompts.prompts.negative.strip():
        return None
    lora = comfy.utils.load_torch_file(str(facts.few_steps), safe_load=True)
    model, _ = comfy.sd.load_lora_for_models(payload.model, None, lora, 1.0, 0.0)
    return replace(payload, model=model, cfg=1.0, in_few_steps=True)


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
        conds = with_control(payload, encoded, payload.prompts.negative, None, 1.0, loading=True)
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
    more: Mapping[str, Float[Tensor, "B H W 3"]] | None = None,
    *,
    loading: bool = False,
) -> dict[str, Conditioning]:
    """Both conditionings with the ControlNets put on as the host's ControlNetApplyAdvanced does.

    more: pictures by kind for the guidance's further ones. loading: all are shown black, for making the host load them
    before there is a picture.
    """
    if payload.control_net is None and control is not None:
        raise InputError("guidance: expected one with a CONTROL_NET (normal-aligned model), got one without")
    black = torch.zeros(1, payload.resolution, payload.resolution, 3) if loading else None
    shown: list[tuple[Any, Tensor | None, float, tuple[float, float]]] = []
    if payload.control_net is not None:
        strength = payload.control_strength * scale
        for_hints = getattr(payload.control_net, HINTS_CONTROL, None)
        if loading:
            every = (payload.control_net, for_hints)
            shown += [(network, black, strength, (0.0, 1.0)) for network in every if network is not None]
        elif control is not None:
            shown.append((*_shown_to(payload.control_net, control), strength, (0.0, 1.0)))
    for each in payload.controls:
        hint = black if loading else (more or {})[each.kind]
        shown.append((each.network, hint, each.strength * scale, (each.start, each.end)))
    applied: Any = None
    for network, hint, strength, way in shown:
        if hint is not None:
            # A fresh copy each time: the host keeps the hint of a control network that has run.
            pictures = hint.detach().movedim(-1, 1)
            before = applied
            applied = network.copy().set_cond_hint(pictures, strength, way, vae=payload.vae)
            applied.set_previous_controlnet(before)
    if applied is None:
        return {"positive": positive, "negative": negative}
    return {
        name: [[tensor, {**extra, "control": applied, "control_apply_to_uncond": False}] for tensor, extra in cond]
        for name, cond in (("positive", positive), ("negative", negative))
    }


def latent_size(payload: GuidancePayload) -> tuple[int, ...]:
    """Channels, (one frame,) height and width of the host's latents at the guidance's resolution."""
    side = payload.resolution // payload.vae.spacial_compression_encode()
    channels = payload.model.get_model_object("latent_format").latent_channels
    return (channels, *([1] if needs_frames(payload.model) else []), side, side)


def with_frames(pictures: Float[Tensor, "B C h w"], films: bool) -> Tensor:
    """As films of one frame [B, C, 1, h, w], where `films` are asked for."""
    return pictures.unsqueeze(2) if films and pictures.ndim == 4 else pictures


def without_frames(films: Tensor) -> Float[Tensor, "B C h w"]:
    """The first frames of films, pictures as they are."""
    return films[:, :, 0] if films.ndim == 5 else films


def decoded_pictures(vae: Any, samples: Tensor) -> Float[Tensor, "B H W 3"]:
    """What a VAE makes of samples, of films the first frame."""
    if vae.latent_dim == 2:
        samples = without_frames(samples)
    with heard_inside(vae.device):
        images = vae.decode(samples)
    return (images[:, 0] if images.ndim == 5 else images)[..., :3]


def native_resolution(model: Any) -> int:
    """Pixels a side that a model was made for: a bundled one says so, of others their kind does."""
    facts = model_facts(model)
    return facts.resolution if facts is not None else base_of(model).resolution


def check_size(name: str, size: int, model: Any) -> None:
    """Refuse a size (0: the model's own) that the model draws nothing sensible at, and may take hours for."""
    native = native_resolution(model)
    low, high = native // SMALLEST, native * LARGEST
    if size and not low <= size <= high:
        raise InputError(
            f"{name}: expected 0 or {low} to {high} pixels a side for a model made for {native}, got {size}"
        )


def check_fit(model: Any, width: int, what: str) -> None:
    """Raise `InputError` where a model is none for our nodes, or does not take these prompts.

    width: channels of the text embedding. what: name of the socket that has the prompts.
    """
    check_base(model)
    read = text_width(model)
    if read is not None and read != width:
        raise InputError(
            f"{what}: expected prompts encoded by the CLIP that belongs to the model ({read} channels), got {width}"
            f" channels; {kind_name(model)} and this CLIP are of different families"
        )


def check_vae(model: Any, vae: Any) -> None:
    """Raise `InputError` for a VAE of another model."""
    wanted = model.get_model_object("latent_format").latent_channels
    if getattr(vae, "latent_channels", wanted) != wanted:
        raise InputError(
            f"vae: expected the one that belongs to the model ({wanted} latent channels), got one with"
            f" {vae.latent_channels}"
        )


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
