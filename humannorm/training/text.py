"""The small model's words: a byte-level BPE tokenizer learnt from captions, and a small CLIP text encoder.

Both are of CLIP's own classes and file formats, so whatever reads a Stable Diffusion folder reads them too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from humannorm.prompts import MODALITY_SUFFIXES, PART_SUFFIXES, VIEW_SUFFIXES
from humannorm.training.captions import training_caption
from humannorm.training.config import TextConfig

__all__ = [
    "MOVING_POSES",
    "OTHER_POSE",
    "build_text_encoder",
    "draw_prompt",
    "fixed_prompt",
    "tokenize",
    "train_tokenizer",
    "with_any_pose",
]

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"

PART_KEPT, VIEW_KEPT = 0.9, 0.95
"""Chances that body part and view are said: the published prompts leave the part out at times."""

MOVING_POSES = ("running", "sitting", "fighting")
"""They move the head out of its usual crop, so no picture of a head is of one (`people.OUT_OF_PLACE`)."""
OTHER_POSE = 0.25
"""Chance that a head is said to be in one of them."""


def with_any_pose(shot: Mapping[str, Any], generator: np.random.Generator) -> Mapping[str, Any]:
    """A head, now and then with another pose said of it; other parts as they are.

    A head shows no pose, but users name one, and a network that has heard of running with whole bodies alone draws
    broken heads at the word.
    """
    if shot["part"] != "head" or shot["attributes"] is None or generator.random() >= OTHER_POSE:
        return shot
    return {**shot, "attributes": {**shot["attributes"], "pose": str(generator.choice(MOVING_POSES))}}


def draw_prompt(shot: Mapping[str, Any], kind: str, generator: np.random.Generator) -> str:
    """A training prompt of a shot: some wording of its caption, then kind, part and view as when sampling."""
    part = PART_SUFFIXES[shot["part"]] if generator.random() < PART_KEPT else ""
    view = VIEW_SUFFIXES[shot["view"]] if generator.random() < VIEW_KEPT else ""
    return training_caption(shot, generator) + MODALITY_SUFFIXES[kind] + part + view  # type: ignore[index]


def fixed_prompt(shot: Mapping[str, Any], kind: str) -> str:
    """The prompt of a shot as the sampling code would compose it."""
    return shot["caption"] + MODALITY_SUFFIXES[kind] + PART_SUFFIXES[shot["part"]] + VIEW_SUFFIXES[shot["view"]]  # type: ignore[index]


def train_tokenizer(texts: Iterable[str], folder: Path, config: TextConfig) -> None:
    """Learn merges from the texts and write a `CLIPTokenizer` folder (vocab.json, merges.txt and two configs).

    All 256 bytes, alone and as the end of a word, come first, so no text is ever unknown.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        initial_alphabet=alphabet,
        end_of_word_suffix=END_OF_WORD,
        min_frequency=5,
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    # CLIP's own split: words, single digits, runs of punctuation.
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.train_from_iterator(texts, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]["merges"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in learnt]
    tokens = [*alphabet, *(letter + END_OF_WORD for letter in alphabet)]
    tokens += [left + right for left, right in merges]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*tokens, START, END]))}
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    _write_json(folder / "special_tokens_map.json", special)
    _write_json(
        folder / "tokenizer_config.json",
        {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": config.length, "do_lower_case": True},
    )


def tokenize(tokenizer: Any, prompts: Sequence[str], length: int) -> Int[Tensor, "B T"]:
    """Token ids of the prompts, padded and cut to `length`."""
    return tokenizer(
        list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
    ).input_ids


def build_text_encoder(tokenizer: Any, config: TextConfig) -> Any:
    """A fresh `CLIPTextModel` for the tokenizer."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden,
            intermediate_size=4 * config.hidden,
            projection_dim=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.length,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")
