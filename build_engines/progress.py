"""What a person sees while a build runs: bars with an ETA on a terminal, plain lines everywhere else.

Stages talk to the ``Progress`` protocol and know nothing of terminals. Plain lines are rationed (one each
``_LINE_EVERY_S``), so that a log of a ten-minute training is a page and not a book.

Units: seconds on a monotonic clock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

_LINE_EVERY_S = 10.0


class Progress(Protocol):
    """Where a stage reports to; called from one thread."""

    def say(self, text: str) -> None:
        """One finished fact, a line."""
        ...

    def step(self, what: str, done: float, total: float, note: str = "") -> None:
        """How far the current work is; ``done == total`` ends it."""
        ...


class Silent:
    """Says nothing, remembers nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def step(self, what: str, done: float, total: float, note: str = "") -> None:
        """Nothing."""


class PlainLines:
    """Lines on a stream that is no terminal.

    Args:
        stream: where to; standard error by default, so that standard output stays for results.
        clock: seconds, monotonic.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._what = ""
        self._began_s = 0.0
        self._began_done = 0.0
        self._last_line_s = float("-inf")

    def say(self, text: str) -> None:
        """One line."""
        print(text, file=self._stream, flush=True)

    def step(self, what: str, done: float, total: float, note: str = "") -> None:
        """A line now and then, with the time that is left."""
        now_s = self._clock()
        if what != self._what:
            self._what, self._began_s, self._began_done = what, now_s, done
        finished = done >= total
        if not finished and now_s - self._last_line_s < _LINE_EVERY_S:
            return
        self._last_line_s = now_s
        left = eta_s(now_s - self._began_s, done - self._began_done, total - done)
        timing = (
            f", {duration(now_s - self._began_s)} so far"
            if finished or left is None
            else f", {duration(left)} left"
        )
        self.say(f"  {what} {done:g}/{total:g}{timing}{', ' + note if note else ''}")
        if finished:
            self._what = ""


class Bars:
    """A live bar on a terminal, finished facts above it; a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars = RichProgress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
        )
        self._what = ""
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        """Show."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""
        self._bars.stop()

    def say(self, text: str) -> None:
        """One line above the bar."""
        self._console.print(text, markup=False, highlight=False)

    def step(self, what: str, done: float, total: float, note: str = "") -> None:
        """Move the bar."""
        if what != self._what or self._task is None:
            self._clear()
            self._what = what
            self._task = self._bars.add_task(what, total=total, note=note)
        self._bars.update(self._task, completed=done, total=total, note=note)
        if done >= total:
            self._clear()

    def _clear(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task, self._what = None, ""


def eta_s(elapsed_s: float, done: float, left: float) -> float | None:
    """Seconds left at the pace so far; None before anything is done."""
    return None if done <= 0 or elapsed_s <= 0 else elapsed_s / done * max(left, 0.0)


def duration(seconds: float) -> str:
    """Seconds as people say them: "0.4 s", "42 s", "3 min 20 s", "1 h 05 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
