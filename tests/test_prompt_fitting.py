"""Long prompts keep their kind, part and view; markup of other programs is taken out; what is left out is said."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch

from humannorm.cameras import PARTS, VIEWS
from humannorm.guidance import DiffusersDenoiser
from humannorm.prompt_fitting import fit_prompt, plain_words, words_and_suffix
from humannorm.prompts import MODALITIES, TEXT_RULES, Prompts

LONG = "a young woman with " + ", ".join(f"{color} {thing}" for color in ("red", "blue") for thing in "abcdefghijklmn")


def words(text: str) -> int:
    """A tokenizer that knows words and commas."""
    return len(text.replace(",", " , ").split())


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("a man in a (red coat:1.3)", "a man in a red coat"),
        ("a ((very old)) man", "a very old man"),
        ("a [bald] man, {blue} jeans", "a bald man, blue jeans"),
        ("(a (red:1.2) coat:1.4), jeans", "a red coat, jeans"),
        ("a man BREAK red coat", "a man, red coat"),
        ("a man, BREAK\nred coat", "a man, red coat"),
        ("<lora:people:0.8> a man, <hypernet:x>", "a man"),
        ("a man, embedding:easy-neg.pt, coat", "a man, coat"),
        ("a red++ coat and (blue jeans)1.2, shoes--", "a red coat and blue jeans, shoes"),
        ("a red::2 coat", "a red coat"),
        ("a [young:old:0.5] man in a [red|blue] coat", "a old man in a red coat"),
        (r"a man \(old\)", "a man (old)"),
        ("a t-shirt, 18-year-old, 3/4 sleeves; C++", "a t-shirt, 18-year-old, 3/4 sleeves; C"),
        ("a man (", "a man ("),
        ("a man in a t-shirt", "a man in a t-shirt"),
    ],
)
def test_markup_is_taken_out_and_nothing_else(prompt, plain):
    assert plain_words(prompt) == plain


@pytest.mark.parametrize("rule", TEXT_RULES)
@pytest.mark.parametrize("modality", MODALITIES)
def test_every_suffix_is_found_again(modality, rule):
    prompts = Prompts("a man, standing tall", modality, rule=rule)
    for part, view in itertools.product(PARTS, VIEWS):
        found, suffix = words_and_suffix(prompts.text(part, view))
        assert found == "a man, standing tall" and found + suffix == prompts.text(part, view)
    assert words_and_suffix("a man, sitting, front view") == ("a man", ", sitting, front view")
    assert words_and_suffix("full body of a man") == ("full body of a man", "")


@pytest.mark.parametrize("modality", MODALITIES)
def test_long_prompts_keep_their_suffix_and_lose_the_same_words_in_every_view(modality):
    prompts = Prompts(LONG + ", standing", modality)
    texts = {key: prompts.text(*key) for key in itertools.product(PARTS, VIEWS)}
    with pytest.warns(UserWarning, match=r"reads 24 tokens, kind, part and view among them; cut off: '") as said:
        fitted = {key: fit_prompt(text, 24, words) for key, text in texts.items()}
    assert len({str(warning.message) for warning in said}) == 1
    kept = {words_and_suffix(text)[0] for text in fitted.values()}
    assert len(kept) == 1 and LONG.startswith(kept.pop())
    for key, text in fitted.items():
        assert words(text) <= 24 and words_and_suffix(text)[1] == words_and_suffix(texts[key])[1]
    assert max(words(text) for text in fitted.values()) >= 22  # no more is cut than must be


def test_what_fits_is_left_as_it_is():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = Prompts("a man, in a  coat", "normal").text("full", "left")
        assert fit_prompt(text, 30, words) == text
        assert fit_prompt("", 30, words) == ""


def test_one_endless_word_is_cut_within():
    with pytest.warns(UserWarning, match="cut off"):
        assert fit_prompt("y" * 300 + ", front view", 40, len) == "y" * 11 + ", front view"


@pytest.mark.filterwarnings("ignore:prompt")
def test_views_parts_and_kinds_of_a_long_prompt_differ_for_the_network(tiny_sd):
    guide = DiffusersDenoiser.load(tiny_sd("epsilon"))
    texts = [
        Prompts(LONG * 4, kind).text(part, view)
        for kind, part, view in (
            ("normal", "full", "front"), ("normal", "full", "back"), ("normal", "head", "front"),
            ("depth", "full", "front"), ("color", "full", "front"),
        )
    ]  # fmt: skip
    encoded = guide.condition(texts, guidance_scale=1.0).positive
    for first, second in itertools.combinations(encoded, 2):
        assert float((first - second).abs().max()) > 1e-3


def test_short_prompts_are_encoded_as_ever(tiny_sd):
    guide = DiffusersDenoiser.load(tiny_sd("epsilon"))
    text = "a young man in a red t-shirt, front view"
    tokens = guide.tokenizer(text, padding="max_length", max_length=77, return_tensors="pt")
    expected = guide.text_encoder(tokens.input_ids).last_hidden_state
    assert torch.equal(guide.encode_prompts([text]), expected)
    with pytest.warns(UserWarning, match="weights, BREAK and tags are left out"):
        assert torch.equal(guide.encode_prompts(["a young man in a (red t-shirt:1.2), front view"]), expected)
