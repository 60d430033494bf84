"""A diffusers folder of the bundled model's kind as native host objects: MODEL, CLIP, VAE, CONTROL_NET.

The host's loaders know a fixed list of sizes; these builders take the sizes from the folder's configs and the classes
and key tables from the host. Where the host fixes a number that the small model has otherwise (32 norm groups, a
vocabulary of 49408, an eightfold VAE), it is put right after building.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import comfy.cldm.cldm
import comfy.controlnet
import comfy.diffusers_convert
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.samplers
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch

from humannorm.checks import InputError
from humannorm.guidance.diffusers_denoiser import Autoguidance
from humannorm.guidance.folders import WEAK_UNET, WEIGHTS, read_config
from humannorm.guidance.hints_controlnet import has_hints_controlnet, read_hints_controlnet
from humannorm.models import FEW_STEPS, JOINT_FILTER, camera_plan, names_poses, resolution_over_start

from .payloads import DISTILLS, HINTS_CONTROL, NAMES_POSES, ModelFacts

__all__ = ["build_clip", "build_control_net", "build_model", "build_models", "build_vae"]

Weights = dict[str, torch.Tensor]

_VAE_LEVEL = re.compile(r"(encoder\.down|decoder\.up)_blocks\.(\d+)\.(?:resnets\.(\d+)|(down|up)samplers\.0)\.(.+)")


class _SmallConfig(comfy.supported_models_base.BASE):
    """SD1.5's latents and text conditioning at any size."""

    unet_extra_config: ClassVar[dict[str, Any]] = {}
    latent_format = comfy.latent_formats.SD15
    memory_usage_factor = 1.0

    def process_unet_state_dict_for_saving(self, state_dict: Weights) -> Weights:
        raise not_to_be_saved("model")


def not_to_be_saved(what: str) -> InputError:
    """The host's loaders know the sizes of published models alone: what it would save it could not load again."""
    return InputError(
        f"{what}: expected one of a size that ComfyUI's own loaders know, got the bundled small one, which could not be"
        " loaded again from a checkpoint; save the LoRA or the patches by themselves"
    )


def build_model(folder: Path) -> Any:
    """MODEL of the folder's UNet, with weights of its own; where the folder has a weak UNet, under autoguidance."""
    (model,) = build_models(folder, 1)
    return model


def build_models(folder: Path, count: int) -> list[Any]:
    """As many MODELs of the folder, each with weights of its own; they share the weak UNet, which nobody patches."""
    weak = _build_unet(folder, WEAK_UNET) if (folder / WEAK_UNET).is_dir() else None
    return [_build_model(folder, weak) for _ in range(count)]


def _build_model(folder: Path, weak: Any | None) -> Any:
    model = _build_unet(folder, "unet")
    plan = camera_plan(folder)
    if plan is not None:
        resolution = read_config(folder, "unet")["sample_size"] * vae_downscale(read_config(folder, "vae"))
        lora, joint_filter = (path if path.is_file() else None for path in (folder / FEW_STEPS, folder / JOINT_FILTER))
        model.model.humannorm_facts = ModelFacts(
            resolution,
            plan,
            few_steps=lora,
            joint_filter=joint_filter,
            resolution_over_start=resolution_over_start(folder),
        )
    if weak is not None:
        _autoguide(model, weak, Autoguidance())
    return model


def _build_unet(folder: Path, component: str) -> Any:
    """The patcher of one of the folder's UNets."""
    config = read_config(folder, component)
    scheduler = read_config(folder, "scheduler")
    weights = _read(folder / component)
    settings = unet_settings(config)
    load_device = comfy.model_management.get_torch_device()
    dtype = comfy.model_management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(weights), weight_dtype=comfy.utils.weight_dtype(weights)
    )
    described = _SmallConfig(settings)
    if config["in_channels"] != described.latent_format.latent_channels:
        described.latent_format.latent_channels = config["in_channels"]
        described.latent_format.latent_rgb_factors = None  # the host previews by these, which are of four channels
    described.sampling_settings = {
        "beta_schedule": "linear",  # the host's name for diffusers' scaled_linear
        "linear_start": scheduler["beta_start"],
        "linear_end": scheduler["beta_end"],
        "timesteps": scheduler["num_train_timesteps"],
    }
    described.set_inference_dtype(dtype, comfy.model_management.unet_manual_cast(dtype, load_device))
    kinds = {"epsilon": comfy.model_base.ModelType.EPS, "v_prediction": comfy.model_base.ModelType.V_PREDICTION}
    offload_device = comfy.model_management.unet_offload_device()
    model = comfy.model_base.BaseModel(described, kinds[scheduler["prediction_type"]], device=offload_device)
    names = comfy.utils.unet_to_diffusers(described.unet_config)
    model.diffusion_model.load_state_dict({names[name]: value for name, value in weights.items()})
    _set_norm_groups(model.diffusion_model, config["norm_num_groups"])
    return _patcher(model.eval(), load_device, offload_device)


def _autoguide(model: Any, weak: Any, weights: Autoguidance) -> None:
    """What `DiffusersDenoiser.denoise` does with a weak UNet, for all that the host samples with this MODEL.

    Not for what our optimisers distil from it, as the library's do not use it either, and not without guidance: so few
    steps are drawn, with a LoRA that has learnt it all.
    """

    def guided(at: dict[str, Any]) -> torch.Tensor:
        if at["model_options"].get(DISTILLS) or at["cond_scale"] == 1.0:
            return at["denoised"]
        conds = [{name: value for name, value in cond.items() if name != "control"} for cond in at["cond"]]
        weak.model.current_patcher = weak  # the host sets it on the model that it samples alone
        (poor,) = comfy.samplers.calc_cond_batch(
            weak.model, [conds], at["input"], at["sigma"], {"transformer_options": {}}
        )
        weight = weights.weight(controlled=any(cond.get("control") is not None for cond in at["cond"]))
        return at["denoised"] + (weight - 1.0) * (at["cond_denoised"] - poor)

    model.set_model_sampler_post_cfg_function(guided)
    model.set_additional_models("humannorm_weak", [weak])  # to be on the device when the model is


def build_control_net(folder: Path) -> Any:
    """CONTROL_NET of the folder's normal ControlNet, with the one for hints beside it where the folder has such. Hints
    have the size of the VAE's pictures."""
    own = _read(folder / "controlnet")
    control_net = _control_net(read_config(folder, "controlnet"), own)
    if has_hints_controlnet(folder):
        precision = comfy.utils.weight_dtype(own)
        config, weights = read_hints_controlnet(folder)
        for_hints = _control_net(config, {name: value.to(precision) for name, value in weights.items()})
        setattr(control_net, HINTS_CONTROL, for_hints)
    return control_net


def _control_net(config: dict[str, Any], weights: Weights) -> Any:
    """CONTROL_NET of a diffusers ControlNet."""
    settings = unet_settings(config)
    load_device = comfy.model_management.get_torch_device()
    dtype = comfy.model_management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(weights), weight_dtype=comfy.utils.weight_dtype(weights)
    )
    cast = comfy.model_management.unet_manual_cast(dtype, load_device)
    operations = comfy.ops.pick_operations(dtype, cast)
    built = {"operations": operations, "dtype": dtype, "device": comfy.model_management.unet_offload_device()}
    network = comfy.cldm.cldm.ControlNet(hint_channels=config["conditioning_channels"], **settings, **built)
    widths = config["conditioning_embedding_out_channels"]
    network.input_hint_block = _hint_block(config["conditioning_channels"], widths, settings["model_channels"], built)
    network.load_state_dict(_control_weights(weights, settings, len(widths)))
    _set_norm_groups(network, config["norm_num_groups"])
    return comfy.controlnet.ControlNet(
        network.eval(),
        compression_ratio=2 ** (len(widths) - 1),
        load_device=load_device,
        manual_cast_dtype=cast,
    )


def build_vae(folder: Path) -> Any:
    """VAE of the folder."""
    config = read_config(folder, "vae")
    channels = config["block_out_channels"]
    layout = {
        "double_z": True,
        "z_channels": config["latent_channels"],
        "resolution": config["sample_size"],
        "in_channels": config["in_channels"],
        "out_ch": config["out_channels"],
        "ch": channels[0],
        "ch_mult": [width // channels[0] for width in channels],
        "num_res_blocks": config["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    named = {_vae_block_name(name, len(channels)): value for name, value in _read(folder / "vae").items()}
    weights = comfy.diffusers_convert.convert_vae_state_dict(named)
    vae = comfy.sd.VAE(sd=weights, config={"params": {"ddconfig": layout, "embed_dim": config["latent_channels"]}})
    unloaded = set(vae.first_stage_model.state_dict()) ^ set(weights)
    if unloaded:
        raise InputError(f"{folder / 'vae'}: expected weights that this host's VAE takes, got others: {min(unloaded)}")
    _set_norm_groups(vae.first_stage_model, config["norm_num_groups"])
    downscale = vae_downscale(config)
    vae.downscale_ratio = vae.upscale_ratio = downscale
    vae.latent_channels = config["latent_channels"]

    def refuse() -> Weights:
        raise not_to_be_saved("vae")

    vae.get_sd = refuse  # what the host saves; it makes no copies of a VAE
    vae.memory_used_decode = lambda shape, dtype: (
        2178 * shape[2] * shape[3] * downscale**2 * comfy.model_management.dtype_size(dtype)
    )
    return vae


def build_clip(folder: Path) -> Any:
    """CLIP of the folder: the host's SD1 classes with the folder's sizes and tokens."""
    config = read_config(folder, "text_encoder")
    ends = {"start": config["bos_token_id"], "end": config["eos_token_id"], "pad": config["pad_token_id"]}

    class SmallTokenizer(comfy.sd1_clip.SDTokenizer):
        def __init__(self, **options: Any) -> None:
            super().__init__(str(folder / "tokenizer"), embedding_size=config["hidden_size"], **options)

    class SmallTextModel(comfy.sd1_clip.SDClipModel):
        def __init__(self, **options: Any) -> None:
            super().__init__(
                textmodel_json_config=dict(config),
                special_tokens=ends,
                return_projected_pooled=False,
                max_length=config["max_position_embeddings"],
                **options,
            )
            embeddings = self.transformer.text_model.embeddings
            weight = embeddings.token_embedding.weight
            embeddings.token_embedding = self.operations.Embedding(
                config["vocab_size"], config["hidden_size"], dtype=weight.dtype, device=weight.device
            )

    class Tokenizer(comfy.sd1_clip.SD1Tokenizer):
        def __init__(self, embedding_directory: Any = None, tokenizer_data: dict[str, Any] | None = None) -> None:
            super().__init__(embedding_directory, tokenizer_data or {}, tokenizer=SmallTokenizer)

        def state_dict(self) -> dict[str, Any]:
            """Asked for by the host when it saves a CLIP, and only then; copies of the CLIP share the tokenizer."""
            raise not_to_be_saved("clip")

    class TextModel(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, **options: Any) -> None:
            super().__init__(clip_model=SmallTextModel, **options)

    target = comfy.supported_models_base.ClipTarget(Tokenizer, TextModel)
    clip = comfy.sd.CLIP(target, embedding_directory=folder_paths.get_folder_paths("embeddings"))
    prefix = "text_model."
    weights = {prefix + name.removeprefix(prefix): value for name, value in _read(folder / "text_encoder").items()}
    missing, unknown = clip.load_sd(weights)
    if unknown or set(missing) - {"text_projection.weight"}:
        raise InputError(
            f"{folder / 'text_encoder'}: expected weights that this host's CLIP takes, got {len(missing)} missing and"
            f" {len(unknown)} unknown"
        )
    setattr(clip.cond_stage_model, NAMES_POSES, names_poses(folder))
    return clip


def unet_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The host's UNet configuration of a diffusers one (UNet or ControlNet)."""
    channels, layers = config["block_out_channels"], config["layers_per_block"]
    attends = [int(name.startswith("CrossAttn")) for name in config["down_block_types"]]
    heads = config["attention_head_dim"]  # diffusers' name for the number of heads of each level
    widths = {width // count for width, count, has in zip(channels, heads, attends, strict=True) if has}
    if len(widths) != 1:
        raise InputError(f"attention_head_dim: expected heads of one width on all levels, got widths {sorted(widths)}")
    return {
        "image_size": 32,
        "in_channels": config["in_channels"],
        "out_channels": config["in_channels"],
        "model_channels": channels[0],
        "channel_mult": [_multiple(width, channels[0]) for width in channels],
        "num_res_blocks": [layers] * len(channels),
        "transformer_depth": [has for has in attends for _ in range(layers)],
        "transformer_depth_middle": 1,
        "transformer_depth_output": [has for has in attends for _ in range(layers + 1)],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": config["use_linear_projection"],
        "context_dim": config["cross_attention_dim"],
        "num_head_channels": widths.pop(),
        "num_heads": -1,
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
        "legacy": False,
    }


class _Multiple(float):
    """How many times the finest level's width a level has. The host builds layers of the product, which is whole."""

    def __mul__(self, other: float) -> int:
        return round(float(self) * other)

    __rmul__ = __mul__


def _multiple(width: int, finest: int) -> float:
    return _Multiple(width / finest) if width % finest else width // finest


def vae_downscale(config: dict[str, Any]) -> int:
    """Image pixels per latent pixel along a side."""
    return 2 ** (len(config["block_out_channels"]) - 1)


def _hint_block(inputs: int, widths: list[int], outputs: int, built: dict[str, Any]) -> Any:
    """The picture's way into a ControlNet, diffusers' `ControlNetConditioningEmbedding`: halved from width to width."""
    operations = built["operations"]
    rest = {"dtype": built["dtype"], "device": built["device"]}
    layers: list[torch.nn.Module] = [operations.conv_nd(2, inputs, widths[0], 3, padding=1, **rest)]
    layers[0].register_forward_pre_hook(_padded_hint)
    for narrow, wide in pairwise(widths):
        layers += [torch.nn.SiLU(), operations.conv_nd(2, narrow, narrow, 3, padding=1, **rest)]
        layers += [torch.nn.SiLU(), operations.conv_nd(2, narrow, wide, 3, padding=1, stride=2, **rest)]
    layers += [torch.nn.SiLU(), operations.conv_nd(2, widths[-1], outputs, 3, padding=1, **rest)]
    return comfy.cldm.cldm.TimestepEmbedSequential(*layers)


def _padded_hint(convolution: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    """A picture of fewer channels than the network reads, such as a normal map without flat colours: 0 is absent."""
    (picture,) = inputs
    return (torch.nn.functional.pad(picture, (0, 0, 0, 0, 0, convolution.in_channels - picture.shape[1])),)


def _control_weights(weights: Weights, settings: dict[str, Any], hint_levels: int) -> Weights:
    """A diffusers ControlNet's weights by the host's names."""
    names = comfy.utils.unet_to_diffusers(settings)
    convolutions = 2 * (hint_levels - 1)
    for end in ("weight", "bias"):
        names[f"controlnet_mid_block.{end}"] = f"middle_block_out.0.{end}"
        names[f"controlnet_cond_embedding.conv_in.{end}"] = f"input_hint_block.0.{end}"
        names[f"controlnet_cond_embedding.conv_out.{end}"] = f"input_hint_block.{2 * (convolutions + 1)}.{end}"
        for number in range(convolutions):
            names[f"controlnet_cond_embedding.blocks.{number}.{end}"] = f"input_hint_block.{2 * (number + 1)}.{end}"
        for number in range(len(weights)):
            names[f"controlnet_down_blocks.{number}.{end}"] = f"zero_convs.{number}.0.{end}"
    return {names[name]: value for name, value in weights.items()}


def _vae_block_name(name: str, levels: int) -> str:
    """The host's name of what is in one of a VAE's levels: its own table knows four levels of SD1.5's depth alone."""
    found = _VAE_LEVEL.fullmatch(name)
    if found is None:
        return name
    side, level, block, sampler, rest = found.groups()
    number = int(level) if side == "encoder.down" else levels - 1 - int(level)
    return f"{side}.{number}." + (f"{sampler}sample." if block is None else f"block.{block}.") + rest


def _set_norm_groups(module: torch.nn.Module, groups: int) -> None:
    for layer in module.modules():
        if isinstance(layer, torch.nn.GroupNorm):
            layer.num_groups = groups


def _read(folder: Path) -> Weights:
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise InputError(f"{folder}: expected {WEIGHTS[0]} or {WEIGHTS[2]}, got no safetensors file")
    return comfy.utils.load_torch_file(str(path), safe_load=True)


def _patcher(model: torch.nn.Module, load_device: torch.device, offload_device: torch.device) -> Any:
    """The patcher class that this host's own loaders use."""
    made = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return made(model, load_device=load_device, offload_device=offload_device)
