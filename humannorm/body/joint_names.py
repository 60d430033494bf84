"""Which joint of a motion file is which of ours, by its name and by where it hangs.

Every studio names its joints otherwise: "mixamorig:LeftUpLeg", "LThigh", "thigh_l", "Bip01 L Thigh", "upperleg.L",
"LeftHip" above a "LeftKnee". A name is taken apart into a prefix that all joints share, a side and a part; words that
mean different parts in different families ("hip", "shoulder", "leg", "foot") are told apart by what else is there.
Spine and neck joints are found by the way from the hips to the arms and to the head: their names do not matter.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from humannorm.checks import InputError

__all__ = ["FINGERS", "TOES", "JointTable", "match_joints", "plain_names", "read_joint_table"]

JointTable = dict[str, int]
"""Our joints -> number of the file's joint. `TOES` is a joint of the file only, for the direction of the feet."""

TOES = "toes"  # with a side, as "toes.L"
FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_SIDES = {"left": "L", "right": "R", "l": "L", "r": "R"}

# Part -> the words for it without doubt, and those that mean it only where no other joint does.
_PARTS: Mapping[str, tuple[str, str]] = {
    "clavicle": ("collar collarbone clavicle clav scapula", "shoulder"),
    "upperarm01": ("upperarm uparm uarm humerus shldr armupper", "arm shoulder shoulderjoint"),
    "lowerarm01": ("forearm lowerarm lowarm loarm farm elbow radius armlower elbowjoint", ""),
    "wrist": ("wrist wristjoint", "hand palm"),
    "upperleg01": ("upleg upperleg uleg thigh femur legupper", "hip hipjoint leg"),
    "lowerleg01": ("lowerleg lowleg loleg shin calf knee tibia leglower kneejoint", "leg"),
    "foot": ("ankle anklejoint", "foot"),
    TOES: ("toe toes toebase ball toebasejoint football", "foot"),
}
_ROOTS = ("hips", "pelvis", "hip", "hipscenter", "hipcenter", "root")
_NECKS, _HEADS = ("neck", "lowerneck", "neckbase", "upperneck"), ("head", "skull")
_FINGER = re.compile(
    rf"(?:in)?(?:hand|f|finger)?({'|'.join(FINGERS)}|little)(?:finger)?(proximal|intermediate|distal|0*[123])"
)
_PHALANGES = {"proximal": 1, "intermediate": 2, "distal": 3}
_SPINES = {
    1: ("spine03",),
    2: ("spine04", "spine01"),
    3: ("spine04", "spine02", "spine01"),
    4: ("spine04", "spine03", "spine02", "spine01"),
    5: ("spine05", "spine04", "spine03", "spine02", "spine01"),
}
NEEDED = (
    "root",
    *(f"{part}.{s}" for s in "LR" for part in ("upperarm01", "lowerarm01", "upperleg01", "lowerleg01", "foot")),
)


def plain_names(names: Sequence[str]) -> list[str]:
    """The names without what stands before a colon, and without a beginning that most share."""
    short = [name.split(":")[-1].split("|")[-1] for name in names]
    short = [re.sub(r"^mixamorig\d*_?", "", name, flags=re.IGNORECASE) for name in short]
    shared = ""
    for length in range(1, 1 + max(map(len, short))):
        beginning, count = Counter(name[:length] for name in short).most_common(1)[0]
        if count < max(4, 0.6 * len(short)) or len(beginning) < length:
            break
        shared = beginning
    return [name.removeprefix(shared) or name for name in short]


def match_joints(names: Sequence[str], parents: Sequence[int], *, partly: bool = False) -> JointTable:
    """All joints that are known; an `InputError` names what is missing of arms, legs and hips, unless `partly`."""
    words = [_words(name) for name in plain_names(names)]
    tree = _Tree(parents)
    table: JointTable = {}
    for side in "LR":
        table |= _match_side(side, words, tree)
    legs = [table[f"upperleg01.{side}"] for side in "LR" if f"upperleg01.{side}" in table]
    arms = [table[f"upperarm01.{side}"] for side in "LR" if f"upperarm01.{side}" in table]
    if len(legs) == 2 and len(arms) == 2:
        table |= _match_trunk(words, tree, legs, arms)
    missing = [joint for joint in NEEDED if joint not in table]
    if missing and not partly:
        raise InputError(
            f"motion: expected joints for {', '.join(missing[:3])}, got none in {', '.join(names[:6])}, ...;"
            " `humannorm animate --explain FILE.bvh --out DIR` writes a table of joints to fill in, for --joints"
        )
    return table


def read_joint_table(path: str | Path) -> dict[str, str]:
    """File joint -> ours, from the JSON that `--explain` writes; joints without one are left out."""
    try:
        table = json.loads(Path(path).read_text("utf-8"))["joints"]
        return {str(theirs): str(ours) for theirs, ours in table.items() if ours}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f'{path}: expected JSON with "joints": file joint -> ours, got another ({error!r})') from error


class _Tree:
    """Who hangs on whom."""

    def __init__(self, parents: Sequence[int]) -> None:
        self.parents = parents

    def above(self, joint: int) -> list[int]:
        """The joint and all above it, upwards."""
        found = [joint]
        while self.parents[found[-1]] >= 0:
            found.append(self.parents[found[-1]])
        return found

    def hangs(self, joint: int, upper: int) -> bool:
        return upper in self.above(joint)[1:]

    def common(self, joints: Sequence[int]) -> int:
        """The lowest joint that all of these hang on, or one of them."""
        ways = [self.above(joint) for joint in joints]
        return next(joint for joint in ways[0] if all(joint in way for way in ways))

    def between(self, upper: int, lower: int) -> list[int]:
        """From below the upper joint down to the lower one."""
        way = self.above(lower)
        return way[: way.index(upper)][::-1]


def _words(name: str) -> set[tuple[str, str]]:
    """All ways to read a name as side ("" for none) and part, both in lower case."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    found = {("", plain), ("", plain.removeprefix("c"))}  # some mark the middle by a C
    for word, side in _SIDES.items():
        if len(word) > 1 or plain[:1] == word:
            found |= {(side, plain.removeprefix(word))} if plain.startswith(word) else set()
        if plain.endswith(word):
            found.add((side, plain.removesuffix(word)))
    return found | {(side, re.sub(r"\d+$", "", part)) for side, part in found}


def _match_side(side: str, words: Sequence[set[tuple[str, str]]], tree: _Tree) -> JointTable:
    def named(part: str) -> list[int]:
        return [joint for joint, readings in enumerate(words) if (side, part) in readings]

    sure = {part: [joint for word in said.split() for joint in named(word)] for part, (said, _) in _PARTS.items()}
    found = {part: joints[0] for part, joints in sure.items() if joints}
    # From the ends of the limbs inwards: what a doubtful word means hangs on what has been found beside it.
    for part in ("lowerarm01", "lowerleg01", "wrist", "upperarm01", "upperleg01", "foot", "clavicle", TOES):
        if part not in found:
            taken = set(found.values())
            for word in _PARTS[part][1].split():
                fitting = [joint for joint in named(word) if joint not in taken and _fits(part, joint, found, tree)]
                if fitting:
                    found[part] = fitting[0]
                    break
    table = {f"{part}.{side}": joint for part, joint in found.items()}
    for joint, readings in enumerate(words):
        for of_side, part in readings:
            match = _FINGER.fullmatch(part)
            if of_side == side and match:
                finger = FINGERS.index(match[1].replace("little", "pinky")) + 1
                phalanx = _PHALANGES.get(match[2]) or int(match[2])
                table.setdefault(f"finger{finger}-{phalanx}.{side}", joint)
    return table


_LIMBS = (("clavicle", "upperarm01", "lowerarm01", "wrist"), ("upperleg01", "lowerleg01", "foot", TOES))


def _fits(part: str, joint: int, found: Mapping[str, int], tree: _Tree) -> bool:
    """Whether a joint lies in its limb where the part must: below what is above it, above what is below it."""
    limb = next(limb for limb in _LIMBS if part in limb)
    place = limb.index(part)
    for other, known in found.items():
        if other in limb:
            ordered = tree.hangs(joint, known) if limb.index(other) < place else tree.hangs(known, joint)
            if not ordered:
                return False
    return True


def _match_trunk(
    words: Sequence[set[tuple[str, str]]], tree: _Tree, legs: Sequence[int], arms: Sequence[int]
) -> JointTable:
    def named(choices: Sequence[str], above: Sequence[int] = (), below: int | None = None) -> int | None:
        for choice in choices:
            for joint, readings in enumerate(words):
                hangs = all(tree.hangs(other, joint) for other in above)
                if ("", choice) in readings and hangs and (below is None or tree.hangs(joint, below)):
                    return joint
        return None

    root = named(_ROOTS, above=legs)
    if root is None:
        root = tree.common([*legs, *arms])
    chest = tree.common(arms)
    table = {"root": root}
    if not tree.hangs(chest, root):
        return table
    spines = tree.between(root, chest)
    if len(spines) > 5:
        spines = [spines[round(k * (len(spines) - 1) / 4)] for k in range(5)]
    table |= dict(zip(_SPINES[len(spines)], spines, strict=True))
    head, neck = named(_HEADS, below=root), named(_NECKS, below=root)
    if head is not None and neck is None:
        between = tree.between(chest, head)[:-1] if tree.hangs(head, chest) else []
        neck = between[0] if between else None
    if neck is not None:
        table["neck01"] = neck
    if head is not None:
        table["head"] = head
        if neck is not None and tree.hangs(head, neck) and len(way := tree.between(neck, head)) > 1:
            table["neck02"] = way[len(way) // 2 - 1]
    return table
