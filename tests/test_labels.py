"""The table of labels, their pictures, and colours by name."""

from __future__ import annotations

import pytest
import torch

from humannorm.checks import InputError
from humannorm.colours import COLOUR_WORDS, HAIR_COLOUR_WORDS, colour_value, hair_colour_value
from humannorm.labels import LABELS, LABELS_OF_PARTS, SKIN, label_number, label_picture, labels_named


def test_numbers_are_the_places_in_the_table() -> None:
    assert [label_number(name) for name in LABELS] == list(range(len(LABELS)))
    assert LABELS[SKIN] == "skin" and LABELS[:7] == ("background", "skin", "hair", "top", "bottom", "shoes", "hat")
    assert labels_named(["hat", "skin"]).tolist() == [1, 6]
    with pytest.raises(InputError, match="nose"):
        label_number("nose")


def test_every_label_but_the_background_belongs_to_a_part() -> None:
    assert {label for labels in LABELS_OF_PARTS.values() for label in labels} == set(LABELS[1:])


def test_pictures_have_a_colour_of_their_own_for_each_label() -> None:
    picture = label_picture(torch.arange(len(LABELS)).reshape(1, -1))
    assert picture.shape == (1, len(LABELS), 3) and len(picture[0].unique(dim=0)) == len(LABELS)
    for wrong in (torch.tensor([len(LABELS)]), torch.tensor([-1])):
        with pytest.raises(InputError, match="labels"):
            label_picture(wrong)


def test_every_word_for_a_colour_has_a_value() -> None:
    for words, value in ((COLOUR_WORDS, colour_value), (HAIR_COLOUR_WORDS, hair_colour_value)):
        for name in words.values():
            assert all(0 <= channel <= 1 for channel in value(name))
    with pytest.raises(InputError, match="rainbow"):
        colour_value("rainbow")
