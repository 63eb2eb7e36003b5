"""The labelled set of product copy: products with true sentences, and with false ones that name what is false in them.

``copy_cases.jsonl`` has a product a line: ``record``, ``language``, ``true`` (sentences that the record bears out) and ``false``
(pairs of a sentence and the words in it that contradict the record, are not in it, or may not be said). Written by hand from
the records, before it was known what the checker makes of them; a sentence is never taken out because the checker errs on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from server.copy_domain import Language, ProductRecord
from server.pipelines.product_copy.prompt import record_from_mapping


@dataclass(frozen=True, slots=True)
class Case:
    """A sentence about a product; ``planted`` is what is false in it, empty if it is true."""

    product: ProductRecord
    language: Language
    sentence: str
    planted: str


@cache
def cases() -> tuple[Case, ...]:
    """All of them."""
    return tuple(_read())


def _read() -> Iterator[Case]:
    for line in Path(__file__).with_suffix(".jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        product, language = record_from_mapping(row["record"]), Language(row["language"])
        yield from (Case(product, language, sentence, "") for sentence in row["true"])
        yield from (Case(product, language, sentence, planted) for sentence, planted in row["false"])
