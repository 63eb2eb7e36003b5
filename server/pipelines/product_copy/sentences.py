"""Sentences of a text in either language: a stop ends one, a stop inside a number or an abbreviation does not."""

from __future__ import annotations

import re

from server.pipelines.product_copy.folding import CJK

_END = re.compile(r"[.!?…]+[\"')\]]*(?=\s|$)|[。！？…]+[”’」』）\"']*|\n+")
_ABBREVIATED = re.compile(
    r"(?:^|[\s(])(?:no|nos|approx|dr|mr|mrs|ms|vs|inc|co|ltd|st|e\.g|i\.e|etc|oz|fl|in|ft|lb|lbs|sq|u\.s|dia|min|max|pcs|[a-z])$",
    re.I,
)
ADJUNCTS = [
    "with",
    "made",
    "in",
    "for",
    "which",
    "that",
    "where",
    "featuring",
    "including",
    "designed",
    "built",
    "supplied",
    "complete",
    "crafted",
    "so",
    "ideal",
    "perfect",
    "great",
    "from",
    "without",
    "while",
    "plus",
    "as",
    "and",
    "by",
    "available",
    "suitable",
    "at",
    "on",
    "to",
]
_VERB = re.compile(
    r"(?<![a-z])(?:is|are|was|were|be|comes?|has|have|holds?|keeps?|fits?|makes?|made|offers?|gives?|folds?|works?|lasts?|measures?|"
    r"weighs?|features?|includes?|will|can|lets?|brings?|adds?|stands?|runs?|meet|here's|say|take|stays?|goes|does|get|gets|uses?|dries|"
    r"costs?|presents?|provides?|sits?|cleans?|heats?|packs?|turns?|opens?|closes?|helps?|delivers?|contains?|supports?|looks?|writes?|see|"
    r"looking|want|need|enjoy|discover|choose|grab|bring|pick|try|order|look|find)(?![a-z])",
    re.I,
)


def sentences(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences, each with its stop and without the space around it."""
    spans, start = [], 0
    for found in _END.finditer(text):
        stop = found.group()
        if (
            stop == "."
            and _ABBREVIATED.search(text[start : found.start()])
            and text[found.end() :].lstrip()[:1].islower()
        ):
            continue
        if stop == "." and re.search(
            r"(?:^|\s)(?:no|approx|dr|mr|mrs|vs|e\.g|i\.e|fl|u\.s)$", text[start : found.start()], re.I
        ):
            continue
        spans.append((start, found.end()))
        start = found.end()
    spans.append((start, len(text)))
    return [span for span in (_stripped(text, *span) for span in spans) if span[1] > span[0]]


def has_verb(text: str) -> bool:
    """Whether an English text can stand as a sentence; Chinese needs no proof."""
    return bool(_VERB.search(text)) or re.search(f"[{CJK}]", text) is not None


def capital(text: str) -> str:
    """With a capital letter first, where it begins with a plain word."""
    first = re.match(r"[a-z]+(?=[\s,.;:!?'-]|$)", text)
    return text[0].upper() + text[1:] if first else text


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
