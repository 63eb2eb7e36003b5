"""Which texts of a passage are encoded, and what the vectors of a passage are: the agreement of writer and searcher.

A passage has one *scan vector*, which the index holds in memory, and a few *close vectors*, which are read from the file
for the best few dozen passages only:

* a passage of a page: the scan vector is that of its title, headings and text; the close vectors are its sentences';
* an entry of questions and answers: the scan vector is that of the question plus half of that of the answer, which
  ranks by ``cosine(question) + cosine(answer) / 2`` in one product; the close vectors are the question's, the
  answer's and those of the answer's sentences.

The half is the a-priori weight of the plain baseline; nothing here was fitted.

Shapes: S close vectors of a passage, D dimensions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from server.knowledge.vectors import Floats, unit
from server.knowledge_domain import Passage

ANSWER_WEIGHT = 0.5
MOST_SENTENCES = 32  # of a passage that get a vector of their own
LEAST_SENTENCE_CHARS = 40  # a shorter one ("Updated:", "Yes.") says nothing alone, and goes with the next
LEAST_CJK_CHARS = 12  # the same where a character is a word or half of one

_SENTENCE_END = re.compile(r"(?:[.!?]+[\"'”’)\]]*(?=\s)|[。！？；]+[”’」』）]*|\n)\s*")
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True, slots=True)
class PassageTexts:
    """What to encode of a passage, in this order.

    Attributes:
        scan: texts whose vectors make the scan vector: the whole, or the question and the answer.
        close: texts of the sentences.
    """

    scan: tuple[str, ...]
    close: tuple[str, ...]

    def all(self) -> tuple[str, ...]:
        """Everything to encode, in the order that ``passage_vectors`` wants."""
        return (*self.scan, *self.close)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Cut a text into sentences: ``text[start:end]``, without the white space around them, in order.

    Every character that is not white space lies in exactly one span.  A point within a number, an address or a word
    does not end a sentence; a line break does.
    """
    cuts = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    spans = []
    for start, end in pairwise(cuts):
        piece = text[start:end]
        left = start + len(piece) - len(piece.lstrip())
        right = start + len(piece.rstrip())
        if left < right:
            spans.append((left, right))
    return spans


def close_spans(text: str) -> list[tuple[int, int]]:
    """Cut a passage into what gets close vectors: its sentences, the short ones joined to the next.

    Returns:
        At most ``MOST_SENTENCES`` spans, in order; what comes after them is found by the scan vector alone.
    """
    joined: list[tuple[int, int]] = []
    open_start: int | None = None
    for start, end in sentence_spans(text):
        begin = start if open_start is None else open_start
        if _long_enough(text[begin:end]):
            joined.append((begin, end))
            open_start = None
        else:
            open_start = begin
    if open_start is not None:
        end = len(text.rstrip())
        joined[-1:] = [(joined[-1][0] if joined else open_start, end)]
    return joined[:MOST_SENTENCES]


def _long_enough(text: str) -> bool:
    return len(text) >= (LEAST_CJK_CHARS if _CJK.search(text) else LEAST_SENTENCE_CHARS)


def passage_texts(passage: Passage) -> PassageTexts:
    """List the texts of a passage that are to be encoded (as ``InputKind.PASSAGE``, with ``Truncate.END``)."""
    close = tuple(passage.text[start:end] for start, end in close_spans(passage.text))
    if passage.question:
        return PassageTexts(scan=(passage.question, passage.text), close=close)
    title = () if passage.title == passage.document_id else (passage.title,)
    heads = tuple(dict.fromkeys(head for head in (*title, *passage.headings) if head))
    return PassageTexts(scan=("\n".join((*(f"{head}." for head in heads), passage.text)),), close=close)


def passage_vectors(texts: PassageTexts, encoded_TD: Floats) -> tuple[Floats, Floats]:
    """Make a passage's vectors of its texts' vectors.

    Args:
        texts: of the passage.
        encoded_TD: one row for each of ``texts.all()``, of length 1.

    Returns:
        ``scan_1D`` of length 1, and ``close_SD``: for an entry of questions and answers first the question's and the
        answer's, then the sentences'.  Write both with ``pack_rows``.

    Raises:
        ValueError: there are more or fewer rows than texts; says both.
    """
    if len(encoded_TD) != len(texts.all()):
        raise ValueError(f"{len(texts.all())} texts of a passage but {len(encoded_TD)} vectors")
    if len(texts.scan) == 1:
        return encoded_TD[:1], encoded_TD[1:]
    question_D, answer_D = encoded_TD[0], encoded_TD[1]
    return unit(np.atleast_2d(question_D + ANSWER_WEIGHT * answer_D)), encoded_TD
