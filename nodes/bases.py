"""What the host's models are to our nodes: kind, native size, usual guidance, noise, and what cannot work by name.

The host names a model's kind by the class of its configuration (`comfy.supported_models`); kinds that derive from
another are what that one is unless they are listed themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.model_sampling
import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError
from humannorm.guidance.noise import TIMESTEPS, NoiseTable, flow_level, flow_sigma

__all__ = ["BASES", "Base", "HostNoise", "base_of", "check_base", "kind_name", "needs_frames", "text_width"]


@dataclass(frozen=True)
class Base:
    """What a kind of model is usually asked for, by its authors."""

    name: str
    resolution: int  # pixels a side
    cfg: float  # classifier-free guidance of its pictures; 1 where the guidance was distilled into the network

    @property
    def guidance_is_distilled(self) -> bool:
        return self.cfg == 1.0


SD1 = Base("SD1.x", 512, 7.5)
SD2 = Base("SD2.x", 512, 7.5)
SD2_V = Base("SD2.x (v-prediction)", 768, 7.5)
UNKNOWN = Base("unknown", 1024, 7.5)

# Resolution and guidance as in the authors' own examples.
BASES: Mapping[str, Base] = {
    "SD15": SD1,
    "SD20": SD2,
    "SDXL": Base("SDXL", 1024, 7.0),
    "SDXLRefiner": Base("SDXL refiner", 1024, 7.0),
    "SD3": Base("SD3", 1024, 4.5),
    "AuraFlow": Base("AuraFlow", 1024, 3.5),
    "PixArtAlpha": Base("PixArt", 1024, 4.5),
    "HunyuanDiT": Base("Hunyuan-DiT", 1024, 6.0),
    "Flux": Base("Flux", 1024, 1.0),
    "Chroma": Base("Chroma", 1024, 4.0),
    "Lumina2": Base("Lumina 2", 1024, 4.0),
    "ZImage": Base("Z-Image", 1024, 1.0),
    "HiDream": Base("HiDream", 1024, 5.0),
    "Omnigen2": Base("OmniGen 2", 1024, 5.0),
    "QwenImage": Base("Qwen-Image", 1328, 4.0),
    "CosmosT2IPredict2": Base("Cosmos Predict 2", 1024, 4.0),
    "HunyuanImage21": Base("HunyuanImage 2.1", 2048, 3.5),
}

FROM_A_PICTURE = "which draws from a picture, not from a text"
REFUSED: Mapping[str, str] = {
    "SVD_img2vid": FROM_A_PICTURE,
    "Stable_Zero123": FROM_A_PICTURE,
    "SD_X4Upscaler": FROM_A_PICTURE,
    "SD15_instructpix2pix": FROM_A_PICTURE,
    "SDXL_instructpix2pix": FROM_A_PICTURE,
    "LotusD": FROM_A_PICTURE,
    "CosmosI2VPredict2": FROM_A_PICTURE,
    "HunyuanImage21Refiner": FROM_A_PICTURE,
    "Stable_Cascade_C": "whose latents no VAE of pictures reads",
    "Stable_Cascade_B": "whose latents no VAE of pictures reads",
}

# Under which a kind's configuration has the channels of the text embedding that it reads.
TEXT_WIDTHS = ("context_dim", "context_in_dim", "cap_feat_dim", "cond_seq_dim")


def base_of(model: Any) -> Base:
    """The kind of a MODEL, `UNKNOWN` for one that is not in the list."""
    for name in _names(model):
        if name in BASES:
            by_v = isinstance(_sampling(model), comfy.model_sampling.V_PREDICTION)
            return SD2_V if name == "SD20" and by_v else BASES[name]
    return UNKNOWN


def kind_name(model: Any) -> str:
    """The host's own name of a MODEL's kind."""
    return type(getattr(model.model, "model_config", model.model)).__name__


def check_base(model: Any) -> None:
    """Raise `InputError` for a MODEL that draws no pictures from a text, or in latents that are no pictures."""
    name, latents = kind_name(model), getattr(model.model, "latent_format", None)
    if latents is None:
        raise InputError(f"model: expected a MODEL that draws pictures, got {name}")
    for each in _names(model):
        if each in REFUSED:
            raise InputError(f"model: expected one that draws pictures from a text, got {name}, {REFUSED[each]}")
        if each in BASES:
            break
    dimensions = getattr(latents, "latent_dimensions", 2)
    if dimensions == 1:
        raise InputError(f"model: expected one whose latents are pictures, got {name}, whose latents are a sequence")
    if dimensions == 3 and base_of(model) is UNKNOWN:
        raise InputError(f"model: expected one that draws pictures, got {name}, which draws films")
    sampling = _sampling(model)
    rebuilds = tuple(
        getattr(comfy.model_sampling, each)
        for each in ("IMG_TO_IMG", "IMG_TO_IMG_FLOW")
        if hasattr(comfy.model_sampling, each)
    )
    if isinstance(sampling, rebuilds):
        raise InputError(f"model: expected one that draws pictures from a text, got {name}, {FROM_A_PICTURE}")


def text_width(model: Any) -> int | None:
    """Channels of the text embedding that a MODEL reads; None where its kind does not say."""
    settings = getattr(getattr(model.model, "model_config", None), "unet_config", {})
    for name in TEXT_WIDTHS:
        if isinstance(settings.get(name), int):
            return int(settings[name])
    embedder = settings.get("context_embedder_config")  # SD3
    if embedder:
        return int(embedder["params"]["in_features"])
    reads = getattr(getattr(model.model, "diffusion_model", None), "txt_in", None)  # Qwen-Image
    return int(reads.in_features) if isinstance(reads, torch.nn.Linear) else None


def needs_frames(model: Any) -> bool:
    """Whether a MODEL's latents have an axis of time: a picture is a film of one frame there."""
    return int(getattr(model.get_model_object("latent_format"), "latent_dimensions", 2)) == 3


class HostNoise:
    """This project's noise (x = z + sigma * eps) for a host's model, whatever its own is.

    Flow models have x = (1 - s) z + s eps, or k eps where the host scales their noise by k: see `guidance.noise`.
    """

    def __init__(self, sampling: Any) -> None:
        self.scale = float(getattr(sampling, "noise_scale", 1.0))
        self.is_flow = isinstance(sampling, comfy.model_sampling.CONST)
        levels = sampling.sigmas.float()
        sigmas = flow_sigma(levels) * self.scale if self.is_flow else levels
        self.table = NoiseTable.of(sigmas, int(getattr(sampling, "num_timesteps", TIMESTEPS)))
        self.timesteps = self.table.timesteps

    def sigma(self, timestep: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return self.table.sigma(timestep)

    def to_host(self, x: Float[Tensor, "B ..."], sigma: Float[Tensor, "B"]) -> tuple[Tensor, Tensor]:
        """The host's own noisy latents and its noise level."""
        if not self.is_flow:
            return x, sigma
        noise_per_picture = sigma / self.scale
        return x / (1 + noise_per_picture).reshape(-1, *[1] * (x.ndim - 1)), flow_level(noise_per_picture)


def _sampling(model: Any) -> Any:
    get = getattr(model, "get_model_object", None)
    return None if get is None else get("model_sampling")


def _names(model: Any) -> list[str]:
    """The kind's name and those of what it derives from, nearest first."""
    return [each.__name__ for each in type(getattr(model.model, "model_config", None)).__mro__]
