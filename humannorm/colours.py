"""Colours by name: those of the training captions, and the everyday words that mean one of them or one beside them."""

from __future__ import annotations

from collections.abc import Mapping

from humannorm.checks import check_choice

__all__ = ["COLOURS", "COLOUR_WORDS", "HAIR_COLOURS", "HAIR_COLOUR_WORDS", "colour_value", "hair_colour_value"]

Value = tuple[int, int, int]  # sRGB 0..255

# The 17 named colours of garments. Chosen well apart in CIELAB, so that the nearest one names a seen colour.
COLOURS: dict[str, Value] = {
    "black": (28, 28, 30),
    "white": (240, 240, 238),
    "grey": (132, 132, 134),
    "red": (205, 32, 36),
    "maroon": (110, 20, 42),
    "orange": (240, 128, 28),
    "yellow": (242, 208, 46),
    "olive": (112, 112, 42),
    "green": (36, 140, 56),
    "teal": (20, 128, 130),
    "turquoise": (80, 205, 205),
    "light blue": (140, 185, 235),
    "blue": (38, 82, 200),
    "navy": (24, 32, 86),
    "purple": (118, 48, 160),
    "pink": (240, 140, 180),
    "brown": (112, 70, 40),
}

HAIR_COLOURS: dict[str, Value] = {
    "black": (30, 26, 26),
    "dark brown": (66, 44, 32),
    "brown": (104, 68, 42),
    "blond": (214, 178, 112),
    "red": (156, 64, 30),
    "grey": (150, 150, 152),
    "white": (226, 226, 224),
}

# What people say that is no name of the captions, in its own colour. Values are ours.
_BESIDE: dict[str, Value] = {
    "beige": (214, 196, 160),
    "cream": (240, 232, 208),
    "khaki": (164, 148, 104),
    "gold": (200, 160, 60),
    "silver": (176, 178, 182),
    "light grey": (186, 186, 188),
    "dark grey": (72, 72, 76),
    "light green": (140, 205, 130),
    "dark green": (18, 72, 36),
    "light brown": (160, 114, 74),
    "dark brown": (70, 44, 28),
    "lavender": (186, 160, 220),
    "magenta": (200, 40, 140),
}

COLOUR_WORDS: Mapping[str, str] = {
    **{name: name for name in (*COLOURS, *_BESIDE)},
    "gray": "grey",
    "light gray": "light grey",
    "dark gray": "dark grey",
    "charcoal": "dark grey",
    "anthracite": "dark grey",
    "slate": "dark grey",
    "navy blue": "navy",
    "dark blue": "navy",
    "midnight blue": "navy",
    "royal blue": "blue",
    "bright blue": "blue",
    "cobalt": "blue",
    "indigo": "navy",
    "sky blue": "light blue",
    "pale blue": "light blue",
    "baby blue": "light blue",
    "dark red": "maroon",
    "burgundy": "maroon",
    "wine red": "maroon",
    "bright red": "red",
    "scarlet": "red",
    "crimson": "red",
    "ruby": "red",
    "cyan": "turquoise",
    "aqua": "turquoise",
    "mint": "light green",
    "lime": "light green",
    "pale green": "light green",
    "emerald": "green",
    "bright green": "green",
    "forest green": "dark green",
    "olive green": "olive",
    "khaki green": "olive",
    "violet": "purple",
    "lilac": "lavender",
    "mauve": "lavender",
    "rose": "pink",
    "hot pink": "magenta",
    "fuchsia": "magenta",
    "salmon": "pink",
    "coral": "orange",
    "mustard": "yellow",
    "golden": "gold",
    "silvery": "silver",
    "tan": "beige",
    "camel": "light brown",
    "chocolate": "dark brown",
    "ivory": "cream",
    "off-white": "cream",
    "dark black": "black",
    "pitch black": "black",
    "snow white": "white",
}
"""Everyday words for a garment's colour, and the name of each (`colour_value` knows its sRGB)."""

HAIR_COLOUR_WORDS: Mapping[str, str] = {
    **{name: name for name in HAIR_COLOURS},
    "gray": "grey",
    "silver": "grey",
    "silvery": "grey",
    "blonde": "blond",
    "golden": "blond",
    "gold": "blond",
    "fair": "blond",
    "brunette": "brown",
    "chestnut": "brown",
    "light brown": "brown",
    "auburn": "red",
    "ginger": "red",
    "copper": "red",
    "redhead": "red",
    "dark": "dark brown",
    "raven": "black",
    "jet black": "black",
    "pitch black": "black",
    "snow white": "white",
}
"""As `COLOUR_WORDS`, of hair; a colour that hair is only dyed in (blue, green, ...) keeps a garment's name."""


def colour_value(name: str) -> tuple[float, float, float]:
    """sRGB 0..1 of a colour by its name."""
    table = {**COLOURS, **_BESIDE}
    check_choice("colour", name, tuple(table))
    red, green, blue = table[name]
    return red / 255, green / 255, blue / 255


def hair_colour_value(name: str) -> tuple[float, float, float]:
    """sRGB 0..1 of a hair colour by its name."""
    if name not in HAIR_COLOURS:
        return colour_value(name)
    red, green, blue = HAIR_COLOURS[name]
    return red / 255, green / 255, blue / 255
