"""From a page's structure to passages of a size that can be quoted: sections hold blocks, blocks hold pieces.

A passage never crosses a heading, and is cut between blocks where it can be, between sentences where it must be, and
within a sentence only where that is longer than a passage may be.

Units: characters of the document; sizes in *weight*: a Chinese, Japanese or Korean character weighs more, because an
encoder reads about one token for it, and for four Latin letters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from server.errors import InvalidRequest
from server.knowledge.passage_texts import sentence_spans

MOST_WEIGHT = 900.0  # of a passage: about 220 tokens
CJK_WEIGHT = 2.5
MOST_PASSAGES = 20_000  # of a document

Span = tuple[int, int]
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
_SLUG_DROPPED = re.compile(r"[^\w\- ]+")


@dataclass(frozen=True, slots=True)
class Section:
    """What stands under one heading.

    Attributes:
        headings: path of it, outermost first.
        anchor: of the nearest heading, or empty.
        blocks: paragraphs, lists, tables: each a list of spans that are not cut further.
    """

    headings: tuple[str, ...]
    anchor: str
    blocks: list[list[Span]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CutSpan:
    """Where a passage stands, and under which heading."""

    headings: tuple[str, ...]
    anchor: str
    start: int
    end: int


class Outline:
    """Follows the headings of a page, and gives each an anchor of its own."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._anchors: set[str] = set()
        self._next: dict[str, int] = {}
        self.sections = [Section((), "")]

    @property
    def first_heading(self) -> str:
        """Of the page; empty: it has none."""
        return next((section.headings[-1] for section in self.sections if section.headings), "")

    def heading(self, level: int, text: str, anchor: str = "") -> None:
        """Begin a section; without an anchor it gets the one that renderers of Markdown give."""
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        self._path.append((level, text))
        own = anchor or self._slug(text)
        self._anchors.add(own)
        self.sections.append(Section(tuple(one for _, one in self._path), own))

    def block(self, pieces: Sequence[Span]) -> None:
        """Add a block to the section that is open."""
        if pieces:
            self.sections[-1].blocks.append(list(pieces))

    def _slug(self, text: str) -> str:
        slug = slug_of(text) or "section"
        if slug not in self._anchors:
            return slug
        number = self._next.get(slug, 1)
        while f"{slug}-{number}" in self._anchors:
            number += 1
        self._next[slug] = number + 1
        return f"{slug}-{number}"


def slug_of(text: str) -> str:
    """The fragment of a heading, as GitHub writes it: lower case, no punctuation, hyphens for spaces."""
    plain = unicodedata.normalize("NFC", text).strip().lower()
    return _SLUG_DROPPED.sub("", plain).replace(" ", "-")


def weight(text: str) -> float:
    """How much a text takes of a passage."""
    return len(text) + (CJK_WEIGHT - 1) * len(_CJK.findall(text))


def pieces_of(text: str, start: int, end: int) -> list[Span]:
    """Cut a block into sentences, and sentences that are too long into parts of them; white space at the ends left out."""
    found: list[Span] = []
    for first, last in sentence_spans(text[start:end]):
        found += _parts(text, start + first, start + last)
    return found


def _parts(text: str, start: int, end: int) -> Iterator[Span]:
    while end - start > MOST_WEIGHT / CJK_WEIGHT:
        most = int(MOST_WEIGHT)
        while weight(text[start : min(end, start + most)]) > MOST_WEIGHT:
            most = int(most * 0.8)
        if start + most >= end:
            break
        cut = start + most
        for at in range(cut, cut - most // 2, -1):
            if text[at].isspace():
                cut = at
                break
        left = cut
        while left > start and text[left - 1].isspace():
            left -= 1
        yield start, left
        start = cut
        while start < end and text[start].isspace():
            start += 1
    if start < end:
        yield start, end


def packed(text: str, sections: Iterable[Section]) -> list[CutSpan]:
    """Fill passages, section by section.

    Raises:
        InvalidRequest: there would be too many; says how many there may be.
    """
    found: list[CutSpan] = []
    for section in sections:
        for start, end in _filled(text, section.blocks):
            found.append(CutSpan(section.headings, section.anchor, start, end))
            if len(found) > MOST_PASSAGES:
                raise InvalidRequest(
                    f"text makes more than {MOST_PASSAGES} passages; put it in as several documents",
                    field="text",
                    limit=f"{MOST_PASSAGES} passages",
                )
    return found


def _filled(text: str, blocks: Sequence[Sequence[Span]]) -> Iterator[Span]:
    start, end, full = -1, -1, 0.0
    for block in blocks:
        whole = weight(text[block[0][0] : block[-1][1]])
        for first, last in [(block[0][0], block[-1][1])] if whole <= MOST_WEIGHT else block:
            own = whole if whole <= MOST_WEIGHT else weight(text[first:last])
            between = first - end
            if start >= 0 and full + between + own > MOST_WEIGHT:
                yield start, end
                start = -1
            if start < 0:
                start, full = first, own
            else:
                full += between + own
            end = last
    if start >= 0:
        yield start, end
