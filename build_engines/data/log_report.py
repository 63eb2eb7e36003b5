"""What was found in a log and what was done about it, as numbers for a person and for the report."""

from __future__ import annotations

from dataclasses import dataclass

from build_engines.data.bad_rows import BadRow


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReport:
    """What a log held, and what was done about it.

    Attributes:
        path: the file.
        rows: rows read (events, for a log of a user a line), blank lines apart.
        rows_bad: rows left out because they cannot be used.
        reasons: how many rows for which reason (values that differ are one reason).
        examples: the first of them.
        rows_out_of_order: rows older than the row before them of the same user; sorted.
        rows_duplicate: rows equal to an earlier one in user, item and time; left out.
        events: what is left.
        users: distinct users.
        items: distinct items.
        users_single_event: users with one event.
        timestamp_unit: ``s ms us ns`` for numbers, ``text``, ``time``, or ``order`` where the log has no times.
        first_ms: earliest time, milliseconds since 1970; None without times.
        last_ms: latest time.
    """

    path: str
    rows: int
    rows_bad: int
    reasons: dict[str, int]
    examples: tuple[BadRow, ...]
    rows_out_of_order: int
    rows_duplicate: int
    events: int
    users: int
    items: int
    users_single_event: int
    timestamp_unit: str
    first_ms: int | None
    last_ms: int | None
