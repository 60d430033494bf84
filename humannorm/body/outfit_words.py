"""The one reader of what a sentence says of clothes and hair.

The prompt is cut into tokens: pieces, colours, patterns, materials, negations, borders between phrases, other words. A
run of colours, patterns and materials belongs to the piece that ends its phrase ("red and black striped t-shirt"), or,
where its phrase has none, to the piece before it ("a blouse that is white", "shoes black"). Negated pieces are taken
back. What somebody wears and could not be read is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from humannorm.body.outfit import CUTS, Outfit, Piece, in_order
from humannorm.body.words import names_a_child
from humannorm.checks import InputError
from humannorm.colours import COLOUR_WORDS, HAIR_COLOUR_WORDS
from humannorm.prompt_fitting import plain_words

__all__ = ["check_people", "outfit_of_words", "told_of_people", "words_of_outfit"]

# Cut and its words, as patterns; of two that begin at one place the longer match counts. "suit" and the like are two
# pieces in one.
_CUT_WORDS: Mapping[str, str] = {
    "loose t-shirt": r"(loose|oversized?|baggy) (t-? ?shirt|tee( shirt)?|top)",
    "t-shirt": r"t-? ?shirts?|tees?( shirt)?|polo( shirt)?|jersey|tank ?top|singlet|undershirt|camisole|top(?! ?hat)",
    "crop top": r"crop(ped)?[- ]?(top|t-? ?shirt|tee|sweater)|sports? bra|bra top|halter ?(top|neck)?|tube top|bandeau"
    r"|short top",
    "blouse": r"blouses?|tunics?",
    "shirt": r"(dress |button-?(up|down) |flannel |hawaiian |denim |linen )?shirts?|flannel|button-?(up|down)",
    "sweater": r"sweaters?|jumpers?|pull-?overs?|(hooded )?sweat-?shirts?|hoodies?|hoody|turtle-?necks?"
    r"|knitwear|fleece|long[- ]sleeved? (t-? ?shirt|top|tee)",
    "jacket": r"((leather|denim|jean|bomber|puffer|down|biker|motorcycle|rain|track|varsity|winter|quilted) ?)?jackets?"
    r"|parkas?|anoraks?|wind-?breakers?|waist-?coats?|gilets?|(safety |hi-vis )?vests?",
    "cardigan": r"cardigans?",
    "suit jacket": r"blazers?|(suit|sports?|dinner|tuxedo) (jacket|coat)",
    "coat": r"((long|trench|winter|over|wool|duffle|fur)[- ]?){0,2}coats?|trench",
    "short coat": r"(lab|rain|pea|car|short|chef'?s)[- ]?coats?",
    "robe": r"(bath|dressing )?robes?|kimonos?|cassocks?|abayas?|caftans?|kaftans?",
    "jeans": r"((skinny|slim) )?jeans|denims|denim(?! \w)",
    "wide jeans": r"(loose|baggy|wide|straight|flared|bootcut|boot-cut|mom) jeans",
    "trousers": r"trousers|(sweat ?|cargo |dress |suit |wide |linen |leather |track ?)?pants|slacks|chinos|khakis"
    r"|joggers|culottes|corduroys",
    "shorts": r"(denim |cargo |sports? |running |gym |jeans? |swim |short )?shorts|short pants|(swim(ming)? )?trunks",
    "hot pants": r"hot ?-?(pants|shorts)|micro shorts|short shorts",
    "bermudas": r"bermudas?( shorts)?|(long|knee-length|board) ?shorts|capris?( pants)?",
    "leggings": r"(sports? )?leggings|tights|yoga pants|stockings|pantyhose|nylons",
    "skirt": r"(pencil |tight |straight |business |knee-length )?skirts?",
    "mini skirt": r"(mini|short)[- ]?skirts?|short (\w+ )?skirts?",
    "wide skirt": r"(pleated|flared|circle|a-line|full|tennis|midi|plaid) ?-?skirts?|kilts?|tutus?",
    "long skirt": r"(long|maxi|floor-length|ankle-length) (\w+ )?skirts?|maxi-?skirts?|sarongs?",
    "dress": r"(sun|cocktail |midi |knee-length |summer |tea )?-?dress(es)?(?! shoes| shirt| pants| trousers)|pinafore"
    r"|frock",
    "short dress": r"(short|mini) (\w+ ){0,2}dress|mini-?dress",
    "long dress": r"(long|maxi|floor-length) (\w+ ){0,2}dress|maxi-?dress|saris?|sarees?",
    "gown": r"(evening |wedding |ball ?|bridal )?gowns?|(evening|wedding|ball|bridal|prom) dress",
    "shoes": r"(leather |dress |lace-up |patent )?shoes|oxfords|brogues|loafers|moccasins|clogs",
    "sturdy shoes": r"(hiking |work |combat |ankle |cowboy |leather |chelsea |army |winter )?boots|(high )?heels|pumps"
    r"|stilettos|wellingtons|wellies|timberlands",
    "sneakers": r"sneakers|trainers|(sports?|running|tennis|basketball|gym|canvas|athletic) shoes|plimsolls|converse",
    "hat": r"(straw |felt |top |cowboy |bowler |panama |sun )?-?hats?|fedoras?|trilby|trilbies|bowler|stetson|sombrero",
    "cocked hat": r"(cocked|tilted|slanted|jaunty) (\w+ )?(hat|fedora)",
    "close cap": r"beanies?|(woolly|wool|woolen|knit(ted)?|winter|bobble) (hat|cap)"
    r"|(baseball |flat |peaked |swim(ming)? )?caps?|berets?|helmets?|turbans?|bandanas?|skull ?cap",
    "hood": r"hoods?|hijabs?|head-?scar(f|ves)|niqabs?|veils?|wimple|balaclava",
    "afro": r"afros?( hair)?|curly( \w+){0,2} hair|(very |tight |big )?curls|frizzy( \w+)? hair",
    "ponytail": r"pony-? ?tails?|pig-?tails|twin-?tails",
    "braid": r"(french |dutch )?(braid(s|ed)?|plait(s|ed)?)( hair)?|cornrows|dread-?locks|dreads",
    "bun": r"(hair )?buns?|chignon|up-?do|top-?knot",
    "wavy bob": r"(wavy|messy|curly|tousled) (bob|(medium|shoulder|chin)-? ?length hair)( hair| cut| haircut)?",
    "bob": r"bob(bed)?( hair)?( ?cut)?|((shoulder|chin|medium|mid)-? ?length|medium) hair|pageboy",
    "long hair": r"long[- ]?haired|((very )?long|flowing|waist-length|straight|loose|wavy)( \w+){0,2} hair"
    r"|hair (that is )?long",
    "tousled hair": r"(messy|tousled|spiky|wild|shaggy|curly short|short curly|choppy)( short)? hair|pixie( cut)?"
    r"|mohawk",
    "full short hair": r"(slicked[- ]back|swept[- ]back|combed[- ]back|thick short|quiff(ed)?|pompadour)( hair)?|quiff",
    "cropped hair": r"(buzz|crew)[- ]?cut|((closely )?cropped|very short|shaved|buzzed|receding|thin(ning)?) hair",
    "short hair": r"(short|side-parted|neat)[- ]?haired|(short|neat|parted|side-parted|short-cut)( \w+){0,2} hair"
    r"|short hair ?cut|hair (that is )?short",
}
_HAIR_ONLY = (
    r"hair(ed)?(cut)?|brunette|redhead|blonde?(?= (wo)?m[ae]n| girl| boy| lady| guy| person|,|$| with| in| wearing)"
)
_PAIRS: Mapping[str, tuple[str, str]] = {
    r"(business |three-piece |two-piece |pinstripe |dinner |wedding )?suits?|tuxedos?|pantsuits?|smoking": (
        "suit jacket",
        "trousers",
    ),
    r"track-?suits?|(sports?|jogging|shell) suits?": ("sweater", "trousers"),
    r"(jump|boiler|flight)[- ]?suits?|overalls?|dungarees|coveralls|onesies?|rompers?": ("shirt", "trousers"),
    r"(police |school |nurse'?s? |military |army )?uniforms?|scrubs": ("shirt", "trousers"),
    r"pyjamas?|pajamas?": ("shirt", "trousers"),
    r"skirt suits?": ("suit jacket", "skirt"),
    r"sports?-?wear|gym (clothes|wear|outfit)|swim-?suits?|leotards?|bathing suits?|bikinis?": ("crop top", "shorts"),
}
_STAND_INS = (
    r"hoodies?|hoody|tank ?top|singlet|polo( shirt)?|waist-?coats?|gilets?|vests?|boots|heels|pumps"
    r"|stilettos|wellingtons|wellies|caps?|baseball cap|helmets?|turbans?|berets?|top hat|cowboy hat|straw hat"
    r"|sombrero|pig-?tails|twin-?tails|cornrows|dread-?locks|dreads|mohawk|jump-?suits?|overalls?|dungarees|coveralls|pyjamas?|pajamas?"
    r"|uniforms?|scrubs|swim-?suits?|leotards?|bikinis?|bathing suits?|saris?|sarees?|kimonos?|culottes|hiking boots"
)
"""Of what is made in the nearest cut that there is: said to the user."""
_NOT_MADE = (
    r"armou?r|chain-?mail|capes?|cloaks?|wings?|glasses|sun-?glasses|goggles|scar(f|ves)|gloves?|mittens|belts?|neck-?ties?"
    r"|bow-?ties?|ties?|bags?|back-?packs?|hand-?bags?|purses?|beard(ed)?|moustache|mustache|socks|jewel(le)?ry"
    r"|neck-?lace|ear-?rings?|watch(es)?|bracelets?|crowns?|tiaras?|masks?|swords?|shields?|aprons?|suspenders|braces"
    r"|ponchos?|shawls?|togas?|sandals?|flip-?flops|slippers|umbrellas?|headphones|tails?|horns?"
)
_UNDRESSED = r"naked|nude|shirtless|topless|undressed|unclothed|lingerie|under-?wear|panties|bare-?chested|thongs?"
_BALD = r"bald(ing|-headed)?|shaved head|hairless|no hair"
_BAREFOOT = r"bare-?foot(ed)?|bare feet|shoeless"
_PATTERNS = (
    r"striped?|stripes|checkered|chequered|checked|plaid|tartan|floral|flowered|flowery|polka-?dot(ted)?|dotted|patterned"
    r"|camouflage|camo|leopard|paisley"
)
_MATERIAL_WORDS: Mapping[str, str] = {
    "patent leather": r"patent( leather)?",
    "suede": r"suede|nubuck",
    "leather": r"(faux |fake |vegan )?leather",
    "denim": r"denim",
    "linen": r"linen|burlap|hemp|canvas",
    "cotton": r"cotton|flannel|corduroys?|jersey",
    "wool": r"wool|woolly|woolen|woollen|knit|knitted|cashmere|tweed|fleece|felt(?= hat)",
    "fur": r"(faux |fake )?fur|furry|shearling",
    "velvet": r"velvet|velour",
    "silk": r"silk|silken|silky|satin|chiffon",
    "nylon": r"nylon|polyester|spandex|lycra|puffer|quilted|waterproof",
    "latex": r"latex|vinyl|pvc",
    "rubber": r"rubber|neoprene",
    "straw": r"straw(?! hair)|raffia|wicker",
    "sequins": r"sequins?|sequin(n)?ed|glitter(y|ing)?",
    "metal": r"(?<!heavy )metal|metallic|steel|chrome|brass|bronze|armou?r(ed)?|chain-?mail|lam[e\u00e9]",
}
"""Material and its words, as patterns."""
_BROUGHT: Mapping[str, str] = {
    "denim": r"jeans?|denims",
    "leather": r"biker|motorcycle|cowboy boots",
    "suede": r"moccasins",
    "wool": r"knitwear",
    "nylon": r"nylons|wind-?breakers?|anoraks?|parkas?|tights|stockings|pantyhose|track-?suits?|leotards?|bikinis?"
    r"|swim-?suits?|shell suits?|rain ?(jacket|coat)s?",
    "rubber": r"wellingtons|wellies",
    "straw": r"sombrero|panama",
}
"""The same of words for pieces that bring a material along ("a parka")."""
_ARMOUR = r"armou?r|chain-?mail"  # says what everything is of, though it is not made
_NEGATIONS = (
    r"without|neither|not wearing|isn'?t wearing|is not wearing|never (?:wears|wearing|in)|not in|doesn'?t wear"
    r"|does not wear|wears no|wearing no|has no|minus|lacks|free of|devoid of|no|not|never|instead of|rather than"
    r"|lacking"
)
_LINKS = frozenset({"that", "which", "is", "are", "in", "of", "made", "(", ":"})  # between a piece and its colour after
_JOINS = frozenset({"and", "or", "&", "+", "/", ","})  # between colours of one piece
_QUALITIES = ("colour", "pattern", "material")  # kinds of tokens that are said of a piece
_ENDS = frozenset({",", ";", ".", ":", "!", "?", "(", ")", "but", "with", "wearing", "wears", "who", "dressed in"})
_BORDERS = (
    r"wearing|wears|dressed in|dressed|with|in|on|over|under|and|but|who|which|that|is|are|has|having|plus|above|below"
    r"|beneath|of|or|nor"
)
_OTHER_NOUNS = (
    r"skin(ned)?|eyes?|eyed|lips?|nails?|background|wall|backdrop|light(ing)?|ground|floor|face|body|wom[ae]n|m[ae]n|lady"
    r"|guy|girl|boy|person|people|male|female|gentleman|adult|mother|father|grandmother|grandfather"
)
_ARTICLES = r"an?|the|his|her|their|some|pairs?|my|your"
_FILLERS = re.compile(  # words that go with clothes and name none
    r"very|long|short|young|old|slim|thin|heavy|fat|muscular|new|plain|simple|casual|elegant|formal|smart|nice|beautiful"
    r"|clean|matching|fitted|tight|loose|worn|lace|ripped|made|shiny|glossy|faded|classic|modern|traditional|stylish|fashionable|clothes|clothing|outfit|attire|look|style|colou?red"
)
_EITHER_WORDS = {**COLOUR_WORDS, **HAIR_COLOUR_WORDS}
_NO_COLOUR_ALONE = {"dark", "fair", "brunette", "redhead"}
_COLOUR = "|".join(
    re.escape(word).replace(r"\ ", "[ -]")
    for word in sorted(set(_EITHER_WORDS) - _NO_COLOUR_ALONE, key=lambda word: (-len(word), word))
)


@dataclass(frozen=True)
class _Token:
    kind: str  # of _TABLE
    text: str
    cuts: tuple[str, ...] = ()


def _whole_words(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{words})(?!\w)")


_TABLE: tuple[tuple[str, re.Pattern[str], tuple[str, ...]], ...] = (
    ("undressed", _whole_words(_UNDRESSED), ()),
    ("bald", _whole_words(_BALD), ()),
    ("barefoot", _whole_words(_BAREFOOT), ()),
    *(("piece", _whole_words(words), cuts) for words, cuts in _PAIRS.items()),
    *(("piece", _whole_words(words), (cut,)) for cut, words in _CUT_WORDS.items()),
    ("piece", _whole_words(_HAIR_ONLY), ("short hair",)),
    ("absent", _whole_words(_NOT_MADE), ()),
    ("no", _whole_words(_NEGATIONS), ()),
    ("pattern", _whole_words(_PATTERNS), ()),
    ("material", _whole_words("|".join(f"(?:{words})" for words in _MATERIAL_WORDS.values())), ()),
    ("colour", _whole_words(rf"(?:{_COLOUR})(?:-?(?:colou?red|ish))?"), ()),
    ("noun", _whole_words(_OTHER_NOUNS), ()),
    ("article", _whole_words(_ARTICLES), ()),
    ("border", _whole_words(_BORDERS), ()),
    ("border", re.compile(r"[,;.:!?()/&+]"), ()),
    ("word", re.compile(r"[^\W_][\w'-]*"), ()),
)
"""Kinds of tokens; the longest match counts, of equals the first."""


def outfit_of_words(prompt: str) -> Outfit:
    """What a prompt says of clothes and hair, and in `told` what of it could not be read or made.

    >>> print(outfit_of_words("a woman with a bob, in a red and white striped t-shirt and no shoes"))
    red and white striped t-shirt, bob
    """
    tokens = _tokens(plain_words(prompt).lower().replace("\u2019", "'"))
    negated = _negated(tokens)
    owners = _owners(tokens)
    pieces = []
    for place, token in enumerate(tokens):
        if token.kind == "piece" and place not in negated:
            said = {kind: _said(tokens, owners, place, kind) for kind in _QUALITIES}
            pieces += [_piece(cut, token.text, said) for cut in token.cuts]
    everything = _said(tokens, owners, ALL, "colour")
    armour = [token.text for k, token in enumerate(tokens) if re.fullmatch(_ARMOUR, token.text) and k not in negated]
    material = _material([*_said(tokens, owners, ALL, "material"), *armour])
    stays = {kind for place, token in enumerate(tokens) if place not in negated for kind in [token.kind]}
    no_hair = any(_is_hair(tokens[place]) and not _names_a_style(tokens[place]) for place in negated)
    return Outfit(
        pieces=in_order(tuple(_settled(pieces, everything, material))),
        told=(*told_of_people(prompt), *_told(tokens, negated, pieces, everything)),
        bald="bald" in stays or no_hair,
        barefoot="barefoot" in stays or any(_cut_label(tokens[place]) == "shoes" for place in negated),
        colours_said=_names(everything, "top"),
        material_said=material,
    )


def check_people(prompt: str) -> None:
    """Raise `InputError` where a child is to be drawn undressed."""
    undressed = re.search(rf"\b({_UNDRESSED})\b", prompt, re.IGNORECASE)
    if undressed is not None and names_a_child(prompt):
        raise InputError(f"prompt: expected adults, who are dressed, got a child and the word {undressed[0]!r}")


def told_of_people(prompt: str) -> tuple[str, ...]:
    """A sentence where a child is asked for: an adult is made."""
    return ("people are adults here",) if names_a_child(prompt) else ()


def _said(tokens: Sequence[_Token], owners: Mapping[int, int], of: int, kind: str) -> list[str]:
    """The words of a kind that are said of the piece at a place, or of everything."""
    return [tokens[place].text for place, owner in owners.items() if owner == of and tokens[place].kind == kind]


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    place = 0
    while place < len(text):
        best: _Token | None = None
        for kind, pattern, cuts in _TABLE:
            match = pattern.match(text, place)
            if match and len(match.group()) > (len(best.text) if best else 0):
                best = _Token(kind, match.group(), cuts)
        found += [] if best is None else _with_colours_apart(best)
        place += len(best.text) if best else 1
    return found


def _with_colours_apart(token: _Token) -> list[_Token]:
    """A piece with colours among its words, such as "long black hair", as the colours and the piece."""
    inside = re.findall(rf"\b(?:{_COLOUR})\b", token.text) if token.kind == "piece" else []
    if not inside or inside == [token.text]:
        return [token]
    rest = re.sub(rf"\b(?:{_COLOUR})\b ?", "", token.text).strip()
    return [*(_Token("colour", word) for word in inside), replace(token, text=rest)]


def _negated(tokens: Sequence[_Token]) -> set[int]:
    """Places of what a negation before it takes back: up to the next border, and further only over "or" and "nor"; of
    the wordier negations also over "and" to a piece that is no more than named."""
    found: set[int] = set()
    for start in (place for place, token in enumerate(tokens) if token.kind == "no" and not _undone(tokens, place)):
        met = False
        for place in range(start + 1, len(tokens)):
            token = tokens[place]
            if token.kind in ("piece", "absent", "bald", "barefoot", "undressed"):
                found.add(place)
                met = True
            elif token.text in _ENDS or token.kind == "no":
                break
            elif met and token.text in ("and", "&", "+"):
                following = [each.kind for each in tokens[place + 1 : place + 3]]
                if tokens[start].text == "no" or (following[:1] != ["piece"] and following != ["article", "piece"]):
                    break
            elif met and token.text not in ("or", "nor", "/") and token.kind in ("border", "noun"):
                break
    return found


def _undone(tokens: Sequence[_Token], place: int) -> bool:
    """Whether a negation undoes one before it: "never out without her hat"."""
    if tokens[place].text != "without":
        return False
    for token in reversed(tokens[:place]):
        if token.kind == "no":
            return True
        if token.text in _ENDS or token.kind in ("piece", "absent", "bald", "barefoot", "undressed"):
            return False
    return False


ALL = -1  # owner of the colours of "dressed in black"


def _owners(tokens: Sequence[_Token]) -> dict[int, int]:
    """Place of the piece that each quality is said of; `ALL`: of everything. Other nouns' have none."""
    found: dict[int, int] = {}
    place = 0
    while place < len(tokens):
        if tokens[place].kind not in _QUALITIES:
            place += 1
            continue
        end = _end_of_run(tokens, place)
        owner = _owner(tokens, place, end, taken=set(found.values()))
        if owner is not None:
            found.update((k, owner) for k in range(place, end) if tokens[k].kind in _QUALITIES)
        place = end
    return found


def _end_of_run(tokens: Sequence[_Token], place: int) -> int:
    """Behind the qualities that stand together: "red and black striped"."""
    end = place + 1
    while end < len(tokens):
        if tokens[end].kind in _QUALITIES:
            end += 1
        elif tokens[end].text in _JOINS and end + 1 < len(tokens) and tokens[end + 1].kind in _QUALITIES:
            # "a t-shirt in red, blue jeans" is no run: what follows the comma has a piece of its own.
            if (
                tokens[end].text != "and"
                and _ahead(tokens, end + 2) is not None
                and _behind(tokens, place)[0] is not None
            ):
                break
            end += 2
        else:
            break
    return end


def _owner(tokens: Sequence[_Token], start: int, end: int, taken: set[int]) -> int | None:
    before, directly = _behind(tokens, start)
    after = _ahead(tokens, end)
    if before is not None and before not in taken and (directly or after is None):
        return before
    if after is not None:
        return after if tokens[after].kind == "piece" else None
    if before is not None and not directly:
        return before
    said_before = tokens[start - 1].text if start else ""
    return ALL if said_before in ("in", "wearing", "dressed in", "all") else None


def _ahead(tokens: Sequence[_Token], place: int) -> int | None:
    """Of the phrase that goes on here: the piece or other noun that ends it."""
    for k in range(place, len(tokens)):
        token = tokens[k]
        if token.kind in ("piece", "noun", "absent"):
            return k
        if token.text == "," and k == place and k + 1 < len(tokens) and tokens[k + 1].kind == "word":
            continue  # "a white, flowing dress"
        if token.kind not in ("word", *_QUALITIES):
            return None
    return None


def _behind(tokens: Sequence[_Token], place: int) -> tuple[int | None, bool]:
    """The piece that a colour here may be said of afterwards, and whether nothing stands between them."""
    for k in range(place - 1, -1, -1):
        token = tokens[k]
        if token.kind == "piece":
            return k, k == place - 1
        if token.text not in _LINKS and token.kind not in ("article",) and token.text not in ("colour", "color", "all"):
            return None, False
    return None, False


def _piece(cut: str, said: str, qualities: Mapping[str, Sequence[str]]) -> Piece:
    """said: the prompt's word for it. qualities: what else is said of it, by kind."""
    label, patterns = CUTS[cut].label, qualities["pattern"]
    words = [said] if label == "hair" and said in _EITHER_WORDS else qualities["colour"]
    material = "" if label == "hair" else _material([*qualities["material"], said])
    return Piece(cut, label, _names(words, label), patterns[0] if patterns else "", said, material)


def _material(words: Sequence[str]) -> str:
    """The material that the first of these words names which names one; empty: none does."""
    for word in words:
        for material, pattern in (*_MATERIAL_WORDS.items(), *_BROUGHT.items()):
            if re.search(rf"\b(?:{pattern})\b", word):
                return material
    return ""


def _names(words: Sequence[str], label: str) -> tuple[str, ...]:
    """Colour names, without repeats, of the words for them."""
    table = {**COLOUR_WORDS, **HAIR_COLOUR_WORDS} if label == "hair" else COLOUR_WORDS
    plain = [re.sub(r"-?(colou?red|ish)$", "", word) for word in words]
    plain = [word if word in table else word.replace("-", " ") for word in plain]
    return tuple(dict.fromkeys(table[word] for word in plain if word in table))


def _settled(pieces: Sequence[Piece], everything: Sequence[str], material: str) -> list[Piece]:
    """One hairdo, one hat and one pair of shoes; of several pieces of a kind the outer ones get labels of their own."""
    hair = [piece for piece in pieces if piece.label == "hair"]
    kept = [piece for piece in pieces if piece.label not in ("hair", "hat", "shoes")]
    for label in ("hat", "shoes"):
        kept += [piece for piece in pieces if piece.label == label][:1]
    if hair:
        style = max(hair, key=lambda piece: list(CUTS).index(piece.cut))
        colours = next((piece.colours for piece in hair if piece.colours), ())
        kept.append(replace(style, colours=colours))
    tops = sorted((piece for piece in kept if piece.label == "top"), key=lambda piece: CUTS[piece.cut].depth)
    bottoms = sorted((piece for piece in kept if piece.label == "bottom"), key=lambda piece: CUTS[piece.cut].depth)
    below_dress = any(piece.label == "dress" for piece in kept)
    result = [piece for piece in kept if piece.label not in ("top", "bottom")]
    outer = any(piece.label == "outer" for piece in kept)
    result += tops[-1:] if outer or len(tops) < 2 else [tops[-2], replace(tops[-1], label="outer")]
    result += [replace(piece, label="legwear") for piece in (bottoms if below_dress else bottoms[:-1])[-1:]]
    result += [] if below_dress else bottoms[-1:]
    colours = _names(everything, "top")
    return [
        p if p.label == "hair" else replace(p, colours=p.colours or colours, material=p.material or material)
        for p in result
    ]


def _is_hair(token: _Token) -> bool:
    return _cut_label(token) == "hair"


def _cut_label(token: _Token) -> str:
    return CUTS[token.cuts[0]].label if token.cuts else ""


def _names_a_style(token: _Token) -> bool:
    """Whether it is more than the word "hair"."""
    return re.fullmatch(_HAIR_ONLY, token.text) is None


def _told(tokens: Sequence[_Token], negated: set[int], pieces: Sequence[Piece], everything: Sequence[str]) -> list[str]:
    """Sentences about what could not be read or made."""
    kept = [token for place, token in enumerate(tokens) if place not in negated]
    told = []
    unread = _unread(tokens)
    if unread:
        told.append(f"not understood as clothes or hair, left to the networks: {', '.join(unread)}")
    absent = dict.fromkeys(token.text for token in kept if token.kind == "absent")
    if absent:
        told.append(f"not in the wardrobe, left to the networks: {', '.join(absent)}")
    nearest = {piece.said: piece.cut for piece in pieces if re.fullmatch(_STAND_INS, piece.said)}
    if nearest:
        told.append("made in the nearest cut: " + ", ".join(f"{said} as {cut}" for said, cut in nearest.items()))
    if any(token.kind == "undressed" for token in kept):
        told.append("people are always dressed here")
    if tokens and not pieces and not absent and not unread and not negated and not everything:
        told.append("the prompt names no clothes or hair that are known here (they are read in English)")
    return told


def _unread(tokens: Sequence[_Token]) -> list[str]:
    """What "wearing" is followed by and nobody here knows: the words of each such phrase of its list."""
    found: list[str] = []
    phrase: list[_Token] = []
    listing = False
    for token in (*tokens, _Token("border", ".")):
        if token.kind != "border" and token.kind != "no":
            phrase.append(token)
            continue
        if listing and phrase and all(each.kind in ("word", "article", *_QUALITIES) for each in phrase):
            words = [each.text for each in phrase if each.kind == "word"]
            if not all(_FILLERS.fullmatch(word) for word in words):
                found.append(" ".join(words))
        phrase = []
        starts = token.text in ("wearing", "wears", "dressed in")
        listing = starts or (listing and token.text in (",", "and", "over", "under", "&", "+", "plus", "or"))
    return found


def words_of_outfit(outfit: Outfit) -> str:
    """What is worn as a prompt says it: `outfit_of_words` reads the same pieces in it."""
    worn = {(piece.cut, piece.colours) for piece in outfit.pieces}
    said: dict[str, None] = {}
    for piece in outfit.pieces:
        read = outfit_of_words(str(piece)).pieces
        # Of a suit whose trousers were changed the jacket is left.
        words = piece if {(each.cut, each.colours) for each in read} <= worn else replace(piece, said="")
        if piece.material not in {each.material for each in read}:
            words = replace(words, said=f"{piece.material} {words.said or words.cut}")
        said[str(words)] = None
    said |= dict.fromkeys(f"dressed in {words}" for words in (*outfit.colours_said, outfit.material_said) if words)
    said |= {"bald": None} if outfit.bald else {}
    said |= {"barefoot": None} if outfit.barefoot else {}
    return ", ".join(said)
