"""What a text encoder can take of a prompt: plain words, and no more of them than it reads.

Prompts are written for many programs. Weights such as "(red dress:1.3)" or "red++", BREAK and "<lora:...>" mean
something to some of them and are noise to an encoder that knows words only. And an encoder reads a fixed number of
tokens: what stands behind, in `humannorm.prompts` the kind of picture, the body part and the view, would be lost.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable

from .prompts import MODALITY_SUFFIXES, PART_SUFFIXES, VIEW_SUFFIXES

__all__ = ["fit_prompt", "plain_words", "words_and_suffix"]

_LINE_WIDTH = 60  # characters of the user's own text that a message repeats

# A suffix as `Prompts.text` writes it, the pose before it as `body.words.with_pose` does; from the end of a text.
_SUFFIX = re.compile(
    r"(, (?:standing|in T-pose|running|sitting|fighting))?"
    + "".join(
        f"({'|'.join(re.escape(words) for words in table.values() if words)})?"
        for table in (MODALITY_SUFFIXES, PART_SUFFIXES, VIEW_SUFFIXES)
    )
    + r"\Z"
)
_LONGEST_SUFFIXES = {
    kind: [kind + part + view for part, view in itertools.product(PART_SUFFIXES.values(), VIEW_SUFFIXES.values())]
    for kind in MODALITY_SUFFIXES.values()
}

# Each form and what it leaves; in this order, each until it finds nothing more.
_MARKUP: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"<\w+:[^<>]*>"), " "),  # <lora:name:0.8>
    (re.compile(r"\bembedding:[^\s,]+", re.IGNORECASE), " "),
    (re.compile(r"\s*,?\s*\bBREAK\b\s*,?\s*"), ", "),
    (re.compile(r"(?<!\\)\[([^\[\]:|]*):([^\[\]:|]+):\s*\d*\.?\d+\s*(?<!\\)\]"), r"\2"),  # [from:to:when]
    (re.compile(r"(?<!\\)\[([^\[\]:|]+)(\|[^\[\]]*)(?<!\\)\]"), r"\1"),  # [one|other]
    (
        re.compile(r"(?<!\\)[(\[{]([^()\[\]{}]*?)(:\s*[-+]?\d*\.?\d+\s*)?(?<!\\)[)\]}](\d+\.\d+|[-+]+(?=[\s,.]|\Z))?"),
        r"\1",
    ),  # (words:1.3), ((words)), [words], {words}, (words)1.3, (words)++
    (re.compile(r"(?<=\w)(\+{1,}|-{2,})(?=[\s,.]|\Z)"), ""),  # red++
    (re.compile(r"(?<=\w)::-?\d*\.?\d*"), ""),  # red::2
)


def plain_words(prompt: str) -> str:
    """The prompt without weights, BREAK and tags, for an encoder that does not know them; "\\(" stands for "("."""
    text = prompt
    for pattern, left in _MARKUP:
        found = 1
        while found:
            text, found = pattern.subn(left, text)
    if text != prompt:
        text = re.sub(r"\s{2,}", " ", re.sub(r"(\s*,)+", ",", text)).strip(" ,")
    return re.sub(r"\\([()\[\]{}])", r"\1", text)


def words_and_suffix(text: str) -> tuple[str, str]:
    """A text of `Prompts` as the user's words and what was added to them; the second part is "" for any other text."""
    match = _SUFFIX.search(text)
    assert match is not None  # it matches nothing at the end
    return text[: match.start()], text[match.start() :]


def fit_prompt(text: str, room: int, count: Callable[[str], int]) -> str:
    """The text in plain words, of at most `room` tokens: the user's last words are cut, kind, part and view stay.

    The words of one subject are cut alike for all parts and views of one kind. What is left out is said by a warning.

    count: tokens of a text, without those that begin and end it.
    """
    words, suffix = words_and_suffix(text)
    plain = plain_words(words)
    if plain != words and len(plain) < len(words):
        warnings.warn(
            f"prompt: weights, BREAK and tags are left out, as this text encoder reads words only: {_short(plain)}",
            stacklevel=2,
        )
    pose, kind = (found or "" for found in _SUFFIX.search(text).group(1, 2))  # type: ignore[union-attr]
    alike = _LONGEST_SUFFIXES[kind] if suffix.endswith(tuple(VIEW_SUFFIXES.values())) else []
    left = room - max(count(ending) for ending in (suffix, *(pose + ending for ending in alike)))
    if count(plain) <= left:
        return plain + suffix
    kept = _first_words(plain, left, count)
    warnings.warn(
        f"prompt: this text encoder reads {room} tokens, kind, part and view among them; cut off:"
        f" {_short(plain[len(kept) :].strip(' ,'))}",
        stacklevel=2,
    )
    return kept.rstrip(" ,") + suffix


def _first_words(text: str, room: int, count: Callable[[str], int]) -> str:
    """As many of the text's first words as fit; of one endless word, its first characters."""
    for pieces in (re.findall(r"\s*[^\s,]+,?|\s*,", text), list(text)):
        low, high = 0, len(pieces)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if count("".join(pieces[:middle])) <= room else (low, middle - 1)
        if low:
            return "".join(pieces[:low])
    return ""


def _short(text: str) -> str:
    return repr(text if len(text) <= _LINE_WIDTH else f"{text[:_LINE_WIDTH]} ...")
