"""Networks of Stable Diffusion 1.5's size with random weights: they draw noise, and cost what the real ones cost."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from humannorm.training.config import TextConfig
from humannorm.training.diffusion import SCHEDULE
from humannorm.training.text import train_tokenizer

SCHEDULER = {**SCHEDULE, "prediction_type": "epsilon"}


def random_sd15(device: torch.device | str, *, half: bool = False) -> dict[str, Any]:
    """UNet, VAE and text encoder as in SD1.5's configuration files, freshly drawn, and a tokenizer, by the names that
    `DiffusersDenoiser` and `save_folder` give them. The tokenizer is a small one: random embeddings know no words.

    half: in half precision, else in single.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer(["a woman in a red t-shirt, front view"] * 10, Path(folder), TextConfig(vocabulary=600))
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    with torch.device(device):
        parts = {
            "unet": UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
            "vae": AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
            ),
            "text_encoder": CLIPTextModel(
                CLIPTextConfig(
                    hidden_size=768,
                    intermediate_size=3072,
                    num_hidden_layers=12,
                    num_attention_heads=12,
                    bos_token_id=tokenizer.bos_token_id,
                    eos_token_id=tokenizer.eos_token_id,
                )
            ),
        }
    return {"tokenizer": tokenizer, **{name: part.half() if half else part for name, part in parts.items()}}


def parameter_count(*parts: torch.nn.Module) -> int:
    return sum(parameter.numel() for part in parts for parameter in part.parameters())
