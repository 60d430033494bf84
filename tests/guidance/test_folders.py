"""Model folders that cannot be used: each error names the file and what was expected there."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from humannorm.checks import InputError
from humannorm.guidance import DiffusersDenoiser


@pytest.fixture
def folder(tiny_sd, tmp_path):
    return shutil.copytree(tiny_sd("epsilon"), tmp_path / "model")


def test_a_whole_folder_loads(folder):
    guide = DiffusersDenoiser.load(folder)
    assert guide.prediction_type == "epsilon"
    assert not any(parameter.requires_grad for module in guide.modules for parameter in module.parameters())


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: expected a diffusers folder"):
        DiffusersDenoiser.load(tmp_path / "nowhere")


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(InputError, match=r"unet: expected in a diffusers folder"):
        DiffusersDenoiser.load(tmp_path)


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_missing_component(folder, component):
    shutil.rmtree(folder / component)
    with pytest.raises(InputError, match=rf"{component}: expected in a diffusers folder"):
        DiffusersDenoiser.load(folder)


def test_missing_controlnet_matters_only_when_asked_for(folder):
    shutil.rmtree(folder / "controlnet")
    DiffusersDenoiser.load(folder)
    with pytest.raises(InputError, match=r"controlnet.config\.json: expected"):
        DiffusersDenoiser.load(folder, control=True)


def test_truncated_weights(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"unet.diffusion_pytorch_model\.safetensors: expected a whole safetensors"):
        DiffusersDenoiser.load(folder)


def test_no_weights(folder):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"vae: expected diffusion_pytorch_model\.safetensors"):
        DiffusersDenoiser.load(folder)


def test_broken_config(folder):
    (folder / "vae" / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"vae.config\.json: expected JSON"):
        DiffusersDenoiser.load(folder)


def test_no_vocabulary(folder):
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r"tokenizer.vocab\.json: expected the tokenizer's vocab\.json"):
        DiffusersDenoiser.load(folder)


def test_broken_vocabulary(folder):
    for file in (folder / "tokenizer").glob("*.json"):
        file.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"tokenizer: expected the files of a CLIP tokenizer"):
        DiffusersDenoiser.load(folder)


def test_unet_for_another_text_encoder(folder):
    path = folder / "unet" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "cross_attention_dim": 1024}), encoding="utf-8")
    with pytest.raises(InputError, match=r"unet.config\.json: expected a UNet .*cross_attention_dim 32.*\(1024\)"):
        DiffusersDenoiser.load(folder)


def test_weights_of_another_model(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["conv_in.weight"]
    weights["conv_out.bias"] = torch.zeros(9)
    save_file(weights, path)
    with pytest.raises(InputError, match=r"1 missing, 0 unknown, 1 of another shape \(first: conv_in\.weight\)"):
        DiffusersDenoiser.load(folder)


def test_sdxl_folder(folder):
    (folder / "text_encoder_2").mkdir()
    with pytest.raises(InputError, match=r"expected a Stable Diffusion 1\.5-class model, got an SDXL-class one"):
        DiffusersDenoiser.load(folder)


def test_sdxl_unet(folder):
    path = folder / "unet" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "addition_embed_type": "text_time"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"unet.config\.json: .*SDXL"):
        DiffusersDenoiser.load(folder)


def test_older_text_encoder_names_are_read(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "text_encoder" / "model.safetensors"
    before = DiffusersDenoiser.load(folder).encode_prompts(["a man"])
    weights = {name.removeprefix("text_model."): value for name, value in load_file(path).items()}
    weights["embeddings.position_ids"] = torch.arange(77)[None]
    for style in ("", "text_model."):
        save_file({style + name: value for name, value in weights.items()}, path)
        torch.testing.assert_close(DiffusersDenoiser.load(folder).encode_prompts(["a man"]), before)


def test_torch_files_are_read_if_they_hold_tensors_only(folder):
    from safetensors.torch import load_file

    before = DiffusersDenoiser.load(folder).encode_prompts(["a man"])
    for component, name in (("text_encoder", "model"), ("unet", "diffusion_pytorch_model")):
        path = folder / component / f"{name}.safetensors"
        torch.save(load_file(path), path.with_name(f"{'pytorch_model' if name == 'model' else name}.bin"))
        path.unlink()
    torch.testing.assert_close(DiffusersDenoiser.load(folder).encode_prompts(["a man"]), before, rtol=0, atol=0)
    file = folder / "unet" / "diffusion_pytorch_model.bin"
    torch.save({"code": DiffusersDenoiser}, file)
    with pytest.raises(InputError, match=r"unet.diffusion_pytorch_model\.bin: expected a torch file of tensors only"):
        DiffusersDenoiser.load(folder)
    torch.save([torch.zeros(3)], file)
    with pytest.raises(InputError, match=r"expected tensors by name, got list"):
        DiffusersDenoiser.load(folder)
