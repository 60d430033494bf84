"""A sentence in people's own words, said as the captions say it that the small model learnt from.

What it says of sex, age and build (`words`) and of clothes and hair (`outfit_words`), completed as the start body's, in
the order and the words of `training.captions.describe`. Words that the model never met are left out, and what a
caption always names is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from humannorm.body.outfit import Outfit, Piece, completed
from humannorm.body.outfit_words import outfit_of_words
from humannorm.body.shape import BodyShape
from humannorm.body.words import CAPTIONED_POSES, listed, shape_of_words, with_article, words_of_shape
from humannorm.colours import COLOURS, HAIR_COLOURS, colour_value, hair_colour_value

__all__ = ["captioned", "pose_of_words"]

_WORDS: Mapping[str, str] = {
    **dict.fromkeys(("t-shirt", "loose t-shirt"), "t-shirt"),
    **dict.fromkeys(("jacket", "cardigan", "coat", "short coat", "robe"), "jacket"),
    **dict.fromkeys(("jeans", "wide jeans"), "jeans"),
    **dict.fromkeys(("shorts", "hot pants", "bermudas"), "shorts"),
    **dict.fromkeys(("skirt", "mini skirt", "wide skirt", "long skirt"), "skirt"),
    **dict.fromkeys(("shoes", "sturdy shoes"), "shoes"),
    **dict.fromkeys(("hat", "cocked hat", "close cap"), "hat"),
    **dict.fromkeys(("short hair", "tousled hair", "full short hair", "cropped hair"), "short hair"),
    **dict.fromkeys(("bun", "hair under a hat"), "short hair"),
    **dict.fromkeys(("bob", "wavy bob"), "bob hair"),
    **{name: name for name in ("crop top", "blouse", "shirt", "sweater", "suit jacket", "trousers", "leggings")},
    **{name: name for name in ("sneakers", "long hair", "ponytail")},
    "afro": "afro hair",
    "braid": "braided hair",
}  # fmt: skip
"""Cuts and the captions' words; a dress is a top and a skirt there, and a hood is nothing."""
_DRESSES = ("dress", "short dress", "long dress", "gown")
_FEMININE = ("skirt", "blouse")
_PLURAL = frozenset({"jeans", "trousers", "shorts", "leggings", "shoes", "sneakers"})
_POSES: Mapping[str, str] = {
    "standing casually": r"\bst(ands|anding) (casually|relaxed|at ease)\b",
    "running": r"\b(runs|running(?! shoes)|jog(s|ging))\b",
    "sitting": r"\b(sits|sitting|seated)\b",
    "fighting": r"\b(fights|fighting|box(es|ing))\b",
    "in T-pose": r"\bt-pose\b|\barms (stretched )?out\b",
}


def captioned(prompt: str) -> str:
    """The caption of the person whom the prompt names, who stands unless it says otherwise.

    >>> captioned("My grandmother loves her green sweater and brown slacks")
    'an old woman with grey bob hair, wearing a green sweater, brown trousers and black shoes, standing'
    """
    shape = shape_of_words(prompt)
    outfit = completed(outfit_of_words(prompt), shape)
    text = f"{_person(shape, outfit)} with {_hair(outfit)}, wearing {listed(_worn(outfit))}"
    return f"{text}, {_pose(prompt)}"


def pose_of_words(prompt: str) -> str:
    """The pose of `body.POSES` that a prompt names; an A-pose, in which clothes hang best, where it just stands or
    says nothing.

    >>> pose_of_words("a boxer in red shorts, fighting")
    'fight'
    """
    said = _pose(prompt)
    return next((pose for pose, words in CAPTIONED_POSES.items() if words == said), "a-pose")


def _pose(prompt: str) -> str:
    """The captions' words for the pose that a prompt names."""
    return next((said for said, pattern in _POSES.items() if re.search(pattern, prompt.lower())), "standing")


def _person(shape: BodyShape, outfit: Outfit) -> str:
    """Age, build and sex. Who is said to be of neither is a woman in a skirt, a dress or a blouse, else a man."""
    feminine = any(
        piece.said and (piece.cut in _DRESSES or _WORDS.get(piece.cut) in _FEMININE) for piece in outfit.pieces
    )
    said = shape.sex != BodyShape().sex
    return words_of_shape(shape if said else replace(shape, sex=float(feminine)))


def _hair(outfit: Outfit) -> str:
    for piece in outfit.of("hair"):
        style = _WORDS[piece.cut]
        words = f"{_nearest(piece)} {style}"
        return words if style.endswith("hair") else with_article(words)
    return "a bald head" if outfit.bald else "short hair"


def _worn(outfit: Outfit) -> list[str]:
    """Top, bottom, shoes and hat with their colours; of several tops the outermost."""
    found: dict[str, str] = {}
    for piece in outfit.pieces:  # inner ones before outer ones
        colour = _nearest(piece)
        if piece.cut in _DRESSES:
            found |= {"top": f"{colour} t-shirt", "bottom": f"{colour} skirt"}
        elif piece.cut in _WORDS and piece.label != "hair":
            found["top" if piece.label == "outer" else piece.label] = f"{colour} {_WORDS[piece.cut]}"
    return [with_article(found[label], _PLURAL) for label in ("top", "bottom", "shoes", "hat") if label in found]


def _nearest(piece: Piece) -> str:
    """The captions' colour next to a piece's, in CIELAB."""
    return _nearest_name(piece.colours[0], piece.label == "hair") if piece.colours else "black"


@cache
def _nearest_name(name: str, hair: bool) -> str:
    import torch

    from humannorm.images import lab_from_srgb

    table = HAIR_COLOURS if hair else COLOURS
    if name in table:
        return name
    values = torch.tensor([[part / 255 for part in value] for value in table.values()])
    own = torch.tensor((hair_colour_value if hair else colour_value)(name))
    return list(table)[int((lab_from_srgb(values) - lab_from_srgb(own)).norm(dim=-1).argmin())]
