"""Training of what sharpens pictures by their hints."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors import safe_open

from humannorm.checks import InputError
from humannorm.cli import main
from humannorm.guidance.joint_filter import JointFilter
from humannorm.images import load_png
from humannorm.models import JOINT_FILTER
from humannorm.training.config import LoopConfig
from humannorm.training.hints import hints_of
from humannorm.training.joint_filter import Drawn, JointFilterConfig, JointFilterTask
from humannorm.training.recipes import train_joint_filter
from humannorm.training.shards import Shards

LOOP = LoopConfig(
    steps=6, batch_size=4, learning_rate=1e-3, warmup_steps=1, precision="no", sheet_steps=6, checkpoint_seconds=0.0
)
CONFIG = JointFilterConfig(parts=(), file=8, files=2, batch=4, crop=16, loop=LOOP)
MAPS = ("normal", "color", "mask", "start", "label", "body")


@pytest.fixture
def hinted(people_shards, add_hints):
    """The small dataset with hints at the tiny model's resolution."""
    return add_hints(people_shards(shards=2, size=64))


@pytest.fixture
def learnt(tiny_sd, hinted, tmp_path):
    """The folder of a run on the small dataset."""
    base = tiny_sd("v_prediction")
    train_joint_filter(base, hinted, tmp_path / "run", CONFIG, device="cpu")
    return tmp_path / "run"


def test_a_run_draws_pairs_and_leaves_a_filter(learnt, hinted):
    drawn = Drawn(learnt / "drawn", Shards(hinted, maps=MAPS))
    assert len(drawn.told) == len(drawn.pictures) == 16
    assert {fact["kind"] for fact in drawn.told} <= {"normal", "color"}
    assert not any(fact["source"] == "normal" for fact in drawn.told if fact["kind"] == "normal")
    pairs = drawn.pairs([0, 5])
    assert pairs["hint"].shape == (2, 6, 64, 64)
    assert torch.equal(
        pairs["truth"][1].permute(1, 2, 0), drawn.people.image(drawn.told[5]["index"], drawn.told[5]["kind"])
    )
    network = JointFilter.load(learnt / "model" / JOINT_FILTER)
    assert float(network.last.weight.abs().max()) > 0  # it began at nothing
    lines = [json.loads(line) for line in (learnt / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    figures = {name for line in lines for name in line if name.startswith("psnr")}
    assert figures == {f"psnr_64_{kind}_{when}" for kind in ("normal", "color") for when in ("before", "after")}
    assert load_png(learnt / "sheets" / "step_000006_64.png").shape[2] == 3


def test_what_is_drawn_stays_and_is_the_seeds(learnt, tiny_sd, hinted, tmp_path):
    def pictures(folder):
        with safe_open(folder / "drawn" / "drawn_00001.safetensors", framework="pt") as file:
            return file.get_tensor("pictures")

    before = pictures(learnt)
    (learnt / "drawn" / "drawn_00001.safetensors").unlink()
    more = replace(CONFIG, loop=replace(LOOP, steps=8))
    train_joint_filter(tiny_sd("v_prediction"), hinted, learnt, more, device="cpu")  # goes on
    assert torch.equal(pictures(learnt), before)
    lines = [json.loads(line) for line in (learnt / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(8))


def test_pictures_beyond_the_networks_size_are_learnt_as_often(tiny_sd, hinted, people_shards, add_hints, tmp_path):
    larger = add_hints(people_shards(shards=1, folder=tmp_path / "larger", size=128))
    base, run = tiny_sd("v_prediction"), tmp_path / "run"
    train_joint_filter(base, hinted, run, CONFIG, crops_of=larger, device="cpu")
    finer = Drawn(run / "drawn_crops", Shards(larger, maps=MAPS))
    assert finer.pictures.shape == (8, 128, 128, 3)  # two files of a batch each: whole ones have two
    log = (run / "log.jsonl").read_text(encoding="utf-8")
    assert "psnr_64_color_after" in log and "psnr_128_color_after" in log
    assert (run / "sheets" / "step_000006_128.png").is_file()
    task = JointFilterTask(JointFilter(), (Drawn(run / "drawn", Shards(hinted, maps=MAPS)), finer), (finer,), CONFIG)
    batch = task.draw(torch.Generator().manual_seed(0), 5)
    assert batch["picture"].shape == (5, 3, 16, 16)
    with pytest.raises(InputError, match="expected pictures larger than the 64 pixels"):
        train_joint_filter(base, hinted, run, CONFIG, crops_of=hinted, device="cpu")


def test_hints_without_colours_are_black(hinted):
    people = Shards(hinted, maps=MAPS)
    hints = hints_of(people, [0, 1], ["start", "start"], [False, True])
    assert not hints[0, ..., 3:].any()
    assert hints[1, ..., 3:].any()
    assert torch.equal(hints[1, ..., :3], people.image(1, "start"))


def test_data_without_hints_is_refused(tiny_sd, people_shards, tmp_path):
    with pytest.raises(InputError, match="start"):
        train_joint_filter(tiny_sd("v_prediction"), people_shards(shards=1), tmp_path / "run", CONFIG, device="cpu")


def test_data_of_another_size_is_refused(tiny_sd, hinted_shards, tmp_path):
    with pytest.raises(InputError, match="expected pictures of 64 pixels, as the base draws, got 32"):
        train_joint_filter(tiny_sd("v_prediction"), hinted_shards, tmp_path / "run", CONFIG, device="cpu")


def test_the_command(tiny_sd, hinted, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "humannorm.training.joint_filter.JointFilterConfig", partial(JointFilterConfig, file=8, batch=4)
    )
    base, out = str(tiny_sd("v_prediction")), tmp_path / "run"
    arguments = ["train", "joint-filter", "--base", base, "--data", str(hinted), "--out", str(out), "--device", "cpu"]
    assert main([*arguments, "--files", "0"]) == 1
    assert "--files" in capsys.readouterr().err
    assert main([*arguments, "--files", "1", "--steps", "1", "--batch", "2", "--parts", "full=0.5,head=0.5"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "model")
    assert (out / "model" / JOINT_FILTER).is_file()
