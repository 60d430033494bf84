"""What a ControlNet of six channels is told."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from humannorm.checks import InputError
from humannorm.guidance.diffusers_denoiser import DiffusersDenoiser
from humannorm.training.assets import default_assets_dir, unpacked_dir
from humannorm.training.captions import COLOURS
from humannorm.training.config import DiffusionConfig, LoopConfig
from humannorm.training.dataset import SMALL_MODEL_PLAN, DatasetSettings, write_people
from humannorm.training.diffusion import DenoiserTask, LatentShards
from humannorm.training.hints import HINT_KINDS, LABELS, SKIN_COLOURS, draw_hint, flat_colours, palette
from humannorm.training.join import join_datasets
from humannorm.training.recipes import FineTuneConfig, fine_tune
from humannorm.training.shards import Shards
from humannorm.training.vae import encode_shards
from humannorm.training.widening import with_hint_channels

ROOT = Path(__file__).parents[2]
HAVE_PEOPLE = unpacked_dir(default_assets_dir()).is_dir() and importlib.util.find_spec("anny") is not None
needs_assets = pytest.mark.skipif(
    not HAVE_PEOPLE, reason="needs `humannorm dataset assets` and anny, which are not on this machine"
)


def test_each_label_has_the_colour_that_the_description_names(worn):
    colours = palette(worn)
    named = {
        "top": COLOURS["red"],
        "bottom": COLOURS["light blue"],
        "shoes": COLOURS["white"],
        "skin": SKIN_COLOURS["dark"],
    }
    for slot, colour in named.items():
        assert (colours[LABELS.index(slot)] * 255).round().int().tolist() == list(colour)
    for slot in ("nothing", "hair", "hat"):
        assert not colours[LABELS.index(slot)].any()
    assert not palette(None).any()


def test_pixels_take_their_labels_colour(worn):
    labels = torch.tensor([[[0, 3], [1, 4]]], dtype=torch.uint8)
    flat = flat_colours(labels, [worn])
    assert flat.shape == (1, 3, 2, 2)
    torch.testing.assert_close(flat[0, :, 0, 1], torch.tensor(COLOURS["red"]) / 255)
    assert not flat[0, :, 0, 0].any()


def test_normals_never_see_their_answer_and_a_body_always_has_its_colours():
    generator = np.random.default_rng(0)
    normals = Counter(draw_hint("normal", generator) for _ in range(3000))
    colours = Counter(draw_hint("color", generator) for _ in range(3000))
    assert {source for source, _ in normals} == {"start", "body"}
    assert {source for source, _ in colours} == {"normal", "start", "body"}
    assert not any(source == "body" and not told for source, told in (*normals, *colours))
    assert normals["body", True] / 3000 == pytest.approx(1 / 3, abs=0.04)
    absent = sum(count for (_, told), count in normals.items() if not told)
    assert absent / 3000 == pytest.approx(2 / 3 / 5, abs=0.03)  # a fifth of what is not a body


def task_of(guide: DiffusersDenoiser, shards: LatentShards, controlnet: object, **settings: float) -> DenoiserTask:
    return DenoiserTask(
        unet=guide.unet,
        text_encoder=guide.text_encoder,
        tokenizer=guide.tokenizer,
        vae=guide.vae,
        scheduler_config=guide.scheduler_config,
        shards=shards,
        held_out=shards,
        config=DiffusionConfig(**settings),
        controlnet=controlnet,
    )


@pytest.mark.slow
def test_a_network_of_six_channels_learns_normals_and_colours_from_starts_and_bodies(
    tiny_sd, hinted_shards, tmp_path, generator
):
    guide = DiffusersDenoiser.load(tiny_sd("v_prediction"), control=True)
    encode_shards(guide.vae, hinted_shards, tmp_path / "latents")
    shards = LatentShards(hinted_shards, tmp_path / "latents", control=True, hints=True)
    six = with_hint_channels(guide.controlnet, 6).requires_grad_(True)
    task = task_of(guide, shards, six, controlled=0.75, controlled_normals=0.5)
    batch = task.draw(generator, 16)
    assert batch["hint"].shape == (12, 6, 32, 32)
    normals = {shards.latent(index, "normal") for index in range(len(shards))}
    assert all(any(torch.equal(latent, known) for known in normals) for latent in batch["latents"][:6])
    for hint in batch["hint"][:6]:
        assert round(float(hint[:3].max()) * 255) in (100, 200)  # never the finished map
        colours = hint[3:].amax(dim=(1, 2))
        assert not colours.any() or torch.allclose(colours, torch.tensor(COLOURS["red"]) / 255)
    task(batch).backward()
    assert bool(six.controlnet_down_blocks[0].weight.grad.any())
    with pytest.raises(InputError, match="controlled_normals: expected 0 for a ControlNet of 3"):
        task_of(guide, shards, guide.controlnet, controlled=0.75, controlled_normals=0.5)


@pytest.mark.slow
def test_a_controlnet_is_taught_hints_at_half_resolution_first(tiny_sd, hinted_shards, tmp_path):
    loop = LoopConfig(steps=2, batch_size=2, learning_rate=1e-3, warmup_steps=1, precision="no", sheet_steps=2)
    config = FineTuneConfig(loop=loop, controlled_normals=0.5, coarse_steps=3, sheet_prompts=2, sheet_denoising_steps=2)
    folder = fine_tune("aligned", tiny_sd("v_prediction"), hinted_shards, tmp_path, config, device="cpu")
    begun, ended = (DiffusersDenoiser.load(place, control=True) for place in (tmp_path / "coarse" / "model", folder))
    assert (begun.resolution, ended.resolution) == (16, 32) and ended.hint_channels == 6
    name = "controlnet_cond_embedding.conv_out.weight"
    assert not torch.equal(begun.controlnet.state_dict()[name], ended.controlnet.state_dict()[name])
    lines = (tmp_path / "coarse" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum("rate" in line for line in lines) == 3
    with pytest.raises(InputError, match="coarse_steps: expected 0 for normal, got 3"):
        fine_tune("normal", tiny_sd("v_prediction"), hinted_shards, tmp_path, FineTuneConfig(coarse_steps=3))


@pytest.mark.slow
def test_a_controlnet_learns_crops_beside_whole_pictures(tiny_sd, people_shards, add_hints, tmp_path):
    base, whole = tiny_sd("v_prediction"), add_hints(people_shards(shards=2, size=64))
    larger = add_hints(people_shards(shards=1, folder=tmp_path / "larger", size=128))
    loop = LoopConfig(steps=3, batch_size=2, learning_rate=1e-3, warmup_steps=1, precision="no", sheet_steps=3)
    config = FineTuneConfig(loop=loop, controlled_normals=0.5, crops_of=larger, sheet_prompts=2)
    config = replace(config, sheet_denoising_steps=2)
    folder = fine_tune("aligned", base, whole, tmp_path / "run", config, device="cpu")
    assert DiffusersDenoiser.load(folder, control=True).hint_channels == 6
    figures = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8")
    assert "held_out_loss_crops" in figures
    for recipe, crops, message in (
        ("normal", larger, "crops_of: expected none for normal"),
        ("aligned", whole, "expected pictures larger than the 64 pixels"),
    ):
        wrong = replace(config, crops_of=crops, controlled_normals=0.5 if recipe == "aligned" else 0.0)
        with pytest.raises(InputError, match=message):
            fine_tune(recipe, base, whole, tmp_path / "refused", wrong, device="cpu")


def test_a_guide_takes_normals_alone_for_a_network_that_can_be_told_colours(tiny_sd, generator):
    guide = DiffusersDenoiser.load(tiny_sd("v_prediction"), control=True)
    guide.controlnet = with_hint_channels(guide.controlnet, 6)
    normals = torch.rand(1, 32, 32, 3, generator=generator)
    told = guide.condition(["a ball"], guidance_scale=2.0, control=normals).control
    assert told.shape == (1, 6, 32, 32) and not told[:, 3:].any()
    torch.testing.assert_close(told[0, :3], normals[0].permute(2, 0, 1))
    six = torch.rand(1, 32, 32, 6, generator=generator)
    assert guide.condition(["a ball"], guidance_scale=2.0, control=six).control.shape == (1, 6, 32, 32)
    with pytest.raises(InputError, match="control"):
        guide.condition(["a ball"], guidance_scale=2.0, control=six[..., :4])


@pytest.mark.slow
@needs_assets
def test_people_with_hints_are_the_same_people(tmp_path: Path):
    settings = {"size": 32, "people": 2, "shots_per_person": 2, "people_per_shard": 2, "seed": 3}
    write_people(tmp_path / "plain", default_assets_dir(), DatasetSettings(**settings), SMALL_MODEL_PLAN)
    write_people(tmp_path / "hints", default_assets_dir(), DatasetSettings(**settings, hints=True), SMALL_MODEL_PLAN)
    for kind in ("color", "normal", "depth", "mask"):
        plain, hinted = (np.load(tmp_path / name / f"{kind}_00000.npy") for name in ("plain", "hints"))
        assert np.array_equal(plain, hinted)
    assert "hints" not in json.loads((tmp_path / "plain" / "dataset.json").read_text())["settings"]
    shards = Shards(tmp_path / "hints", maps=("normal", "mask", *HINT_KINDS))
    for index in range(len(shards)):
        labels, mask = shards.labels(index), shards.mask(index)
        assert int(labels.max()) < len(LABELS) and {LABELS.index("top")} & set(labels.unique().tolist())
        assert torch.equal(labels > 0, mask > 0.5)
        start, body = shards.image(index, "start"), shards.image(index, "body")
        assert 0.0 < float((start - shards.image(index, "normal")).abs().mean()) < 0.05  # folds
        assert not torch.equal(start, body) and float((body.amax(-1) > 0).float().mean()) > 0.02
    count = join_datasets([tmp_path / "hints", tmp_path / "hints"], tmp_path / "joined")
    assert count == 8 and len(list((tmp_path / "joined").glob("label_*.npy"))) == 2
    join_datasets([tmp_path / "hints", tmp_path / "plain"], tmp_path / "some")
    assert not list((tmp_path / "some").glob("label_*.npy"))
