"""Reading models as people have them: every fault is one sentence that names the file and what was expected there.

Folders are of three families: Stable Diffusion 1.x and 2.x ("sd"), SDXL ("sdxl") and Stable Diffusion 3 ("sd3").

A model is a diffusers folder with weights in any of the forms that diffusers has written (safetensors or torch files,
whole or in shards, of full or half precision, the VAE's attention by its older names), such a folder in the hub's cache
(`models--owner--name`, with its `snapshots`), or one file in the layout of the first release, see `single_file`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from humannorm.checks import InputError, reading
from humannorm.guidance.single_file import SINGLE_FILE_SUFFIXES, open_single_file
from humannorm.models import FEW_STEPS

__all__ = [
    "COMPONENTS",
    "WEAK_UNET",
    "WEIGHTS",
    "component_weights",
    "few_steps_of",
    "find_folders",
    "load_component",
    "load_tokenizer",
    "model_family",
    "model_folder",
    "placed",
    "read_config",
    "read_weights",
    "resolved",
    "square_size",
    "weights_file",
]

Family = Literal["sd", "sdxl", "sd3"]
COMPONENTS = ("unet", "scheduler", "text_encoder", "tokenizer", "vae")
COMPONENTS_OF: Mapping[Family, tuple[str, ...]] = {
    "sd": COMPONENTS,
    "sdxl": (*COMPONENTS, "text_encoder_2", "tokenizer_2"),
    "sd3": ("transformer", *COMPONENTS[1:], "text_encoder_2", "tokenizer_2"),
}
WEAK_UNET = "weak_unet"  # beside them, where a model has one for autoguidance
_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_VARIANTS = ("", ".fp16", ".bf16", ".non_ema", ".fp32")
WEIGHTS = tuple(
    f"{stem}{variant}{suffix}"
    for suffix in (".safetensors", ".bin")  # .bin, as the published weights come: only tensors are unpickled
    for variant in _VARIANTS
    for stem in _STEMS
)
"""Names of a component's weights, the preferred first; one ending in `.index.json` beside says that they are in shards.
"""
DEFAULT_LATENT_SIZE = 64  # of Stable Diffusion 1.5, where no config says one
_POINTER = b"version https://git-lfs"
_OLDER_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace")


def resolved(models: str | Path) -> Path:
    """The folder that a path stands for: of the hub's cache its snapshot, else the path itself.

    Of several snapshots the one that `refs/main` names, else the one written last.
    """
    path = Path(models)
    root = path.parent if path.name == "snapshots" else path
    snapshots = root / "snapshots"
    if not snapshots.is_dir() or (path / "unet").is_dir():
        return path
    main = root / "refs" / "main"
    if main.is_file() and (snapshots / main.read_text("utf-8").strip()).is_dir():
        return snapshots / main.read_text("utf-8").strip()
    found = sorted((folder for folder in snapshots.iterdir() if folder.is_dir()), key=lambda each: each.stat().st_mtime)
    if not found:
        raise InputError(f"{snapshots}: expected a snapshot, got an empty folder; download the model again")
    return found[-1]


def find_folders(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Models of these names that a folder holds: as plain folders, or as the hub keeps them (models--owner--name)."""
    found: dict[str, Path] = {}
    for name in names:
        inside = [folder / name, *sorted(folder.glob(f"models--*--{name}"))] if folder.is_dir() else []
        for each in inside:
            if each.is_dir():
                found.setdefault(name, resolved(each))
    return found


def model_family(folder: Path) -> Family:
    """Whose layout a diffusers folder has; a single file is of the first."""
    if (folder / "transformer").is_dir():
        return "sd3"
    return "sdxl" if (folder / "text_encoder_2").is_dir() else "sd"


def model_folder(models: str | Path, families: Sequence[Family] = ("sd", "sdxl", "sd3")) -> Path:
    """The folder (or single file) of "bundled" or a path, checked to be whole and of one of these families."""
    if str(models) == "bundled":
        from humannorm.models import bundled_folder

        return bundled_folder()
    folder = resolved(models)
    if folder.is_file() and folder.suffix.lower() in SINGLE_FILE_SUFFIXES:
        open_single_file(folder)
        return folder
    if not folder.is_dir():
        raise InputError(
            f"{folder}: expected a diffusers folder (unet, vae, text_encoder, ...) or a"
            f" {' or '.join(SINGLE_FILE_SUFFIXES)} file, got no such {'file' if folder.suffix else 'folder'}"
        )
    family = model_family(folder)
    if family not in families:
        found = "an SDXL-class one (text_encoder_2)" if family == "sdxl" else "one with a transformer, as SD3 has"
        raise InputError(f"{folder}: expected a Stable Diffusion 1.5-class model, got {found}")
    for component in COMPONENTS_OF[family]:
        if not (folder / component).is_dir():
            raise InputError(
                f"{folder / component}: expected in a diffusers folder, got no such folder{_found_elsewhere(folder)}"
            )
    with reading(folder, "configs of a diffusers model"):
        if family == "sd3":
            _check_sd3(folder)
        else:
            _check_fit(folder, family)
    return folder


def _found_elsewhere(folder: Path) -> str:
    """Where the model is, if it is near: people name the folder above or a component's folder."""
    if all((folder.parent / component).is_dir() for component in COMPONENTS):
        return f"; the model is the folder above, {folder.parent}"
    inside = sorted(each for each in folder.iterdir() if (resolved(each) / "unet").is_dir()) if folder.is_dir() else []
    if inside:
        return f"; name one of the models in it, such as {inside[0]}"
    files = sorted(each for each in folder.glob("*") if each.suffix.lower() in SINGLE_FILE_SUFFIXES)
    return f"; name the file in it: {files[0]}" if files else ""


def _check_fit(folder: Path, family: Family) -> None:
    """That the components speak of one another, as their configs say."""
    unet, vae, scheduler = (read_config(folder, name) for name in ("unet", "vae", "scheduler"))
    path = folder / "unet" / "config.json"
    encoders = ["text_encoder", "text_encoder_2"] if family == "sdxl" else ["text_encoder"]
    widths = [read_config(folder, name).get("hidden_size") for name in encoders]
    width = None if None in widths else sum(int(each) for each in widths if each is not None)
    read = unet.get("cross_attention_dim")
    added = unet.get("addition_embed_type")
    if family == "sdxl" and added != "text_time":
        raise InputError(
            f"{path}: expected addition_embed_type text_time, as SDXL has beside text_encoder_2, got {added!r}"
        )
    if family == "sd" and added:
        raise InputError(
            f"{path}: expected a Stable Diffusion 1.5-class UNet, got one with added conditions ({added}), as SDXL has"
        )
    if None not in (width, read) and width != read:
        raise InputError(
            f"{path}: expected a UNet that reads the folder's text encoder (cross_attention_dim {width}), got one for"
            f" another ({read})"
        )
    latent = vae.get("latent_channels", 4)
    for name, kind in (("in_channels", "noised"), ("out_channels", "denoised")):
        if unet.get(name, 4) != latent:
            raise InputError(
                f"{path}: expected a UNet whose {name} are the VAE's {latent} latent channels ({kind} pictures), got"
                f" {unet[name]}; inpainting, depth-to-image and upscaling models take more and cannot be used here"
            )
    for name in ("in_channels", "out_channels"):
        if vae.get(name, 3) != 3:
            raise InputError(f"{folder / 'vae' / 'config.json'}: expected {name} 3 (RGB), got {vae[name]}")
    _check_scheduler(folder / "scheduler" / "scheduler_config.json", scheduler)


def _check_sd3(folder: Path) -> None:
    """That the components speak of one another."""
    transformer, vae = read_config(folder, "transformer"), read_config(folder, "vae")
    path, latent = folder / "transformer" / "config.json", vae.get("latent_channels", 4)
    named = transformer.get("_class_name", "SD3Transformer2DModel")
    if named != "SD3Transformer2DModel":
        raise InputError(
            f"{path}: expected an SD3Transformer2DModel, the one transformer that is read without ComfyUI, got {named}"
        )
    if transformer.get("in_channels", 16) != latent:
        raise InputError(
            f"{path}: expected a transformer whose in_channels are the VAE's {latent} latent channels, got"
            f" {transformer.get('in_channels', 16)}"
        )
    pooled = sum(int(read_config(folder, name).get("projection_dim", 0)) for name in ("text_encoder", "text_encoder_2"))
    if transformer.get("pooled_projection_dim", 2048) != pooled:
        raise InputError(
            f"{path}: expected pooled_projection_dim {pooled}, of the folder's two CLIPs, got"
            f" {transformer.get('pooled_projection_dim', 2048)}"
        )
    scheduler, where = read_config(folder, "scheduler"), folder / "scheduler" / "scheduler_config.json"
    if "FlowMatch" not in str(scheduler.get("_class_name", "FlowMatch")):
        raise InputError(f"{where}: expected flow matching's noise schedule, got {scheduler['_class_name']}")


def _check_scheduler(path: Path, config: Mapping[str, Any]) -> None:
    if "FlowMatch" in str(config.get("_class_name", "")):
        raise InputError(f"{path}: expected the noise schedule of Stable Diffusion, got flow matching's")
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction"):
        raise InputError(f"{path}: expected prediction_type epsilon or v_prediction, got {prediction!r}")
    schedule = config.get("beta_schedule", "linear")
    if config.get("trained_betas") is None and schedule not in _SCHEDULES:
        raise InputError(f"{path}: expected a beta_schedule of {', '.join(_SCHEDULES)}, got {schedule!r}")
    steps = config.get("num_train_timesteps", 1000)
    if not isinstance(steps, int) or steps < 2:
        raise InputError(f"{path}: expected num_train_timesteps of at least 2, got {steps!r}")


def square_size(value: Any, otherwise: int, path: Path | str) -> int:
    """`sample_size` of a config as one number: null means `otherwise`, a list its entry if both are equal."""
    if value is None:
        return otherwise
    sizes = list(value) if isinstance(value, list | tuple) else [value]
    whole = all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes)
    if not whole or len(set(sizes)) != 1:
        raise InputError(f"{path}: expected sample_size of a square picture, got {str(value)[:60]!r}")
    return int(sizes[0])


def read_config(folder: Path, component: str) -> dict[str, Any]:
    """The JSON config of a component."""
    if folder.is_file():
        return open_single_file(folder).config(component)
    name = "scheduler_config.json" if component == "scheduler" else "config.json"
    path = folder / component / name
    try:
        config = dict(json.loads(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError as error:
        raise InputError(f"{path}: expected the component's config, got no such file") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON, an object in it, got a file that is none ({error})") from error
    if component in ("unet", WEAK_UNET, "vae"):
        config["sample_size"] = _sample_size(folder, component, config, path)
    return config


def _sample_size(folder: Path, component: str, config: Mapping[str, Any], path: Path) -> int:
    """As one number; where a UNet's says none, the VAE's divided by what it shrinks pictures, or Stable Diffusion's."""
    value = config.get("sample_size")
    if component != "vae":
        return square_size(_latents_of_vae(read_config(folder, "vae")) if value is None else value, 0, path)
    return square_size(value, DEFAULT_LATENT_SIZE * _shrinking(config), path)


def _latents_of_vae(config: Mapping[str, Any]) -> int:
    return int(config["sample_size"]) // _shrinking(config)


def _shrinking(config: Mapping[str, Any]) -> int:
    """Image pixels per latent pixel along a side; 8 where the VAE's config does not say its levels."""
    widths = config.get("block_out_channels")
    return 2 ** (len(widths) - 1) if isinstance(widths, list | tuple) and widths else 8


def few_steps_of(models: str | Path) -> int:
    """Steps in which the model draws with the LoRA in its folder, without guidance; 0 where there is none."""
    from safetensors import SafetensorError, safe_open

    path = model_folder(models) / FEW_STEPS
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            steps = (file.metadata() or {}).get("steps", "")
    except SafetensorError as error:
        raise InputError(f"{path}: expected a whole safetensors file, got one that fails: {error}") from error
    if not steps.isdecimal() or int(steps) < 1:
        raise InputError(f"{path}: expected a LoRA whose metadata says its steps, got {steps!r}")
    return int(steps)


def add_lora(path: Path, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a UNet with the products of a LoRA of the same rank and alpha, see `lora_name`."""
    lora, added = read_weights(path), dict(weights)
    known = {lora_name(name): name for name in weights if name.endswith(".weight")}
    for layer in sorted({name.partition(".")[0] for name in lora}):
        name = known.get(layer)
        down, up = lora.get(f"{layer}.lora_down.weight"), lora.get(f"{layer}.lora_up.weight")
        if name is None or down is None or up is None or up.shape[0] * down[0].numel() != weights[name].numel():
            raise InputError(f"{path}: expected a LoRA of this folder's UNet, got one whose {layer} does not fit")
        product = up.float().flatten(1) @ down.float().flatten(1)
        added[name] = weights[name].float() + product.view_as(weights[name])
    return added


def lora_name(weight: str) -> str:
    """A weight of a UNet as LoRA files name it that both diffusers and ComfyUI read. Of the names that diffusers writes
    itself ComfyUI reads none in attention."""
    return "lora_unet_" + weight.removesuffix(".weight").replace(".", "_")


def load_component(
    folder: Path,
    component: str,
    cls: Any,
    *,
    device: torch.device,
    dtype: torch.dtype,
    lora: Path | None = None,
) -> Any:
    """A component's module, all weights accounted for. lora: what is added to a UNet's."""
    config = read_config(folder, component)
    path = folder if folder.is_file() else folder / component / "config.json"
    _check_class(path, config, cls)
    if cls.__name__ == "ControlNetModel" and config.get("conditioning_channels", 3) not in (3, 6):
        raise InputError(
            f"{path}: expected a ControlNet that reads a normal map (conditioning_channels 3) and perhaps"
            " flat colours beside it (6), got one that reads"
            f" {config['conditioning_channels']} channels"
        )
    source, weights = component_weights(folder, component)
    try:
        of_texts = component.startswith("text_encoder")
        module = cls(cls.config_class(**config)) if of_texts else cls.from_config(config)
    except Exception as error:  # the classes raise whatever a strange number leads them to
        raise InputError(f"{path}: expected the settings of a {cls.__name__}, got some that fail: {error}") from error
    own = module.state_dict()
    weights = {own_name(name, own): value for name, value in weights.items()}
    weights = {name: value for name, value in weights.items() if "position_ids" not in name}
    for name, value in weights.items():  # attention as 1 x 1 convolutions, the oldest form
        if name in own and value.dim() == own[name].dim() + 2 and value.shape[2:] == (1, 1):
            weights[name] = value[..., 0, 0]
    _check_weights(source, component, own, weights)
    if lora is not None:
        weights = add_lora(lora, weights)
    module.load_state_dict(weights, strict=False)
    return placed(module, device, dtype)


def placed(module: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A module on a device in a precision, laid out as is quickest there."""
    # Not `module.to`: diffusers warns of casts there, whether or not a module minds.
    module = torch.nn.Module.to(module, device=device, dtype=dtype)
    if device.type == "cpu" and dtype == torch.bfloat16:  # half of bf16's gain on a CPU is lost without
        for parameter in module.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def _check_class(path: Path, config: Mapping[str, Any], cls: Any) -> None:
    named = config.get("_class_name", cls.__name__)
    if named != cls.__name__:
        raise InputError(f"{path}: expected the config of a {cls.__name__}, got that of a {named}")


def _check_weights(path: Path, component: str, own: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
    missing = sorted(set(own) - set(weights) - {name for name in own if "position_ids" in name})
    unknown = sorted(set(weights) - set(own))
    wrong = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if missing or unknown or wrong:
        first = (missing + unknown + wrong)[0]
        raise InputError(
            f"{path}: expected the weights that {component}/config.json describes, got {len(missing)} missing,"
            f" {len(unknown)} unknown, {len(wrong)} of another shape (first: {first})"
        )


def load_tokenizer(folder: Path, name: str = "tokenizer") -> Any:
    """The CLIP tokenizer of a model: tokenizer.json, or the older vocab.json and merges.txt."""
    from transformers import CLIPTokenizer

    path = folder.parent / name if folder.is_file() else folder / name
    if folder.is_file() and not path.is_dir():
        raise InputError(
            f"{path}: expected beside {folder.name}, which has no words in it, got no such folder; copy the tokenizer"
            " folder of any Stable Diffusion 1.5 diffusers model there"
        )
    if not (path / "tokenizer.json").is_file():
        for name in ("vocab.json", "merges.txt"):
            if not (path / name).is_file():
                raise InputError(
                    f"{path / name}: expected the tokenizer's {name} (or a tokenizer.json), got no such file"
                )
    try:
        return CLIPTokenizer.from_pretrained(path, local_files_only=True)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # transformers raises whatever a broken file leads it to, a panic of Rust's included
        raise InputError(f"{path}: expected the files of a CLIP tokenizer, got some that fail: {error}") from error


def weights_file(folder: Path) -> Path:
    """A component's file of weights, or the index of its shards."""
    for name in WEIGHTS:
        stem, _, suffix = name.rpartition(".")
        base, dot, variant = stem.partition(".")
        # diffusers puts a variant before ".index.json" or behind, by its version
        indices = (f"{name}.index.json", f"{base}.{suffix}.index.{variant}.json")
        for file in (name, *(indices if dot else indices[:1])):
            if (folder / file).is_file():
                return folder / file
    raise InputError(
        f"{folder}: expected {WEIGHTS[0]} or {WEIGHTS[1]} (or a .bin, or the .index.json of shards), got no such file"
    )


def component_weights(folder: Path, component: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """The tensors of a component and the file that an error should name."""
    if folder.is_file():
        return folder, open_single_file(folder).weights(component)
    path = weights_file(folder / component)
    return path, read_weights(path)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors or torch file or an index of shards; what holds anything but tensors is refused."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix == ".json":
        return _read_shards(path)
    with path.open("rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise InputError(f"{path}: expected weights, got a pointer of Git LFS to them; run `git lfs pull` there")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: expected a whole safetensors file, got one that fails: {error}") from error
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a broken file leads it to
        raise InputError(f"{path}: expected a torch file of tensors only, got one that fails: {error}") from error
    if isinstance(weights, dict) and isinstance(weights.get("state_dict"), dict):
        weights = weights["state_dict"]
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise InputError(f"{path}: expected tensors by name, got {type(weights).__name__}")
    return weights


def _read_shards(path: Path) -> dict[str, torch.Tensor]:
    try:
        files = set(json.loads(path.read_text("utf-8"))["weight_map"].values())
        shards = sorted(path.parent / str(name) for name in files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: expected JSON with a weight_map, got another ({error!r})") from error
    weights: dict[str, torch.Tensor] = {}
    for shard in shards:
        if shard.parent != path.parent or not shard.is_file():
            raise InputError(f"{shard}: expected beside {path.name}, which names it, got no such file")
        weights |= read_weights(shard)
    return weights


def own_name(name: str, own: Mapping[str, Any]) -> str:
    """What a module calls a weight that older files name otherwise: the VAE's attention, the text encoder's levels."""
    if name in own:
        return name
    newer = re.sub(rf"\.({'|'.join(_OLDER_ATTENTION)})\.", lambda match: f".{_OLDER_ATTENTION[match[1]]}.", name)
    plain = newer.removeprefix("text_model.")
    return next((each for each in (newer, plain, f"text_model.{plain}") if each in own), name)
