"""A model's answer read while it is written: each part is told as soon as its string is closed.

With a grammar the answer is one JSON object; without one (an engine elsewhere) it may be wrapped in prose or a code fence,
cut off, or broken. Reading never fails: what was whole before the break stays, and ``whole`` says whether all came.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from server.copy_domain import CopyText

_TEXTS = ("headline", "description")
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Part:
    """A part that has been written; ``name`` as in ``CopyText.parts``."""

    name: str
    text: str


class PartReader:
    """Characters in, parts out.

    Attributes:
        whole: the object has been closed.
        broken: it is not the JSON that was asked for; nothing more is told.
    """

    def __init__(self) -> None:
        self.whole = False
        self.broken = False
        self._stack: list[str] = []
        self._key = ""
        self._expects_key = False
        self._string: list[str] | None = None
        self._escaped = False
        self._seen: set[str] = set()
        self._bullets = 0

    def feed(self, text: str) -> list[Part]:
        """The parts that these characters complete."""
        parts: list[Part] = []
        for char in text:
            if self.whole or self.broken:
                break
            if self._string is not None:
                part = self._inside(self._string, char)
                if part is not None:
                    parts.append(part)
            else:
                self._between(char)
        return parts

    def _inside(self, string: list[str], char: str) -> Part | None:
        if self._escaped:
            self._escaped = False
            string.append(char)
        elif char == "\\":
            self._escaped = True
            string.append(char)
        elif char == '"':
            self._string = None
            return self._closed("".join(string))
        else:
            string.append(char)
        return None

    def _closed(self, raw: str) -> Part | None:
        try:
            text = str(json.loads(f'"{raw}"', strict=False))
        except ValueError:
            self.broken = True
            return None
        if self._expects_key:
            self._key, self._expects_key = text if len(self._stack) == 1 else "", False
            return None
        if len(self._stack) == 1 and self._key in _TEXTS and self._key not in self._seen:
            self._seen.add(self._key)
            return Part(self._key, text)
        if self._stack == ["{", "["] and self._key == "bullets" and "bullets" not in self._seen:
            self._bullets += 1
            return Part(f"bullets[{self._bullets - 1}]", text)
        return None

    def _between(self, char: str) -> None:
        stack = self._stack
        if not stack:
            if char == "{":  # what stands before it is talk
                stack.append(char)
                self._expects_key = True
        elif char == '"':
            self._string = []
        elif char in "{[":
            stack.append(char)
            self._expects_key = char == "{"
            self.broken = len(stack) > _MAX_DEPTH
        elif char in "}]":
            if (stack.pop(), char) not in (("{", "}"), ("[", "]")):
                self.broken = True
            self._expects_key = False
            self.whole = not stack and not self.broken
            if len(stack) == 1 and char == "]" and self._key == "bullets":
                self._seen.add("bullets")
        elif char == ",":
            self._expects_key = stack[-1] == "{"
        elif char not in ": \t\r\n" and not (char.isalnum() or char in "+-."):
            self.broken = True


def answer_so_far(text: CopyText, name: str) -> tuple[str, str]:
    """The JSON of an answer up to where the part of this name begins, for a model to go on from, and what opens the part.

    A tokenizer joins the space, the bracket and the quote that open a string, so they are left to the model to write.
    """
    begun = '{"headline":'
    if name == "headline":
        return begun, ' "'
    begun += f' {_json(text.headline)}, "description":'
    if name == "description":
        return begun, ' "'
    begun += f' {_json(text.description)}, "bullets":'
    if not text.bullets:
        return begun, ' ["'
    return f"{begun} [{', '.join(map(_json, text.bullets))},", ' "'


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
