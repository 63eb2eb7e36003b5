"""A log file in any of its three forms, as one frame of rows with their line numbers and faults.

Text is read line by line and split here, not by a CSV parser that guesses: so
a line number is the file's own, a row with a field too many is seen, and a quote that is
never closed costs one line and not the rest of the file.  A record is one line.

The frame: ``line`` (1-based), ``user``, ``item`` (text, trimmed), ``time_ms`` (null where the log has no times),
``fault`` (null for a good row).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from build_engines.data.errors import DataError
from build_engines.data.timestamps import TimestampUnit, to_milliseconds

LogKind = Literal["auto", "csv", "parquet", "sequences"]
SUFFIXES: dict[str, LogKind] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "sequences",
}
MAX_ID_CHARS = 256
# Control characters, and what a byte that is not UTF-8 was read as.
NOT_IN_AN_ID = r"[\x00-\x1f\x7f\x{FFFD}]"
_SEPARATOR = "\x01"  # keeps a line whole: it is in no id, as an id with a control character is refused anyway
NAMES_SHOWN, NAME_CHARS = 20, 40  # of the columns that a file has instead of the wanted one


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFormat:
    """How a log is written.

    Attributes:
        kind: ``csv`` with a header line, ``parquet``, ``sequences`` (a user a line: ``user item1 item2 ...`` in
            time order), or ``auto``: by suffix (.csv .tsv, .parquet .pq, .txt).
        user_column: name of the column of user ids.
        item_column: name of the column of item ids.
        timestamp_column: name of the column of times; None where the file's order is the order in time.
        timestamp_unit: unit of numeric times; ``auto`` decides by size, once for the file.
        separator: one character between CSV fields; empty takes a tab for .tsv and a comma otherwise.

    Raises:
        ValueError: the separator is longer than a character; the unit or kind is unknown.
    """

    kind: LogKind = "auto"
    user_column: str = "user_id"
    item_column: str = "item_id"
    timestamp_column: str | None = "timestamp"
    timestamp_unit: TimestampUnit = "auto"
    separator: str = ""

    def __post_init__(self) -> None:
        if len(self.separator) > 1:
            raise ValueError(f"separator is {self.separator!r}; use one character")
        for name, value, known in (
            ("kind", self.kind, ("auto", "csv", "parquet", "sequences")),
            ("timestamp_unit", self.timestamp_unit, ("auto", "s", "ms", "us", "ns")),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; use one of {', '.join(known)}")

    def kind_of(self, path: Path) -> LogKind:
        """The kind of ``path``: as configured, or by its suffix.

        Raises:
            DataError: the suffix says nothing.
        """
        if self.kind != "auto":
            return self.kind
        if path.suffix.lower() in SUFFIXES:
            return SUFFIXES[path.suffix.lower()]
        raise DataError(
            path,
            f"the suffix {path.suffix!r} is none of {', '.join(SUFFIXES)}",
            hint="name the log's kind: csv, parquet or sequences",
        )


def read_log_rows(path: Path, form: LogFormat) -> tuple[pl.DataFrame, str]:
    """Every row of the log with its fault, if it has one, and the unit its times were in.

    Raises:
        DataError: the file is missing or unreadable, or a named column is not there.
    """
    if not path.is_file():
        raise DataError(path, "no such file", hint="name the log as the recipe's folder sees it")
    kind = form.kind_of(path)
    if kind == "sequences":
        return _sequence_rows(path), "order"
    raw = _parquet_fields(path, form) if kind == "parquet" else _csv_fields(path, form)
    if form.timestamp_column is None:
        return _with_faults(raw.with_columns(time_ms=pl.lit(None, pl.Int64))), "order"
    times, unit = to_milliseconds(raw["time"], form.timestamp_unit)
    rows = raw.with_columns(times.alias("time_ms"))
    shown = pl.col("time").cast(pl.String).str.slice(0, 40).fill_null("")
    text = pl.format(
        'timestamp "{}" is no time after 1970' + (f" in {unit}" if unit in ("s", "ms", "us", "ns") else ""),
        shown,
    )
    bad_time = pl.when(pl.col("time_ms").is_null()).then(text)
    return _with_faults(rows.with_columns(fault=pl.coalesce("fault", bad_time))), unit


def read_lines(path: Path) -> pl.DataFrame:
    """The lines of a text file that are not blank: ``line`` (1-based) and ``text``.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        lines = pl.scan_csv(
            path,
            has_header=False,
            schema={"text": pl.String},
            separator=_SEPARATOR,
            quote_char=None,
            encoding="utf8-lossy",
            truncate_ragged_lines=True,
            row_index_name="line",
            row_index_offset=1,
        ).collect(engine="streaming")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _no_text(path, error) from error
    return lines.filter(pl.col("text").str.strip_chars().str.len_bytes() > 0)


def _no_text(path: Path, error: Exception) -> DataError:
    if isinstance(error, OSError) and error.strerror:
        return DataError(
            path, f"cannot be read ({error.strerror})", hint="check the file and its permissions"
        )
    with path.open("rb") as file:
        found = next(
            (number for number, line in enumerate(file, start=1) if _SEPARATOR.encode() in line), None
        )
    what = (
        "is not text"
        if found is None
        else "the line holds a control character (byte 0x01), so this is not text"
    )
    return DataError(
        path, what, hint="write the log as UTF-8 text, or name its kind in [data.format]", line=found
    )


def _csv_fields(path: Path, form: LogFormat) -> pl.DataFrame:
    separator = form.separator or ("\t" if path.suffix.lower() == ".tsv" else ",")
    lines = read_lines(path)
    if lines.is_empty():
        raise DataError(path, "the log is empty", hint=f"write a header and a row per event: {_wanted(form)}")
    names = _header(path, lines["text"][0], int(lines["line"][0]), separator)
    picked = {alias: _index(path, names, column) for alias, column in _columns(form).items()}
    body = lines.slice(1)
    quoted = body["text"].str.contains('"', literal=True)
    fields = pl.col("text").str.split(separator)
    if quoted.any():
        parsed = [_quoted(text, separator) if '"' in text else text.split(separator) for text in body["text"]]
        body = body.with_columns(pl.Series("fields", parsed, pl.List(pl.String)))
        fields = pl.col("fields")
    count = fields.list.len()
    ragged = pl.format("the row has {} fields, the header has {}", count, pl.lit(len(names)))
    fault = pl.when(fields.is_null()).then(pl.lit("a quote is not closed on its line"))
    return body.select(
        "line",
        *[
            fields.list.get(at, null_on_oob=True).str.strip_chars().alias(alias)
            for alias, at in picked.items()
        ],
        fault=fault.when(count != len(names)).then(ragged),
    )


def _header(path: Path, text: str, line: int, separator: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([text], delimiter=separator))]
    except csv.Error as error:
        raise DataError(
            path,
            "the first line is not a header of column names",
            hint="write one line of column names, then a row per event",
            line=line,
        ) from error


def _quoted(text: str, separator: str) -> list[str] | None:
    try:
        return next(csv.reader([text], delimiter=separator, strict=True))
    except csv.Error:
        return None


def _parquet_fields(path: Path, form: LogFormat) -> pl.DataFrame:
    try:
        schema = pl.read_parquet_schema(path)
        wanted = _columns(form)
        for column in wanted.values():
            _index(path, list(schema), column)
        rows = (
            pl.scan_parquet(path).select(**{alias: pl.col(name) for alias, name in wanted.items()}).collect()
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            path,
            "is not a Parquet file, or a damaged one",
            hint="export it again, or name its kind in [data.format]",
        ) from error
    for alias in ("user", "item"):
        dtype = rows.schema[alias]
        if not (dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum)):
            raise DataError(
                path, f"column {wanted[alias]!r} is {dtype}", hint="write ids as integers or text"
            )
    ids = [pl.col(alias).cast(pl.String).str.strip_chars() for alias in ("user", "item")]
    return rows.with_columns(*ids, fault=pl.lit(None, pl.String)).with_row_index("line", offset=1)


def _sequence_rows(path: Path) -> pl.DataFrame:
    tokens = pl.col("text").str.extract_all(r"[^\s]+")
    lines = read_lines(path).select("line", tokens.alias("tokens"))
    lines = lines.select(
        "line",
        user=pl.col("tokens").list.first(),
        item=pl.col("tokens").list.slice(1),
        fault=pl.when(pl.col("tokens").list.len() < 2).then(pl.lit("a user without items")),
        time_ms=pl.lit(None, pl.Int64),
    )
    again = pl.when(~pl.col("user").is_first_distinct()).then(
        pl.format('user "{}" has an earlier line', "user")
    )
    return _with_faults(
        lines.with_columns(fault=pl.coalesce("fault", again)).explode("item", empty_as_null=True)
    )


def _with_faults(rows: pl.DataFrame) -> pl.DataFrame:
    fault = pl.col("fault")
    for alias in ("user", "item"):
        value = pl.col(alias)
        found = (
            pl.when(value.is_null() | (value == ""))
            .then(pl.lit(f"the {alias} id is empty"))
            .when(value.str.len_chars() > MAX_ID_CHARS)
            .then(pl.lit(f"the {alias} id is longer than {MAX_ID_CHARS} characters"))
            .when(value.str.contains(NOT_IN_AN_ID))
            .then(pl.lit(f"the {alias} id has control characters or is not UTF-8"))
        )
        fault = pl.coalesce(fault, found)
    return rows.select("line", "user", "item", "time_ms", fault=fault)


def _columns(form: LogFormat) -> dict[str, str]:
    named = {"user": form.user_column, "item": form.item_column}
    return named if form.timestamp_column is None else {**named, "time": form.timestamp_column}


def _wanted(form: LogFormat) -> str:
    return ", ".join(_columns(form).values())


def _index(path: Path, names: list[str], column: str) -> int:
    if column in names:
        return names.index(column)
    shown = ", ".join(repr(name[:NAME_CHARS]) for name in names[:NAMES_SHOWN])
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    raise DataError(
        path,
        f"no column {column!r}; the file has {shown}{more}",
        hint="name the user, item and timestamp columns in the recipe",
        line=1,
    )
