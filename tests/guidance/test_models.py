"""What a model folder's card says."""

from __future__ import annotations

import pytest

from humannorm import models
from humannorm.cameras import CAMERA_PLANS
from humannorm.checks import InputError


def test_card_hands_the_camera_plan_on(tmp_path):
    assert models.camera_plan(tmp_path) is None
    models.write_card(tmp_path, CAMERA_PLANS["full_body"], licence="CC0")
    assert models.camera_plan(tmp_path) == CAMERA_PLANS["full_body"]


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_cards_that_say_nothing(tmp_path, text):
    (tmp_path / models.CARD).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"model_card\.json: expected a JSON object with a camera_plan"):
        models.camera_plan(tmp_path)


def test_a_card_may_name_a_size_over_starts(tmp_path):
    assert models.resolution_over_start(tmp_path) is None
    for facts, size in (({}, None), ({"resolution_over_start": 256}, 256)):
        models.write_card(tmp_path, CAMERA_PLANS["full_body"], **facts)
        assert models.resolution_over_start(tmp_path) == size
    for wrong in ("large", 0, 2.5):
        models.write_card(tmp_path, CAMERA_PLANS["full_body"], resolution_over_start=wrong)
        with pytest.raises(InputError, match="expected resolution_over_start to be a number of pixels"):
            models.resolution_over_start(tmp_path)


def test_without_weights_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(InputError, match="humannorm train small"):
        models.bundled_folder()
