"""A shop's labelled texts: read from CSV or JSON lines, with every row that cannot be used named by file and line.

Two things beside bad rows spoil a classifier silently, so both are looked for here: texts that stand there twice (kept once,
or one copy is learnt from and the other judged by) and texts with two labels (nobody can learn those). Whether two texts are
the same is asked of ``text_key``: case, spacing and punctuation do not make another question.

The label ``out_of_scope`` is for texts that are about none of the intents.
"""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from build_engines.data.bad_rows import EXAMPLES, BadRow, BadRowPolicy
from build_engines.data.errors import DataError
from build_engines.intents.head import OUT_OF_SCOPE

MAX_TEXT_CHARS, MAX_LABEL_CHARS = 4000, 100
NAMES_SHOWN = 20
OnContradiction = Literal["refuse", "drop"]
_JSON_SUFFIXES, _TABLE_SUFFIXES = (".jsonl", ".ndjson"), (".csv", ".tsv")
_NOT_A_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A text and what it is about.

    Attributes:
        text: as it stands, trimmed.
        intent: label, or ``out_of_scope``.
        group: examples of one group stay on one side of a split (made from one template, written by one shopper); empty: alone.
        language: as the file says; empty: it does not.
    """

    text: str
    intent: str
    group: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleFormat:
    """How a file of examples is written ([intents.format]).

    Attributes:
        text_column, intent_column: names of the columns, or of the fields of JSON objects.
        group_column, language_column: the same; empty: there are none.
        on_contradiction: a text with several labels stops the build, or is left out and counted.

    Raises:
        ValueError: a name is empty, or two are the same.
    """

    text_column: str = "text"
    intent_column: str = "intent"
    group_column: str = ""
    language_column: str = ""
    on_contradiction: OnContradiction = "drop"

    def __post_init__(self) -> None:
        """Check the names."""
        named = [self.text_column, self.intent_column]
        if not all(named):
            raise ValueError("text_column and intent_column must be names")
        named += [name for name in (self.group_column, self.language_column) if name]
        if len(set(named)) != len(named):
            raise ValueError(f"the columns {', '.join(named)} must differ")

    @property
    def columns(self) -> dict[str, str]:
        """Column by field of ``Example``."""
        named = {
            "text": self.text_column,
            "intent": self.intent_column,
            "group": self.group_column,
            "language": self.language_column,
        }
        return {field: column for field, column in named.items() if column}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleReport:
    """What was found in a file.

    Attributes:
        rows: read.
        bad: left out because they cannot be used.
        duplicates: left out because the same text with the same label came before.
        contradictions: rows left out because their text has several labels.
        shown: some of those texts, each with its labels.
    """

    rows: int = 0
    bad: int = 0
    duplicates: int = 0
    contradictions: int = 0
    shown: tuple[str, ...] = ()

    def sentences(self, name: str) -> tuple[str, ...]:
        """For the notes of a build."""
        told = [f"{name}: {self.rows} rows"]
        told += [f"{name}: {self.bad} bad rows left out"] if self.bad else []
        told += [f"{name}: {self.duplicates} duplicates kept once"] if self.duplicates else []
        if self.contradictions:
            told.append(
                f"{name}: {self.contradictions} rows left out, their texts have several labels, such as {'; '.join(self.shown)}"
            )
        return tuple(told)


def text_key(text: str) -> str:
    """Two texts with the same key are the same question."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _NOT_A_WORD.sub(" ", folded).strip() or folded.strip()


def read_examples(
    path: Path, form: ExampleFormat, policy: BadRowPolicy
) -> tuple[list[Example], ExampleReport]:
    """Read a file of examples, without duplicates and contradictions.

    Args:
        path: .csv or .tsv with a header, .jsonl or .ndjson with an object a line; UTF-8.
        form: see there.
        policy: what happens to a row that cannot be used.

    Raises:
        DataError: the file cannot be read, a column is not there, or it holds what the policies do not leave out; names
            file and line.
    """
    rows = _json_rows if path.suffix.lower() in _JSON_SUFFIXES else _table_rows
    if path.suffix.lower() not in (*_JSON_SUFFIXES, *_TABLE_SUFFIXES):
        raise DataError(
            path,
            f"the suffix {path.suffix!r} says nothing",
            hint=f"use one of {', '.join((*_TABLE_SUFFIXES, *_JSON_SUFFIXES))}",
        )
    examples: list[Example] = []
    lines: list[int] = []
    bad: list[BadRow] = []
    count, reasons = 0, Counter[str]()
    try:
        for number, row in rows(path, form):
            count += 1
            try:
                examples.append(_example(row, form))
                lines.append(number)
            except ValueError as error:
                reasons[str(error).partition(":")[0]] += 1
                bad.append(BadRow(number, str(error)))
    except UnicodeDecodeError as error:
        raise DataError(path, f"is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from error
    except OSError as error:
        raise DataError(
            path, f"cannot be read ({error.strerror})", hint="name a CSV or JSON lines file"
        ) from error
    policy.apply(path, bad[:EXAMPLES], bad=len(bad), rows=count, reasons=reasons)
    if not examples:
        raise DataError(path, "holds no examples", hint="give a row per example: a text and what it is about")
    kept, report = consistent(examples, form.on_contradiction, path=path, lines=lines)
    return kept, ExampleReport(
        rows=count,
        bad=len(bad),
        duplicates=report.duplicates,
        contradictions=report.contradictions,
        shown=report.shown,
    )


def labels_of(examples: Sequence[Example]) -> tuple[str, ...]:
    """Labels in their order, without ``out_of_scope``."""
    return tuple(sorted({example.intent for example in examples} - {OUT_OF_SCOPE}))


def _table_rows(path: Path, form: ExampleFormat) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        header = [name.strip() for name in next(reader, [])]
        for column in form.columns.values():
            if column not in header:
                shown = ", ".join(repr(name[:40]) for name in header[:NAMES_SHOWN])
                raise DataError(
                    path,
                    f"has no column {column!r}; it has {shown or 'none'}",
                    hint="name the columns in [intents.format]",
                    line=1,
                )
        while True:
            number = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield number, f"no CSV: {error}"
                continue
            if not fields:
                continue
            if len(fields) != len(header):
                yield (
                    number,
                    f"the wrong number of fields: the row has {len(fields)}, the header has {len(header)}",
                )
            else:
                yield number, dict(zip(header, fields, strict=True))


def _json_rows(path: Path, form: ExampleFormat) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, f"no JSON: {error}"
                continue
            yield number, row if isinstance(row, dict) else "no JSON object: a line is one object"


def _example(row: Mapping[str, Any] | str, form: ExampleFormat) -> Example:
    if isinstance(row, str):
        raise ValueError(row)
    values = {field: row.get(column, "") for field, column in form.columns.items()}
    for field, value in values.items():
        if not isinstance(value, str):
            raise ValueError(f"{form.columns[field]} is no text: {str(value)[:40]!r}")
        values[field] = value.strip()
    text, intent = values["text"], values["intent"]
    if not any(character.isalnum() for character in text):
        raise ValueError(f"{form.text_column} has no words: {text[:40]!r}")
    if len(text) > MAX_TEXT_CHARS:
        raise ValueError(f"{form.text_column} is too long: {len(text)} characters, limit {MAX_TEXT_CHARS}")
    if not intent or len(intent) > MAX_LABEL_CHARS or not intent.isprintable():
        raise ValueError(f"{form.intent_column} is no label: {intent[:40]!r}")
    return Example(**values)


def consistent(
    examples: Sequence[Example],
    on_contradiction: OnContradiction,
    *,
    path: Path | None = None,
    lines: Sequence[int] = (),
) -> tuple[list[Example], ExampleReport]:
    """Keep each text once, and none that has several labels.

    Args:
        examples: in their order.
        on_contradiction: see ``ExampleFormat``.
        path: they come from, for the message.
        lines: of them in that file; empty: they have none.

    Raises:
        DataError: a text has several labels, and that is to be refused.
    """
    by_key: dict[str, list[int]] = defaultdict(list)
    for at, example in enumerate(examples):
        by_key[text_key(example.text)].append(at)
    kept: list[int] = []
    duplicates, contradictions, shown = 0, 0, list[str]()
    for places in by_key.values():
        labels = sorted({examples[at].intent for at in places})
        if len(labels) == 1:
            kept.append(places[0])
            duplicates += len(places) - 1
            continue
        told = f"{examples[places[0]].text[:60]!r} is {' and '.join(labels)}"
        if on_contradiction == "refuse":
            raise DataError(
                path,
                told + (f" (lines {', '.join(str(lines[at]) for at in places[:EXAMPLES])})" if lines else ""),
                hint='give it one label, or set on_contradiction = "drop"',
                line=lines[places[0]] if lines else None,
            )
        contradictions += len(places)
        shown.append(told)
    return [examples[at] for at in sorted(kept)], ExampleReport(
        duplicates=duplicates, contradictions=contradictions, shown=tuple(shown[:3])
    )
