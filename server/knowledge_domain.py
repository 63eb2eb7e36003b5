"""A shop's pages as data: documents as they were put in, passages as they are found. Knows no wire and no database.

Every change is a new *epoch* of the knowledge base; a search sees exactly one epoch. A quote is a byte-exact part of its
source: ``document.text[passage.start:passage.end] == passage.text``, in Unicode characters of the document as it was put in.
Where that part of an HTML page holds tags or entities, or an entry of questions and answers needed escapes, the passage is
what the part reads like: nobody is shown a tag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt


class DocumentFormat(StrEnum):
    """How a document is read."""

    MARKDOWN = "markdown"
    HTML = "html"
    TEXT = "text"
    QUESTIONS_CSV = "questions_csv"  # columns question, answer; optionally id, title, url, language
    QUESTIONS_JSONL = "questions_jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """As the shop put it in.

    Attributes:
        id: the shop's own, 1 to 200 characters of letters, digits and ``-_./:``.
        text: the whole source, unchanged.
        format: see there.
        title: shown with a quote; empty: the first heading, or the id.
        language: "en", "zh", another BCP 47 tag, or empty: found out.
        url: where people read it; may be empty.
        metadata: kept and given back.
    """

    id: str
    text: str
    format: DocumentFormat = DocumentFormat.MARKDOWN
    title: str = ""
    language: str = ""
    url: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What is found and quoted.

    Attributes:
        document_id: of its source.
        ordinal: place in the document, from 0.
        title: of the document.
        headings: path of headings above it, outermost first.
        anchor: fragment of the nearest heading, or empty.
        url: of the document, with the anchor.
        question: what it answers, for entries of questions and answers; else empty. Searched, never quoted as an answer.
        text: what is quoted.
        start, end: of ``text`` in the document, in characters.
        language: "en", "zh" ...
    """

    document_id: str
    ordinal: int
    title: str
    headings: tuple[str, ...]
    anchor: str
    url: str
    question: str
    text: str
    start: int
    end: int
    language: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage that was found.

    Attributes:
        passage: see there.
        score: of the hybrid ranking, higher is better; comparable within one search only.
        cosine: with the question, -1 to 1; NaN where there was no vector.
        bm25_rank: place in the ranking by words, from 1; None: words did not find it.
    """

    passage: Passage
    score: float
    cosine: float
    bm25_rank: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchAsked:
    """A question to the knowledge base.

    Attributes:
        text: in the asker's words.
        vector_D: of ``text``, length 1; None: search by words alone (the encoder is away).
        language: passages in it are preferred; empty: any.
        k: how many hits at most.
    """

    text: str
    vector_D: npt.NDArray[np.float32] | None
    language: str = ""
    k: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFound:
    """Hits, best first, of one epoch.

    Attributes:
        hits: see there; near-duplicates of a better hit are left out.
        epoch: of the knowledge base that was searched.
        search_s: time it took.
    """

    hits: tuple[Hit, ...]
    epoch: int
    search_s: float


class Knowledge(Protocol):
    """What the answer pipeline needs of the knowledge base; for the event-loop thread."""

    async def search(self, asked: SearchAsked) -> SearchFound:
        """Find passages.

        Raises:
            NotReady: the knowledge file cannot be read; says why and what to do.
        """

    def epoch(self) -> int:
        """Of what a search would see now."""

    def ready(self) -> tuple[bool, str]:
        """Whether it can be searched, and a sentence if not."""
