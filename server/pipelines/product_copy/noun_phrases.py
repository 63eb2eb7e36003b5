"""Where the first noun phrase of a title ends, which words name things, which lists belong to one noun.

No parser: what must be known of words is in ``data/word_sets.txt``, and what is not known there is kept together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from server.pipelines.product_copy.folding import CJK, HAS_CJK, fold, stem
from server.pipelines.product_copy.lexicon import lexicons, read_words

_MOST_CHARS = 400
_EN_EDGE = re.compile(
    r"\s[-–—|·•]+\s|(?<!ly)\s/+\s|\s?[|｜]\s?|[;:]\s|(?<!corp)(?<=[a-z]{4})\.\s|(?<=[)\d])\.\s|[，；：。！？]|\s?[(\[{（【)\]}）】]|"
    r",(?=\s|$)|,(?=[a-z]{2})|(?<!\d),(?=\d)",
    re.I,
)
_ZH_EDGE = re.compile(r"\s[-–—|·•/]+\s|[|｜，；：。！？,;()（）\[\]【】{}/]|适用于|用于")
SLASHED = re.compile(r"(?<=ly) / (?=\w+ly\b)", re.I)  # "Weekly / Monthly Planner" is one thing
CONNECTS = re.compile(r"(?:and|or|&|\+|'?n'?)$", re.I)
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
CODE = re.compile(r"(?=.*[A-Za-z])[A-Za-z-]*\d{2,}[A-Za-z0-9/#-]*|\d{3,}")
_PACKED_FIRST = re.compile(
    r"(?:pack|set|box|case|lot|bundle|carton|\d+ ?packs?)(?: of (?:\d+|two|three|four|five|six|ten|twelve))?[ ,:-]+(?=\S+ \S)",
    re.I,
)
_PACKED_LAST = re.compile(
    r",?\s(?:(?:value|bulk|economy) )?(?:pack|package|set|box|case|lot|bundle|carton|\d+[- ]packs?) of (?:\d+|two|three|four|five|six|ten|twelve)\b.*$",
    re.I,
)
_ZH_UNIT = "英寸|厘米|毫米|毫升|千克|公斤|赫兹|毫安|小时|[支个只件盒包本张套卷片条瓶袋双组位色寸米升克斤瓦伏度页层孔格码号节对颗粒枚块台人联]"
_ZH_MEASURE = re.compile(
    rf"[^{CJK}]*\d[^{CJK}]*(?:{_ZH_UNIT})?[装入]?|[A-Za-z0-9.×x*/+-]+|[一二两三四五六七八九十]+(?:{_ZH_UNIT})[装入]?|"
    r"[红黑蓝白绿黄紫粉灰银金棕橙青]+色?"
)
_ZH_SUITS = re.compile("适用|兼容|适配")


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
            if start == 1 and _one_head(parts[: at + 1]):
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
    return not plural and not any(is_thing(end) for end in ends)


@cache
def _is_listed(word: str, lists: int = 2) -> bool:
    """Whether a word is nothing but a colour, or (with two lists) a material."""
    low = fold(word).strip()
    return any(
        term.start == 0 and term.end == len(low)
        for lexicon in lexicons()[:lists]
        for term in lexicon.find(low)
    )


def is_thing(word: str, *, sure: bool = False) -> bool:
    """Whether a noun names a product by itself; ``sure``: as listed, not by its form (shredder, organizer)."""
    low = word.lower().strip(",.")
    one = stem(low)
    if low in read_words("things") or one in read_words("things"):
        return True
    return not sure and len(one) > 4 and one.endswith(("er", "or")) and one not in read_words("no_doers")


def noun_phrase(text: str) -> str:
    """The first noun phrase of a title, with its head last; empty where none is found to end."""
    window = SLASHED.sub("/", text[:_MOST_CHARS].strip())
    if HAS_CJK.search(_first(_ZH_EDGE, window)):
        return _chinese_phrase(window)
    end = _phrase_end(window)
    if end == len(window) and len(text.strip()) > _MOST_CHARS:
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
        if _goes_behind(window, tokens, token) and not binds(before.group())
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


def binds(word: str) -> bool:
    """Whether a word is one with the next: "dry erase", "3 ring"."""
    low = word.lower().strip(",")
    if CODE.fullmatch(low):
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
    if word == "to" and re.match(r"\s(?:fit|hold|keep|use|make|go|help)\s", text[token.end() :], re.I):
        return True
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
    if packed and " " in text[begin : packed.start()].strip():  # "Maker Pack of 6 Mini Knives" goes on
        end = packed.start()
    tokens = [token for token in re.finditer(r"\S+", text[:end]) if token.start() >= begin]
    for at, token in enumerate(tokens):
        if at and _goes_behind(text, tokens, token):
            tokens = tokens[:at]
            break
        if at and token.group().lower().startswith("w/"):
            tokens = tokens[:at]
            break
        joins = at and at + 1 < len(tokens) and CONNECTS.match(token.group())
        if (
            joins
            and is_thing(tokens[at - 1].group(), sure=at == 1)
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
        if kept > 3 and words[kept - 1].lower() == "size":
            kept -= 1
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
        coloured = _is_listed(word, 1) and not binds(before) and kept > 2
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
        if _ZH_MEASURE.fullmatch(piece) and any(
            _named(one, first=not n) for n, one in enumerate(pieces[:at])
        ):
            kept = at
            break
    while kept > 1 and (_ZH_MEASURE.fullmatch(pieces[kept - 1]) or not _without_manner(pieces[kept - 1])):
        kept -= 1
    while kept > 2 and len(_without_manner(pieces[kept - 1])) <= 2 < len(pieces[kept - 1]):
        kept -= 1  # "for accounting": of a thing that stands before it
        while kept > 1 and _ZH_MEASURE.fullmatch(pieces[kept - 1]):
            kept -= 1
    pieces = pieces[:kept]
    pieces[-1:] = [_without_manner(pieces[-1]) or pieces[-1]] if pieces else []
    return " ".join(pieces)


def _named(piece: str, *, first: bool) -> bool:
    """Whether a piece can be what the thing is called; the first may be its maker."""
    chars = len(re.findall(f"[{CJK}]", _without_manner(piece)))
    return chars >= (5 if first else 2) and not _ZH_SUITS.match(piece) and not _ZH_MEASURE.fullmatch(piece)


def _without_manner(piece: str) -> str:
    """A piece of a Chinese title without what says behind its head how it is, of what, or for whom."""
    while True:
        low = fold(piece)
        ends = [len(word) for word in read_words("chinese_manner") if low.endswith(word)]
        if len(low) == len(piece):
            ends += [
                term.end - term.start
                for lexicon in lexicons()
                for term in lexicon.find(low)
                if term.end == len(low)
            ]
        if not ends or not piece:
            return piece
        piece = piece[: len(piece) - max(ends)]
