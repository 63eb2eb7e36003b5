"""Shorter names of a product that still name it: the noun it is named by stays, what stands before it goes.

A title is read up to the end of its first noun phrase; the last noun of that is the head. Words are dropped between the brand
and the head, from the left, and only where no pair that belongs together is broken and no list is cut. Where nothing
shorter names the thing, there is its kind, or its brand. No parser: what must be known of words is in ``data/word_sets.txt``,
and what is not known there is kept together with its head rather than cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise

from server.copy_domain import count_words
from server.pipelines.product_copy.folding import CJK, HAS_CJK, fold, stem
from server.pipelines.product_copy.lexicon import lexicons, read_words

_MOST_CHARS, _MOST_TRIES = 400, 24
_EN_EDGE = re.compile(
    r"\s[-–—|·•/]+\s|\s?[|｜]\s?|[;:]\s|(?<!corp)(?<=[a-z]{4})\.\s|(?<=[)\d])\.\s|[，；：。！？]|\s?[(\[{（【)\]}）】]|"
    r",(?=\s|$)|,(?=[a-z]{2})",
    re.I,
)
_ZH_EDGE = re.compile(r"\s[-–—|·•/]+\s|[|｜，；：。！？,;()（）\[\]【】{}/]|适用于|用于")
_CONNECTS = re.compile(r"(?:and|or|&|\+|'?n'?)$", re.I)
_BEGINS_JOINED = re.compile(r"(?:and|or|&)\s", re.I)
_MEASURE = re.compile(r"[^\W_]*\d.*|[#(].*|x|×|[+&/-]+", re.I)
_UNIT = re.compile(
    r"(?:inch|inches|in|mm|cm|m|ml|l|oz|ounces?|lbs?|pounds?|g|kg|ft|feet|yards?|gal|gallons?|quarts?|qt|gsm|w|v|mah|gb|tb|mb|"
    r"counts?|ct|pk|packs?|pcs?|pieces?|sheets?|pages?|rolls?|pairs?|boxe?s?|sets?|colou?rs?|per|cartons?|each|dozen|digits?|h|d)\.?",
    re.I,
)
_ONE_WORD = {
    ("plug", "in"),
    ("built", "in"),
    ("drop", "in"),
    ("slide", "in"),
    ("use", "by"),
    ("sell", "by"),
    ("best", "by"),
}
_WITH_ANOTHER = {"compatible", "perfect", "great", "ideal", "used", "made", "designed"}
_NIB = re.compile(r"((?:extra[- ])?(?:fine|medium|broad|bold)) (?:nib|point|tip)$", re.I)
_CODE = re.compile(r"(?=.*[A-Za-z])[A-Za-z-]*\d{2,}[A-Za-z0-9/#-]*|\d{3,}")
_PACKED_FIRST = re.compile(
    r"(?:pack|set|box|case|lot|bundle|carton|\d+ ?packs?)(?: of (?:\d+|two|three|four|five|six|ten|twelve))?[ ,:-]+(?=\S+ \S)",
    re.I,
)
_COUNTED = re.compile(
    r"(?:pack|package|set|box|case|lot|bundle|carton) of \w+|\d+[- ]?\w+|\w+[- ](?:pack|pieces?|count)", re.I
)
_PACKED_LAST = re.compile(
    r",?\s(?:(?:value|bulk|economy) )?(?:pack|package|set|box|case|lot|bundle|carton|\d+[- ]packs?) of (?:\d+|two|three|four|five|six|ten|twelve)\b.*$",
    re.I,
)
_ZH_MEASURE = re.compile(
    r"[^一-鿿]*\d.*|[A-Za-z0-9.×x*/+-]+|[一二两三四五六七八九十]+[支个只件盒包本张套卷][装入]?"
)
_ZH_JOINT = re.compile(r"[、和与及]|以及|或")
_ZH_TAIL = re.compile(
    r"(?<=[式款型用的])(?![式款型用的具品途法户])|(?<=[A-Za-z]{2})(?=[一-鿿])|(?<=[A-Z]\d)(?=[一-鿿])|\s"
)
_ZH_OTHER = re.compile("兼容|替换|替代|仿真|玩具|模型|假|代用|翻新|二手")


def joined_lists(chunks: Sequence[str]) -> list[str]:
    """Parts of a title that were parted at commas, lists put together again.

    "Paper | CD | and Credit Card Shredder" is one thing, "Red | Blue | and Green" one range of colours.
    """
    parts = list(chunks)
    at = 1
    while at < len(parts):
        start = at
        if _BEGINS_JOINED.match(parts[at]):
            while start > 1 and at - start < 6 and _short(parts[start - 1]):
                start -= 1
            if start == 1 and not _one_head(parts[: at + 1]):
                start = min(2, at)
            elif start == 1:
                start = 0
        elif at <= 4 and re.search(r"\s(?:and|or|&)\s", parts[at]) and _one_head(parts[: at + 1]):
            start = 0
        if start < at:
            parts[start : at + 1] = [", ".join(parts[start : at + 1])]
            at = start
        at += 1
    return parts


def _short(chunk: str) -> bool:
    return len(chunk.split()) <= 3 and not re.search(r"\d", chunk)


def _one_head(chunks: Sequence[str]) -> bool:
    """Whether a list has one noun for all of it, at its end."""
    last = re.split(r"(?:^|\s)(?:and|or|&)\s", chunks[-1], flags=re.I)
    before = [*chunks[:-1], *last[:-1]]
    words = last[-1].split()
    if len(words) < 2 or not all(_short(one) for one in chunks[1:-1]) or re.search(r"\d", words[-1]):
        return False
    if _is_listed(last[-1]) or _is_listed(words[-1]) or words[-1].lower() in read_words("attribute_ends"):
        return False
    ends = [one.split()[-1].lower() for one in before if one.split()]
    first = ends[0] if ends else ""
    plural = first.endswith("s") and not first.endswith("ss") and not first.isupper() and first != "cds"
    return not plural and not any(_is_thing(end) for end in ends)


@cache
def _is_listed(word: str, lists: int = 2) -> bool:
    """Whether a word is nothing but a colour, or (with two lists) a material."""
    low = fold(word).strip()
    return any(
        term.start == 0 and term.end == len(low)
        for lexicon in lexicons()[:lists]
        for term in lexicon.find(low)
    )


def _is_thing(word: str, *, sure: bool = False) -> bool:
    low = word.lower().strip(",.")
    one = stem(low)
    if low in read_words("things") or one in read_words("things"):
        return True
    return not sure and len(one) > 4 and one.endswith(("er", "or")) and one not in read_words("no_doers")


def noun_phrase(text: str) -> str:
    """The first noun phrase of a title, with its head last; empty where none is found to end."""
    window = text[:_MOST_CHARS].strip()
    if HAS_CJK.search(_first(_ZH_EDGE, window)):
        return _chinese_phrase(window)
    end = _phrase_end(window)
    if end == len(window) < len(text.strip()):
        return ""  # who knows what it ends in
    return _tidied(window[_packed(window) : end])


def phrase_ends(text: str) -> list[int]:
    """Where a headline may end so that it ends with a noun and not within a list: at most the first few, in order."""
    window = text[:_MOST_CHARS]
    if HAS_CJK.search(window):
        return []
    tokens = list(re.finditer(r"\S+", window))
    ends = [
        before.end()
        for before, token in pairwise(tokens)
        if _goes_behind(window, tokens, token) and not _binds(before.group())
    ]
    end = _phrase_end(window)
    return sorted({*ends, *([end] if end < len(text.rstrip()) else [])})


def in_list(text: str, at: int) -> bool:
    """Whether a text is cut within a list at a place: behind it comes "B, and C", or "and C"."""
    if text[at : at + 1] == "、":
        return True
    rest = text[at : at + 160]
    item = r"[^,;:–—|()\d]{1,28}"
    if not rest.startswith(","):
        return re.match(r"\s(?:and|or|&)\s", rest) is not None
    return re.match(rf",(?: {item},){{0,5}} ?(?:{item})? ?\b(?:and|or|&) ", rest) is not None


def short_names(text: str, brand: str = "", kind: str = "") -> Iterator[str]:
    """Names of what a title names, from long to short; each ends with its head, the last ones are its kind and its brand.

    Args:
        text: a title or its first part.
        brand: goes first and stays, where the title begins with it.
        kind: last part of its category, or empty.
    """
    phrase = noun_phrase(text)
    if phrase:
        yield phrase
        yield from _chinese_names(phrase, brand) if HAS_CJK.search(phrase) else _english_names(phrase, brand)
    if kind and brand and HAS_CJK.search(kind + brand) is not None:
        yield brand + kind if HAS_CJK.search(brand) else f"{brand} {kind}"
    elif kind and brand:
        yield f"{brand} {kind}"
    if brand:
        yield brand
    if kind:
        yield kind


def short_name(
    text: str, brand: str, kind: str, *, chars: int, words: int, good: Callable[[str], bool]
) -> str:
    """The longest of these that is within both limits and may be said, or nothing."""
    tried = 0
    for name in short_names(text, brand, kind):
        if (
            len(name) > chars
            or count_words(name) > words
            or not re.search(rf"[A-Za-z{CJK}]{{2}}|[{CJK}]", name)
        ):
            continue
        if good(name):
            return name
        tried += 1
        if tried >= _MOST_TRIES:
            break
    return ""


def same_head(name: str, text: str) -> bool:
    """Whether a name ends with what the title that it was taken from is named by."""
    head = noun_phrase(text) or text
    if HAS_CJK.search(head):
        return fold(head)[-2:] == fold(name)[-2:]
    return name.split()[-1:] == head.split()[-1:] or name == text


def only_packed(chunk: str) -> bool:
    """Whether a part of a title says how many there are and nothing else."""
    return _COUNTED.fullmatch(chunk) is not None


def only_coded(chunk: str, brand: str, following: str) -> bool:
    """Whether a part of a title is a brand with a code and the thing is named in the part behind it."""
    words = chunk.split()
    lead = _lead(words, brand)
    phrase = noun_phrase(following).split()
    return bool(phrase) and _is_thing(phrase[-1]) and all(re.search(r"\d", word) for word in words[lead:])


def category_end(category: str) -> str:
    """The last part of a category, where it is one kind and not several."""
    last = re.split(r"\s?[/>|›»,;，；]\s?|：|:\s", category.strip(" />|›»,"))[-1].strip()
    several = re.search(r"(?:^|\s)(?:and|or|&|\+)(?:\s|$)|[、和与及]", last)
    return "" if several or not re.search(rf"[A-Za-z{CJK}]{{2}}", last) or len(last) > 40 else last


def _english_names(phrase: str, brand: str) -> Iterator[str]:
    words = phrase.split()
    lead = _lead(words, brand)
    starts = [at for at in range(lead + 1, len(words)) if _may_start(words, at, lead)]
    others = [at for at in range(lead, len(words)) if words[at].lower() in read_words("privatives")]
    if lead:
        for at in starts:
            kept = [words[one] for one in others if one < at]
            yield " ".join([*words[:lead], *kept, *words[at:]])
    for at in ([lead] if lead and not re.search(r"\d{2}", words[lead]) else []) + starts:
        kept = [words[one] for one in others if one < at]
        yield " ".join([*kept, *words[at:]])


def _lead(words: Sequence[str], brand: str) -> int:
    """How many words the brand takes at the beginning of a name."""
    owner = [fold(word).strip(".,") for word in brand.split()]
    begun = [fold(word).strip(".,") for word in words]
    count = 0
    while count < min(len(owner), len(begun) - 1) and owner[count] == begun[count]:
        count += 1
    if (
        count == 0
        and owner
        and len(begun) > 1
        and begun[0].replace("-", "") == "".join(owner).replace("-", "")
    ):
        return 1
    return count


def _may_start(words: Sequence[str], at: int, lead: int) -> bool:
    """Whether a name may begin at a word: nothing that belongs to it is left out, no list is entered half-way."""
    before, word = words[at - 1], words[at].lower().strip(",")
    last = at == len(words) - 1
    if (
        re.search(r"\d{3}", word)
        or _CODE.fullmatch(words[at])
        or (before.lower() in ("in", "x") and not last)
    ):
        return False
    joints = [one for one, shown in enumerate(words) if _CONNECTS.match(shown)]
    commas = [one for one, shown in enumerate(words[:-1]) if shown.endswith(",")]
    if joints or commas:
        first = min([*(one - 1 for one in joints), *commas])
        if first < at and not (last and max([*joints, *commas]) < at):
            return False
    if any(shown.lower() == "of" for shown in words[:at]) and not (
        _is_thing(words[-1]) and not _binds(before)
    ):
        return False  # the head stands before it: a map of Europe
    if word == "of" or word in read_words("behind_head") or _CONNECTS.match(word):
        return False
    if last:
        return (
            len(word) > 2
            and word not in read_words("vague_heads")
            and (_is_thing(word) or not _binds(before))
        )
    return (
        word not in read_words("bound")
        and word not in read_words("vague_heads")
        and (at == lead or not _binds(before))
    )


def _knows(word: str) -> bool:
    return _is_thing(word) or word.lower() in read_words("vague_heads")


def _binds(word: str) -> bool:
    low = word.lower().strip(",")
    if _CODE.fullmatch(low):
        return False
    return (
        low in read_words("binders") or bool(re.fullmatch(r"[#$]?[\d./-]+[a-z\"'%]{0,2}", low)) or low == "of"
    )


def _first(edge: re.Pattern[str], text: str) -> str:
    return next((piece for piece in edge.split(text) if piece and piece.strip()), "")


def _packed(text: str) -> int:
    found = _PACKED_FIRST.match(text)
    return found.end() if found else 0


def _tidied(text: str) -> str:
    return " ".join(text.split()).strip(" ,;:|/-–—+&")


def _goes_behind(text: str, tokens: Sequence[re.Match[str]], token: re.Match[str]) -> bool:
    """Whether a word begins what stands behind a noun: "for", "with"; not the "in" of "all in one" or "3 in 1"."""
    word = token.group().lower()
    if word not in read_words("behind_head"):
        return False
    before, after = text[: token.start()].split()[-1:], text[token.end() :].split()[:1]
    if not before or not after:
        return False
    if word in _WITH_ANOTHER:
        return after[0].lower() in ("with", "for", "to", "as", "in", "by")
    numbered = re.match(r"\d|one\b", after[0], re.I)
    if word in ("in", "by") and numbered and re.search(r"\d|^all$", before[0], re.I):
        return False
    return (before[0].lower().split("/")[-1], word) not in _ONE_WORD


def _phrase_end(text: str) -> int:
    """Where the first noun phrase of an English text ends, behind its head."""
    begin = _packed(text)
    end = len(text)
    for found in _EN_EDGE.finditer(text, begin):
        if found.start() <= begin or not re.search(r"[A-Za-z]{2}", text[begin : found.start()]):
            continue
        if found.group().startswith(",") and _list_goes_on(text[begin:], found.start() - begin):
            continue
        end = found.start()
        break
    packed = _PACKED_LAST.search(text, begin, end)
    if packed and packed.start() > begin:
        end = packed.start()
    tokens = [token for token in re.finditer(r"\S+", text[:end]) if token.start() >= begin]
    for at, token in enumerate(tokens):
        if at and _goes_behind(text, tokens, token):
            tokens = tokens[:at]
            break
        if at and token.group().lower().startswith("w/"):
            tokens = tokens[:at]
            break
        joins = at and at + 1 < len(tokens) and _CONNECTS.match(token.group())
        if (
            joins
            and _is_thing(tokens[at - 1].group(), sure=at == 1)
            and "," not in text[begin : token.start()]
        ):
            tokens = tokens[:at]  # a stapler and a staple remover are two things
            break
    kept = _without_measures([token.group() for token in tokens])
    return tokens[kept - 1].end() if kept else end


def _list_goes_on(text: str, comma: int) -> bool:
    chunks = [piece.strip() for piece in re.split(r",\s*", re.split(r"\s[-–—|]\s|[(;:]", text)[0])]
    grouped = joined_lists(chunks)
    return len(grouped[0]) > comma


def _without_measures(words: Sequence[str]) -> int:
    """How many words are left without the measures, colours and codes behind the head."""
    kept = len(words)
    while kept > 1:
        nib = _NIB.search(" ".join(words[:kept]))
        if nib and kept > 3:
            kept -= nib.group().count(" ") + 1
            continue
        if kept > 3 and words[kept - 2].lower() == "assorted":
            kept -= 2
            continue
        word, before = words[kept - 1], words[kept - 2]
        unit = (
            kept > 2
            and _UNIT.fullmatch(word)
            and (re.search(r"\d", before) or (len(word) == 1 and _UNIT.fullmatch(before)))
        )
        coloured = _is_listed(word, 1) and not _binds(before) and kept > 2
        if not (_MEASURE.fullmatch(word) or unit or coloured):
            break
        kept -= 1
    some = [word for word in words[:kept] if re.search(r"[A-Za-z]{3}", word) and not re.search(r"\d", word)]
    return kept if len(some) > 1 or len(some) == kept else len(words)


def _chinese_phrase(text: str) -> str:
    pieces = _first(_ZH_EDGE, text).split()
    if sum(map(len, pieces)) >= _MOST_CHARS - len(pieces):
        return ""
    kept = len(pieces)
    for at, piece in enumerate(pieces):
        named = any(len(re.findall(f"[{CJK}]", one)) >= 3 for one in pieces[:at])
        if named and (_ZH_MEASURE.fullmatch(piece) or _is_listed(piece.removesuffix("色"), 1)):
            kept = at
            break
    while kept > 1 and (_ZH_MEASURE.fullmatch(pieces[kept - 1]) or _is_listed(pieces[kept - 1], 1)):
        kept -= 1
    return " ".join(pieces[:kept])


def _chinese_names(phrase: str, brand: str) -> Iterator[str]:
    lead = len(brand) if brand and fold(phrase).startswith(fold(brand)) and len(brand) < len(phrase) else 0
    joint = _ZH_JOINT.search(phrase, lead + 1)
    low = fold(phrase)
    starts = {found.end() for found in _ZH_TAIL.finditer(phrase, lead)}
    if len(low) == len(phrase):
        starts |= {
            term.end
            for lexicon in lexicons()
            for term in lexicon.find(low)
            if HAS_CJK.search(low[term.start : term.end])
        }
    other = max((found.start() for found in _ZH_OTHER.finditer(phrase)), default=len(phrase))
    good = sorted(
        at for at in starts
        if lead < at < len(phrase) and at <= other and (joint is None or at < joint.start())
        and len(re.findall(f"[{CJK}]", phrase[at:])) >= 2 and phrase[at] not in "的式款型色制质、和与及 "
    )  # fmt: skip
    spaced = " " if lead and (phrase[lead : lead + 1] == " " or phrase[lead - 1].isascii()) else ""
    if lead:
        yield from (phrase[:lead] + spaced + phrase[at:].strip() for at in good)
        yield phrase[lead:].strip()
    yield from (phrase[at:].strip() for at in good)
