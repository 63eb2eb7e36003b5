"""Rows that cannot be used: refused with file and line, or dropped, counted and bounded.

Dropping is a choice of whoever runs the builder, never a default, and it has a
ceiling: a file of which a tenth is unreadable is a broken export, not a noisy one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from build_engines.data.errors import DataError

OnBadRow = Literal["refuse", "drop"]
EXAMPLES = 5  # bad rows quoted in a report: enough to see the pattern, few enough to read


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row that cannot be used.

    Attributes:
        line: 1-based physical line (text files) or row (Parquet).
        what: what is wrong with it.
    """

    line: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRowPolicy:
    """What happens to a row that cannot be used.

    Attributes:
        on_bad_row: ``refuse`` stops at the first; ``drop`` leaves it out and counts it.
        max_bad_share: largest share of rows that ``drop`` may leave out (0..1).

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    on_bad_row: OnBadRow = "refuse"
    max_bad_share: float = 0.01

    def __post_init__(self) -> None:
        if self.on_bad_row not in ("refuse", "drop"):
            raise ValueError(f'on_bad_row is {self.on_bad_row!r}; use "refuse" or "drop"')
        if not 0.0 <= self.max_bad_share <= 1.0:
            raise ValueError(f"max_bad_share is {self.max_bad_share}; use a share between 0 and 1")

    def apply(
        self, path: Path, examples: Sequence[BadRow], *, bad: int, rows: int, reasons: Mapping[str, int]
    ) -> None:
        """Refuse the file where this policy says so; otherwise return.

        Args:
            path: the file the rows came from.
            examples: the first bad rows, in file order.
            bad: how many rows are bad.
            rows: how many rows were read.
            reasons: how many are bad for which reason.

        Raises:
            DataError: a row is bad and the policy is ``refuse``, or too many are.
        """
        if not bad:
            return
        first = examples[0]
        if self.on_bad_row == "refuse":
            more = f" ({bad - 1} more rows are bad too)" if bad > 1 else ""
            hint = f'correct the line, or set on_bad_row = "drop" to leave such rows out{more}'
            raise DataError(path, first.what, hint=hint, line=first.line)
        if bad > self.max_bad_share * rows:
            listed = ", ".join(f"{count} x {reason}" for reason, count in reasons.items())
            raise DataError(
                path,
                f"{bad} of {rows} rows cannot be used ({listed}), limit is {self.max_bad_share:.2%}; "
                f"the first: {first.what}",
                hint="correct the export, or raise max_bad_share",
                line=first.line,
            )
