"""One-file checkpoints under the names of the first release draw what the diffusers folder draws."""

from __future__ import annotations

import re
import shutil

import pytest
import torch
from safetensors.torch import save_file

from humannorm.checks import InputError
from humannorm.guidance import DiffusersDenoiser
from humannorm.guidance.samplers import sample_latents
from humannorm.guidance.single_file import open_single_file

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}  # fmt: skip
OUTER = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
         "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}  # fmt: skip
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
LAYERS, LEVELS = 1, 2


def unet_name(name: str) -> str:
    """The first release's name of a UNet's weight: blocks are counted through."""
    for ours, theirs in OUTER.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    match = re.fullmatch(r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions|\w+samplers)\.(\d+)\.(.+)", name)
    if match is None:
        place, number, rest = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", name).groups()
        at = 1 if place == "attentions" else 2 * int(number)
        return f"middle_block.{at}.{inner(rest) if place == 'resnets' else rest}"
    side, level, kind, number, rest = match.groups()
    first = int(level) * (LAYERS + 1)
    if kind.endswith("samplers"):
        if side == "down_blocks":
            return f"input_blocks.{first + LAYERS + 1}.0.{rest.replace('conv.', 'op.')}"
        return f"output_blocks.{first + LAYERS}.{1 if level == '0' else 2}.{rest}"
    at = f"input_blocks.{first + int(number) + 1}" if side == "down_blocks" else f"output_blocks.{first + int(number)}"
    return f"{at}.0.{inner(rest)}" if kind == "resnets" else f"{at}.1.{rest}"


def inner(rest: str) -> str:
    part, _, end = rest.partition(".")
    return f"{RESNET[part]}.{end}"


def vae_name(name: str) -> str:
    name = re.sub(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)", r"encoder.down.\1.block.\2", name)
    name = re.sub(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
    name = re.sub(r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)",
                  lambda m: f"decoder.up.{LEVELS - 1 - int(m[1])}.block.{m[2]}", name)  # fmt: skip
    name = re.sub(r"decoder\.up_blocks\.(\d+)\.upsamplers\.0",
                  lambda m: f"decoder.up.{LEVELS - 1 - int(m[1])}.upsample", name)  # fmt: skip
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    for ours, theirs in VAE_ATTENTION.items():
        name = name.replace(f"mid_block.attentions.0.{ours}.", f"mid.attn_1.{theirs}.")
    return name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")


@pytest.fixture(scope="module")
def both(tiny_sd, tmp_path_factory):
    """A diffusers folder, and the same model as one file."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from humannorm.training.diffusion import SCHEDULE, save_folder

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("single") / "folder"
    tokenizer = CLIPTokenizer.from_pretrained(tiny_sd("epsilon") / "tokenizer")
    count = len(tokenizer)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=count, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=1,
        max_position_embeddings=77, hidden_act="quick_gelu", bos_token_id=count - 2, eos_token_id=count - 1,
        pad_token_id=count - 1,
    ))  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=64, block_out_channels=(32, 64), layers_per_block=LAYERS, cross_attention_dim=64,
        attention_head_dim=8, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(32, 64), layers_per_block=1, latent_channels=4, sample_size=128,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    save_folder(folder, unet=unet, text_encoder=text, tokenizer=tokenizer, vae=vae,
                scheduler_config={**SCHEDULE, "prediction_type": "epsilon"})  # fmt: skip
    loaded = DiffusersDenoiser.load(folder)  # as it was rounded when it was saved
    weights = {f"model.diffusion_model.{unet_name(n)}": v for n, v in loaded.unet.state_dict().items()}
    for name, value in loaded.vae.state_dict().items():
        square = ".attentions." in name and value.dim() == 2
        weights[f"first_stage_model.{vae_name(name)}"] = value[..., None, None] if square else value
    for name, value in loaded.text_encoder.state_dict().items():
        weights[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = value
    single = folder.parent / "one.safetensors"
    save_file({name: value.contiguous().clone() for name, value in weights.items()}, single)
    shutil.copytree(folder / "tokenizer", folder.parent / "tokenizer")
    return folder, single


def picture(models) -> torch.Tensor:
    guide = DiffusersDenoiser.load(models)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(3))
    condition = guide.condition(["a young man in a red t-shirt, front view"], guidance_scale=3.0)
    latents = sample_latents(guide, condition, noise, scheduler_config=guide.scheduler_config, steps=2, sampler="ddim")
    return guide.decode(latents)


def test_one_file_draws_what_the_folder_draws(both):
    folder, single = both
    assert torch.equal(picture(single), picture(folder))
    assert DiffusersDenoiser.load(single).resolution == 128


@pytest.mark.slow
def test_torch_files_too(both, tmp_path):
    _, single = both
    tensors = open_single_file(single).tensors
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "one.ckpt")
    shutil.copytree(single.parent / "tokenizer", tmp_path / "tokenizer")
    assert torch.equal(picture(tmp_path / "one.ckpt"), picture(single))


def test_what_a_single_file_lacks_is_said(both, tmp_path):
    _, single = both
    shutil.copy(single, tmp_path / "one.safetensors")
    with pytest.raises(InputError, match=r"tokenizer: expected beside one\.safetensors, .* copy the tokenizer folder"):
        DiffusersDenoiser.load(tmp_path / "one.safetensors")
    with pytest.raises(InputError, match=r"one\.safetensors: expected a diffusers folder with a controlnet"):
        DiffusersDenoiser.load(single, control=True)
    save_file({"lora_unet.up.weight": torch.zeros(2)}, tmp_path / "lora.safetensors")
    with pytest.raises(InputError, match="LoRAs and single components are no models"):
        DiffusersDenoiser.load(tmp_path / "lora.safetensors")
    save_file({"conditioner.x": torch.zeros(2)}, tmp_path / "xl.safetensors")
    with pytest.raises(InputError, match="got one of SD 2 or SDXL"):
        DiffusersDenoiser.load(tmp_path / "xl.safetensors")
