"""HTML to sections and to the text that people read.

A passage is what is read between two places of the source: without tags, scripts and comments, its entities read.
Where there are none of these between the two places, it is the source itself, character by character.
"""

from __future__ import annotations

import html
from bisect import bisect_left, bisect_right
from itertools import islice

from server.knowledge.cutting.bounds import MOST_TOKENS, check_tokens
from server.knowledge.cutting.html_tokens import Kind, Token, attributes, tokens
from server.knowledge.cutting.pieces import Outline, Span, pieces_of

_TEXT_BLOCKS = {
    "address",
    "blockquote",
    "center",
    "dd",
    "dl",
    "dt",
    "figcaption",
    "li",
    "ol",
    "p",
    "pre",
    "ul",
}
_PARTS = {
    "article",
    "aside",
    "body",
    "details",
    "div",
    "fieldset",
    "figure",
    "footer",
    "form",
    "header",
    "main",
}
_PARTS |= {"section", "summary", "dialog", "html", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6"}
_TABLES = {"caption", "table", "tbody", "tfoot", "thead", "tr"}
_BLOCKS = frozenset(_TEXT_BLOCKS | _PARTS | _TABLES)
_WITHIN = frozenset(
    {"br", "li", "dt", "dd", "tr", "ul", "ol", "tbody", "thead", "tfoot", "caption"}
)  # of one block
_CELLS = frozenset({"td", "th"})
_UNREAD = frozenset(
    {"head", "nav", "template", "noscript", "svg", "math", "object", "select", "button", "dialog"}
)
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})


class HtmlPage:
    """A page's sections, and the text between two places of it.

    Attributes:
        outline: see there.
        title: of the head; empty: it has none.
        language: of the ``html`` tag; empty: it does not say.
    """

    def __init__(self, source: str) -> None:
        """Read the source; it need not be well-formed.

        Raises:
            InvalidRequest: it has more tags than it may have.
        """
        self._source = source
        self._tokens = list(islice(tokens(source), MOST_TOKENS + 1))
        check_tokens(len(self._tokens))
        self._starts = [token.start for token in self._tokens]
        self._unread = _unread(self._tokens)
        self.outline = Outline()
        self.title = self.language = ""
        self._block: list[Span] = []
        self._heading: tuple[int, str, int] | None = None
        for at, token in enumerate(self._tokens):
            self._take(at, token)
        self._end_heading(len(source))
        self._end_block()

    def text(self, start: int, end: int) -> str:
        """What is read between two places that are not inside a tag."""
        parts: list[str] = []
        first = max(0, bisect_right(self._starts, start) - 1)
        for at in range(first, bisect_left(self._starts, end)):
            token = self._tokens[at]
            if self._unread[at]:
                continue
            if token.kind is Kind.TEXT:
                piece = self._source[max(start, token.start) : min(end, token.end)]
                parts.append(html.unescape(piece) if "&" in piece else piece)
            elif token.name in _CELLS and parts and not parts[-1][-1:].isspace():
                parts.append(" ")
            elif token.name in _BLOCKS and parts and not parts[-1].endswith("\n"):
                parts.append("\n")
        return "".join(parts).replace("\x00", "")

    def _take(self, at: int, token: Token) -> None:
        name = token.name
        if token.kind is Kind.RAW_TEXT and name == "title" and not self.title:
            self.title = " ".join(html.unescape(self._source[token.start : token.end]).split())[:300]
        if token.kind is Kind.OPEN and name == "html" and not self.language:
            self.language = attributes(self._source, token).get("lang", "")[:35]
        if self._unread[at]:
            return
        if token.kind is Kind.TEXT:
            if self._heading is None:
                self._block += _runs(self._source, token)
        elif name in _HEADINGS:
            self._end_heading(token.start)
            self._end_block()
            if token.kind is Kind.OPEN:
                own = attributes(self._source, token)
                self._heading = (int(name[1]), own.get("id", ""), token.end)
        elif name in _BLOCKS:
            if self._heading is not None and name != "br":
                self._end_heading(token.start)  # of a heading that never closes
            if name not in _WITHIN:
                self._end_block()

    def _end_heading(self, end: int) -> None:
        if self._heading is None:
            return
        (level, anchor, start), self._heading = self._heading, None
        if text := " ".join(self.text(start, end).split())[:300]:
            self.outline.heading(level, text, anchor)

    def _end_block(self) -> None:
        self.outline.block(self._block)
        self._block = []


def _runs(source: str, token: Token) -> list[Span]:
    """Pieces of a text; none of them ends within an entity."""
    found = pieces_of(source, token.start, token.end)
    for at in range(len(found) - 1):
        start, end = found[at]
        ampersand = source.rfind("&", max(start, end - 32), end)
        if ampersand > start and ";" in source[end : end + 32] and ";" not in source[ampersand:end]:
            found[at] = (start, ampersand)
            found[at + 1] = (ampersand, found[at + 1][1])
    return found


def _unread(found: list[Token]) -> list[bool]:
    """Which tokens nobody reads: those in elements that are not text, but only where these close."""
    closes: dict[str, int] = {}
    for at, token in enumerate(found):
        if token.kind is Kind.CLOSE and token.name in _UNREAD:
            closes[token.name] = at
    unread = [False] * len(found)
    depth: dict[str, int] = {}
    for at, token in enumerate(found):
        name = token.name
        if name in _UNREAD and token.kind is Kind.OPEN and at < closes.get(name, -1):
            depth[name] = depth.get(name, 0) + 1
        unread[at] = bool(depth) or token.kind in (Kind.RAW_TEXT, Kind.OTHER)
        if name in _UNREAD and token.kind is Kind.CLOSE and name in depth:
            depth[name] -= 1
            if not depth[name] or at == closes[name]:
                del depth[name]
    return unread
