"""What a sentence says of the start body, and what the body says to the sentence.

Sex, age, build, hair, skirt and shorts are read from a prompt, the rest stays neutral; the pose of the body goes into
the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from humannorm.body.shape import ADULT, BodyShape
from humannorm.body.worn import Worn
from humannorm.checks import check_choice

__all__ = ["shape_of_words", "with_pose", "worn_of_words"]

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

_POSES: Mapping[str, str] = {  # as the captions of the training data say them
    "a-pose": "standing",
    "rest": "standing",
    "standing": "standing",
    "t-pose": "in T-pose",
    "run": "running",
    "sit": "sitting",
    "fight": "fighting",
}
_SAYS_A_POSE = re.compile(
    r"\b(stand(s|ing)?|sit(s|ting)?|seated|runs|running(?! shoes)|fight(s|ing)?|boxing|walk(s|ing)|pose|posing"
    r"|jump(s|ing)|kneel(s|ing)|danc(es|ing)|crouch(es|ing)|squat(s|ting)|lying|arms?|[at]-pose)\b",
    re.IGNORECASE,
)
_SKIRTS: Mapping[str, tuple[float, float]] = {  # the first that is found: hem, flare
    r"mini ?-?skirt|short (\w+ ){0,2}(skirt|dress)": (0.36, 0.05),
    r"(evening|wedding|ball|long|maxi|floor-length) (\w+ ){0,2}(dress|gown|skirt)|gown|kimono|cassock|abaya": (
        0.93,
        0.09,
    ),
    r"(long|trench|winter) (\w+ ){0,2}coat|overcoat|robe": (0.66, 0.05),
    r"pencil skirt": (0.5, 0.0),
    r"(skirt|kilt|sundress|dress(?! shoes| shirt| pants| trousers))": (0.52, 0.07),
    r"(lab|rain) ?-?coat": (0.45, 0.03),
}
_SHORTS: Mapping[str, float] = {  # the first that is found: where the legs end
    r"bermudas?|(long|knee-length) (\w+ ){0,2}shorts": 0.5,
    r"(hot|short) ?-?(pants|shorts)": 0.26,
    r"shorts": 0.42,
}
_COVERS_SHINS = 0.6  # a hem from here on
_LEGS_COVERED = re.compile(
    r"\b(coat|robe|kimono|tights|leggings|stockings|boots|trousers|jeans|(?<!hot )(?<!short )pants)\b"
)
_HAIR: Mapping[str, str] = {
    r"bald|shaved head|no hair|hijab|headscarf|turban|helmet": "none",
    r"pony ?-?tail": "ponytail",
    r"braid(s|ed)?|plait(s|ed)?": "braid",
    r"(hair )?bun|chignon|updo|topknot": "bun",
    r"afro|curly (\w+ ){0,2}hair": "afro",
    r"(bob|shoulder-length|chin-length|medium(-length)?)\b": "bob",
    r"long(-| )haired|(long|flowing|waist-length) (\w+ ){0,2}hair|hair (that is )?long|\w+ long hair": "long",
    r"hair(ed)?|blond(e)?|brunette|redhead": "short",
}


def with_pose(prompt: str, pose: str) -> str:
    """The prompt with the word for a named pose, unless it speaks of a pose itself.

    The small model learnt from captions that mostly end in one, and draws any pose for a prompt without.
    """
    check_choice("pose", pose, _POSES)
    return prompt if _SAYS_A_POSE.search(prompt) else f"{prompt.rstrip(' .,')}, {_POSES[pose]}"


def shape_of_words(prompt: str) -> BodyShape:
    """An adult whose sex, age and build are those of the prompt's first word for each; neutral where it has none."""
    words = re.findall("[a-z]+", prompt.lower())
    neutral = BodyShape()
    weight, muscle = _first(words, _BUILD, (neutral.weight, neutral.muscle))
    return BodyShape(
        sex=_first(words, _SEX, neutral.sex), age=_first(words, _AGE, neutral.age), weight=weight, muscle=muscle
    )


def worn_of_words(prompt: str) -> Worn:
    """Hair, skirt and shorts that a prompt names; `Worn()` where it speaks of none."""
    text = prompt.lower()
    hem, flare = _said(text, _SKIRTS, (0.0, 0.0))
    hair = _said(text, _HAIR, "none", end="")  # "haired", "braids"
    legs = _said(text, _SHORTS, 0.0)
    bare = (legs > 0 or 0 < hem < _COVERS_SHINS) and not _LEGS_COVERED.search(text)
    return Worn(hair, hem, flare, legs, bare)


def _said(text: str, table: Mapping[str, Value], otherwise: Value, end: str = r"\b") -> Value:
    """What the first pattern means that the text has from the beginning of a word."""
    return next((meaning for words, meaning in table.items() if re.search(rf"\b({words}){end}", text)), otherwise)


def _first(words: list[str], table: Mapping[Value, str], otherwise: Value) -> Value:
    meanings = {word: value for value, listed in table.items() for word in listed.split()}
    return next((meanings[word] for word in words if word in meanings), otherwise)
