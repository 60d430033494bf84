"""Blind pairs: people choose between two sets of pictures without knowing which is which, and the choices are counted.

The page shows each pair side by side under names that tell nothing; which side is whose stands in a key file that the
page does not read. The share of choices for A comes with Wilson's interval (1927), which holds for few choices too.
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from humannorm.checks import InputError, check_range

__all__ = ["PICTURES", "Count", "count_choices", "matching_pictures", "wilson_interval", "write_page"]

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".mp4", ".webm")
PAGE = Path(__file__).with_name("pairs.html")
KEY, CHOICES = "key.json", ("left", "right", "same")
NORMAL_95 = 1.959964  # two-sided 95 % quantile of the standard normal


@dataclass(frozen=True)
class Count:
    """Choices for A, for B, and for neither."""

    first: int
    second: int
    same: int

    @property
    def decided(self) -> int:
        return self.first + self.second

    def text(self, first: str, second: str) -> str:
        """One sentence."""
        if self.decided == 0:
            return f"no choice between {first} and {second}; {self.same} times the same"
        low, high = wilson_interval(self.first, self.decided)
        return (
            f"{first} was preferred to {second} {self.first} of {self.decided} times:"
            f" {100 * self.first / self.decided:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f});"
            f" {self.same} times neither"
        )


def wilson_interval(successes: int, trials: int, z: float = NORMAL_95) -> tuple[float, float]:
    """Of a share: (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)."""
    check_range("trials", trials, 1, math.inf)
    check_range("successes", successes, 0, trials)
    share = successes / trials
    middle = share + z**2 / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def matching_pictures(first: Path, second: Path) -> list[str]:
    """Names of the pictures and films that both folders have."""
    for folder in (first, second):
        if not folder.is_dir():
            raise InputError(f"{folder}: expected a folder of pictures, got no such folder")
    names = [{path.name for path in folder.iterdir() if path.suffix.lower() in PICTURES} for folder in (first, second)]
    both = sorted(names[0] & names[1])
    if not both:
        raise InputError(f"{second}: expected pictures of the names that {first} has, got none in common")
    return both


def write_page(first: Path, second: Path, out: Path, *, seed: int = 0, question: str = "") -> Path:
    """OUT/pairs.html with its pictures beside it, and OUT/key.json, for `count_choices`."""
    names = matching_pictures(first, second)
    chance = random.Random(seed)
    chance.shuffle(names)
    pairs, key = [], {}
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        first_is_left = chance.random() < 0.5
        sides = (first, second) if first_is_left else (second, first)
        shown = []
        for side, folder in zip(("l", "r"), sides, strict=True):
            digest = hashlib.sha256(f"{seed} {number} {side}".encode()).hexdigest()[:12]
            target = f"pictures/{digest}{Path(name).suffix.lower()}"
            shutil.copyfile(folder / name, out / target)
            shown.append(target)
        pairs.append({"id": str(number), "left": shown[0], "right": shown[1]})
        key[str(number)] = {"name": name, "left": "first" if first_is_left else "second"}
    page = PAGE.read_text(encoding="utf-8")
    asked = question or "Which of the two is better?"
    page = page.replace("/*PAIRS*/[]", json.dumps(pairs)).replace("QUESTION", html.escape(asked))
    (out / "pairs.html").write_text(page, encoding="utf-8")
    facts = {"first": first.name, "second": second.name, "pairs": key}
    (out / KEY).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return out / "pairs.html"


def count_choices(out: Path, files: Sequence[Path]) -> tuple[Count, str, str]:
    """What people chose (the files that the page saves), and the two sets' names."""
    facts = _read(out / KEY)
    key: dict[str, Any] = facts["pairs"]
    totals = {"first": 0, "second": 0, "same": 0}
    for file in files:
        choices = _read(file).get("choices")
        if not isinstance(choices, dict) or not all(choice in CHOICES for choice in choices.values()):
            raise InputError(f"{file}: expected the choices that pairs.html saves, got another file")
        for number, choice in choices.items():
            if number not in key:
                raise InputError(f"{file}: expected choices of the pairs in {out / KEY}, got pair {number}")
            left = key[number]["left"]
            right = "second" if left == "first" else "first"
            totals[{"left": left, "right": right, "same": "same"}[choice]] += 1
    return Count(**totals), str(facts["first"]), str(facts["second"])


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a JSON file, got one that fails: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found
