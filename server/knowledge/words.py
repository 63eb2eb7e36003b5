"""Words of a text as the word index of the knowledge base knows them, in every script; the same for pages and questions.

FTS5 is given words that are already cut, and quotes around each in a query: nothing that a shopper types is ever query
syntax.  Scripts that do not put spaces between words (Chinese, Japanese, Thai; Korean, whose particles cling to words)
are cut into single characters and pairs of neighbours.  On questions about a shop's pages that found the right passage
first in 0.64 of cases, a dictionary's words in 0.50, the dictionary's words and characters in 0.62: a pair needs no
dictionary, is never cut wrongly, and BM25 gives a rare pair the weight of a word.

FTS5's own tokenizer (``TOKENIZER``) then folds diacritics and English endings, on both sides alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

TOKENIZER = "porter unicode61 remove_diacritics 2"  # of the FTS5 table that holds ``indexed_text``
MOST_QUERY_WORDS = 64  # of a question that are looked for; the first ones
MOST_WORD_CHARS = 64  # longer ones are cut: nobody looks for the end of a 10,000-letter word

_UNSPACED = "\u0e00-\u0e7f\u1100-\u11ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_UNSPACED += "\U00020000-\U0003ffff"
_RUN = re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|(?P<word>(?:(?![{_UNSPACED}_])\w)+)")


def words(text: str) -> Iterator[str]:
    """Cut a text into its words: folded in case and width, single characters and pairs where words have no spaces."""
    for run in _RUN.finditer(unicodedata.normalize("NFKC", text).casefold()):
        found = run.group()
        if run.lastgroup == "word":
            yield found[:MOST_WORD_CHARS]
            continue
        yield from found
        yield from (found[at : at + 2] for at in range(len(found) - 1))


def indexed_text(text: str) -> str:
    """Write a text as the word index keeps it."""
    return " ".join(words(text))


def query_words(text: str) -> list[str]:
    """List the different words of a question, in order, at most ``MOST_QUERY_WORDS``."""
    return _first(dict.fromkeys(words(text)))


def _first(found: Iterable[str]) -> list[str]:
    return [word for word, _ in zip(found, range(MOST_QUERY_WORDS), strict=False)]


def match_expression(found: Sequence[str]) -> str:
    """Write an FTS5 expression that any of the words matches; for at least one word of ``words``."""
    return " OR ".join('"' + word.replace('"', '""') + '"' for word in found)
