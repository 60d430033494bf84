"""A run ends with its weights written: in the minutes that it is given, and when it was killed just before."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from humannorm.checks import InputError
from humannorm.training.config import LoopConfig, VaeConfig
from humannorm.training.loop import learning_rate, share_used, train
from humannorm.training.recipes import EXPORT_SHARE, STAGE_SHARES, Clock
from humannorm.training.shards import Shards
from humannorm.training.vae import VaeTask, build_vae, encode_shards

LOOP = LoopConfig(steps=100, batch_size=2, learning_rate=1e-3, warmup_steps=10, cooldown=0.5, precision="no")
SMALL = VaeConfig(channels=(8, 8, 8), layers_per_block=1, crop=32)


def test_the_rate_follows_the_steps_without_a_limit():
    rates = [learning_rate(LOOP, step, share_used(LOOP, step, 1e6)) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4) and rates[9] == rates[50] == pytest.approx(1e-3)
    assert rates[75] == pytest.approx(5e-4) and rates[99] == pytest.approx(2e-5)


def test_the_rate_has_cooled_down_by_the_time_the_minutes_are_over():
    timed = replace(LOOP, minutes=2.0)
    assert share_used(timed, 10, 60.0) == 0.5  # half of the time, a tenth of the steps
    assert share_used(timed, 90, 6.0) == 0.9  # whichever ends first
    assert learning_rate(timed, 20, share_used(timed, 20, 90.0)) == pytest.approx(5e-4)
    assert learning_rate(timed, 20, share_used(timed, 20, 130.0)) == 0.0


@pytest.mark.slow
def test_a_loop_stops_in_time_and_writes_its_weights(people_shards, tmp_path):
    data = people_shards(shards=1, size=64)
    task = VaeTask(build_vae(SMALL, 64), Shards(data), Shards(data, split="held_out"), SMALL)
    began = time.monotonic()
    folder = train(task, replace(LOOP, steps=10**6, minutes=0.02), tmp_path, device="cpu")
    assert time.monotonic() - began < 30.0  # 1.2 seconds of steps, and loading on a busy machine
    assert (folder / "config.json").is_file() and (tmp_path / "checkpoint.safetensors").is_file()
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert 1 <= len(lines) < 10**5 and not (tmp_path / "sheets").exists()


class Killed(VaeTask):
    """Dies when all steps are done, before its weights are written."""

    def save(self, folder):
        raise KeyboardInterrupt


@pytest.mark.slow
def test_killed_between_its_last_step_and_its_weights_it_writes_them_when_it_goes_on(people_shards, tmp_path):
    data, loop = people_shards(shards=1, size=64), replace(LOOP, steps=3, warmup_steps=1, checkpoint_seconds=0.0)

    def weights(out, *tasks) -> bytes:
        for kind in tasks:
            torch.manual_seed(0)
            task = kind(build_vae(SMALL, 64), Shards(data), Shards(data, split="held_out"), SMALL)
            try:
                train(task, loop, tmp_path / out, device="cpu")
            except KeyboardInterrupt:
                assert kind is Killed and not list((tmp_path / out).glob("model/*"))
        return (tmp_path / out / "model" / "diffusion_pytorch_model.safetensors").read_bytes()

    assert weights("killed", Killed, VaeTask) == weights("unbroken", VaeTask)


def test_each_stage_gets_its_share_of_what_is_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock(10.0)
    usable = 10.0 * (1 - EXPORT_SHARE)
    assert sum(STAGE_SHARES.values()) == pytest.approx(1.0)
    assert clock.minutes("vae") == pytest.approx(usable * STAGE_SHARES["vae"])
    now[0] += 60.0 * usable / 2  # the first stage took half of it
    later = sum(share for name, share in STAGE_SHARES.items() if name not in ("vae", "text"))
    assert clock.minutes("latents_coarse") == pytest.approx(usable / 2 * STAGE_SHARES["latents_coarse"] / later)
    now[0] += 3600.0  # late: the stages that are left take a step each
    assert 0.0 < clock.loop("weak_fine", LOOP).minutes < 0.01
    assert Clock(0.0).loop("vae", LOOP) == LOOP
    with pytest.raises(InputError, match="minutes"):
        Clock(-1.0)


def test_one_shard_is_encoded_however_short_the_time(people_shards, tmp_path):
    data = people_shards(shards=3, size=64)
    vae = build_vae(SMALL, 64)
    with torch.no_grad():
        assert encode_shards(vae, data, tmp_path / "latents", minutes=1e-9) == 1
        assert encode_shards(vae, data, tmp_path / "latents") == 2
