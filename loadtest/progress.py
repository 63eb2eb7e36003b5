"""The live line on a terminal; silent where nobody is looking."""

from __future__ import annotations

import sys
from typing import TextIO

from loadtest.run import Counts


class ProgressLine:
    """One line that is written over, four times a second.

    Args:
        duration_s: how long the run is meant to last, with its warm-up.
        label: what is being run.
        stream: where to; nothing is written unless it is a terminal.
    """

    def __init__(self, duration_s: float, label: str = "", stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()
        self._duration_s = duration_s
        self._label = label
        self._before = Counts(0.0, 0, 0, 0, 0)

    def __call__(self, counts: Counts) -> None:
        """Show how far the run is."""
        if not self._shown:
            return
        before, self._before = self._before, counts
        span = max(counts.now_s - before.now_s, 1e-6)
        share = min(counts.now_s / self._duration_s, 1.0) if self._duration_s > 0 else 1.0
        bar = ("█" * round(16 * share)).ljust(16, "░")
        failed = counts.finished - counts.succeeded - counts.refused
        line = (
            f"{self._label} {bar} {counts.now_s:5.1f}/{self._duration_s:.0f} s  sent {(counts.handed - before.handed) / span:6.0f}/s"
            f"  ok {(counts.succeeded - before.succeeded) / span:6.0f}/s  refused {counts.refused}  failed {failed}"
            f"  in flight {counts.handed - counts.finished}"
        )
        self._stream.write(f"\r\x1b[2K{line.strip()}")
        self._stream.flush()

    def done(self) -> None:
        """Take the line away."""
        if self._shown:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
