"""What may not be said of any product, whatever its record says: claims that the law forbids, by list and with the reason.

The lists are plain text (``forbidden_en.txt``, ``forbidden_zh.txt``); both are held against every text, because copy in one
language can borrow from the other. They are a floor, not legal advice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from server.copy_domain import ClaimKind
from server.pipelines.product_copy.findings import Finding
from server.pipelines.product_copy.folding import HAS_CJK, fold
from server.pipelines.product_copy.instructions import squeezed
from server.pipelines.product_copy.lexicon import read_list


@dataclass(frozen=True, slots=True)
class _Law:
    pattern: re.Pattern[str]
    exceptions: re.Pattern[str]
    reasons: tuple[tuple[re.Pattern[str], str], ...]


@cache
def _law() -> _Law:
    phrases: dict[str, str] = {}
    exceptions: list[str] = []
    reason = ""
    for line in (*read_list("forbidden_en.txt"), *read_list("forbidden_zh.txt")):
        if line.startswith("[") and line.endswith("]"):
            reason = line[1:-1]
        elif line.startswith("!"):
            exceptions.append(pattern_of(line[1:]))
        else:
            phrases.setdefault(line, reason)
    ordered = sorted(phrases, key=len, reverse=True)
    chinese = "|".join(pattern_of(phrase) for phrase in ordered if HAS_CJK.search(phrase))
    # one look-behind for all of the words instead of one each: most places of a text fail at once
    latin = "|".join(
        _body(phrase) for phrase in ordered if not HAS_CJK.search(phrase) and phrase[0].isalnum()
    )
    others = "|".join(
        pattern_of(phrase) for phrase in ordered if not (HAS_CJK.search(phrase) or phrase[0].isalnum())
    )
    return _Law(
        re.compile(rf"(?<![a-z0-9])(?:{latin})(?![a-z0-9])|{chinese}|{others}"),
        re.compile("|".join(exceptions)),
        tuple((re.compile(pattern_of(phrase)), phrases[phrase]) for phrase in ordered),
    )


def pattern_of(phrase: str) -> str:
    """A phrase as a pattern over folded text: words whole, a space for any run of spaces or hyphens, ``*`` for the rest of a word."""
    body = _body(phrase)
    if HAS_CJK.search(phrase):
        return body
    left = r"(?<![a-z0-9])" if fold(phrase)[:1].isalnum() else ""
    right = r"(?![a-z0-9])" if phrase[-1:].isalnum() else ""
    return f"{left}{body}{right}"


def _body(phrase: str) -> str:
    body = re.escape(fold(phrase.strip())).replace(r"\*", r"\w*")
    return re.sub(r"(?:\\ |\\-)+", r"[\\s-]+", body)


def forbidden_findings(text: str) -> Iterator[Finding]:
    """Every forbidden claim of a folded text, also with its letters set apart."""
    yield from _found(text)
    tight, places = squeezed(text)
    if len(tight) != len(text):
        for finding in _found(tight):
            yield Finding(
                finding.kind, places[finding.start], places[finding.end - 1] + 1, None, finding.reason
            )


def _found(text: str) -> Iterator[Finding]:
    law = _law()
    excused = [found.span() for found in law.exceptions.finditer(text)]
    for found in law.pattern.finditer(text):
        if not any(start <= found.start() < end for start, end in excused):
            reason = next(why for one, why in law.reasons if one.match(text, found.start()))
            yield Finding(ClaimKind.FORBIDDEN, *found.span(), None, reason)
