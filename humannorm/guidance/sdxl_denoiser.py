"""The denoiser interface on a diffusers folder of SDXL's family (arXiv 2307.01952).

Two text encoders side by side, of which the second also gives one vector for the whole text, and the size that the
picture is to have had: the UNet and its ControlNet read all of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from humannorm.guidance.diffusers_denoiser import DiffusersDenoiser, Words
from humannorm.guidance.folders import load_component, load_tokenizer, read_config

__all__ = ["SdxlDenoiser", "load_sdxl"]


class SdxlDenoiser(DiffusersDenoiser):
    """See `DiffusersDenoiser`; weak UNets are not read."""

    def __init__(
        self, *, text_encoder_2: Any, tokenizer_2: Any, zeros_for_empty: bool = True, **components: Any
    ) -> None:
        self.text_encoder_2, self.tokenizer_2 = text_encoder_2, tokenizer_2
        self.zeros_for_empty = zeros_for_empty  # an empty negative prompt is read as zeros, as the base was trained
        super().__init__(**components)

    @property
    def modules(self) -> list[torch.nn.Module]:
        return [*super().modules, self.text_encoder_2]

    @torch.no_grad()
    def _read(self, prompt: str) -> Words:
        """The last but one states of both encoders, channel beside channel, and the second's projected vector."""
        return clip_words((self.tokenizer, self.tokenizer_2), (self.text_encoder, self.text_encoder_2), prompt, self)

    def _read_negative(self, negative: str) -> Words:
        words = self._embedding(negative)
        if negative or not self.zeros_for_empty or words.pooled is None:
            return words
        return Words(torch.zeros_like(words.states), torch.zeros_like(words.pooled))

    def _added(self, text: Words) -> dict[str, Any]:
        """The text's vector; and the picture's size before it was cropped, the crop's corner, the size aimed at."""
        size = float(self.resolution)
        assert text.pooled is not None
        sizes = torch.tensor([size, size, 0.0, 0.0, size, size], device=self.device, dtype=self.dtype)
        return {"added_cond_kwargs": {"text_embeds": text.pooled, "time_ids": sizes.expand(len(text.pooled), -1)}}


def clip_words(tokenizers: Any, encoders: Any, prompt: str, guide: DiffusersDenoiser) -> Words:
    """Two CLIPs' last but one states [1, T, D1 + D2], and the vector of the last of them that gives one."""
    states: list[Tensor] = []
    pooled: Tensor | None = None
    for tokenizer, encoder in zip(tokenizers, encoders, strict=True):
        tokens = guide._tokens(tokenizer, [prompt], encoder.config.max_position_embeddings)
        found = encoder(tokens, output_hidden_states=True)
        states.append(found.hidden_states[-2])
        pooled = getattr(found, "text_embeds", pooled)
    return Words(torch.cat(states, -1), pooled)


def load_sdxl(folder: Path, *, device: torch.device, dtype: torch.dtype, control: bool) -> SdxlDenoiser:
    """From a folder that `folders.model_folder` has checked."""
    import diffusers
    import transformers

    options: dict[str, Any] = {"device": device, "dtype": dtype}
    vae = load_component(folder, "vae", diffusers.AutoencoderKL, **options)
    if dtype == torch.float16 and vae.config.force_upcast:  # the first SDXL VAE overflows in half precision
        vae = vae.float()
    return SdxlDenoiser(
        unet=load_component(folder, "unet", diffusers.UNet2DConditionModel, **options),
        scheduler_config=read_config(folder, "scheduler"),
        text_encoder=load_component(folder, "text_encoder", transformers.CLIPTextModel, **options),
        text_encoder_2=load_component(folder, "text_encoder_2", transformers.CLIPTextModelWithProjection, **options),
        tokenizer=load_tokenizer(folder),
        tokenizer_2=load_tokenizer(folder, "tokenizer_2"),
        vae=vae,
        controlnet=load_component(folder, "controlnet", diffusers.ControlNetModel, **options) if control else None,
        zeros_for_empty=_zeros_for_empty(folder / "model_index.json"),
    )


def _zeros_for_empty(index: Path) -> bool:
    """As the folder's index says; true where there is none, as for the base."""
    if not index.is_file():
        return True
    return bool(json.loads(index.read_text(encoding="utf-8-sig")).get("force_zeros_for_empty_prompt", True))
