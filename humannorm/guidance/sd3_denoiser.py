"""The denoiser interface on a diffusers folder of Stable Diffusion 3's family: a flow model (arXiv 2403.03206).

The transformer speaks of x_flow = (1 - s) z + s eps and of the velocity eps - z; at this border both become the
project's noise (`guidance.noise`). Its texts are those of two CLIPs and, where the folder has it, of a T5.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError
from humannorm.guidance.diffusers_denoiser import DiffusersDenoiser, Words, resized
from humannorm.guidance.folders import load_component, load_tokenizer, read_config
from humannorm.guidance.noise import TIMESTEPS, NoiseTable, flow_level, flow_sigma
from humannorm.images import from_network

__all__ = ["Sd3Denoiser", "load_sd3"]

T5_LENGTH = 256  # tokens that the long encoder reads


class Sd3Denoiser(DiffusersDenoiser):
    """See `DiffusersDenoiser`; `unet` is the transformer, `controlnet` an SD3ControlNetModel."""

    def __init__(
        self,
        *,
        text_encoder_2: Any,
        tokenizer_2: Any,
        text_encoder_3: Any | None = None,
        tokenizer_3: Any | None = None,
        **components: Any,
    ) -> None:
        self.text_encoder_2, self.tokenizer_2 = text_encoder_2, tokenizer_2
        self.text_encoder_3, self.tokenizer_3 = text_encoder_3, tokenizer_3
        super().__init__(**components)

    @staticmethod
    def noise_table(config: dict[str, Any]) -> NoiseTable:
        """s from 1/1000 to 1, shifted towards noise as the config says: s' = a s / (1 + (a - 1) s) (eq. 23)."""
        count, shift = int(config.get("num_train_timesteps", TIMESTEPS)), float(config.get("shift", 1.0))
        level = torch.arange(1, count + 1, dtype=torch.float64) / count
        return NoiseTable.of(flow_sigma(shift * level / (1 + (shift - 1) * level)), count)

    @property
    def modules(self) -> list[torch.nn.Module]:
        more = (self.text_encoder_2, self.text_encoder_3)
        return [*super().modules, *(module for module in more if module is not None)]

    @property
    def _shift(self) -> float:
        return float(self.vae.config.shift_factor or 0.0)

    @torch.no_grad()
    def _read(self, prompt: str) -> Words:
        """Both CLIPs' last but one states, filled up with zeros to the T5's width; behind them the T5's, or zeros."""
        states, pooled = [], []
        for tokenizer, encoder in (
            (self.tokenizer, self.text_encoder),
            (self.tokenizer_2, self.text_encoder_2),
        ):
            tokens = self._tokens(tokenizer, [prompt], encoder.config.max_position_embeddings)
            found = encoder(tokens, output_hidden_states=True)
            states.append(found.hidden_states[-2])
            pooled.append(found.text_embeds)
        short = torch.cat(states, -1)
        width = int(self.unet.config.joint_attention_dim)
        short = torch.nn.functional.pad(short, (0, width - short.shape[-1]))
        if self.text_encoder_3 is None or self.tokenizer_3 is None:
            long = short.new_zeros(1, T5_LENGTH, width)
        else:
            tokens = self.tokenizer_3(
                [prompt], padding="max_length", max_length=T5_LENGTH, truncation=True, return_tensors="pt"
            )
            long = self.text_encoder_3(tokens.input_ids.to(self.device))[0].to(short)
        return Words(torch.cat([short, long], 1), torch.cat(pooled, -1))

    def _control_residuals(
        self, network: Any, hint: Tensor, strength: Float[Tensor, "B"], x: Tensor, sigma: Tensor, text: Words
    ) -> list[Tensor]:
        """What a ControlNet adds. It sees the hint as latents; the first ones know neither shift nor pooled text."""
        assert text.pooled is not None
        config, first = network.config, bool(network.config.get("force_zeros_for_pooled_projection", False))
        pictures = resized(hint * 2 - 1, x.shape[-1] * self.downscale).to(self.vae.dtype)
        latents = (self.vae.encode(pictures).latent_dist.mode() - (0.0 if first else self._shift)) * self._latent_scale
        (found,) = network(
            hidden_states=self._scaled(x, sigma),
            controlnet_cond=latents.to(self.dtype).repeat(len(x) // len(latents), 1, 1, 1),
            encoder_hidden_states=text.states if config.joint_attention_dim is not None else None,
            pooled_projections=torch.zeros_like(text.pooled) if first else text.pooled,
            timestep=flow_level(sigma) * TIMESTEPS,
            return_dict=False,
        )
        return [block * strength[:, None, None].to(block) for block in found]

    def _residuals(self, heard: Sequence[Sequence[Tensor]]) -> dict[str, Any]:
        """All that was heard, in as many blocks as the longest of the ControlNets has."""
        if not heard:
            return {}
        most = max(heard, key=len)
        spread = [[blocks[len(blocks) * at // len(most)] for at in range(len(most))] for blocks in heard]
        return {
            "block_controlnet_hidden_states": tuple(sum(each[1:], start=each[0]) for each in zip(*spread, strict=True))
        }

    def _estimate(self, unet: Any, x: Tensor, sigma: Tensor, text: Words, **residuals: Any) -> Float[Tensor, "B C h w"]:
        """z0 = x_flow - s v."""
        level = flow_level(sigma)
        velocity = unet(
            hidden_states=self._scaled(x, sigma),
            encoder_hidden_states=text.states,
            pooled_projections=text.pooled,
            timestep=level * TIMESTEPS,
            **residuals,
        ).sample.to(x)
        level = level[:, None, None, None].to(x)
        return x * (1 - level) - level * velocity

    def _scaled(self, x: Float[Tensor, "B C h w"], sigma: Float[Tensor, "B"]) -> Float[Tensor, "B C h w"]:
        """x_flow."""
        return (x / (1 + sigma[:, None, None, None].to(x))).to(self.dtype)

    def _encoded(self, network: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        mode = self.vae.encode(network.to(self.device, self.vae.dtype)).latent_dist.mode()
        return (mode - self._shift) * self._latent_scale

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B H W 3"]:
        """Images 0..1 of scaled latents."""
        decoded = self.vae.decode(latents.to(self.vae.dtype) / self._latent_scale + self._shift).sample
        return from_network(decoded.to(latents.dtype))


def load_sd3(folder: Path, *, device: torch.device, dtype: torch.dtype, control: bool) -> Sd3Denoiser:
    """From a folder that `folders.model_folder` has checked."""
    import diffusers
    import transformers

    options: dict[str, Any] = {"device": device, "dtype": dtype}
    clips = transformers.CLIPTextModelWithProjection
    has_t5 = (folder / "text_encoder_3").is_dir()
    return Sd3Denoiser(
        unet=load_component(folder, "transformer", diffusers.SD3Transformer2DModel, **options),
        scheduler_config=read_config(folder, "scheduler"),
        text_encoder=load_component(folder, "text_encoder", clips, **options),
        text_encoder_2=load_component(folder, "text_encoder_2", clips, **options),
        text_encoder_3=load_component(folder, "text_encoder_3", transformers.T5EncoderModel, **options)
        if has_t5
        else None,
        tokenizer=load_tokenizer(folder),
        tokenizer_2=load_tokenizer(folder, "tokenizer_2"),
        tokenizer_3=_t5_tokenizer(folder / "tokenizer_3") if has_t5 else None,
        vae=load_component(folder, "vae", diffusers.AutoencoderKL, **options),
        controlnet=load_component(folder, "controlnet", diffusers.SD3ControlNetModel, **options) if control else None,
    )


def _t5_tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:  # transformers raises whatever a broken file leads it to
        raise InputError(f"{path}: expected the files of a T5 tokenizer, got some that fail: {error}") from error
