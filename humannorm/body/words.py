"""What a sentence says of the start body, and what the body says to the sentence.

Sex, age and build are read from a prompt, the rest stays neutral; the pose of the body goes into the prompt. Clothes
and hair are read by `outfit_words`. Bodies are adults, whoever is named.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TypeVar

from humannorm.body.shape import ADULT, BodyShape
from humannorm.checks import check_choice

__all__ = ["CAPTIONED_POSES", "listed", "shape_of_words", "with_article", "with_pose", "words_of_shape"]

Value = TypeVar("Value")

# Slider values and the words for them: the middle of what the small model's people of that word were drawn from.
_SEX: Mapping[float, str] = {
    0.95: "woman female lady businesswoman actress waitress grandmother mother girl queen she her aunt mum mom wife"
    " sister",
    0.05: "man male guy gentleman businessman actor waiter grandfather father boy king he his uncle dad husband"
    " brother dude",
}
_AGE: Mapping[float, str] = {
    ADULT: "young youthful",
    0.81: "middle mature forty fifty",  # "middle-aged" is two words, and the first of them decides
    0.96: "old elderly aged senior sixty seventy eighty grandmother grandfather",
}
_YEARS = re.compile(
    r"\b(\d{1,3})[- ]?(?:years?[- ]old|y/?o\b)|\baged (\d{1,3})\b|\bin (?:his|her|their) (?:\w+[- ])?(\d0)s\b"
)
_AGE_FROM = ((60, 0.96), (40, 0.81), (0, ADULT))  # years, and the slider from there on
_CHILD = re.compile(
    r"\b(child(ren)?|kids?|toddlers?|bab(y|ies)(?![- ](blue|pink|doll|hair))|infants?|newborns?|adolescents?"
    r"|under-?aged?|(pre-?)?teen(s|age[dr]s?|age)?|school-?(girl|boy|child|kid)s?|(little|small) (girl|boy)s?"
    r"|(\d|1[0-7])[- ]?(years?[- ]old|y/?o)|(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
    r"|(thir|four|fif|six|seven)teen)[- ]years?[- ]old)\b",
    re.IGNORECASE,
)
_BUILD: Mapping[tuple[float, float], str] = {  # weight, muscle
    (0.1, 0.4): "slim thin slender skinny lean",
    (0.92, 0.4): "heavy fat overweight stout plump chubby",
    (0.57, 0.92): "muscular athletic bodybuilder",
}

CAPTIONED_POSES: Mapping[str, str] = {
    "a-pose": "standing",
    "rest": "standing",
    "standing": "standing casually",
    "t-pose": "in T-pose",
    "run": "running",
    "sit": "sitting",
    "fight": "fighting",
}
"""Poses of bodies, and how the captions of the training data say them."""
_SAYS_A_POSE = re.compile(
    r"\b(stand(s|ing)?|sit(s|ting)?|seated|runs|running(?! shoes)|fight(s|ing)?|boxing|walk(s|ing)|pose|posing"
    r"|jump(s|ing)|kneel(s|ing)|danc(es|ing)|crouch(es|ing)|squat(s|ting)|lying|arms?|[at]-pose)\b",
    re.IGNORECASE,
)


def with_pose(prompt: str, pose: str) -> str:
    """The prompt with the word for a named pose, unless it speaks of a pose itself.

    The small model learnt from captions that mostly end in one, and draws any pose for a prompt without.
    """
    check_choice("pose", pose, CAPTIONED_POSES)
    return prompt if _SAYS_A_POSE.search(prompt) else f"{prompt.rstrip(' .,')}, {CAPTIONED_POSES[pose]}"


def shape_of_words(prompt: str) -> BodyShape:
    """An adult whose sex, age and build are those of the prompt's first word for each; neutral where it has none.

    An age in years goes before words for it: "a 30 year old man" is not old.
    """
    said = prompt.lower()
    words = re.findall("[a-z]+", re.sub(r"\byears?[- ]old\b|\baged (?=\d)", " ", said))
    neutral = BodyShape()
    age, found = _first(words, _AGE, neutral.age), _YEARS.search(said)
    if found is not None:
        years = int(next(number for number in found.groups() if number))
        age = next(slider for least, slider in _AGE_FROM if years >= least)
    weight, muscle = _first(words, _BUILD, (neutral.weight, neutral.muscle))
    return BodyShape(sex=_first(words, _SEX, neutral.sex), age=age, weight=weight, muscle=muscle)


def names_a_child(prompt: str) -> bool:
    """Whether a person below eighteen is spoken of."""
    return _CHILD.search(prompt) is not None


def words_of_shape(shape: BodyShape) -> str:
    """An adult in words: "a young slim woman". The nearest words that there are."""
    sexes = {0.95: "woman", 0.05: "man", BodyShape().sex: "person"}
    sex = sexes[min(sexes, key=lambda value: abs(value - shape.sex))]
    ages = {ADULT: "young", 0.81: "middle-aged", 0.96: "old"}
    age = ages[min(ages, key=lambda value: abs(value - shape.age))]
    neutral = BodyShape()
    builds = {(neutral.weight, neutral.muscle): "", **{value: known.split()[0] for value, known in _BUILD.items()}}
    build = builds[min(builds, key=lambda value: abs(value[0] - shape.weight) + abs(value[1] - shape.muscle))]
    return with_article(" ".join(filter(None, [age, build, sex])))


def with_article(words: str, plural: Collection[str] = ()) -> str:
    """`a red t-shirt`, `an old man`, but plain `blue jeans`. plural: last words that take none."""
    if words.split()[-1] in plural:
        return words
    return ("an " if words[0] in "aeiou" else "a ") + words


def listed(items: list[str]) -> str:
    """`a hat, a shirt and jeans`."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _first(words: list[str], table: Mapping[Value, str], otherwise: Value) -> Value:
    meanings = {word: value for value, known in table.items() for word in known.split()}
    return next((meanings[word] for word in words if word in meanings), otherwise)
