"""Shorter names of a product that still name it: the noun it is named by stays, what stands before it goes.

A title is read up to the end of its first noun phrase; the last noun of that is the head. Words are dropped between the brand
and the head, from the left, and only where no pair that belongs together is broken and no list is cut. Where nothing
shorter names the thing, there is its kind, or its brand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from server.copy_domain import count_words
from server.pipelines.product_copy.folding import CJK, HAS_CJK, fold, stem
from server.pipelines.product_copy.lexicon import lexicons, read_words
from server.pipelines.product_copy.noun_phrases import CODE, CONNECTS, binds, is_thing, noun_phrase

_MOST_TRIES = 24
_COUNTED = re.compile(
    r"(?:pack|package|set|box|case|lot|bundle|carton) of \w+|\d+[- ]?\w+|\w+[- ](?:pack|pieces?|count)", re.I
)
_ZH_JOINT = re.compile(r"[、和与及]|以及|或")
_ZH_TAIL = re.compile(
    r"(?<=[式款型用的])(?![式款型用的具品途法户])|(?<=[A-Za-z]{2})(?=[一-鿿])|(?<=[A-Z]\d)(?=[一-鿿])|\s"
)
_ZH_OTHER = re.compile("适用|适配|兼容|替换|替代|仿真|玩具|模型|假|代用|翻新|二手")


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
    return bool(phrase) and is_thing(phrase[-1]) and all(re.search(r"\d", word) for word in words[lead:])


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
    if re.search(r"\d{3}", word) or CODE.fullmatch(words[at]) or (before.lower() in ("in", "x") and not last):
        return False
    joints = [one for one, shown in enumerate(words) if one > lead and CONNECTS.match(shown)]
    commas = [one for one, shown in enumerate(words[:-1]) if shown.endswith(",")]
    if joints or commas:
        first = min([*(one - 1 for one in joints), *commas])
        if first < at and not (last and max([*joints, *commas]) < at):
            return False
    if any(shown.lower() == "of" for shown in words[:at]) and not (is_thing(words[-1]) and not binds(before)):
        return False  # the head stands before it: a map of Europe
    if word == "of" or word in read_words("behind_head") or CONNECTS.match(word):
        return False
    if not _knows(words[-1]) and any(is_thing(shown) for shown in words[lead:at]):
        return False  # "Highlighter Sierra Window": what names it may stand before a name of its own
    if last:
        return (
            len(word) > 2 and word not in read_words("vague_heads") and (is_thing(word) or not binds(before))
        )
    return (
        word not in read_words("bound")
        and word not in read_words("vague_heads")
        and (at == lead or not binds(before))
    )


def _knows(word: str) -> bool:
    low = word.lower()
    return is_thing(word) or low in read_words("vague_heads") or stem(low) in read_words("other_heads")


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
