"""The live line, and what it cost."""

from __future__ import annotations

import io
import os

from loadtest import usage
from loadtest.progress import ProgressLine
from loadtest.run import Counts


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_line_shows_how_far_the_run_is() -> None:
    """Rates since the last look, and what is still in flight."""
    stream = Terminal()
    line = ProgressLine(10, "run", stream)

    line(Counts(1.0, 100, 90, 90, 0))
    line(Counts(2.0, 300, 280, 250, 20))

    assert "sent    200/s  ok    160/s  refused 20  failed 10  in flight 20" in stream.getvalue()


def test_nothing_is_written_where_nobody_looks() -> None:
    """A log file holds no half lines."""
    stream = io.StringIO()
    line = ProgressLine(10, "run", stream)

    line(Counts(1.0, 100, 90, 90, 0))
    line.done()

    assert stream.getvalue() == ""


def test_a_process_tree_is_read_from_proc() -> None:
    """CPU and memory of the server are known by its process id; one that is gone is unknown."""
    cpu_s, rss_mib = usage.tree_usage(os.getpid())

    assert cpu_s is not None and cpu_s > 0
    assert rss_mib is not None and rss_mib > 1
    assert usage.tree_usage(2**22 + 1) == (None, None)
