"""What the small model's text encoder learns before the UNet: to hold all that was said in each token after a prompt.

A CLIP encoder learns its words from 400 million pictures; ours sees few. But a rendered person's attributes are known,
so the encoder is first trained to tell them from the prompt, text alone and cheap. A causal encoder's end token and
the padding after it see the whole prompt: from there linear heads must read off age, garments, colours, body part,
view and kind. The UNet then finds all of it at most of its 77 tokens, bound to the right garment, from its first step.
The heads are thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from humannorm.training.loop import Task
from humannorm.training.shards import KINDS, Shards
from humannorm.training.text import draw_prompt, fixed_prompt, tokenize

__all__ = ["UNKNOWN", "AttributeClasses", "AttributeTask"]

UNKNOWN = -100
"""Of an attribute without a label (scans with a caption only); cross-entropy leaves it out."""


class AttributeClasses:
    """The values of each attribute in a dataset, numbered."""

    def __init__(self, shots: Sequence[Mapping[str, Any]]) -> None:
        found: dict[str, set[str]] = {"kind": set(KINDS), "part": set(), "view": set()}
        for shot in shots:
            for name, value in self._values(shot).items():
                found.setdefault(name, set()).add(value)
        self.names = {name: sorted(values) for name, values in found.items()}

    @staticmethod
    def _values(shot: Mapping[str, Any]) -> dict[str, str]:
        attributes = shot["attributes"] or {}
        return {"part": shot["part"], "view": shot["view"]} | {key: str(value) for key, value in attributes.items()}

    def targets(self, shot: Mapping[str, Any], kind: str) -> list[int]:
        """One class number per attribute, in the order of `names`."""
        values = {"kind": kind, **self._values(shot)}
        return [
            known.index(values[name]) if values.get(name) in known else UNKNOWN for name, known in self.names.items()
        ]


class AttributeTask(Task):
    """Cross-entropy of every attribute, read from the end token and from one random padding token."""

    def __init__(self, text_encoder: Any, tokenizer: Any, shards: Shards, held_out: Shards) -> None:
        super().__init__()
        self.text_encoder, self.tokenizer = text_encoder, tokenizer
        self.shards, self.held_out = shards, held_out
        self.classes = AttributeClasses([shards.shot(index) for index in range(len(shards))])
        width = text_encoder.config.hidden_size
        self.heads = nn.ModuleList(nn.Linear(width, len(known)) for known in self.classes.names.values())

    def draw(self, generator: torch.Generator, batch_size: int) -> dict[str, Any]:
        words = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        shots = [
            self.shards.shot(i) for i in torch.randint(len(self.shards), (batch_size,), generator=generator).tolist()
        ]
        kinds = [KINDS[i] for i in torch.randint(len(KINDS), (batch_size,), generator=generator).tolist()]
        tokens = self._tokens([draw_prompt(shot, kind, words) for shot, kind in zip(shots, kinds, strict=True)])
        ends = self._ends(tokens)
        # A causal encoder's tokens do not see what follows: cutting padding off changes nothing and saves time.
        length = int(torch.randint(int(ends.max()) + 1, tokens.shape[1] + 1, (), generator=generator))
        later = ends + (torch.rand(batch_size, generator=generator) * (length - ends)).long()
        targets = torch.tensor([self.classes.targets(shot, kind) for shot, kind in zip(shots, kinds, strict=True)])
        return {"tokens": tokens[:, :length], "places": torch.stack([ends, later], 1), "targets": targets}

    def forward(self, batch: dict[str, Any]) -> Tensor:
        logits = self.logits(batch["tokens"], batch["places"])
        wanted = batch["targets"].repeat_interleave(batch["places"].shape[1], 0)
        losses = [
            cross_entropy(values, wanted[:, index], ignore_index=UNKNOWN)
            for index, values in enumerate(logits)
            if bool((wanted[:, index] != UNKNOWN).any())
        ]
        return torch.stack(losses).mean()

    def logits(self, tokens: Int[Tensor, "B T"], places: Int[Tensor, "B P"]) -> list[Float[Tensor, "B*P K"]]:
        """Of each attribute, at each of the chosen tokens."""
        hidden = self.text_encoder(tokens).last_hidden_state
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        chosen = hidden[rows, places].flatten(0, 1)
        return [head(chosen) for head in self.heads]

    @torch.no_grad()
    def validate(self, folder: Path, step: int) -> Mapping[str, float]:
        """Share of held-out people whose attribute is read rightly off their base caption, per attribute."""
        indices = torch.linspace(0, len(self.held_out) - 1, 192).long().tolist()
        shots = [self.held_out.shot(index) for index in indices]
        kinds = [KINDS[index % len(KINDS)] for index in range(len(shots))]
        device = next(self.parameters()).device
        tokens = self._tokens([fixed_prompt(shot, kind) for shot, kind in zip(shots, kinds, strict=True)])
        logits = self.logits(tokens.to(device), self._ends(tokens)[:, None].to(device))
        targets = torch.tensor([self.classes.targets(shot, kind) for shot, kind in zip(shots, kinds, strict=True)])
        hits = [(values.argmax(-1).cpu() == targets[:, index]).float() for index, values in enumerate(logits)]
        return {f"right_{name}": float(hit.mean()) for name, hit in zip(self.classes.names, hits, strict=True)}

    def save(self, folder: Path) -> None:
        self.text_encoder.save_pretrained(folder)

    def _tokens(self, prompts: Sequence[str]) -> Int[Tensor, "B T"]:
        return tokenize(self.tokenizer, prompts, self.text_encoder.config.max_position_embeddings)

    def _ends(self, tokens: Int[Tensor, "B T"]) -> Int[Tensor, "B"]:
        """Place of each prompt's end token, which is also the padding."""
        return (tokens == self.tokenizer.eos_token_id).int().argmax(1)
