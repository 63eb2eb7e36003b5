"""A shop's log of clicks as compact arrays, and a report of everything that was wrong with it.

Nothing is repaired silently.  Every rule is stated here and counted in the report:

- a row that cannot be used (empty id, no time, a field too many) is refused or dropped, by policy;
- rows out of order are sorted by time within their user; equal times keep the file's order;
- rows equal in user, item and time are one event; the first stays (logs without times keep all);
- users with one event stay: they say what is popular, and the split never tests on them;
- a log that is empty, or that knows one item, is refused: there is nothing to rank.

Shapes: U users, N items, E events.  Units: ``timestamps_ms``, milliseconds since 1970 UTC.  Rows are ``1..N``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from build_engines.data.bad_rows import EXAMPLES, BadRow, BadRowPolicy
from build_engines.data.errors import DataError
from build_engines.data.log_report import LogReport
from build_engines.data.log_rows import LogFormat, read_log_rows
from build_engines.data.sequences import Sequences, frozen_array


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Interactions:
    """Who clicked what, in time order per user.

    Attributes:
        users: ids, [U], in order (by value where all are integers, else as text).
        items: ids, [N]; ``items[row - 1]`` is the id of a row.
        sequences: one history per user, oldest first.
        timestamps_ms_E: int64 [E], parallel to ``sequences.item_rows_E``; None where the log has no times.

    Raises:
        ValueError: the arrays do not fit together, or an id appears twice.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    sequences: Sequences
    timestamps_ms_E: npt.NDArray[np.int64] | None
    _row_of: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows = self.sequences.item_rows_E
        object.__setattr__(self, "_row_of", {item: row for row, item in enumerate(self.items, start=1)})
        if len(self._row_of) != len(self.items):
            raise ValueError("an item id appears twice")
        if len(self.sequences) != len(self.users):
            raise ValueError(f"{len(self.sequences)} histories for {len(self.users)} users")
        if rows.size and rows.max() > len(self.items):
            raise ValueError(f"row {rows.max()} is above {len(self.items)}, the number of items")
        if self.timestamps_ms_E is not None:
            object.__setattr__(self, "timestamps_ms_E", frozen_array(self.timestamps_ms_E, np.int64))
            if self.timestamps_ms_E.shape != rows.shape:
                raise ValueError(f"{self.timestamps_ms_E.size} times for {rows.size} events")

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.users)

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.items)

    @property
    def num_events(self) -> int:
        """E."""
        return self.sequences.item_rows_E.size

    def rows_of(self, item_ids: Iterable[str]) -> npt.NDArray[np.int32]:
        """Item rows of ids; 0 for an id that is not here."""
        return np.fromiter((self._row_of.get(item, 0) for item in item_ids), np.int32)

    def ids_of(self, rows: Iterable[int]) -> list[str]:
        """Ids of item rows.

        Raises:
            ValueError: a row is outside ``1..N``; names it.
        """
        found = []
        for row in rows:
            if not 1 <= row <= len(self.items):
                raise ValueError(f"row {row} is outside 1..{len(self.items)}")
            found.append(self.items[row - 1])
        return found

    def over_items(self, items: tuple[str, ...]) -> Interactions:
        """The same events in the row space of ``items`` (this log's items and any others).

        Raises:
            ValueError: a clicked item is not in ``items``; names it.
        """
        row_of = {item: row for row, item in enumerate(items, start=1)}
        missing = next((item for item in self.items if item not in row_of), None)
        if missing is not None:
            raise ValueError(f"item {missing!r} was clicked and is not among the new items")
        new_row = np.array([0, *(row_of[item] for item in self.items)], np.int32)
        moved = Sequences(self.sequences.offsets_U1, new_row[self.sequences.item_rows_E])
        return Interactions(
            users=self.users, items=items, sequences=moved, timestamps_ms_E=self.timestamps_ms_E
        )

    def fingerprint(self) -> str:
        """Hex SHA-256 of all that is here: what a stage's cache is keyed by."""
        digest = hashlib.sha256()
        for ids in (self.users, self.items):
            digest.update("\0".join(ids).encode() + b"\1")
        digest.update(self.sequences.offsets_U1.tobytes() + self.sequences.item_rows_E.tobytes())
        if self.timestamps_ms_E is not None:
            digest.update(self.timestamps_ms_E.tobytes())
        return digest.hexdigest()


def load_interactions(
    path: Path, form: LogFormat | None = None, policy: BadRowPolicy | None = None
) -> tuple[Interactions, LogReport]:
    """Read a log of clicks by the rules at the top of this module.

    Args:
        path: the log: CSV, Parquet, or a user a line.
        form: how it is written.
        policy: what happens to rows that cannot be used.

    Returns:
        The log and the report of what was found and done.

    Raises:
        DataError: the file cannot be read, a row was refused, or there are fewer than two items.
    """
    path, form, policy = Path(path), form or LogFormat(), policy or BadRowPolicy()
    rows, unit = read_log_rows(path, form)
    if rows.is_empty():
        raise DataError(path, "the log is empty", hint="give a log with events of at least two items")
    bad = rows.filter(pl.col("fault").is_not_null())
    examples = tuple(
        BadRow(line, fault) for line, fault in bad.head(EXAMPLES).select("line", "fault").iter_rows()
    )
    reasons = _reasons(bad)
    policy.apply(path, examples, bad=len(bad), rows=len(rows), reasons=reasons)

    good = rows.filter(pl.col("fault").is_null()) if len(bad) else rows
    users, items = ordered_ids(good["user"]), ordered_ids(good["item"])
    if len(items) < 2:
        raise DataError(
            path,
            f"the log knows {len(items)} item{'s' * (len(items) != 1)} in {len(good)} usable rows",
            hint="give a log with events of at least two items: with fewer there is nothing to rank",
        )
    coded = pl.DataFrame(
        {
            "user": _codes(good["user"], users),
            "item": _codes(good["item"], items) + 1,
            "time": good["time_ms"],
        }
    )
    timed = unit != "order"
    kept = coded.unique(maintain_order=True, keep="first") if timed else coded
    user, item = kept["user"].to_numpy(), kept["item"].to_numpy()
    time = kept["time"].to_numpy() if timed else None
    order = np.argsort(user, kind="stable") if time is None else np.lexsort((time, user))
    counts = np.bincount(user, minlength=len(users))
    interactions = Interactions(
        users=users,
        items=items,
        sequences=Sequences(np.concatenate([[0], np.cumsum(counts)]), item[order]),
        timestamps_ms_E=None if time is None else time[order],
    )
    return interactions, LogReport(
        path=str(path),
        rows=len(rows),
        rows_bad=len(bad),
        reasons=reasons,
        examples=examples,
        rows_out_of_order=_out_of_order(coded) if timed else 0,
        rows_duplicate=len(coded) - len(kept),
        events=len(kept),
        users=len(users),
        items=len(items),
        users_single_event=int((counts == 1).sum()),
        timestamp_unit=unit,
        first_ms=None if time is None else int(time.min()),
        last_ms=None if time is None else int(time.max()),
    )


def ordered_ids(values: pl.Series | Iterable[str]) -> tuple[str, ...]:
    """Distinct ids in the one order this project gives them: by value where all are integers, else as text."""
    distinct = set(values.unique() if isinstance(values, pl.Series) else values)
    numeric = all(value.isascii() and value.isdigit() and len(value) <= 18 for value in distinct)
    return tuple(sorted(distinct, key=lambda value: (int(value), value)) if numeric else sorted(distinct))


def _codes(values: pl.Series, ids: tuple[str, ...]) -> pl.Series:
    return values.cast(pl.Enum(ids)).to_physical().cast(pl.Int32)


def _out_of_order(coded: pl.DataFrame) -> int:
    user = coded["user"].to_numpy()
    order = np.argsort(user, kind="stable")
    user, time = user[order], coded["time"].to_numpy()[order]
    return int(((user[1:] == user[:-1]) & (time[1:] < time[:-1])).sum())


def _reasons(bad: pl.DataFrame) -> dict[str, int]:
    general = (
        pl.col("fault")
        .str.replace_all('"[^"]*"+', "...")
        .str.replace("has [0-9]+ fields.*", "has too many or too few fields")
    )
    counted = bad.select(reason=general)["reason"].value_counts(sort=True)
    return dict(counted.iter_rows())
