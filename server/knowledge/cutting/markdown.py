"""Markdown to sections, by ``markdown-it-py``'s blocks: CommonMark with tables.

Only blocks are parsed, not what stands within a line: the passages are the source, and emphasis stays in them as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from markdown_it import MarkdownIt

from server.knowledge.cutting.bounds import MOST_NESTING, check_cells, check_lines
from server.knowledge.cutting.pieces import Outline, pieces_of

_LINE_END = re.compile(r"\r\n?|\n")  # as markdown-it counts lines
_FRONT = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)(?:^|\n)---[ \t]*(?:\r?\n|\Z)", re.S)
_FRONT_LINE = re.compile(r"^(title|language|lang|url)[ \t]*:[ \t]*(.+?)[ \t]*$", re.M)
_FRONT_MOST_CHARS = 16_384
_OWN_ANCHOR = re.compile(r"[ \t]*\{[ \t]*#([\w\-:.]+)[ \t]*\}[ \t]*$")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")
_MARKS = re.compile(r"(\*{1,3}|_{2,3}|`+|~~)(?=\S)(.+?)(?<=\S)\1")
_COMMENT = re.compile(r"\s*<!--.*?(?:-->|\Z)\s*\Z", re.S)
_parser = (
    MarkdownIt("commonmark", {"maxNesting": MOST_NESTING}).enable("table").disable(["inline", "text_join"])
)


@dataclass(frozen=True, slots=True)
class MarkdownPage:
    """Sections, and what the front matter says; empty: it does not."""

    outline: Outline
    title: str
    language: str
    url: str


def markdown_page(text: str) -> MarkdownPage:
    """Find the sections of a page.

    Raises:
        InvalidRequest: it has more structure than it may have.
    """
    check_lines(text)
    check_cells(text)
    front = _FRONT.match(text, 0, _FRONT_MOST_CHARS) if text[:5].lstrip("\ufeff").startswith("---") else None
    lines_said = _FRONT_LINE.findall(front.group(1)) if front else []
    said: dict[str, str] = {name: value.strip("\"'") for name, value in lines_said}
    begin = front.end() if front else 0
    lines = [
        begin,
        *(begin + match.end() for match in _LINE_END.finditer(text[begin:])),
        len(text),
        len(text),
    ]
    outline = Outline()
    tokens = _parser.parse(text[begin:])
    for at, token in enumerate(tokens):
        if token.level or token.map is None or token.nesting < 0:
            continue
        if token.type == "heading_open":
            own = _OWN_ANCHOR.search(tokens[at + 1].content)
            content = tokens[at + 1].content[: own.start() if own else None]
            if heading := plain_heading(content):
                outline.heading(int(token.tag[1]), heading, own.group(1) if own else "")
            continue
        start, end = lines[token.map[0]], lines[min(token.map[1], len(lines) - 1)]
        if token.type == "hr" or (token.type == "html_block" and _COMMENT.match(text[start:end])):
            continue
        outline.block(pieces_of(text, start, end))
    return MarkdownPage(
        outline, said.get("title", ""), said.get("language", said.get("lang", "")), said.get("url", "")
    )


def plain_heading(content: str) -> str:
    """A heading without its marks."""
    plain = _LINK.sub(r"\1", content[:2000])
    for _ in range(3):
        plain = _MARKS.sub(r"\2", plain)
    return " ".join(plain.split())[:300]
