"""Tool calls out of a text, piece by piece: ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``.

A pure state machine without a clock. Text before and after calls is content. Within a call the name is told as soon as it
is known and the arguments as they come, raw, which is how OpenAI streams them. What turns out not to be a call is given
back as content, so nothing that a model wrote is lost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_BLANK = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Content:
    """Text outside of calls."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """A call begins; its arguments follow."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The next piece of a call's arguments, as JSON text."""

    index: int
    text: str


Piece = Content | CallStart | CallArguments


class ToolCallParser:
    """One text.

    Attributes:
        calls: how many have begun.
    """

    def __init__(self, *, single: bool = False) -> None:
        """Begin.

        Args:
            single: leave out every call after the first.
        """
        self.calls = 0
        self._single = single
        self._held = ""  # outside: what may be the beginning of a mark, and blanks that may stand before one
        self._call: _Call | None = None

    def feed(self, text: str) -> list[Piece]:
        """What is certain after some more text."""
        pieces: list[Piece] = []
        self._held += text
        self._advance(pieces)
        return self._wanted(pieces)

    def _advance(self, pieces: list[Piece]) -> None:
        while True:
            if self._call is not None:
                at = self._held.find(CLOSE)
                if at < 0:
                    safe = len(self._held) - _overlap(self._held, CLOSE)
                    self._call.feed(self._held[:safe], pieces)
                    self._held = self._held[safe:]
                    return
                self._call.feed(self._held[:at], pieces)
                self._held = self._held[at + len(CLOSE) :]
                if self._call.in_string():  # the mark is text of an argument
                    self._call.feed(CLOSE, pieces)
                else:
                    self._end_call(pieces, closed=True)
            else:
                at = self._held.find(OPEN)
                if at < 0:
                    self._tell(len(self._held) - _overlap(self._held, OPEN), pieces)
                    return
                before = self._held[:at].rstrip(_BLANK)
                if before:
                    pieces.append(Content(before))
                self._held = self._held[at + len(OPEN) :]
                self._call = _Call(self.calls)

    def finish(self) -> list[Piece]:
        """What is left at the end of the text."""
        pieces: list[Piece] = []
        if self._call is not None:
            self._call.feed(self._held, pieces)
            self._held = ""
            self._end_call(pieces, closed=False)
        elif self._held and not (self.calls and not self._held.strip(_BLANK)):
            pieces.append(Content(self._held))
        self._held = ""
        return self._wanted(pieces)

    def _wanted(self, pieces: list[Piece]) -> list[Piece]:
        if not self._single:
            return pieces
        return [piece for piece in pieces if isinstance(piece, Content) or piece.index == 0]

    def _tell(self, end: int, pieces: list[Piece]) -> None:
        text = self._held[:end]
        shown = text.rstrip(_BLANK)  # blanks are told when something other than a call follows them
        if shown:
            pieces.append(Content(shown))
        self._held = text[len(shown) :] + self._held[end:]

    def _end_call(self, pieces: list[Piece], *, closed: bool) -> None:
        call = self._call
        assert call is not None
        self._call = None
        call.end(pieces, closed=closed)
        if call.started:
            self.calls += 1


class _Call:
    """Reads the one object of a call as far as it has come: its keys at depth 1, and where "arguments" begins and ends."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.started = False
        self._raw = ""
        self._scan = _ObjectScan()
        self._told = 0  # how far the arguments have been told

    def in_string(self) -> bool:
        return self._scan.in_string

    def feed(self, text: str, pieces: list[Piece]) -> None:
        self._raw += text
        scan = self._scan
        scan.read(self._raw)
        if not self.started and scan.name is not None and scan.arguments_from is not None:
            if scan.arguments_quoted:
                return  # a string that holds JSON: told whole, at the end
            self.started = True
            self._told = scan.arguments_from
            pieces.append(CallStart(self.index, scan.name))
        if self.started:
            end = len(self._raw) if scan.arguments_to is None else scan.arguments_to
            if end > self._told:
                pieces.append(CallArguments(self.index, self._raw[self._told : end]))
                self._told = end

    def end(self, pieces: list[Piece], *, closed: bool) -> None:
        if self.started:
            return
        name, arguments = _whole(self._raw)
        if name is None:
            pieces.append(Content(OPEN + self._raw + (CLOSE if closed else "")))
            return
        self.started = True
        pieces.append(CallStart(self.index, name))
        pieces.append(CallArguments(self.index, arguments))


class _ObjectScan:
    """A scanner of one JSON object that keeps its place; knows strings, escapes and depth, and no more."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.arguments_from: int | None = None
        self.arguments_to: int | None = None
        self.arguments_quoted = False
        self._at = 0
        self._depth = 0
        self._string_from: int | None = None
        self._escaped = False
        self._key: str | None = None  # the key at depth 1 whose value is being read
        self._last = ""  # the last string at depth 1

    @property
    def in_string(self) -> bool:
        return self._string_from is not None

    def read(self, raw: str) -> None:
        for at in range(self._at, len(raw)):
            self._step(raw, at)
        self._at = len(raw)

    def _step(self, raw: str, at: int) -> None:
        char = raw[at]
        if self._string_from is not None:
            if self._escaped:
                self._escaped = False
            elif char == "\\":
                self._escaped = True
            elif char == '"':
                if self._depth == 1:
                    self._ended_string(raw[self._string_from : at + 1])
                self._string_from = None
            return
        if char == '"':
            self._begin_value(at, quoted=True)
            self._string_from = at
        elif char in "{[":
            self._begin_value(at, quoted=False)
            self._depth += 1
        elif char in "}]":
            self._depth -= 1
            if self._key == "arguments" and self.arguments_to is None and self._depth <= 1:
                self.arguments_to = at + 1 if self._depth == 1 else at
        elif self._depth == 1 and char == ":":
            self._key = self._last if self._key is None else self._key
        elif self._depth == 1 and char == ",":
            if self._key == "arguments" and self.arguments_from is not None and self.arguments_to is None:
                self.arguments_to = at
            self._key = None
        elif char not in _BLANK:
            self._begin_value(at, quoted=False)

    def _begin_value(self, at: int, *, quoted: bool) -> None:
        if self._depth == 1 and self._key == "arguments" and self.arguments_from is None:
            self.arguments_from = at
            self.arguments_quoted = quoted

    def _ended_string(self, text: str) -> None:
        try:
            value = json.loads(text)
        except ValueError:
            return
        if self._key is None:
            self._last = value
        elif self._key == "name" and self.name is None:
            self.name = value


def _whole(raw: str) -> tuple[str | None, str]:
    """Name and arguments of a call that could not be told piece by piece."""
    try:
        call: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return None, ""
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None, ""
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):
        return call["name"], arguments
    return call["name"], json.dumps(arguments, ensure_ascii=False)


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``mark``."""
    for size in range(min(len(text), len(mark) - 1), 0, -1):
        if mark.startswith(text[-size:]):
            return size
    return 0
