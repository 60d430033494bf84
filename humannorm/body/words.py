"""The start body that a sentence asks for: sex, age and build are read from its words, the rest stays neutral."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from humannorm.body.shape import ADULT, BodyShape

__all__ = ["shape_of_words"]

Value = TypeVar("Value")

# Slider values and the words for them: the middle of what the small model's people of that word were drawn from.
_SEX: Mapping[float, str] = {
    0.95: "woman female lady businesswoman actress waitress grandmother mother queen she her",
    0.05: "man male guy gentleman businessman actor waiter grandfather father king he his",
}
_AGE: Mapping[float, str] = {
    ADULT: "young youthful",
    0.81: "middle mature forty fifty",  # "middle-aged" is two words, and the first of them decides
    0.96: "old elderly aged senior sixty seventy eighty grandmother grandfather",
}
_BUILD: Mapping[tuple[float, float], str] = {  # weight, muscle
    (0.1, 0.4): "slim thin slender skinny lean",
    (0.92, 0.4): "heavy fat overweight stout plump chubby",
    (0.57, 0.92): "muscular athletic bodybuilder",
}


def shape_of_words(prompt: str) -> BodyShape:
    """An adult whose sex, age and build are those of the prompt's first word for each; neutral where it has none."""
    words = re.findall("[a-z]+", prompt.lower())
    neutral = BodyShape()
    weight, muscle = _first(words, _BUILD, (neutral.weight, neutral.muscle))
    return BodyShape(
        sex=_first(words, _SEX, neutral.sex), age=_first(words, _AGE, neutral.age), weight=weight, muscle=muscle
    )


def _first(words: list[str], table: Mapping[Value, str], otherwise: Value) -> Value:
    meanings = {word: value for value, listed in table.items() for word in listed.split()}
    return next((meanings[word] for word in words if word in meanings), otherwise)
