"""Entries of questions and answers, from CSV and JSON lines, with the place of each answer in the source.

A file is taken whole or not at all: a wrong line is named with its number.  Of an answer that the format had to escape
(a quotation mark in CSV; a line break in JSON) the passage is the answer, and the place is that of its escaped form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from server.errors import InvalidRequest

_FIELDS = ("question", "answer", "id", "title", "url", "language")
_ANCHOR = re.compile(r"[^\w\-.:]+")
MOST_QUESTION_CHARS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One question with its answer.

    Attributes:
        question, answer: see there.
        start, end: of the answer in the source.
        anchor: made of the entry's own id; empty: it has none.
        title, url, language: empty: those of the document.
    """

    question: str
    answer: str
    start: int
    end: int
    anchor: str
    title: str
    url: str
    language: str


@dataclass(frozen=True, slots=True)
class _Value:
    text: str
    start: int
    end: int


def csv_entries(source: str) -> list[Entry]:
    """Read CSV (RFC 4180; commas, semicolons or tabs) with a line of names first.

    Raises:
        InvalidRequest: a column is missing, a quotation mark never ends, or a line has no question or answer; names it.
    """
    head_end = source.find("\n")
    head = source[: head_end if head_end >= 0 else None]
    delimiter = max(",;\t", key=head.count)
    rows = _csv_rows(source, delimiter)
    names = [value.text.strip().lower().lstrip("\ufeff") for value in next(rows, (0, []))[1]]
    for needed in _FIELDS[:2]:
        if needed not in names:
            raise _wrong(
                1, f"has no column {needed}; the first line names the columns: question, answer", needed
            )
    found = []
    for line, row in rows:
        if len(row) == 1 and not row[0].text.strip():
            continue
        if len(row) > len(names):
            raise _wrong(
                line,
                f"has {len(row)} columns, the first has {len(names)}; put quotation marks around commas",
                "",
            )
        found.append(_entry(line, dict(zip(names, row, strict=False))))
    return found


def _csv_rows(source: str, delimiter: str) -> Iterator[tuple[int, list[_Value]]]:
    plain = re.compile(f"[^{re.escape(delimiter)}\r\n]*")
    line_end = re.compile(r"\r\n|\r|\n")
    at, line = (1 if source.startswith("\ufeff") else 0), 1
    while at < len(source):
        row: list[_Value] = []
        first = line
        while True:
            if source.startswith('"', at):
                close = at + 1
                while (close := source.find('"', close)) >= 0 and source.startswith('"', close + 1):
                    close += 2
                if close < 0:
                    raise _wrong(line, "opens a quotation mark that never closes; end the field with one", "")
                row.append(_Value(source[at + 1 : close].replace('""', '"'), at + 1, close))
                line += len(line_end.findall(source[at:close]))
                rest = plain.match(source, close + 1)
                assert rest is not None, "it matches nothing, too"
                if rest.group().strip():
                    raise _wrong(line, "has text after a closing quotation mark; write it twice inside", "")
                at = rest.end()
            else:
                found = plain.match(source, at)
                assert found is not None, "it matches nothing, too"
                row.append(_Value(found.group(), at, found.end()))
                at = found.end()
            if source.startswith(delimiter, at):
                at += 1
                continue
            break
        yield first, row
        ended = line_end.match(source, at)
        at = ended.end() if ended else len(source)
        line += 1


def jsonl_entries(source: str) -> list[Entry]:
    """Read JSON lines, an object each.

    Raises:
        InvalidRequest: a line is not an object with question and answer; names it.
    """
    found, at = [], 0
    for line, text in enumerate(source.split("\n"), 1):
        if text.strip(" \t\r\ufeff"):
            found.append(_entry(line, _object(line, text, at)))
        at += len(text) + 1
    return found


def _object(line: int, text: str, offset: int) -> Mapping[str, _Value]:
    decoder = json.JSONDecoder()
    try:
        whole = json.loads(text.strip("\ufeff"))
        if not isinstance(whole, dict):
            raise _wrong(line, "is not a JSON object; write question and answer in one", "")
        values: dict[str, _Value] = {}
        at = text.index("{") + 1
        while whole and len(values) <= len(text):
            at = text.index('"', at)
            name, at = decoder.raw_decode(text, at)
            at = text.index(":", at) + 1
            at += len(text[at:]) - len(text[at:].lstrip())
            value, end = decoder.raw_decode(text, at)
            if isinstance(value, str):
                values[name.lower()] = _Value(value, offset + at + 1, offset + end - 1)
            elif name.lower() in _FIELDS and value is not None:
                raise _wrong(line, f"has {name} that is not a text; put it in quotation marks", name.lower())
            at = end + len(text[end:]) - len(text[end:].lstrip())
            if text[at] == "}":
                break
    except (json.JSONDecodeError, RecursionError) as error:
        raise _wrong(
            line, f"is not JSON: {error}; write one object a line, with question and answer", ""
        ) from error
    return values


def _entry(line: int, values: Mapping[str, _Value]) -> Entry:
    said = {name: values[name].text.strip() if name in values else "" for name in _FIELDS}
    for needed in _FIELDS[:2]:
        if not said[needed]:
            raise _wrong(line, f"has no {needed}; an entry needs both question and answer", needed)
    if len(said["question"]) > MOST_QUESTION_CHARS:
        raise _wrong(
            line,
            f"has a question of {len(said['question'])} characters; {MOST_QUESTION_CHARS} at most",
            "question",
        )
    answer = values["answer"]
    exact = answer.end - answer.start == len(answer.text)
    left = len(answer.text) - len(answer.text.lstrip()) if exact else 0
    start = answer.start + left
    return Entry(
        question=said["question"],
        answer=said["answer"] if exact else answer.text,
        start=start,
        end=start + len(said["answer"]) if exact else answer.end,
        anchor=_ANCHOR.sub("-", said["id"])[:200],
        title=said["title"],
        url=said["url"],
        language=said["language"],
    )


def _wrong(line: int, what: str, name: str) -> InvalidRequest:
    return InvalidRequest(
        f"text: line {line} {what}", field="text", limit=f"line {line}: {name}" if name else f"line {line}"
    )
