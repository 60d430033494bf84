"""Painted faces and hands for the body: what a held region wears where no network paints it.

One picture for each of three ages, three tones and both sexes, in the body's texture layout; baked by
`tools/bake_skins.py`. Head, hands and limbs are painted, everything else has the skin's mean tone: clothes cover it.
"""

from __future__ import annotations

import functools
import io
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body.shape import BodyShape
from humannorm.checks import check_choice

__all__ = ["SKIN_SIZE", "SKIN_TONES", "mean_tone", "skin_opacity", "skin_picture", "tone_of_words"]

DATA = Path(__file__).parent / "data" / "skins.npz"
SKIN_SIZE = 512  # texels a side
SKIN_TONES = ("fair", "light", "dark")  # the words of the training captions
_RACES = {"fair": "caucasian", "light": "asian", "dark": "african"}  # as the baked skins are named
_PEOPLE = r"(man|woman|guy|lady|girl|boy|male|female|person|dude)"
_TONE_WORDS: Mapping[str, str] = {
    "dark": rf"(dark|black|brown|ebony)[- ]skin(ned)?|african|black {_PEOPLE}",
    "light": r"(light|tan|tanned|olive)[- ]skin(ned)?|(?:east |south )?asian|chinese|japanese|korean|thai|vietnamese",
    "fair": rf"(fair|white|pale)[- ]skin(ned)?|caucasian|european|white {_PEOPLE}",
}


def tone_of_words(prompt: str, seed: int = 0) -> str:
    """The tone of `SKIN_TONES` that a prompt speaks of first; where of none, any, drawn by prompt and seed."""
    found = {tone: match.start() for tone, words in _TONE_WORDS.items() if (match := _said(words, prompt))}
    if found:
        return min(found, key=lambda tone: found[tone])
    return SKIN_TONES[(zlib.crc32(prompt.encode()) + seed) % len(SKIN_TONES)]


def _said(words: str, prompt: str) -> re.Match[str] | None:
    return re.search(rf"\b({words})\b", prompt, re.IGNORECASE)


def skin_picture(shape: BodyShape, tone: str) -> Float[Tensor, "S S 3"]:
    """sRGB 0..1 in the body's texture layout, row 0 at the top: of the nearest baked age and sex."""
    check_choice("tone", tone, SKIN_TONES)
    age = min((2 / 3, "young"), (0.81, "middleage"), (0.96, "old"), key=lambda known: abs(known[0] - shape.age))[1]
    return _picture(f"{age}_{_RACES[tone]}_{'female' if shape.sex >= 0.5 else 'male'}")


def skin_opacity() -> Float[Tensor, "S S"]:
    """Where the pictures are worn, 0..1: face and ears up to the hairline, throat, and hands; soft at the border."""
    return _picture("opacity")[..., 0]


def mean_tone(picture: Float[Tensor, "S S 3"]) -> Float[Tensor, " 3"]:
    """The colour, sRGB 0..1, that a picture of `skin_picture` has wherever nothing is painted."""
    return picture[skin_opacity() == 0].median(0).values


@functools.cache
def _picture(name: str) -> Tensor:
    from PIL import Image

    with np.load(DATA, allow_pickle=False) as archive:
        image = Image.open(io.BytesIO(archive[name].tobytes())).convert("RGB")
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255.0)
