"""Which regular expressions a list may hold: those that compile, need something to match, and cannot take for ever."""

from __future__ import annotations

import re

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
