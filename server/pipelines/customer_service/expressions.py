"""Which regular expressions a list may hold: those that compile, need something to match, and cannot take for ever."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from server.pipelines.product_copy.folding import HAS_CJK

_WORD = re.compile(r"[a-z]{3}")
_REPEATED = re.compile(r"[+*]\)(?:[+*]|\{\d+,\})")


def unusable(expression: str) -> str | None:
    """Why an expression may not be listed, and what to do; None: it may."""
    shown = repr(expression[:60])
    try:
        compiled = re.compile(expression)
    except re.error as error:
        return f"{shown} is no regular expression ({error}); escape its signs or correct it"
    if compiled.match("") is not None:
        return f"{shown} also matches an empty text; let it need at least one character"
    if _REPEATED.search(expression):
        return f"{shown} repeats a repetition, which can take for ever; bound one of them, as in {{0,20}}"
    return None


class Expressions:
    """Expressions over folded text, those of each script in one; where a text has no such script, they cost nothing."""

    def __init__(self, expressions: Iterable[str]) -> None:
        latin: list[str] = []
        chinese: list[str] = []
        for one in expressions:
            only_chinese = HAS_CJK.search(one) and not _WORD.search(one)
            (chinese if only_chinese else latin).append(f"(?:{one})")
        self._latin = re.compile("|".join(latin)) if latin else None
        self._chinese = re.compile("|".join(chinese)) if chinese else None

    def _patterns(self, folded: str) -> Iterator[re.Pattern[str]]:
        if self._latin is not None:
            yield self._latin
        if self._chinese is not None and HAS_CJK.search(folded):
            yield self._chinese

    def search(self, folded: str) -> re.Match[str] | None:
        """The first match of a script."""
        return next((found for one in self._patterns(folded) if (found := one.search(folded))), None)

    def finditer(self, folded: str) -> Iterator[re.Match[str]]:
        """All matches, script after script."""
        for one in self._patterns(folded):
            yield from one.finditer(folded)

    def blanked(self, folded: str, blank: str) -> str:
        """The text with each match written over, its length kept."""
        for one in self._patterns(folded):
            folded = one.sub(lambda found: blank * len(found.group()), folded)
        return folded
