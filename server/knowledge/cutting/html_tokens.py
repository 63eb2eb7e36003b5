"""HTML to tokens with their places in the source, in one pass, whatever the source is.

Parsers of HTML give a tree and forget where its parts stood, and quotes must be found again in the source, so that the
tokens are cut here; entities are read by the standard library.  Each step goes forward and looks at each character a
bounded number of times: tags that never close, quotes that never end and comments without an end cost nothing more.
``tests/server/knowledge/test_cutting_html.py`` holds the tokens against the standard library's parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

RAW = frozenset({"script", "style", "textarea", "title", "iframe", "noembed", "noframes", "xmp"})
_OPENING = re.compile(r"</?[a-zA-Z]|<[!?]")
_NAME = re.compile(r"</?([a-zA-Z][^\s/>]*)")
_TAG_END = re.compile(r"(?:[^>\"']|\"[^\"]*\"|'[^']*')*>")
_ATTRIBUTE = re.compile(r"""(?:^|[\s"'])(id|lang|name)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.I)
_MOST_ATTRIBUTE_CHARS = 4096  # of a tag in which attributes are looked for


class Kind(Enum):
    """What a token is."""

    TEXT = 1
    OPEN = 2
    CLOSE = 3
    RAW_TEXT = 4  # of a script, a style, a title
    OTHER = 5  # comments, doctypes


@dataclass(frozen=True, slots=True)
class Token:
    """``source[start:end]``; ``name`` of a tag, in lower case, and of the element that raw text is in."""

    kind: Kind
    start: int
    end: int
    name: str = ""


def tokens(source: str) -> Iterator[Token]:
    """Cut a source into tokens that follow each other without a gap."""
    at, text_start, length = 0, 0, len(source)
    quotes_close = True
    raw_gone: set[str] = set()
    while at < length:
        opening = _OPENING.search(source, at)
        if opening is None:
            break
        start = opening.start()
        if opening.group() in ("<!", "<?"):
            comment = source.startswith("<!--", start)
            close = source.find("-->" if comment else ">", start + (4 if comment else 2))
            end = length if close < 0 else close + (3 if comment else 1)
            token = Token(Kind.OTHER, start, end)
        else:
            named = _NAME.match(source, start)
            assert named is not None, "an opening is followed by a letter"
            end, quotes_close = _tag_end(source, named.end(), quotes_close)
            kind = Kind.CLOSE if source[start + 1] == "/" else Kind.OPEN
            token = Token(kind, start, end, named.group(1).lower())
        if text_start < start:
            yield Token(Kind.TEXT, text_start, start)
        yield token
        at = text_start = token.end
        if token.kind is Kind.OPEN and token.name in RAW:
            close = _raw_end(source, at, token.name, raw_gone)
            if at < close:
                yield Token(Kind.RAW_TEXT, at, close, token.name)
            at = text_start = close
    if text_start < length:
        yield Token(Kind.TEXT, text_start, length)


def _tag_end(source: str, at: int, quotes_close: bool) -> tuple[int, bool]:
    """Where a tag ends; once a quote has never closed, quotes do not count any more, so that the rest is read once."""
    if quotes_close:
        found = _TAG_END.match(source, at)
        if found is not None:
            return found.end(), True
    plain = source.find(">", at)
    return (len(source) if plain < 0 else plain + 1), False


def _raw_end(source: str, at: int, name: str, gone: set[str]) -> int:
    if name not in gone:
        found = re.compile(f"</{name}(?=[\\s/>])", re.I).search(source, at)
        if found is not None:
            return found.start()
        gone.add(name)
    return len(source)


def attributes(source: str, token: Token) -> dict[str, str]:
    """``id``, ``name`` and ``lang`` of a tag."""
    inside = source[token.start + 1 + len(token.name) : min(token.end, token.start + _MOST_ATTRIBUTE_CHARS)]
    found: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(inside):
        found.setdefault(match.group(1).lower(), match.group(2) or match.group(3) or match.group(4) or "")
    return found
