"""One-file models in the layout of Stable Diffusion's first release (.safetensors, .ckpt): UNet, VAE and text encoder
under the names of CompVis' latent diffusion code. Sizes are read off the weights; the converters are diffusers' own.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from humannorm.checks import InputError

__all__ = ["SINGLE_FILE_SUFFIXES", "SingleFile", "open_single_file"]

SINGLE_FILE_SUFFIXES = (".safetensors", ".ckpt")
_UNET, _VAE, _TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
_HEADS = 8  # of Stable Diffusion 1's attention at every width
_SCHEDULE = {
    "_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    "num_train_timesteps": 1000, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class SingleFile:
    """All tensors of the file by their own names."""

    path: Path
    tensors: Weights

    def config(self, component: str) -> dict[str, Any]:
        """What a diffusers folder's config would say."""
        if component == "unet":
            return _unet_config(_under(self.tensors, _UNET))
        if component == "vae":
            return _vae_config(_under(self.tensors, _VAE))
        if component == "text_encoder":
            return _text_config(_under(self.tensors, _TEXT))
        if component == "scheduler":  # marks that some trainers leave in the file
            kind = "v_prediction" if "v_pred" in self.tensors else "epsilon"
            return {**_SCHEDULE, "prediction_type": kind, "rescale_betas_zero_snr": "ztsnr" in self.tensors}
        raise InputError(f"{self.path}: expected a diffusers folder with a {component}, got a single file without one")

    def weights(self, component: str) -> Weights:
        """A component's tensors by diffusers' names."""
        from diffusers.loaders import single_file_utils as convert

        config = self.config(component)
        if component == "unet":
            found: Weights = convert.convert_ldm_unet_checkpoint(self.tensors, config)
        elif component == "vae":
            found = convert.convert_ldm_vae_checkpoint(self.tensors, config)
        else:
            found = _under(self.tensors, _TEXT)
        return found


@functools.lru_cache(maxsize=1)  # four components are read one after the other, each of the same gigabytes
def _opened(path: Path, modified: int) -> SingleFile:
    from humannorm.guidance.folders import read_weights

    tensors = read_weights(path)
    if any(name.startswith(("conditioner.", "cond_stage_model.model.")) for name in tensors):
        raise InputError(f"{path}: expected a Stable Diffusion 1.5-class model, got one of SD 2 or SDXL")
    for prefix, what in ((_UNET, "a UNet"), (_VAE, "a VAE"), (_TEXT, "a text encoder")):
        if not any(name.startswith(prefix) for name in tensors):
            raise InputError(
                f"{path}: expected a whole checkpoint with {what} ({prefix}*), got a file without; LoRAs and single"
                " components are no models of their own"
            )
    return SingleFile(path, tensors)


def open_single_file(path: Path) -> SingleFile:
    """The file, read once; refused where it is no whole model of Stable Diffusion 1.5's kind."""
    opened = _opened(path, path.stat().st_mtime_ns)
    try:
        for component in ("unet", "vae", "text_encoder"):
            opened.config(component)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{path}: expected the layers of Stable Diffusion 1.5, got others ({error})") from error
    return opened


def _under(tensors: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _numbers(weights: Weights, prefix: str) -> list[int]:
    """n of all names `prefix`n.*, in order."""
    return sorted({int(name[len(prefix) :].split(".")[0]) for name in weights if name.startswith(prefix)})


def _unet_config(weights: Weights) -> dict[str, Any]:
    blocks = _numbers(weights, "input_blocks.")
    ends = [n for n in blocks if f"input_blocks.{n}.0.op.weight" in weights]  # one after each level but the last
    starts = [1, *(n + 1 for n in ends)]
    layers = (ends[0] if ends else len(blocks)) - 1
    widths = [weights[f"input_blocks.{n}.0.out_layers.3.weight"].shape[0] for n in starts]
    attends = [f"input_blocks.{n}.1.proj_in.weight" in weights for n in starts]
    attention = next(f"input_blocks.{n}.1." for n, has in zip(starts, attends, strict=True) if has)
    return {
        "_class_name": "UNet2DConditionModel",
        "in_channels": weights["input_blocks.0.0.weight"].shape[1],
        "out_channels": weights["out.2.weight"].shape[0],
        "sample_size": 64,
        "block_out_channels": widths,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attends)],
        "attention_head_dim": _HEADS,
        "cross_attention_dim": weights[f"{attention}transformer_blocks.0.attn2.to_k.weight"].shape[1],
        "use_linear_projection": weights[f"{attention}proj_in.weight"].dim() == 2,
    }


def _vae_config(weights: Weights) -> dict[str, Any]:
    levels = _numbers(weights, "encoder.down.")
    widths = [weights[f"encoder.down.{n}.block.0.conv2.weight"].shape[0] for n in levels]
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": weights["encoder.conv_in.weight"].shape[1],
        "out_channels": weights["decoder.conv_out.weight"].shape[0],
        "latent_channels": weights["post_quant_conv.weight"].shape[0],
        "block_out_channels": widths,
        "layers_per_block": len(_numbers(weights, "encoder.down.0.block.")),
        "down_block_types": ["DownEncoderBlock2D"] * len(levels),
        "up_block_types": ["UpDecoderBlock2D"] * len(levels),
        "sample_size": 64 * 2 ** (len(levels) - 1),
        "scaling_factor": 0.18215,
    }


def _text_config(weights: Weights) -> dict[str, Any]:
    vocabulary, width = weights["text_model.embeddings.token_embedding.weight"].shape
    first = "text_model.encoder.layers."
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": weights[f"{first}0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": len(_numbers(weights, first)),
        "num_attention_heads": max(1, width // 64),
        "max_position_embeddings": weights["text_model.embeddings.position_embedding.weight"].shape[0],
        "hidden_act": "quick_gelu",
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }
