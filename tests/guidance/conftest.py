"""Diffusers folders of tiny random models of SDXL's and of Stable Diffusion 3's family, with a ControlNet each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture(scope="session")
def tiny_family(tiny_sd, tmp_path_factory) -> Callable[[str], Path]:
    """Folder of a family: "sdxl" or "sd3"."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            folder = tmp_path_factory.mktemp(family) / "model"
            build = build_sdxl if family == "sdxl" else build_sd3
            made[family] = build(folder, tiny_sd("epsilon") / "tokenizer")
        return made[family]

    return make


def build_sdxl(folder: Path, tokenizer: Path) -> Path:
    from diffusers import ControlNetModel, EulerDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    CLIPTextModel(text_config(32, 16)).save_pretrained(folder / "text_encoder")
    CLIPTextModelWithProjection(text_config(48, 24)).save_pretrained(folder / "text_encoder_2")
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=80,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8,
        norm_num_groups=8,
    )
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 16, 16))
    unet.save_pretrained(folder / "unet")
    speaking(control).save_pretrained(folder / "controlnet")
    EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").save_pretrained(
        folder / "scheduler"
    )
    finish(folder, tokenizer, {"latent_channels": 4, "scaling_factor": 0.13025})
    (folder / "model_index.json").write_text(json.dumps({"force_zeros_for_empty_prompt": True}), encoding="utf-8")
    return folder


def build_sd3(folder: Path, tokenizer: Path) -> Path:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3ControlNetModel, SD3Transformer2DModel
    from transformers import CLIPTextModelWithProjection

    torch.manual_seed(0)
    for name, hidden, pooled in (("text_encoder", 32, 16), ("text_encoder_2", 48, 24)):
        CLIPTextModelWithProjection(text_config(hidden, pooled)).save_pretrained(folder / name)
    sizes: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 16,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 4,
        "joint_attention_dim": 96,
        "caption_projection_dim": 32,
        "pooled_projection_dim": 40,
        "out_channels": 16,
        "pos_embed_max_size": 8,
    }
    SD3Transformer2DModel(**sizes).save_pretrained(folder / "transformer")
    control = SD3ControlNetModel(**{**sizes, "num_layers": 1})
    speaking(control).save_pretrained(folder / "controlnet")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    finish(folder, tokenizer, {"latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609})
    return folder


def text_config(hidden: int, pooled: int) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=600,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=pooled,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def speaking(control: Any) -> Any:
    """A fresh ControlNet says nothing."""
    for parameter in control.parameters():
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.1)
    return control


def finish(folder: Path, tokenizer: Path, vae: dict[str, Any]) -> None:
    from diffusers import AutoencoderKL

    blocks = {"block_out_channels": (16,) * 4, "layers_per_block": 1, "norm_num_groups": 8}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    AutoencoderKL(**blocks, **kinds, sample_size=64, **vae).save_pretrained(folder / "vae")
    for name in ("tokenizer", "tokenizer_2"):
        (folder / name).symlink_to(tokenizer)
