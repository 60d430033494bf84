"""Fine-tuning of Stable Diffusion folders and the making of the small model, with real classes at tiny sizes."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from humannorm.cameras import CAMERA_PLANS
from humannorm.checks import InputError
from humannorm.cli import main
from humannorm.commands.train import part_shares
from humannorm.guidance import Autoguidance, DiffusersDenoiser
from humannorm.images import load_png
from humannorm.models import camera_plan
from humannorm.training.config import DiffusionConfig, LoopConfig, TextConfig, UnetConfig, VaeConfig
from humannorm.training.diffusion import DenoiserTask, LatentShards, noise_and_target, padded, stratified_timesteps
from humannorm.training.recipes import FineTuneConfig, SmallModelConfig, fine_tune, train_small
from humannorm.training.shards import Shards, uppermost
from humannorm.training.vae import encode_shards

LOOP = LoopConfig(
    steps=3, batch_size=2, learning_rate=1e-3, warmup_steps=1, precision="no", sheet_steps=3, checkpoint_seconds=0.0
)


def losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_targets_of_both_predictions(generator):
    z, eps = torch.randn(3, 4, 8, 8, generator=generator), torch.randn(3, 4, 8, 8, generator=generator)
    abar = torch.tensor([0.99, 0.5, 0.01])
    noised, target = noise_and_target(z, eps, abar, "epsilon")
    a, s = abar.sqrt()[:, None, None, None], (1 - abar).sqrt()[:, None, None, None]
    torch.testing.assert_close(noised, a * z + s * eps)
    assert target is eps
    noised, v = noise_and_target(z, eps, abar, "v_prediction")
    torch.testing.assert_close(a * noised - s * v, z)  # Salimans and Ho 2022, eq. of z from v
    torch.testing.assert_close(s * noised + a * v, eps)
    with pytest.raises(InputError, match="prediction_type"):
        noise_and_target(z, eps, abar, "sample")


def test_timesteps_cover_the_schedule_evenly(generator):
    timesteps = stratified_timesteps(50, 1000, generator)
    assert sorted((timesteps // 20).tolist()) == list(range(50))
    biased = stratified_timesteps(10_000, 1000, generator, bias=0.5)
    assert float((biased < 250).float().mean()) == pytest.approx(0.25**1.5, abs=1e-3)


def test_the_head_of_a_silhouette_is_its_uppermost_rows() -> None:
    masks = torch.zeros(3, 1, 40, 8)
    masks[0, :, 10:30, 2:6] = 1.0  # 20 rows
    masks[0, :, 5, 4] = 0.3  # a hair at the border
    masks[1, :, :, :] = 1.0
    heads = uppermost(masks, 0.15)
    assert heads[0, 0].nonzero()[:, 0].unique().tolist() == [5, 10, 11, 12]
    assert torch.equal(heads[0, 0, 10:13], masks[0, 0, 10:13])
    assert heads[1, 0].nonzero()[:, 0].unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert not bool(heads[2].any())


def test_padding_leaves_uncontrolled_samples_alone():
    values = padded(torch.ones(2, 3), 5)
    assert values.tolist() == [[1.0] * 3] * 2 + [[0.0] * 3] * 3


def task_of(guide: DiffusersDenoiser, shards: LatentShards, config: DiffusionConfig, **more: object) -> DenoiserTask:
    return DenoiserTask(
        unet=guide.unet,
        text_encoder=guide.text_encoder,
        tokenizer=guide.tokenizer,
        vae=guide.vae,
        scheduler_config=guide.scheduler_config,
        shards=shards,
        held_out=shards,
        config=config,
        **more,
    )


def test_controlled_samples_have_parts_and_normal_maps_of_their_own(tiny_sd, people_shards, tmp_path, generator):
    guide, folder = DiffusersDenoiser.load(tiny_sd("v_prediction")), people_shards(shards=2)
    encode_shards(guide.vae, folder, tmp_path / "latents")
    shards = LatentShards(folder, tmp_path / "latents", control=True)
    config = DiffusionConfig(controlled=0.5, parts=(("full", 1.0),), controlled_parts=(("head", 1.0),))
    task = task_of(guide, shards, config)
    batch = task.draw(generator, 12)
    heads, bodies = shards.rows_of("head"), shards.rows_of("full")
    colours = {shards.latent(index, "color"): shards.image(index, "normal").permute(2, 0, 1) for index in heads}
    for latent, hint in zip(batch["latents"][:6], batch["hint"], strict=True):
        (normals,) = [normals for known, normals in colours.items() if torch.equal(known, latent)]
        torch.testing.assert_close(hint, normals)
    anything = [shards.latent(index, kind) for index in bodies for kind in ("normal", "depth", "color")]
    assert all(any(torch.equal(latent, known) for known in anything) for latent in batch["latents"][6:])


def test_crops_of_larger_pictures_are_cut_alike_from_all_that_belongs_together(
    tiny_sd, people_shards, tmp_path, generator
):
    """Latents that are the pooled normal maps themselves: of a crop they are its hint's."""
    guide = DiffusersDenoiser.load(tiny_sd("v_prediction"), control=True)  # draws 64 pixels
    caches = {}
    for size in (64, 128):
        folder, cache = people_shards(shards=1, folder=tmp_path / str(size), size=size), tmp_path / f"latents_{size}"
        people = Shards(folder, maps=("normal", "mask"))
        cache.mkdir()
        maps = torch.from_numpy(np.array(people.shards[0].maps["normal"])).permute(0, 3, 1, 2) / 255.0
        pooled = torch.nn.functional.avg_pool2d(torch.cat([maps, maps[:, :1]], 1), 8)
        np.save(cache / "latent_color_00000.npy", pooled.numpy())
        caches[size] = LatentShards(folder, cache, kinds=("color",), control=True)
    config = DiffusionConfig(kinds=(("color", 1.0),), controlled=1.0, crops=0.5)
    task = task_of(guide, caches[64], config, controlnet=guide.controlnet, finer=(caches[128], caches[128]))
    whole = {tuple(caches[64].latent(index, "color").flatten().tolist()) for index in range(len(caches[64]))}
    cropped = 0
    for _ in range(12):
        batch = task.draw(generator, 4)
        assert batch["latents"].shape == batch["noise"].shape == (4, 4, 8, 8) and batch["hint"].shape == (4, 3, 64, 64)
        torch.testing.assert_close(torch.nn.functional.avg_pool2d(batch["hint"], 8), batch["latents"][:, :3])
        inside = torch.nn.functional.avg_pool2d((batch["hint"].amax(1, keepdim=True) > 0).float(), 8)
        torch.testing.assert_close(batch["weight"], 1 + task.config.mask_weight * inside, atol=0.02, rtol=0)
        seen = [tuple(latent.flatten().tolist()) in whole for latent in batch["latents"]]
        assert all(seen) or not any(seen)  # a step is of one size
        cropped += not any(seen)
    assert 2 <= cropped <= 10


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["normal", "aligned"])
def test_fine_tuning_changes_what_it_should_and_keeps_the_rest(tiny_sd, people_shards, tmp_path, recipe):
    base = tiny_sd("epsilon")
    config = FineTuneConfig(loop=replace(LOOP, accumulate=2))
    folder = fine_tune(recipe, base, people_shards(shards=2, size=64), tmp_path / "run", config, device="cpu")
    for component in ("unet", "vae", "text_encoder", "controlnet"):
        path = next((base / component).glob("*.safetensors"))
        if not (folder / component).is_dir():
            assert component == "controlnet" and recipe == "normal"
            continue
        before, after = load_file(path), load_file(folder / component / path.name)
        changed = any(not torch.equal(before[name], after[name]) for name in before)
        assert changed == (component == {"normal": "unet", "aligned": "controlnet"}[recipe])
    guide = DiffusersDenoiser.load(folder, control=recipe == "aligned")
    assert guide.prediction_type == "epsilon"
    assert len(losses(tmp_path / "run")) == 3
    assert load_png(tmp_path / "run" / "sheets" / "step_000003.png").shape[-1] == 3
    assert (tmp_path / "run" / "loss.png").stat().st_size > 1000


@pytest.mark.slow
def test_diffusers_pipeline_opens_the_result(tiny_sd, people_shards, tmp_path):
    from diffusers import StableDiffusionPipeline

    config = FineTuneConfig(loop=LOOP)
    folder = fine_tune(
        "depth", tiny_sd("v_prediction"), people_shards(shards=1, size=64), tmp_path, config, device="cpu"
    )
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline("a ball, black background, depth map", num_inference_steps=2, output_type="np").images
    assert images.shape == (1, 64, 64, 3)


@pytest.mark.slow
def test_lora_trains_adapters_only(tiny_sd, people_shards, tmp_path):
    pytest.importorskip("peft")
    config = FineTuneConfig(loop=LOOP, lora_rank=2)
    data = people_shards(shards=1, size=64)
    made = []
    for seed in (1, 2):  # of what was drawn before: adapters start where the training's own seed says
        torch.manual_seed(seed)
        folder = fine_tune("normal", tiny_sd("epsilon"), data, tmp_path / str(seed), config, device="cpu")
        made.append((folder / "pytorch_lora_weights.safetensors").read_bytes())
    assert made[0] == made[1]
    weights = load_file(folder / "pytorch_lora_weights.safetensors")
    names = {
        f"lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_q.lora_{way}.weight"
        for way in ("up", "down")
    }
    assert names <= set(weights)  # as both diffusers and ComfyUI read them
    assert any(value.abs().max() > 0 for name, value in weights.items() if "lora_up" in name)
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd("epsilon"), local_files_only=True)
    pipeline.load_lora_weights(folder)
    read = {name: value for name, value in pipeline.unet.named_parameters() if "lora_" in name}
    assert len(read) == len(weights)
    assert sum(float(value.detach().square().sum()) for value in read.values()) == pytest.approx(
        sum(float(value.square().sum()) for value in weights.values())
    )
    with pytest.raises(InputError, match="lora_rank: expected 0 for aligned"):
        fine_tune("aligned", tiny_sd("epsilon"), tmp_path, tmp_path, config)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_losses(tiny_sd, people_shards, tmp_path):
    data, base = people_shards(shards=1, size=64), tiny_sd("v_prediction")
    words = ["train", "normal", "--base", str(base), "--data", str(data), "--device", "cpu", "--precision", "no"]
    words += ["--steps", "8", "--batch", "2", "--accumulate", "1", "--rate", "1e-3", "--checkpoint-seconds", "0"]
    words += ["--sheet-prompts", "3"]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    assert load_png(tmp_path / "whole" / "sheets" / "step_000008.png").shape[1] < 4 * 64  # three pictures wide
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "humannorm", *words, "--out", str(killed)],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 300
    while not ((killed / "log.jsonl").is_file() and len(losses_so_far(killed)) >= 3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(losses_so_far(killed)) < 8
    assert main([*words, "--out", str(killed)]) == 0
    assert losses(killed) == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    name = "model/unet/diffusion_pytorch_model.safetensors"
    once, twice = load_file(tmp_path / "whole" / name), load_file(killed / name)
    for key in once:
        torch.testing.assert_close(once[key], twice[key], rtol=1e-4, atol=1e-6)


def losses_so_far(folder):
    text = (folder / "log.jsonl").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.endswith("}") and '"loss"' in line]


@pytest.mark.slow
def test_small_model_from_nothing(people_shards, tmp_path):
    config = SmallModelConfig(
        vae=VaeConfig(channels=(8, 8, 8), crop=32),
        unet=UnetConfig(channels=(16, 32), head_channels=16),
        text=TextConfig(vocabulary=600, hidden=32, layers=1, heads=2),
        vae_loop=LOOP,
        text_loop=LOOP,
        coarse_loop=replace(LOOP, batch_size=4, optimizer="muon"),
        fine_loop=replace(LOOP, batch_size=4),
        diffusion=DiffusionConfig(pure_noise=0.5, controlled=0.5),
        weak_unet=UnetConfig(channels=(16, 16), head_channels=16),
        weak_coarse_loop=replace(LOOP, batch_size=4),
        weak_fine_loop=replace(LOOP, batch_size=4),
    )
    data = people_shards(shards=2, size=64)
    with pytest.raises(InputError, match=r"dataset\.json: expected beside the shards"):
        train_small(data, tmp_path / "run", config, device="cpu")
    plan = json.dumps({"camera_plan": CAMERA_PLANS["full_body"].to_dict()})
    (data / "dataset.json").write_text(plan, encoding="utf-8")
    folder = train_small(data, tmp_path / "run", config, device="cpu")
    whole = tmp_path / "run" / "fine" / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    half = folder / "unet" / "diffusion_pytorch_model.safetensors"
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    guide = DiffusersDenoiser.load(folder, control=True, autoguidance=Autoguidance())
    assert (guide.resolution, guide.downscale, guide.prediction_type) == (64, 4, "v_prediction")
    assert guide.weak_unet.config.block_out_channels == [16, 16]
    assert (folder / "tokenizer" / "vocab.json").is_file()
    assert camera_plan(folder) == CAMERA_PLANS["full_body"]
    # Asked again, the finished stages are not trained again.
    before = whole.stat().st_mtime_ns
    train_small(data, tmp_path / "run", config, device="cpu")
    assert whole.stat().st_mtime_ns == before
    # Another run may begin with its weights: after steps at a rate of 0 they are still there, and so is the tokenizer.
    still = replace(LOOP, learning_rate=0.0)
    loops = ("vae_loop", "text_loop", "coarse_loop", "fine_loop", "weak_coarse_loop", "weak_fine_loop")
    again = replace(config, **dict.fromkeys(loops, replace(still, batch_size=4)))
    copy = train_small(data, tmp_path / "again", again, start=folder, device="cpu")
    assert (copy / "tokenizer" / "vocab.json").read_bytes() == (folder / "tokenizer" / "vocab.json").read_bytes()
    for name in ("unet", "controlnet", "weak_unet"):
        first, second = (load_file(next((place / name).glob("*.safetensors"))) for place in (folder, copy))
        assert all(torch.equal(first[key], second[key]) for key in first)
    # More latent channels: the old ones stay, and what is drawn with them; at a rate of 0 the new ones stay unread.
    more = replace(again, vae=replace(config.vae, latent_channels=6))
    grown = DiffusersDenoiser.load(train_small(data, tmp_path / "more", more, start=folder, device="cpu"), control=True)
    assert guide.channels == 4 and grown.channels == grown.vae.config.latent_channels == 6
    images = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(grown.encode_images(images)[:, :4], guide.encode_images(images), rtol=1e-2, atol=1e-2)
    (weak,) = (tmp_path / "more" / "model" / "weak_unet").glob("*.safetensors")
    assert load_file(weak)["conv_in.weight"].shape[1] == 6


@pytest.mark.slow
def test_checkpoint_of_another_training(tiny_sd, people_shards, tmp_path):
    data = people_shards(shards=1, size=64)
    fine_tune("normal", tiny_sd("epsilon"), data, tmp_path, FineTuneConfig(loop=LOOP), device="cpu")
    with pytest.raises(InputError, match=r"checkpoint\.safetensors: expected the checkpoint of this training"):
        fine_tune("aligned", tiny_sd("epsilon"), data, tmp_path, FineTuneConfig(loop=LOOP), device="cpu")
    (tmp_path / "checkpoint.safetensors").write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"checkpoint\.safetensors: expected a whole checkpoint"):
        fine_tune("normal", tiny_sd("epsilon"), data, tmp_path, FineTuneConfig(loop=LOOP), device="cpu")


def test_wrong_calls(tmp_path, capsys):
    assert main(["train", "normal", "--data", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "--base: expected a diffusers folder" in capsys.readouterr().err
    assert main(["train", "small", "--data", str(tmp_path), "--steps", "0", "--out", str(tmp_path)]) == 1
    assert "--steps" in capsys.readouterr().err


def test_shares_of_parts_are_read_and_others_refused():
    assert part_shares("full=0.6, head front=0.4") == (("full", 0.6), ("head front", 0.4))
    for wrong in ("full", "full=much", "full=0", "=1", "full=nan"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected"):
            part_shares(wrong)
