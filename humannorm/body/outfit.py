"""What a body wears: pieces in plain words, each with the cut that the wardrobe or a hull makes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from humannorm.body.shape import BodyShape
from humannorm.checks import check_choice
from humannorm.colours import colour_value, hair_colour_value
from humannorm.labels import LABELS

__all__ = [
    "CLOSED",
    "CUTS",
    "HEAD_HULLS",
    "MATERIALS",
    "Cut",
    "Outfit",
    "Piece",
    "Tube",
    "changed",
    "completed",
    "in_order",
]

GREY_AGE = 0.88  # of the body's slider: hair is grey from here on
PLAIN_COLOURS = {
    "hair": "dark brown",
    "top": "white",
    "bottom": "navy",
    "dress": "navy",
    "outer": "brown",
    "shoes": "black",
    "hat": "brown",
    "legwear": "black",
}
"""Of what is worn and nobody gave a colour."""
PLAIN_HOOD = "black"  # brown cloth around a face would be taken for hair
PLAIN_DENIM = "navy"
DENIM_BLUE = (52 / 255, 93 / 255, 178 / 255)
"""sRGB of denim that is said to be blue: greyer than other cloth of that name. Nobody's blue jeans are ultramarine."""

HEAD_HULLS = ("cap", "hood", "bun", "afro", "flat")
MATERIALS = (
    "skin", "hair", "cotton", "linen", "denim", "wool", "fur", "velvet", "silk", "nylon", "leather", "patent leather",
    "suede", "rubber", "latex", "straw", "sequins", "metal",
)  # fmt: skip
"""What a part of a human can be made of; `export.materials` knows how each answers light."""


@dataclass(frozen=True)
class Tube:
    """A skirt, or legs of shorts, as a hull of the body below it (`body.hulls`): of what the wardrobe does not have."""

    end: float  # 0 at the hips, 1 at the ankles
    flare: float = 0.0  # how much wider than the hips its hem is, world units to each side
    legs: bool = False  # around each leg


@dataclass(frozen=True)
class Cut:
    """How a kind of piece is made on a woman and on a man: of garments of `body.wardrobe`, and of hulls."""

    label: str
    woman: tuple[str, ...] = ()
    man: tuple[str, ...] = ()
    tube: Tube | None = None
    opening: float = 0.0  # world units to each side of the middle that its front stands open; 0: it has no opening
    solid: str = ""  # hair or a covering of the head as a hull: one of HEAD_HULLS
    depth: int = 0  # of pieces with one label: what has more is worn over what has less
    material: str = "cotton"  # one of `MATERIALS`: what it usually is of

    def garments(self, sex: float) -> tuple[str, ...]:
        """Names in the wardrobe, for a body of this sex (0 male, 1 female)."""
        return self.woman if sex > 0.5 else self.man


def _both(
    label: str,
    *garments: str,
    tube: Tube | None = None,
    opening: float = 0.0,
    depth: int = 0,
    material: str = "cotton",
) -> Cut:
    return Cut(label, garments, garments, tube, opening, depth=depth, material=material)


CUTS: Mapping[str, Cut] = {
    "t-shirt": Cut("top", ("t-shirt-1",), ("t-shirt-2",)),
    "loose t-shirt": _both("top", "t-shirt-3"),
    "crop top": _both("top", "crop-top"),
    "blouse": _both("top", "blouse", depth=1),
    "shirt": _both("top", "shirt", depth=1),
    "sweater": _both("top", "sweater", depth=2, material="wool"),
    "jacket": _both("outer", "sweater", opening=0.055, depth=3),
    "cardigan": _both("outer", "sweater", opening=0.04, depth=3, material="wool"),
    "suit jacket": _both("outer", "suit-jacket", depth=3, material="wool"),
    "coat": _both("outer", "sweater", tube=Tube(0.66, 0.05), depth=4, material="wool"),
    "short coat": _both("outer", "sweater", tube=Tube(0.36, 0.03), depth=4),
    "robe": _both("outer", "sweater", tube=Tube(0.93, 0.07), depth=4),
    "jeans": Cut("bottom", ("jeans-1",), ("jeans-2",), depth=1, material="denim"),
    "wide jeans": _both("bottom", "jeans-2", depth=1, material="denim"),
    "trousers": _both("bottom", "trousers", depth=1, material="wool"),
    "shorts": _both("bottom", "shorts", tube=Tube(0.36, legs=True), depth=2),
    "hot pants": _both("bottom", tube=Tube(0.26, legs=True), depth=2),
    "bermudas": _both("bottom", tube=Tube(0.5, legs=True), depth=2),
    "leggings": _both("bottom", "leggings", material="nylon"),
    "skirt": _both("bottom", "skirt", depth=2),
    "mini skirt": _both("bottom", tube=Tube(0.32, 0.05), depth=2),
    "wide skirt": _both("bottom", tube=Tube(0.52, 0.09), depth=2),
    "long skirt": _both("bottom", tube=Tube(0.9, 0.09), depth=2),
    "dress": Cut("dress", ("t-shirt-1",), ("t-shirt-2",), Tube(0.52, 0.07)),
    "short dress": Cut("dress", ("t-shirt-1",), ("t-shirt-2",), Tube(0.36, 0.06)),
    "long dress": Cut("dress", ("t-shirt-1",), ("t-shirt-2",), Tube(0.9, 0.09)),
    "gown": Cut("dress", ("sweater",), ("sweater",), Tube(0.95, 0.13), material="silk"),
    "shoes": _both("shoes", "shoes-1", material="leather"),
    "sturdy shoes": _both("shoes", "shoes-2", material="leather"),
    "sneakers": _both("shoes", "sneakers"),
    "hat": _both("hat", "hat-1", material="wool"),
    "cocked hat": _both("hat", "hat-2", material="wool"),
    "close cap": Cut("hat", solid="cap", material="wool"),
    "hood": Cut("hat", solid="hood"),
    "short hair": _both("hair", "short-2", material="hair"),
    "tousled hair": _both("hair", "short-3", material="hair"),
    "full short hair": _both("hair", "short-1", material="hair"),
    "cropped hair": _both("hair", "short-4", material="hair"),
    "afro": Cut("hair", ("afro",), ("afro",), solid="afro", material="hair"),
    "hair under a hat": Cut("hair", solid="flat", material="hair"),
    "bob": _both("hair", "bob-2", material="hair"),
    "wavy bob": _both("hair", "bob-1", material="hair"),
    "braid": _both("hair", "braid", material="hair"),
    "long hair": _both("hair", "long", material="hair"),
    "ponytail": _both("hair", "ponytail", material="hair"),
    "bun": Cut("hair", ("short-2",), ("short-2",), solid="bun", material="hair"),
}
"""All kinds of pieces by name. Ends and flares are ours."""

CLOSED = frozenset({"coat", "short coat", "robe"})
"""Cuts that are worn closed: of a top below them nothing is seen."""

_IN_PLACE_OF: Mapping[str, tuple[str, ...]] = {"dress": ("top", "bottom"), "top": ("dress",), "bottom": ("dress",)}
STANDS_OUT = frozenset({"short hair", "tousled hair", "full short hair", "cropped hair", "afro"})
"""Cuts of hair that would stand out below a hat, which presses them flat."""


@dataclass(frozen=True)
class Piece:
    """One thing that is worn."""

    cut: str  # one of CUTS
    label: str  # of `LABELS`: usually the cut's own
    colours: tuple[str, ...] = ()  # names that `colours.colour_value` knows, the main one first; empty: not said
    pattern: str = ""  # such as "striped"
    said: str = ""  # the prompt's word for it; empty: chosen, not asked for
    material: str = ""  # one of `MATERIALS`, as the prompt says; empty: what the cut usually is of

    def __post_init__(self) -> None:
        check_choice("cut", self.cut, tuple(CUTS))
        check_choice("label", self.label, LABELS)
        check_choice("material", self.material, ("", *MATERIALS))
        for name in self.colours:
            hair_colour_value(name) if self.label == "hair" else colour_value(name)

    def __str__(self) -> str:
        return " ".join(filter(None, [" and ".join(self.colours), self.pattern, self.said or self.cut]))

    @property
    def made_of(self) -> str:
        """Its material, the cut's usual one where the prompt names none."""
        return self.material or CUTS[self.cut].material

    def colour(self) -> tuple[float, float, float] | None:
        """sRGB 0..1 of the main colour; None where none is said."""
        if not self.colours:
            return None
        if self.colours[0] == "blue" and self.made_of == "denim":
            return DENIM_BLUE
        return (hair_colour_value if self.label == "hair" else colour_value)(self.colours[0])


@dataclass(frozen=True)
class Outfit:
    """What a body wears, inner pieces before outer ones; bare where nothing covers it."""

    pieces: tuple[Piece, ...] = ()
    told: tuple[str, ...] = ()  # sentences for the user: what the words of the prompt could not be made into
    bald: bool = False  # the prompt wants no hair
    barefoot: bool = False  # the prompt wants no shoes
    colours_said: tuple[str, ...] = ()  # of no piece: "dressed in black"
    material_said: str = ""  # of no piece: "in leather", "in armour"

    def __str__(self) -> str:
        return ", ".join(map(str, self.pieces)) or "nothing"

    def of(self, *labels: str) -> tuple[Piece, ...]:
        """The pieces with one of these labels."""
        return tuple(piece for piece in self.pieces if piece.label in labels)

    def colours(self) -> dict[str, tuple[float, float, float]]:
        """sRGB 0..1 of each label whose colour is known; of several pieces of a label the outermost one's."""
        return {piece.label: value for piece in self.pieces if (value := piece.colour()) is not None}

    def materials(self) -> dict[str, str]:
        """What each label is of, one of `MATERIALS`; of several pieces of a label the outermost one's."""
        worn = {piece.label: piece.made_of for piece in self.pieces}
        return {"skin": "skin", **worn}


def changed(outfit: Outfit, said: Outfit) -> Outfit:
    """An outfit in which what is said takes the place of what is worn there; the rest stays."""
    gone = {piece.label for piece in said.pieces}
    gone |= {other for label in gone for other in _IN_PLACE_OF.get(label, ())}
    if said.bald:
        gone.add("hair")
    if said.barefoot:
        gone.add("shoes")
    stays = tuple(piece for piece in outfit.pieces if piece.label not in gone)
    return dataclasses.replace(
        outfit,
        pieces=in_order((*stays, *said.pieces)),
        told=said.told,
        bald=said.bald or (outfit.bald and not said.of("hair")),
        barefoot=said.barefoot or (outfit.barefoot and not said.of("shoes")),
    )


def completed(outfit: Outfit, shape: BodyShape) -> Outfit:
    """The outfit with plain pieces that suit for what a person wears and the prompt does not name.

    A top and a bottom, unless a dress is both; shoes and hair, unless the prompt wants none. They, and what is named
    without a colour, take the colours that are said of everything ("dressed in black"), else some of their own; they
    also take the material that is said of everything ("in armour").
    """
    grey = {"hair": "grey"} if shape.age > GREY_AGE else {}

    def coloured(piece: Piece) -> Piece:
        said = () if piece.label == "hair" else outfit.colours_said
        plain = PLAIN_HOOD if piece.cut == "hood" else (PLAIN_COLOURS | grey)[piece.label]
        plain = PLAIN_DENIM if piece.material == "denim" else plain
        return dataclasses.replace(piece, colours=piece.colours or said or (plain,))

    def flattened(piece: Piece) -> Piece:
        return dataclasses.replace(piece, cut="hair under a hat") if hatted and piece.cut in STANDS_OUT else piece

    chosen: list[Piece] = []
    cuts = {piece.cut for piece in outfit.pieces}
    hatted = any(CUTS[piece.cut].label == "hat" and piece.cut != "hood" for piece in outfit.pieces)
    formal, skirted = bool(cuts & {"suit jacket", "shirt"}), any("skirt" in cut for cut in cuts)

    def add(cut: str, label: str, colour: str) -> None:
        chosen.append(Piece(cut, label, outfit.colours_said or (colour,), material=outfit.material_said))

    if not outfit.of("top", "dress"):
        add("blouse" if skirted else "shirt" if formal else "t-shirt", "top", "white" if skirted or formal else "grey")
    if not outfit.of("bottom", "dress"):
        add(*("trousers", "bottom", "black") if formal else ("jeans", "bottom", "navy"))
    if not outfit.of("shoes") and not outfit.barefoot:
        smart = formal or skirted or "trousers" in cuts or bool(outfit.of("dress"))
        add(*("shoes", "shoes", "black") if smart else ("sneakers", "shoes", "white"))
    if not outfit.of("hair") and not outfit.bald and "hood" not in cuts:
        colour = (PLAIN_COLOURS | grey)["hair"]
        chosen.append(Piece("bob" if shape.sex > 0.5 else "short hair", "hair", (colour,)))
    return dataclasses.replace(outfit, pieces=in_order(tuple(map(flattened, (*map(coloured, outfit.pieces), *chosen)))))


def in_order(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """Inner pieces before outer ones: shoes, legwear, bottoms, tops, dresses, what is worn over them, hair, hats."""
    ranks = ("shoes", "legwear", "bottom", "top", "dress", "outer", "hair", "hat")
    return tuple(sorted(pieces, key=lambda piece: (ranks.index(piece.label), CUTS[piece.cut].depth)))
