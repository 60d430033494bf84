"""The text encoder's first lesson: attributes read off the end of a prompt."""

from __future__ import annotations

import pytest
import torch

from humannorm.training.attributes import UNKNOWN, AttributeClasses, AttributeTask
from humannorm.training.config import LoopConfig, TextConfig
from humannorm.training.loop import train
from humannorm.training.shards import Shards
from humannorm.training.text import build_text_encoder, draw_prompt, train_tokenizer


def task_of(folder, tmp_path):
    import numpy as np
    from transformers import CLIPTokenizer

    shards = Shards(folder, maps=("mask",))
    words = np.random.default_rng(0)
    texts = [draw_prompt(shards.shot(index), "normal", words) for index in range(len(shards))]
    config = TextConfig(vocabulary=600, hidden=32, layers=1, heads=2)
    train_tokenizer(texts, tmp_path / "tokenizer", config)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    torch.manual_seed(0)
    encoder = build_text_encoder(tokenizer, config)
    return AttributeTask(encoder, tokenizer, shards, Shards(folder, split="held_out", maps=("mask",)))


def test_targets_name_the_shot(people_shards, tmp_path):
    shards = Shards(people_shards(shards=1), maps=("mask",))
    shots = [shards.shot(index) for index in range(len(shards))]
    classes = AttributeClasses(shots)
    values = dict(zip(classes.names, classes.targets(shots[0], "depth"), strict=True))
    assert classes.names["kind"][values["kind"]] == "depth"
    assert classes.names["view"][values["view"]] == shots[0]["view"]
    scan = {**shots[0], "attributes": None}
    labels = dict(zip(classes.names, classes.targets(scan, "color"), strict=True))
    assert labels["kind"] != UNKNOWN
    for name in shots[0]["attributes"] or {}:
        assert labels[name] == UNKNOWN


@pytest.mark.slow
def test_it_learns_the_kind_and_writes_an_encoder(people_shards, tmp_path):
    from transformers import CLIPTextModel

    task = task_of(people_shards(shards=2), tmp_path)
    batch = task.draw(torch.Generator().manual_seed(0), 16)
    before = float(task(batch).detach())
    loop = LoopConfig(steps=60, batch_size=16, learning_rate=1e-2, warmup_steps=2, sheet_steps=60, precision="no")
    folder = train(task, loop, tmp_path / "run", device="cpu")
    assert float(task(batch).detach()) < 0.7 * before
    assert task.validate(tmp_path, 60)["right_kind"] > 0.9
    assert CLIPTextModel.from_pretrained(folder).config.hidden_size == 32


def test_cut_padding_changes_nothing(people_shards, tmp_path):
    """The encoder is causal: what stands behind a token does not reach it."""
    task = task_of(people_shards(shards=1), tmp_path).eval()
    batch = task.draw(torch.Generator().manual_seed(1), 4)
    places = batch["places"]
    longer = torch.cat([batch["tokens"], batch["tokens"][:, -1:].expand(-1, 3)], 1)[:, :77]
    with torch.no_grad():
        for short, long in zip(task.logits(batch["tokens"], places), task.logits(longer, places), strict=True):
            torch.testing.assert_close(short, long, atol=1e-5, rtol=1e-5)
