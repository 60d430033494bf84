"""What a finished human wears, by the labels of its surface."""

from __future__ import annotations

import torch

from humannorm.body import outfit_of_words
from humannorm.colours import colour_value, hair_colour_value
from humannorm.evaluation.worn import worn_pieces, worn_table
from humannorm.labels import label_number

PROMPT = "a woman with blond hair, in a red t-shirt, blue jeans and white shoes"


def surface(**colours: tuple[float, float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ten points of each label in its colour, two of them spoilt."""
    labels = torch.tensor([label_number(label) for label in colours for _ in range(10)])
    colors = torch.tensor([value for value in colours.values() for _ in range(10)])
    colors[::5] = 0.5
    return labels, colors


def test_pieces_are_read_off_their_own_labels() -> None:
    labels, colors = surface(
        hair=hair_colour_value("blond"),
        top=colour_value("red"),
        bottom=colour_value("blue"),
        shoes=colour_value("black"),
        skin=(0.8, 0.6, 0.5),
    )
    found = {piece.label: piece for piece in worn_pieces(outfit_of_words(PROMPT), labels, colors)}
    assert {label: (piece.asked, piece.worn) for label, piece in found.items()} == {
        "hair": ("blond", "blond"),
        "top": ("red", "red"),
        "bottom": ("blue", "blue"),
        "shoes": ("white", "black"),
    }
    text = worn_table({"one": tuple(found.values()), "naked": ()})
    assert "shoes: white, black" in text
    assert "hair 1 of 1, top 1 of 1, bottom 1 of 1, shoes 0 of 1." in text


def test_what_is_nowhere_to_be_seen_is_not_worn() -> None:
    labels, colors = surface(skin=(0.8, 0.6, 0.5))
    pieces = worn_pieces(outfit_of_words(PROMPT), labels, colors)
    assert len(pieces) == 4 and not any(piece.is_right for piece in pieces)
    assert "not seen" in worn_table({"one": pieces})
    assert worn_table({"naked": ()}) == ""
