"""Reading diffusers folders: every fault is one sentence that names the file and what was expected there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from humannorm.checks import InputError

COMPONENTS = ("unet", "scheduler", "text_encoder", "tokenizer", "vae")
WEAK_UNET = "weak_unet"  # beside them, where a model has one for autoguidance
WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "model.safetensors",
    "model.fp16.safetensors",
    "diffusion_pytorch_model.bin",  # as the published weights come: read without unpickling anything but tensors
    "pytorch_model.bin",
)


def model_folder(models: str | Path) -> Path:
    """The diffusers folder of "bundled" or a path, checked to be of Stable Diffusion 1.5's kind."""
    if str(models) == "bundled":
        from humannorm.models import bundled_folder

        return bundled_folder()
    folder = Path(models)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a diffusers folder (unet, vae, text_encoder, ...), got no such folder")
    if (folder / "text_encoder_2").is_dir():
        raise InputError(
            f"{folder}: expected a Stable Diffusion 1.5-class model, got an SDXL-class one (text_encoder_2)"
        )
    for component in COMPONENTS:
        if not (folder / component).is_dir():
            raise InputError(f"{folder / component}: expected in a diffusers folder, got no such folder")
    width = read_config(folder, "text_encoder").get("hidden_size")
    read = read_config(folder, "unet").get("cross_attention_dim")
    if None not in (width, read) and width != read:
        raise InputError(
            f"{folder / 'unet' / 'config.json'}: expected a UNet that reads the folder's text encoder"
            f" (cross_attention_dim {width}), got one for another ({read})"
        )
    return folder


def read_config(folder: Path, component: str) -> dict[str, Any]:
    """The JSON config of a component."""
    name = "scheduler_config.json" if component == "scheduler" else "config.json"
    path = folder / component / name
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise InputError(f"{path}: expected the component's config, got no such file") from error
    except ValueError as error:
        raise InputError(f"{path}: expected JSON, got a file that is none ({error})") from error


def load_component(folder: Path, component: str, cls: Any, *, device: torch.device, dtype: torch.dtype) -> Any:
    """A component's module from safetensors or a plain torch file, all weights accounted for."""
    config = read_config(folder, component)
    if component == "unet" and config.get("addition_embed_type"):
        raise InputError(
            f"{folder / component / 'config.json'}: expected a Stable Diffusion 1.5-class UNet, got one with"
            f" added conditions ({config['addition_embed_type']}), as SDXL has"
        )
    path = next((folder / component / name for name in WEIGHTS if (folder / component / name).is_file()), None)
    if path is None:
        raise InputError(f"{folder / component}: expected {WEIGHTS[0]} or {WEIGHTS[2]} (or a .bin), got no such file")
    weights = read_weights(path)
    if component == "text_encoder":
        module = cls(cls.config_class(**config))
        own = module.state_dict()
        # Older files say text_model.* where the class has no such level, and carry position_ids.
        weights = {_own_name(name, own): value for name, value in weights.items() if "position_ids" not in name}
    else:
        module = cls.from_config(config)
        own = module.state_dict()
    missing = sorted(set(own) - set(weights) - {name for name in own if "position_ids" in name})
    unknown = sorted(set(weights) - set(own))
    wrong = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if missing or unknown or wrong:
        first = (missing + unknown + wrong)[0]
        raise InputError(
            f"{path}: expected the weights that {component}/config.json describes, got {len(missing)} missing,"
            f" {len(unknown)} unknown, {len(wrong)} of another shape (first: {first})"
        )
    module.load_state_dict(weights, strict=False)
    # Not `module.to`: diffusers warns of casts there, whether or not a module minds.
    module = torch.nn.Module.to(module, device=device, dtype=dtype)
    if device.type == "cpu" and dtype == torch.bfloat16:  # half of bf16's gain on a CPU is lost without
        for parameter in module.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def load_tokenizer(folder: Path) -> Any:
    """The CLIP tokenizer of a diffusers folder: tokenizer.json, or the older vocab.json and merges.txt."""
    from transformers import CLIPTokenizer

    path = folder / "tokenizer"
    if not (path / "tokenizer.json").is_file():
        for name in ("vocab.json", "merges.txt"):
            if not (path / name).is_file():
                raise InputError(
                    f"{path / name}: expected the tokenizer's {name} (or a tokenizer.json), got no such file"
                )
    try:
        return CLIPTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:  # transformers raises whatever a broken file leads it to
        raise InputError(f"{path}: expected the files of a CLIP tokenizer, got some that fail: {error}") from error


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors or torch file; a torch file that holds anything but plain values is refused."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: expected a whole safetensors file, got one that fails: {error}") from error
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a broken file leads it to
        raise InputError(f"{path}: expected a torch file of tensors only, got one that fails: {error}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise InputError(f"{path}: expected tensors by name, got {type(weights).__name__}")
    return weights


def _own_name(name: str, own: dict[str, Any]) -> str:
    if name in own:
        return name
    if name.startswith("text_model.") and name.removeprefix("text_model.") in own:
        return name.removeprefix("text_model.")
    if f"text_model.{name}" in own:
        return f"text_model.{name}"
    return name
