"""What may not be said of any product, whatever its record says: claims that the law forbids, by list and with the reason.

The lists are plain text (``forbidden_en.txt``, ``forbidden_zh.txt``); both are held against every text, because copy in one
language can borrow from the other. They are a floor, not legal advice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from server.copy_domain import ClaimKind
from server.pipelines.product_copy.findings import Finding
from server.pipelines.product_copy.folding import HAS_CJK, fold
from server.pipelines.product_copy.instructions import squeezed
from server.pipelines.product_copy.lexicon import read_list


@cache
def _law() -> tuple[re.Pattern[str], re.Pattern[str], dict[str, str]]:
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
    bodies = {pattern_of(phrase): why for phrase, why in phrases.items()}
    ordered = sorted(bodies, key=len, reverse=True)
    return re.compile("|".join(f"({body})" for body in ordered)), re.compile("|".join(exceptions)), {
        str(at + 1): bodies[body] for at, body in enumerate(ordered)
    }  # fmt: skip


def pattern_of(phrase: str) -> str:
    """A phrase as a pattern over folded text: words whole, a space for any run of spaces or hyphens, ``*`` for the rest of a word."""
    body = re.escape(fold(phrase.strip())).replace(r"\*", r"\w*")
    body = re.sub(r"(?:\\ |\\-)+", r"[\\s-]+", body)
    if HAS_CJK.search(phrase):
        return body
    left = r"(?<![a-z0-9])" if fold(phrase)[:1].isalnum() else ""
    right = r"(?![a-z0-9])" if phrase[-1:].isalnum() else ""
    return f"{left}{body}{right}"


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
    pattern, exceptions, reasons = _law()
    excused = [found.span() for found in exceptions.finditer(text)]
    for found in pattern.finditer(text):
        if not any(start <= found.start() < end for start, end in excused):
            yield Finding(ClaimKind.FORBIDDEN, *found.span(), None, reasons[str(found.lastindex)])
