"""Model folders that cannot be used: each error names the file and what was expected there."""

from __future__ import annotations

import json
import pathlib
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from humannorm.checks import InputError
from humannorm.guidance import DiffusersDenoiser
from humannorm.guidance.folders import model_folder
from humannorm.guidance.samplers import sample_latents


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
        model_folder(folder, ("sd",))
    with pytest.raises(InputError, match="tokenizer_2: expected in a diffusers folder, got no such folder"):
        DiffusersDenoiser.load(folder)


def test_sdxl_unet(folder):
    path = folder / "unet" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "addition_embed_type": "text_time"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"unet.config\.json: .*SDXL"):
        DiffusersDenoiser.load(folder)


def test_older_text_encoder_names_are_read(folder):
    path = folder / "text_encoder" / "model.safetensors"
    before = DiffusersDenoiser.load(folder).encode_prompts(["a man"])
    weights = {name.removeprefix("text_model."): value for name, value in load_file(path).items()}
    weights["embeddings.position_ids"] = torch.arange(77)[None]
    for style in ("", "text_model."):
        save_file({style + name: value for name, value in weights.items()}, path)
        torch.testing.assert_close(DiffusersDenoiser.load(folder).encode_prompts(["a man"]), before)


def test_torch_files_are_read_if_they_hold_tensors_only(folder):
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


class Payload:
    """What runs a command wherever it is unpickled."""

    def __init__(self, file) -> None:
        self.file = file

    def __reduce__(self):
        return (pathlib.Path.touch, (self.file,))


@pytest.mark.parametrize(
    "write", [torch.save, lambda payload, path: path.write_bytes(pickle.dumps(payload, protocol=2))]
)
def test_nothing_in_a_torch_file_is_run(folder, tmp_path, write):
    mark = tmp_path / "it ran"
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists()  # the payload works where somebody lets it
    mark.unlink()
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    write({"conv_in.weight": Payload(mark)}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(InputError, match=r"diffusion_pytorch_model\.bin: expected a torch file of tensors only"):
        DiffusersDenoiser.load(folder)
    assert not mark.exists()


def picture(models, **options) -> torch.Tensor:
    """What a model draws in two steps."""
    guide = DiffusersDenoiser.load(models, **options)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(3))
    condition = guide.condition(["a young man in a red t-shirt, front view"], guidance_scale=3.0)
    return guide.decode(
        sample_latents(guide, condition, noise, scheduler_config=guide.scheduler_config, steps=2, sampler="ddim")
    )


def rewritten(path, change) -> None:
    save_file({change(name): value.contiguous() for name, value in load_file(path).items()}, path)


def older_attention(name: str) -> str:
    for new, old in ((".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")):
        name = name.replace(new, old) if "attentions" in name else name
    return name


def in_shards(component, index_name: str, suffix: str = "safetensors") -> None:
    """The component's one file as three, with an index."""
    (path,) = component.glob("*.safetensors")
    weights = load_file(path)
    index = {"metadata": {}, "weight_map": {}}
    for number in range(3):
        part = dict(list(weights.items())[number::3])
        file = component / f"{path.stem}-{number + 1:05}-of-00003.{suffix}"
        if suffix == "safetensors":
            save_file(part, file)
        else:
            torch.save(part, file)
        index["weight_map"] |= dict.fromkeys(part, file.name)
    path.unlink()
    (component / index_name).write_text(json.dumps(index), encoding="utf-8")


def as_vae_of_the_first_release(folder) -> None:
    rewritten(folder / "vae" / "diffusion_pytorch_model.safetensors", older_attention)


def with_convolutions_for_attention(folder) -> None:
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights = {
        older_attention(name): value[..., None, None].contiguous()
        if "attentions" in name and value.dim() == 2
        else value
        for name, value in load_file(path).items()
    }
    save_file(weights, path)


def as_fp16_torch_files(folder) -> None:
    for path in folder.rglob("*.safetensors"):
        stem = "pytorch_model" if path.stem == "model" else path.stem
        torch.save(load_file(path), path.with_name(f"{stem}.fp16.bin"))
        path.unlink()


def as_fp16_safetensors(folder) -> None:
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))


def with_shards(folder) -> None:
    in_shards(folder / "unet", "diffusion_pytorch_model.safetensors.index.json")
    in_shards(folder / "text_encoder", "pytorch_model.bin.index.json", "bin")


def with_fp16_shards(folder) -> None:
    in_shards(folder / "unet", "diffusion_pytorch_model.safetensors.index.fp16.json")
    in_shards(folder / "vae", "diffusion_pytorch_model.fp16.safetensors.index.json")


def with_trainers_wrapping(folder) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({"state_dict": load_file(path), "global_step": 7}, path.with_suffix(".bin"))
    path.unlink()


def with_byte_order_marks(folder) -> None:
    for path in folder.glob("*/config.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "layout",
    [
        as_vae_of_the_first_release, with_convolutions_for_attention, as_fp16_torch_files, as_fp16_safetensors,
        with_shards, with_fp16_shards, with_trainers_wrapping, with_byte_order_marks,
    ],
)  # fmt: skip
def test_every_layout_draws_the_same_picture(folder, layout):
    before = picture(folder)
    layout(folder)
    assert torch.equal(picture(folder), before)


def test_the_vae_of_the_first_release_is_read_as_diffusers_reads_it(folder):
    from diffusers import AutoencoderKL

    as_vae_of_the_first_release(folder)
    theirs, ours = AutoencoderKL.from_pretrained(folder / "vae").state_dict(), DiffusersDenoiser.load(folder).vae
    assert theirs.keys() == ours.state_dict().keys()
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in theirs.items())


@pytest.mark.slow
def test_the_hubs_cache(folder, tmp_path):
    before = picture(folder)
    cache = tmp_path / "hub" / "models--someone--people"
    (cache / "refs").mkdir(parents=True)
    shutil.copytree(folder, cache / "snapshots" / "0123abcd")
    shutil.copytree(folder / "unet", cache / "snapshots" / "older" / "unet")
    (cache / "refs" / "main").write_text("0123abcd", "utf-8")
    for named in (cache, cache / "snapshots", cache / "snapshots" / "0123abcd"):
        assert torch.equal(picture(named), before)
    shutil.rmtree(cache / "snapshots" / "older")
    (cache / "refs" / "main").unlink()
    assert torch.equal(picture(cache), before)
    with pytest.raises(InputError, match="name one of the models in it, such as .*models--someone--people"):
        DiffusersDenoiser.load(tmp_path / "hub")
    with pytest.raises(InputError, match="the model is the folder above"):
        DiffusersDenoiser.load(cache / "snapshots" / "0123abcd" / "unet")


def test_a_missing_shard_a_pointer_and_a_broken_index_are_named(folder):
    with_shards(folder)
    shard = folder / "unet" / "diffusion_pytorch_model-00002-of-00003.safetensors"
    kept = shard.read_bytes()
    shard.unlink()
    with pytest.raises(InputError, match=r"00002-of-00003\.safetensors: expected beside diffusion_pytorch_model"):
        DiffusersDenoiser.load(folder)
    shard.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(InputError, match="got a pointer of Git LFS to them; run `git lfs pull`"):
        DiffusersDenoiser.load(folder)
    shard.write_bytes(kept)
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    for text in ("[]", "{", '{"weight_map": 3}', '{"weight_map": {"a": "../../vae/x.safetensors"}}'):
        index.write_text(text, "utf-8")
        with pytest.raises(InputError, match="unet"):
            DiffusersDenoiser.load(folder)


def changed_config(folder, component: str, **changes: object) -> None:
    path = folder / component / ("scheduler_config.json" if component == "scheduler" else "config.json")
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("size", "vae_size", "pixels"),
    [(None, 128, 128), (None, None, 512), ([16, 16], None, 128), (8, 512, 64), (None, [128, 128], 128)],
)
def test_sample_size_may_be_missing_or_a_pair(folder, size, vae_size, pixels):
    changed_config(folder, "unet", sample_size=size)
    changed_config(folder, "vae", sample_size=vae_size)
    assert DiffusersDenoiser.load(folder).resolution == pixels


@pytest.mark.parametrize(
    ("component", "changes", "message"),
    [
        ("unet", {"sample_size": [8, 16]}, r"config\.json: expected sample_size of a square picture, got '\[8, 16"),
        ("unet", {"sample_size": "big"}, r"expected sample_size of a square picture, got 'big'"),
        ("unet", {"sample_size": {"a": 1}}, r"expected sample_size of a square picture, got"),
        ("unet", {"in_channels": 9}, r"unet.config\.json: expected a UNet whose in_channels are the VAE's 4 .* got 9"),
        ("unet", {"out_channels": 8}, r"whose out_channels are the VAE's 4 .* got 8"),
        ("unet", {"_class_name": "UNet3DConditionModel"}, r"expected the config of a UNet2DConditionModel, got"),
        ("unet", {"block_out_channels": "wide"}, r"unet.config\.json: expected the settings of a UNet2DConditionModel"),
        ("vae", {"_class_name": "AutoencoderTiny"}, r"vae.config\.json: .* AutoencoderKL, got .* AutoencoderTiny"),
        ("vae", {"in_channels": 4}, r"vae.config\.json: expected in_channels 3 \(RGB\), got 4"),
        ("scheduler", {"prediction_type": "sample"}, r"scheduler_config\.json: expected prediction_type epsilon or"),
        ("scheduler", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, r"got flow matching's"),
        ("scheduler", {"beta_schedule": "cosine"}, r"expected a beta_schedule of linear, .* got 'cosine'"),
        ("scheduler", {"num_train_timesteps": 0}, r"num_train_timesteps of at least 2, got 0"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used_are_told_by_file(folder, component, changes, message):
    changed_config(folder, component, **changes)
    with pytest.raises(InputError, match=message):
        DiffusersDenoiser.load(folder)


def test_a_controlnet_for_something_else(folder):
    changed_config(folder, "controlnet", conditioning_channels=4)
    with pytest.raises(
        InputError, match=r"controlnet.config\.json: .* \(conditioning_channels 3\) .* reads 4 channels"
    ):
        DiffusersDenoiser.load(folder, control=True)


@pytest.mark.few(1)
@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
@pytest.mark.parametrize("sampler", ["ddim", "dpm"])
def test_schedules_that_end_in_pure_noise_give_finite_pictures(folder, prediction, sampler):
    changed_config(folder, "scheduler", rescale_betas_zero_snr=True, prediction_type=prediction)
    guide = DiffusersDenoiser.load(folder)
    assert float(guide.sigma(torch.tensor([999.0]))) == pytest.approx(4518.76, rel=1e-3)
    timesteps = torch.tensor([0.0, 500.0, 998.0, 999.0])
    torch.testing.assert_close(guide.timestep(guide.sigma(timesteps)), timesteps, rtol=0, atol=2e-2)
    condition = guide.condition(["a man"], guidance_scale=3.0)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(3))
    latents = sample_latents(guide, condition, noise, scheduler_config=guide.scheduler_config, steps=5, sampler=sampler)
    assert bool(torch.isfinite(latents).all())
    if prediction == "v_prediction":
        assert float(latents.abs().max()) < 100


def test_pictures_that_are_no_numbers_are_refused(folder):
    guide = DiffusersDenoiser.load(folder)
    guide.unet.conv_out.bias.fill_(torch.nan)
    condition = guide.condition(["a man"], guidance_scale=1.0)
    with pytest.raises(InputError, match="models: expected networks that answer with finite numbers"):
        sample_latents(guide, condition, torch.zeros(1, 4, 8, 8), scheduler_config=guide.scheduler_config, steps=1)
