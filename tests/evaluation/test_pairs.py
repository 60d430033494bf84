"""Blind pairs: the page tells nothing, choices are decoded by the key, the interval is Wilson's."""

from __future__ import annotations

import json
import re

import pytest
import torch

from humannorm.checks import InputError
from humannorm.cli import main
from humannorm.evaluation.pairs import Count, count_choices, matching_pictures, wilson_interval, write_page
from humannorm.images import save_png


@pytest.fixture
def folders(tmp_path):
    for name, level in (("ours", 0.2), ("theirs", 0.8)):
        for number in range(12):
            save_png(tmp_path / name / f"human_{number}.png", torch.full((4, 4, 3), level))
    save_png(tmp_path / "ours" / "alone.png", torch.zeros(4, 4, 3))
    return tmp_path / "ours", tmp_path / "theirs"


def test_the_interval_is_where_the_normal_test_of_the_share_turns():
    """Wilson's ends are the p0 with |p - p0| = z sqrt(p0 (1 - p0) / n)."""
    for successes, trials in ((0, 5), (3, 10), (50, 60), (7, 7)):
        low, high = wilson_interval(successes, trials)
        share = successes / trials
        assert 0 <= low <= share <= high <= 1
        for end in (low, high):
            if 0 < end < 1:
                assert abs(share - end) == pytest.approx(1.959964 * (end * (1 - end) / trials) ** 0.5, rel=1e-6)
    assert wilson_interval(10, 20) == pytest.approx((0.2993, 0.7007), abs=1e-4)  # a known value
    with pytest.raises(InputError, match="trials"):
        wilson_interval(0, 0)


def test_the_page_tells_nothing_and_the_key_tells_all(folders, tmp_path):
    ours, theirs = folders
    page = write_page(ours, theirs, tmp_path / "out", seed=3, question="Which is <better>?")
    text = page.read_text(encoding="utf-8")
    assert "ours" not in text and "theirs" not in text and "human_" not in text and "&lt;better&gt;" in text
    pairs = json.loads(re.search(r"const pairs = (\[.*\]);", text).group(1))
    key = json.loads((tmp_path / "out" / "key.json").read_text(encoding="utf-8"))["pairs"]
    assert len(pairs) == len(key) == 12
    sides = {number: entry["left"] for number, entry in key.items()}
    assert set(sides.values()) == {"first", "second"}
    for pair in pairs:
        folder = ours if sides[pair["id"]] == "first" else theirs
        name = key[pair["id"]]["name"]
        assert (tmp_path / "out" / pair["left"]).read_bytes() == (folder / name).read_bytes()
    again = write_page(ours, theirs, tmp_path / "again", seed=3, question="Which is <better>?")
    other = write_page(ours, theirs, tmp_path / "other", seed=4)
    assert again.read_bytes() == page.read_bytes() != other.read_bytes()


def test_choices_are_counted_by_the_key(folders, tmp_path, capsys):
    ours, theirs = folders
    out = tmp_path / "out"
    assert main(["evaluate", "pairs", str(ours), str(theirs), "--out", str(out)]) == 0
    key = json.loads((out / "key.json").read_text(encoding="utf-8"))["pairs"]
    for_ours = {number: "left" if entry["left"] == "first" else "right" for number, entry in key.items()}
    choices = {**for_ours, "0": "same", "1": "left" if for_ours["1"] == "right" else "right"}
    for name, made in (("one", choices), ("two", {"5": for_ours["5"]})):
        (tmp_path / f"{name}.json").write_text(json.dumps({"choices": made}), encoding="utf-8")
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    assert count_choices(out, files) == (Count(11, 1, 1), "ours", "theirs")
    capsys.readouterr()
    arguments = ["evaluate", "pairs", str(ours), str(theirs), "--out", str(out), "--choices", *map(str, files)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "ours was preferred to theirs 11 of 12 times: 91.7 % (95 % interval 64.6 to 98.5); 1 times neither" in said
    (tmp_path / "one.json").write_text(json.dumps({"choices": {"99": "left"}}), encoding="utf-8")
    with pytest.raises(InputError, match="got pair 99"):
        count_choices(out, files)


def test_folders_that_have_nothing_in_common(folders, tmp_path):
    ours, theirs = folders
    assert "alone.png" not in matching_pictures(ours, theirs)
    save_png(tmp_path / "third" / "x.png", torch.zeros(4, 4, 3))
    with pytest.raises(InputError, match="got none in common"):
        matching_pictures(ours, tmp_path / "third")
    with pytest.raises(InputError, match="expected a folder of pictures"):
        matching_pictures(ours, tmp_path / "nothing")
