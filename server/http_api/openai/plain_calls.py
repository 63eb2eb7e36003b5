"""Tool calls as Llama 3 models write them: the whole text is one object, ``{"name": ..., "parameters": {...}}``.

Whether a text is a call or an answer in JSON is known at its end only, so a text that begins as an object is held back until
then; any other is told as it comes.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from server.http_api.openai.tool_calls import CallArguments, CallStart, Content, Piece

PYTHON_TAG = "<|python_tag|>"  # some of them write it before a call


class PlainCallParser:
    """One text.

    Attributes:
        calls: how many there are; one at most.
    """

    def __init__(self, names: Collection[str]) -> None:
        """Begin; an object with another name than these is text."""
        self.calls = 0
        self._names = frozenset(names)
        self._held = ""
        self._plain = False

    def feed(self, text: str) -> list[Piece]:
        """What is certain after some more text."""
        if self._plain:
            return [Content(text)] if text else []
        self._held += text
        begun = self._held.lstrip()
        if (
            not begun
            or PYTHON_TAG.startswith(begun)
            or begun.removeprefix(PYTHON_TAG).lstrip()[:1] in ("{", "")
        ):
            return []
        self._plain = True
        held, self._held = self._held, ""
        return [Content(held)]

    def finish(self) -> list[Piece]:
        """What is left at the end of the text."""
        held, self._held = self._held, ""
        call = self._call(held.strip().removeprefix(PYTHON_TAG))
        if call is None:
            return [Content(held)] if held else []
        name, arguments = call
        self.calls = 1
        return [CallStart(0, name), CallArguments(0, arguments)]

    def _call(self, text: str) -> tuple[str, str] | None:
        try:
            found: Any = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or found.get("name") not in self._names:
            return None
        arguments = found.get("parameters", found.get("arguments", {}))
        if not isinstance(arguments, dict):
            return None
        return str(found["name"]), json.dumps(arguments, ensure_ascii=False)
