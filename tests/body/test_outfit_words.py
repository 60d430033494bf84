"""What a prompt says of clothes and hair: words, colours bound to their piece, negation, and what is told."""

from __future__ import annotations

import dataclasses

import pytest

from humannorm.body import (
    Outfit,
    completed,
    outfit_of_words,
    shape_of_words,
    words_of_outfit,
    words_of_shape,
)
from humannorm.body.outfit import CUTS, Piece, changed
from humannorm.checks import InputError


def worn(prompt: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Label -> cut and colours."""
    return {piece.label: (piece.cut, piece.colours) for piece in outfit_of_words(prompt).pieces}


def test_the_example_of_the_readme() -> None:
    assert worn("a young woman with long brown hair, wearing a red t-shirt, blue jeans and white shoes") == {
        "hair": ("long hair", ("brown",)),
        "top": ("t-shirt", ("red",)),
        "bottom": ("jeans", ("blue",)),
        "shoes": ("shoes", ("white",)),
    }


@pytest.mark.parametrize(
    ("words", "cut"),
    [
        ("sneakers", "sneakers"),
        ("trainers", "sneakers"),
        ("running shoes", "sneakers"),
        ("boots", "sturdy shoes"),
        ("loafers", "shoes"),
        ("a hoodie", "sweater"),
        ("a cardigan", "cardigan"),
        ("a pullover", "sweater"),
        ("a blouse", "blouse"),
        ("a tee", "t-shirt"),
        ("a tshirt", "t-shirt"),
        ("a button-down shirt", "shirt"),
        ("a flannel", "shirt"),
        ("a sports bra", "crop top"),
        ("leggings", "leggings"),
        ("tights", "leggings"),
        ("slacks", "trousers"),
        ("cargo pants", "trousers"),
        ("chinos", "trousers"),
        ("hot pants", "hot pants"),
        ("bermudas", "bermudas"),
        ("a mini skirt", "mini skirt"),
        ("a pencil skirt", "skirt"),
        ("a kilt", "wide skirt"),
        ("a beanie", "close cap"),
        ("a fedora", "hat"),
        ("a hijab", "hood"),
        ("a leather jacket", "jacket"),
        ("a blazer", "suit jacket"),
        ("a trench coat", "coat"),
        ("a lab coat", "short coat"),
        ("an evening gown", "gown"),
        ("a sundress", "dress"),
        ("a kimono", "robe"),
        ("pigtails", "ponytail"),
        ("a buzz cut", "cropped hair"),
        ("a pixie cut", "tousled hair"),
        ("shoulder-length hair", "bob"),
        ("curly hair", "afro"),
        ("a topknot", "bun"),
        ("waist-length hair", "long hair"),
    ],
)
def test_everyday_words(words: str, cut: str) -> None:
    assert cut in [piece.cut for piece in outfit_of_words(f"a person wearing {words}").pieces]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a blouse that is white and a skirt that is red", {"top": ("white",), "bottom": ("red",)}),
        ("shoes black, trousers blue", {"shoes": ("black",), "bottom": ("blue",)}),
        ("a woman in jeans, red shoes", {"bottom": (), "shoes": ("red",)}),
        ("a man wearing a t-shirt in red, blue jeans", {"top": ("red",), "bottom": ("blue",)}),
        ("a red and black striped t-shirt with navy trousers", {"top": ("red", "black"), "bottom": ("navy",)}),
        ("t-shirt red and jeans blue", {"top": ("red",), "bottom": ("blue",)}),
        ("a woman, skirt: yellow, blouse: purple", {"bottom": ("yellow",), "top": ("purple",)}),
        ("a woman in a white, flowing dress", {"dress": ("white",)}),
        ("her t-shirt is green and her trousers are brown", {"top": ("green",), "bottom": ("brown",)}),
        ("blue eyes, wearing jeans", {"bottom": ()}),
        ("a woman with blue eyes and red lips in a black dress", {"dress": ("black",)}),
        ("a man with dark brown skin in a white shirt", {"top": ("white",)}),
        ("dark blue jeans and an olive green cardigan", {"bottom": ("navy",), "outer": ("olive",)}),
        ("a redhead in a green gown", {"hair": ("red",), "dress": ("green",)}),
        ("a woman whose hair is black, in a skirt", {"hair": ("black",), "bottom": ()}),
        ("a woman with black hair tied in a ponytail", {"hair": ("black",)}),
        ("a woman with black long hair and blue shorts", {"hair": ("black",), "bottom": ("blue",)}),
        ("a man wearing blue and white sneakers, grey joggers", {"shoes": ("blue", "white"), "bottom": ("grey",)}),
        ("a red dress on a green background", {"dress": ("red",)}),
        ("a man in blue jeans shorts", {"bottom": ("blue",)}),
    ],
)
def test_colours_are_bound_to_their_piece_in_any_order(prompt: str, expected: dict[str, tuple[str, ...]]) -> None:
    assert {label: colours for label, (_, colours) in worn(prompt).items()} == expected


@pytest.mark.parametrize("prompt", ["a (red:1.3) coat, [blue] jeans", "((red)) coat BREAK <lora:a:1> blue++ jeans"])
def test_weights_leave_colours_with_their_pieces(prompt: str) -> None:
    assert str(outfit_of_words(prompt)) == str(outfit_of_words("a red coat, blue jeans"))


@pytest.mark.parametrize(
    "prompt",
    [
        "an old man in a navy suit, a light blue shirt and brown shoes, bald",
        "a slim young woman in a red and white striped t-shirt, denim jeans, barefoot, with a blond ponytail",
        "a person in a brown tweed coat and a flat cap",
        "a muscular man dressed in black",
        "a gardener in a straw hat and denim overalls",
    ],
)
def test_an_outfit_in_words_is_read_as_the_same(prompt: str) -> None:
    def pieces(outfit: Outfit) -> set[tuple[object, ...]]:
        return {(each.cut, each.label, each.colours, each.pattern, each.material) for each in outfit.pieces}

    first, shape = outfit_of_words(prompt), shape_of_words(prompt)
    sentence = f"{words_of_shape(shape)} wearing {words_of_outfit(first)}"
    again = outfit_of_words(sentence)
    assert pieces(again) == pieces(first) and shape_of_words(sentence) == shape
    assert (again.bald, again.barefoot, again.colours_said) == (first.bald, first.barefoot, first.colours_said)


def test_what_is_said_takes_the_place_of_what_is_worn_there() -> None:
    worn = outfit_of_words("a woman in a red dress, black shoes and a hat, long brown hair")
    top = changed(worn, outfit_of_words("a green hoodie"))
    assert {piece.label for piece in top.pieces} == {"top", "shoes", "hat", "hair"}  # a dress is a top and a bottom
    assert top.of("top")[0].colours == ("green",) and top.of("shoes") == worn.of("shoes")
    bare = changed(worn, outfit_of_words("barefoot, bald"))
    assert {piece.label for piece in bare.pieces} == {"dress", "hat"} and bare.barefoot and bare.bald
    assert not changed(bare, outfit_of_words("short blond hair")).bald
    suit = changed(outfit_of_words("a navy suit, a white shirt"), outfit_of_words("grey jeans"))
    assert words_of_outfit(suit) == "grey jeans, white shirt, navy suit jacket"


def test_patterns_are_kept() -> None:
    (shirt,) = outfit_of_words("a man in a red and black checked shirt").pieces
    assert (shirt.pattern, str(shirt)) == ("checked", "red and black checked shirt")


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        ("a woman without long hair, not wearing a skirt", set()),
        ("a knight in armour, no dress", set()),
        ("a man with no hat and no shoes, in jeans", {"bottom"}),
        ("a man without a hat or a coat, wearing a shirt", {"top"}),
        ("a man without hat and coat, wearing a shirt", {"top"}),
        ("a woman who never leaves the house without her cardigan", {"outer"}),
        ("a man, no shoes, without a hat", set()),
        ("a woman in trousers instead of a skirt", {"bottom"}),
        ("no dress, but a blouse and jeans", {"top", "bottom"}),
        ("a woman who isn't wearing a hat, with a ponytail", {"hair"}),
        ("a woman in a dress, not in red", {"dress"}),
        ("a woman in jeans with neither a hat nor a coat", {"bottom"}),
        ("a knight in trousers, never wearing a dress", {"bottom"}),
        ("a man in a shirt, minus the hat", {"top"}),
    ],
)
def test_negated_pieces_are_taken_back(prompt: str, left: set[str]) -> None:
    assert set(worn(prompt)) == left


def test_a_skirt_that_is_not_worn_leaves_trousers_and_hair_that_is_not_long_is_there() -> None:
    prompt = "a woman without long hair, not wearing a skirt"
    whole = completed(outfit_of_words(prompt), shape_of_words(prompt))
    assert not whole.bald and whole.of("bottom")[0].cut == "jeans" and whole.of("hair")[0].cut == "bob"


def test_several_pieces_of_a_kind_lie_over_each_other() -> None:
    pieces = [(piece.cut, piece.label) for piece in outfit_of_words("a sweater over a white shirt").pieces]
    assert pieces == [("shirt", "top"), ("sweater", "outer")]
    pieces = [(piece.cut, piece.label) for piece in outfit_of_words("a skirt over black leggings").pieces]
    assert pieces == [("leggings", "legwear"), ("skirt", "bottom")]
    suit = outfit_of_words("a man in a black suit, white shirt")
    assert suit.colours()["outer"] == suit.colours()["bottom"] != suit.colours()["top"]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a man wearing a flurble and jeans", "flurble"),
        ("a knight in armour", "armour"),
        ("a woman in a skirt, with glasses", "glasses"),
        ("a man in boots", "boots as sturdy shoes"),
        ("eine Frau mit roten Haaren", "no clothes or hair"),
        ("a naked man", "always dressed"),
        ("a child in a t-shirt", "adults here"),
        ("a 10 year old in jeans", "adults here"),
    ],
)
def test_what_cannot_be_made_is_told(prompt: str, said: str) -> None:
    assert said in " ".join(outfit_of_words(prompt).told)


def test_nothing_is_told_where_all_is_understood() -> None:
    assert outfit_of_words("a tall man with short hair, wearing a red shirt, black trousers and shoes").told == ()
    assert outfit_of_words("").told == ()


def test_what_is_not_named_is_plain_and_what_is_named_stays() -> None:
    prompt = "a man in a red t-shirt"
    named = outfit_of_words(prompt)
    whole = completed(named, shape_of_words(prompt))
    assert set(named.pieces) < set(whole.pieces)
    assert [piece.label for piece in whole.pieces] == ["shoes", "bottom", "top", "hair"]
    assert all(piece.colours for piece in whole.pieces)
    dressed = completed(outfit_of_words("a woman in a dress"), shape_of_words("a woman"))
    assert not dressed.of("top", "bottom") and dressed.of("dress")


def test_bald_and_barefoot_are_respected_and_black_is_of_everything() -> None:
    prompt = "a bald man, barefoot, dressed in black"
    whole = completed(outfit_of_words(prompt), shape_of_words(prompt))
    assert [piece.label for piece in whole.pieces] == ["bottom", "top"]
    assert {piece.colours for piece in whole.pieces} == {("black",)}


def test_a_hijab_hides_the_hair() -> None:
    whole = completed(outfit_of_words("a woman in a blue hijab"), shape_of_words("a woman"))
    assert not whole.of("hair") and whole.of("hat")[0].colours == ("blue",)


def test_reading_is_stable_under_case_and_punctuation() -> None:
    prompt = "A YOUNG WOMAN with LONG hair; wearing: a Red T-Shirt!"
    assert worn(prompt) == worn(prompt.lower())


@pytest.mark.parametrize(
    "prompt", ["\x00\U0001f600" * 50, "and and , , with no not", "a" * 5000, "the in of is that red"]
)
def test_hostile_prompts_are_read_as_nothing(prompt: str) -> None:
    assert outfit_of_words(prompt).pieces == ()


def test_pieces_refuse_what_does_not_exist() -> None:
    for wrong in ({"cut": "mohawk"}, {"label": "nose"}, {"colours": ("rainbow",)}):
        with pytest.raises(InputError):
            dataclasses.replace(Piece("t-shirt", "top"), **wrong)


def test_an_outfit_can_be_read() -> None:
    assert str(outfit_of_words("a red t-shirt and blue jeans")) == "blue jeans, red t-shirt"
    assert str(Outfit()) == "nothing"
    assert all(cut.label for cut in CUTS.values())


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a man in a black leather jacket and blue jeans", {"outer": "leather", "bottom": "denim"}),
        ("a woman in a dress of red velvet and a straw hat", {"dress": "velvet", "hat": "straw"}),
        ("a coat made of wool, a silk blouse", {"outer": "wool", "top": "silk"}),
        ("a shiny black latex dress and rubber boots", {"dress": "latex", "shoes": "rubber"}),
        ("a denim skirt and a satin shirt", {"bottom": "denim", "top": "silk"}),
        ("a puffer jacket over a t-shirt", {"outer": "nylon", "top": "cotton"}),
        ("a red jacket and a leather bag, grey trousers", {"outer": "cotton", "bottom": "wool"}),
        ("a knight in armour", {"top": "metal", "bottom": "metal", "shoes": "metal", "hair": "hair"}),
        ("a rocker dressed in leather", {"top": "leather", "bottom": "leather"}),
        ("a person without armour in a t-shirt", {"top": "cotton", "shoes": "cotton"}),
        ("a woman with copper hair, a heavy metal fan in a t-shirt", {"hair": "hair", "top": "cotton"}),
        ("a cowboy in a t-shirt and cowboy boots", {"top": "cotton", "shoes": "leather"}),
    ],
)
def test_materials_belong_to_their_piece(prompt: str, expected: dict[str, str]) -> None:
    found = completed(outfit_of_words(prompt), shape_of_words(prompt)).materials()
    assert found.items() >= {"skin": "skin", **expected}.items()


def test_a_word_for_a_material_leaves_the_colours_with_their_piece() -> None:
    assert worn("black leather jacket, a shirt of white silk, red velvet skirt") == {
        "outer": ("jacket", ("black",)),
        "top": ("shirt", ("white",)),
        "bottom": ("skirt", ("red",)),
    }
    assert worn("a woman with copper hair")["hair"] == worn("a woman with red hair")["hair"]


@pytest.mark.parametrize(
    ("prompt", "colour"),
    [
        ("a denim jacket", "navy"),
        ("a red denim jacket", "red"),
        ("a jacket", "brown"),
        ("dressed in black, a denim jacket", "black"),
    ],
)
def test_denim_is_blue_unless_it_is_said_otherwise(prompt: str, colour: str) -> None:
    (jacket,) = completed(outfit_of_words(prompt), shape_of_words(prompt)).of("outer")
    assert jacket.colours == (colour,)


def test_a_material_must_be_known() -> None:
    with pytest.raises(InputError, match="material: expected"):
        Piece("shirt", "top", material="paper")
