"""Where bulk work stands, kept in its own results: every line of the input has its answer or its reject, in order, once.

There is no other state. A process that is killed at any moment leaves whole lines and at most one torn one, which is cut
off when it is opened again; the work goes on behind the last whole line. Each entry holds the number and the digest of
its input line, so that results are never continued from another input than they came from.

One process at a time writes: the lock is the kernel's, so a killed process leaves none. Units: bytes.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from server.bulk.lines import Line


class BulkError(Exception):
    """Bulk work cannot be begun, or not gone on with; the sentence says why and what to do."""


class _Mark(msgspec.Struct):
    line: int
    input: str


_marks = msgspec.json.Decoder(_Mark)


class Ledger:
    """Two files of JSON lines that together have an entry for each line that is done.

    Attributes:
        written: answers.
        rejected: rejects.
    """

    def __init__(self, out: Path, rejects: Path) -> None:
        """Open for writing, made whole.

        Raises:
            BulkError: another process writes there, or what is there is no such file.
            OSError: a file cannot be opened.
        """
        if out.resolve() == rejects.resolve():
            raise BulkError(f"answers and rejects would both go to {out}; name two files")
        self._files: list[BinaryIO] = []
        try:
            for path in (out, rejects):
                file = open(path, "a+b", buffering=0)  # noqa: SIM115 - closed in close()
                self._files.append(file)
                _lock(file, path)
                _cut_torn_line(file)
        except BaseException:
            self.close()
            raise
        self._out, self._rejects = self._files
        self._paths = (out, rejects)
        self.written = self.rejected = 0

    @property
    def done(self) -> int:
        """Lines that have an entry."""
        return self.written + self.rejected

    def skip_done(self, lines: Iterable[Line]) -> Iterator[Line]:
        """The lines that have no entry yet, in order.

        Raises:
            BulkError: the entries are not of these lines.
        """
        answers, rejects = (_entries(path) for path in self._paths)
        answer, reject = next(answers, None), next(rejects, None)
        for line in lines:
            if answer is None and reject is None:
                yield line
                continue
            first_is_answer = reject is None or (answer is not None and answer.line < reject.line)
            mark = answer if first_is_answer else reject
            assert mark is not None
            if (mark.line, mark.input) != (line.number, line.digest):
                path = self._paths[0 if first_is_answer else 1]
                raise BulkError(
                    f"{path} has results of another input: its next entry is of line {mark.line} ({mark.input}), "
                    f"the input's next line is {line.number} ({line.digest}); give another --out, or the same input"
                )
            if first_is_answer:
                self.written, answer = self.written + 1, next(answers, None)
            else:
                self.rejected, reject = self.rejected + 1, next(rejects, None)
        if answer is not None or reject is not None:
            raise BulkError(f"{self._paths[0]} has more results than the input has lines; give another --out")

    def answer(self, entry: bytes) -> None:
        """Keep an answer; one line of JSON without its end."""
        _append(self._out, entry)
        self.written += 1

    def reject(self, entry: bytes) -> None:
        """Keep a reject."""
        _append(self._rejects, entry)
        self.rejected += 1

    def sync(self) -> None:
        """Wait until the disk has it all: for power cuts, a killed process loses nothing without it."""
        for file in self._files:
            os.fsync(file.fileno())

    def close(self) -> None:
        """Let the files and their locks go."""
        for file in self._files:
            file.close()


def _append(file: BinaryIO, entry: bytes) -> None:
    data = memoryview(entry + b"\n")
    while data:  # a disk that is nearly full takes a part
        data = data[file.write(data) or 0 :]


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise BulkError(f"another process is writing {path}; wait for it, or give another --out") from error


def _cut_torn_line(file: BinaryIO) -> None:
    end = file.seek(0, os.SEEK_END)
    at = end
    while at > 0:
        begin = max(0, at - 65536)
        file.seek(begin)
        found = file.read(at - begin).rfind(b"\n")
        if found >= 0:
            at = begin + found + 1
            break
        at = begin
    if at != end:
        file.truncate(at)


def _entries(path: Path) -> Iterator[_Mark]:
    with path.open("rb") as file:
        for number, entry in enumerate(file, start=1):
            try:
                yield _marks.decode(entry)
            except msgspec.MsgspecError as error:
                raise BulkError(
                    f"{path}, line {number}: not an entry of bulk work ({error}); give another --out"
                ) from error
