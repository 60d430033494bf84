"""Words about a person: the caption of a rendered person, and how a user might say the same thing otherwise.

`describe` gives the one base caption; `rephrase` draws another wording of it (reordered, shortened, synonyms, words
that say nothing about the picture), so that a model trained on it understands a user's own words.
Part and view text (", full body, front view") is added by `humannorm.prompts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from humannorm.body.words import listed, with_article
from humannorm.checks import check_choice
from humannorm.colours import COLOURS, HAIR_COLOURS

__all__ = ["SYNONYMS", "Attributes", "describe", "rephrase", "training_caption"]

AGES = ("young", "middle-aged", "old")
BUILDS = ("slim", "average", "heavy", "muscular")
SEXES = ("man", "woman")


@dataclass(frozen=True)
class Attributes:
    """What can be said about a rendered person. Colours are keys of `COLOURS` (hair: `HAIR_COLOURS`)."""

    age: str
    build: str
    sex: str
    skin: str
    hair_style: str
    """Such as "long hair" or "ponytail"; "bald head" has no colour."""
    hair_colour: str | None
    top: str
    top_colour: str
    bottom: str
    bottom_colour: str
    shoes: str
    shoes_colour: str
    hat: str | None
    hat_colour: str | None
    pose: str

    def __post_init__(self) -> None:
        check_choice("age", self.age, AGES)
        check_choice("build", self.build, BUILDS)
        check_choice("sex", self.sex, SEXES)
        for name in ("top_colour", "bottom_colour", "shoes_colour"):
            check_choice(name, getattr(self, name), tuple(COLOURS))
        if self.hair_colour is not None:
            check_choice("hair_colour", self.hair_colour, tuple(HAIR_COLOURS))

    def to_dict(self) -> dict[str, str | None]:
        """Plain values for a JSON line."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Attributes:
        """The inverse of `to_dict`; unknown keys are an error."""
        check_choice("attributes", sorted(values), (sorted(field.name for field in fields(cls)),))
        return cls(**values)


# Things that take no article, synonyms included.
PLURAL = (
    "jeans",
    "trousers",
    "shorts",
    "leggings",
    "shoes",
    "sneakers",
    "pants",
    "slacks",
    "tights",
    "denim",
    "trainers",
)


def describe(attributes: Attributes) -> str:
    """The base caption, such as `a young slim woman with black long hair, wearing a red t-shirt, blue jeans and white
    sneakers, standing`. The build "average" is not said."""
    build = "" if attributes.build == "average" else f"{attributes.build} "
    subject = with_article(f"{attributes.age} {build}{attributes.sex}", PLURAL)
    worn = [
        with_article(f"{attributes.top_colour} {attributes.top}", PLURAL),
        with_article(f"{attributes.bottom_colour} {attributes.bottom}", PLURAL),
        with_article(f"{attributes.shoes_colour} {attributes.shoes}", PLURAL),
    ]
    if attributes.hat is not None:
        worn.append(with_article(f"{attributes.hat_colour} {attributes.hat}", PLURAL))
    return f"{subject} with {_hair(attributes)}, wearing {listed(worn)}, {attributes.pose}"


def _hair(attributes: Attributes) -> str:
    if attributes.hair_colour is None:
        return with_article(attributes.hair_style, PLURAL)
    words = f"{attributes.hair_colour} {attributes.hair_style}"
    return words if words.endswith("hair") else with_article(words, PLURAL)


# Other words for the same thing, each drawn with equal chance beside the word itself.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "man": ("man", "man", "male", "guy", "gentleman", "male person"),
    "woman": ("woman", "woman", "female", "lady", "female person"),
    "young": ("young", "young", "youthful", "twenty-year-old", "young adult"),
    "middle-aged": ("middle-aged", "middle-aged", "mature", "middle aged", "forty-year-old", "adult"),
    "old": ("old", "old", "elderly", "aged", "senior"),
    "slim": ("slim", "thin", "slender", "skinny", "lean"),
    "heavy": ("heavy", "fat", "overweight", "big", "stout", "plump"),
    "muscular": ("muscular", "athletic", "strong", "bodybuilder", "fit"),
    "average": ("", "", "normal", "average"),
    "grey": ("grey", "gray"),
    "blond": ("blond", "blonde", "golden", "fair"),
    "black": ("black", "black", "dark black"),
    "navy": ("navy", "navy blue", "dark blue"),
    "maroon": ("maroon", "dark red", "burgundy", "wine red"),
    "turquoise": ("turquoise", "cyan", "aqua"),
    "purple": ("purple", "violet"),
    "light blue": ("light blue", "sky blue", "pale blue"),
    "olive": ("olive", "olive green", "khaki green"),
    "red": ("red", "red", "bright red"),
    "pink": ("pink", "rose", "pink"),
    "t-shirt": ("t-shirt", "tee", "tshirt", "short-sleeved shirt", "top", "short-sleeved t-shirt"),
    "blouse": ("blouse", "blouse", "shirt", "long-sleeved blouse"),
    "shirt": ("shirt", "shirt", "long-sleeved shirt"),
    "sweater": ("sweater", "jumper", "pullover", "hoodie", "long-sleeved sweater"),
    "crop top": ("crop top", "short top", "cropped t-shirt"),
    "jacket": ("jacket", "coat", "vest"),
    "suit jacket": ("suit jacket", "suit", "blazer", "tuxedo"),
    "jeans": ("jeans", "denim trousers", "denim", "jeans", "pants"),
    "trousers": ("trousers", "pants", "slacks", "long trousers"),
    "shorts": ("shorts", "short pants", "thigh-length shorts"),
    "skirt": ("skirt", "skirt", "knee-length skirt"),
    "leggings": ("leggings", "tights", "sports leggings"),
    "sneakers": ("sneakers", "trainers", "sport shoes", "running shoes"),
    "shoes": ("shoes", "leather shoes", "shoes"),
    "hat": ("hat", "fedora", "fedora hat"),
    "standing": ("standing", "standing still", "posing", "in a neutral pose", ""),
    "in T-pose": ("in T-pose", "with arms stretched out", "T-pose", "arms out to the sides"),
    "running": ("running", "running", "jogging"),
    "fighting": ("fighting", "in a fighting pose", "boxing"),
    "sitting": ("sitting", "seated"),
    "standing casually": ("standing casually", "standing", "posing", "relaxed", ""),
    "bald head": ("bald head", "shaved head"),
    "ponytail": ("ponytail", "pony tail", "hair in a ponytail"),
    "braided hair": ("braided hair", "braids", "hair in a braid"),
    "afro hair": ("afro hair", "afro", "curly hair"),
    "bob hair": ("bob hair", "bob haircut", "chin-length hair", "short bob hair"),
    "long hair": ("long hair", "long hair", "long straight hair", "flowing hair"),
    "short hair": ("short hair", "short hair", "short-cut hair", "a short haircut"),
    "dark": ("dark skin", "dark-skinned", "black skin", "brown skin"),
    "light": ("asian", "light skin", "east asian features"),
    "fair": ("fair skin", "white skin", "caucasian"),
}

FULL_SAID = 0.7
"""Chance that a free rewording leaves nothing out, skin included: in published ablations short captions cost a model
more than anything else. The others are short, as a user's own words may be."""

SKIN_SAID = 0.45
"""Chance that a short rewording names the skin, which base captions never do. The bundled text encoder, taught with a
fifth of that, did not learn it: heads go dark or fair by their noise."""

# Words that change nothing in the picture: a user writes them, the model must not stumble.
OPENINGS = (
    "a photo of",
    "a dslr photo of",
    "a 3d model of",
    "a render of",
    "a picture of",
    "full color photo of",
    "a portrait of",
    "an image of",
    "realistic",
    "there is",
)
CLOSINGS = (
    "highly detailed",
    "8k",
    "best quality",
    "4k uhd",
    "realistic",
    "studio lighting",
    "plain background",
    "masterpiece",
    "sharp focus",
    "cinematic",
    "trending on artstation",
    "photorealistic",
    "professional photograph",
    "centered",
)
_SYLLABLES = ("ka", "lo", "mi", "ran", "tes", "vor", "ell", "shu", "bri", "no", "qua", "zen", "dor", "pi", "ya", "ust")


def rephrase(attributes: Attributes, generator: np.random.Generator) -> str:
    """Another wording of `describe(attributes)`, drawn from the generator.

    Most say everything; in the others each part of the sentence is kept with its own chance. Words are replaced by
    synonyms, the order of the garments and of the sentence's halves changes, and empty or invented words are thrown in.
    What is said stays true.
    """

    def chance(probability: float) -> bool:
        return bool(generator.random() < probability)

    def say(word: str) -> str:
        choices = SYNONYMS.get(word, (word,))
        return choices[int(generator.integers(len(choices)))] if chance(0.6) else (word if word != "average" else "")

    full = chance(FULL_SAID)

    def keep(probability: float) -> bool:
        return full or chance(probability)

    text = describe(attributes) if chance(0.25) else _sentence(attributes, say, chance, keep, generator)
    if chance(0.15):
        text = f"{OPENINGS[int(generator.integers(len(OPENINGS)))]} {text}"
    while chance(0.15):
        text = f"{text}, {CLOSINGS[int(generator.integers(len(CLOSINGS)))]}"
    if chance(0.08):
        text = _with_invented_word(text, generator)
    if chance(0.05):
        text = text.capitalize() + "."
    return text


def _sentence(attributes: Attributes, say: Any, chance: Any, keep: Any, generator: np.random.Generator) -> str:
    """A sentence or a list of keywords with the facts that are kept, in some order."""
    person = _person_words(attributes, say, keep, generator)
    hair = _hair_words(attributes, say) if keep(0.7) else ""
    garments = [
        (attributes.top_colour, attributes.top, 0.85),
        (attributes.bottom_colour, attributes.bottom, 0.75),
        (attributes.shoes_colour, attributes.shoes, 0.5),
    ]
    if attributes.hat is not None and attributes.hat_colour is not None:
        garments.append((attributes.hat_colour, attributes.hat, 0.8))
    worn = [
        f"{say(colour) if keep(0.9) else ''} {say(item)}".strip() for colour, item, share in garments if keep(share)
    ]
    generator.shuffle(worn)
    pose = say(attributes.pose) if keep(0.6) else ""
    if chance(0.2):
        facts = [person, hair, *worn, pose]
        return ", ".join(fact for fact in facts if fact)
    subject = with_article(person, PLURAL) if chance(0.9) else person
    clauses = [f"with {hair}" if hair else ""]
    if worn:
        verb = ("wearing", "in", "dressed in", "who wears", "wearing")[int(generator.integers(5))]
        items = [with_article(item, PLURAL) for item in worn] if chance(0.8) else worn
        clauses.append(f"{verb} {listed(items)}")
    if chance(0.3):
        clauses.reverse()
    joined = [clause for clause in clauses if clause]
    separator = ", " if chance(0.7) else " "
    text = separator.join([f"{subject} {joined[0]}", *joined[1:]]) if joined else subject
    if not pose:
        return text
    return f"{text}, {pose}" if chance(0.8) else f"{subject} {pose}{text.removeprefix(subject)}"


def _person_words(attributes: Attributes, say: Any, keep: Any, generator: np.random.Generator) -> str:
    words = [
        say(attributes.age) if keep(0.75) else "",
        say(attributes.build) if keep(0.75) else "",
        say(attributes.sex) if keep(0.95) else "person",
    ]
    text = " ".join(word for word in words if word)
    if keep(SKIN_SAID):
        skin = str(generator.choice(SYNONYMS[attributes.skin]))
        if skin.endswith("skin") or skin.endswith("features"):
            return f"{text} with {skin}"
        return f"{skin} {text}"
    return text


def _hair_words(attributes: Attributes, say: Any) -> str:
    if attributes.hair_colour is None:
        return with_article(say(attributes.hair_style), PLURAL)
    style = say(attributes.hair_style)
    words = f"{say(attributes.hair_colour)} {style.removeprefix('a ')}"
    return words if "hair" in style.split() or style in ("braids",) else with_article(words, PLURAL)


def _with_invented_word(text: str, generator: np.random.Generator) -> str:
    count = int(generator.integers(2, 4))
    invented = "".join(_SYLLABLES[int(index)] for index in generator.integers(len(_SYLLABLES), size=count))
    words = text.split(" ")
    words.insert(int(generator.integers(len(words) + 1)), invented)
    return " ".join(words)


def training_caption(record: Mapping[str, Any], generator: np.random.Generator) -> str:
    """A caption for one dataset line: another wording if its attributes are known, else its own caption (scans)."""
    if record["attributes"] is None:
        return str(record["caption"])
    return rephrase(Attributes.from_dict(record["attributes"]), generator)
