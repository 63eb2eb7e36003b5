"""What happened to every request: one row each in preallocated arrays, and nothing computed while the run lasts.

The client writes a row when the request is handed over and once more when it ends; a row ends at most once,
whatever a confused server sends.  ``array.array`` and not numpy on the way in: writing one element is three
times cheaper.

Units: seconds since the start of the run.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

OPEN = 0
TIMED_OUT = -1
CONNECT_FAILED = -2
LOST = -3
BAD_ANSWER = -4
NEVER_SENT = -5
GRPC = 1000  # a gRPC call that failed is GRPC + its code; one that succeeded is 200

UNKNOWN_TIER, MODEL, FALLBACK = 0, 1, 2

_NAMES = {
    OPEN: "unfinished",
    TIMED_OUT: "timed_out",
    CONNECT_FAILED: "connect_failed",
    LOST: "connection_lost",
    BAD_ANSWER: "bad_answer",
    NEVER_SENT: "never_sent",
}
_GRPC_NAMES = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]
REFUSED = (429, 503, 504, GRPC + 4, GRPC + 8, GRPC + 14)
CLASSES = ("ok", "refused", "failed")


def status_name(status: int) -> str:
    """How a status is written in reports: ``200``, ``RESOURCE_EXHAUSTED``, ``timed_out``."""
    if status >= GRPC:
        code = status - GRPC
        return _GRPC_NAMES[code] if code < len(_GRPC_NAMES) else f"grpc_{code}"
    return _NAMES.get(status, str(status))


class Recorder:
    """The rows of one run.

    Not thread-safe: one generator, one recorder.

    Attributes:
        due: intended send time.
        sent: when the generator handed the request to its client.
        ended: when it ended; 0 while it has not.
        status: HTTP status, ``GRPC`` + code, a negative client-side reason, or ``OPEN``.
        tier: who answered.
        handed: rows handed over.
        finished: rows ended.
        succeeded: rows ended with success.
        refused: rows ended by a refusal.
    """

    __slots__ = ("due", "ended", "finished", "handed", "refused", "sent", "status", "succeeded", "tier")

    def __init__(self, due_s: npt.NDArray[np.float64] | None = None) -> None:
        count = 0 if due_s is None else len(due_s)
        self.due = array(
            "d", b"" if due_s is None else np.ascontiguousarray(due_s, dtype=np.float64).tobytes()
        )
        self.sent = array("d", bytes(8 * count))
        self.ended = array("d", bytes(8 * count))
        self.status = array("h", bytes(2 * count))
        self.tier = array("b", bytes(count))
        self.handed = 0
        self.finished = 0
        self.succeeded = 0
        self.refused = 0

    def add(self, due_s: float) -> int:
        """Add a row that was not planned (closed loop); returns its number."""
        self.due.append(due_s)
        self.sent.append(0.0)
        self.ended.append(0.0)
        self.status.append(OPEN)
        self.tier.append(UNKNOWN_TIER)
        return len(self.due) - 1

    def hand(self, row: int, now_s: float) -> None:
        """Note that the row was handed to the client."""
        self.sent[row] = now_s
        self.handed += 1

    def end(self, row: int, status: int, tier: int, now_s: float) -> None:
        """Note how the row ended; only the first end counts."""
        if self.status[row] != OPEN:
            return
        self.status[row] = status
        self.tier[row] = tier
        self.ended[row] = now_s
        self.finished += 1
        if status == 200:
            self.succeeded += 1
        elif status in REFUSED:
            self.refused += 1

    def samples(self) -> Samples:
        """The rows as arrays (copies)."""
        return Samples(
            due_s=np.array(self.due, dtype=np.float64),
            sent_s=np.array(self.sent, dtype=np.float64),
            ended_s=np.array(self.ended, dtype=np.float64),
            status=np.array(self.status, dtype=np.int16),
            tier=np.array(self.tier, dtype=np.int8),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """All rows of a run, or of a part of it; the columns of ``Recorder``, N each."""

    due_s: npt.NDArray[np.float64]
    sent_s: npt.NDArray[np.float64]
    ended_s: npt.NDArray[np.float64]
    status: npt.NDArray[np.int16]
    tier: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.due_s)

    def between(self, start_s: float, end_s: float = math.inf) -> Samples:
        """Rows that were meant to be sent in ``[start_s, end_s)``, with times counted from ``start_s``."""
        keep = (self.due_s >= start_s) & (self.due_s < end_s)
        return Samples(
            due_s=self.due_s[keep] - start_s,
            sent_s=self.sent_s[keep] - start_s,
            ended_s=self.ended_s[keep] - start_s,
            status=self.status[keep],
            tier=self.tier[keep],
        )

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Rows answered with success."""
        return np.asarray(self.status == 200, dtype=np.bool_)

    @property
    def refused(self) -> npt.NDArray[np.bool_]:
        """Rows that the server refused (429, 503, 504 and their gRPC fellows)."""
        return np.isin(self.status, REFUSED)

    def in_class(self, name: str) -> npt.NDArray[np.bool_]:
        """Rows of one of ``CLASSES``; each row is in exactly one."""
        if name == "ok":
            return self.ok
        return self.refused if name == "refused" else ~(self.ok | self.refused)

    @property
    def elapsed_s(self) -> npt.NDArray[np.float64]:
        """From the intended send time to the end, however it ended."""
        return self.ended_s - self.due_s

    @property
    def latency_s(self) -> npt.NDArray[np.float64]:
        """From the intended send time to the answer; infinite where there was no success."""
        return np.where(self.ok, self.elapsed_s, np.inf)

    @property
    def late_s(self) -> npt.NDArray[np.float64]:
        """How late the generator handed each request over."""
        return np.maximum(self.sent_s - self.due_s, 0.0)

    def statuses(self) -> dict[str, int]:
        """How many rows ended how, most frequent first."""
        counted = Counter(self.status.tolist())
        return {status_name(status): count for status, count in counted.most_common()}


def joined(parts: list[Samples]) -> Samples:
    """Rows of several generators as one, by intended send time."""
    order = np.argsort(np.concatenate([part.due_s for part in parts]), kind="stable")
    return Samples(
        due_s=np.concatenate([part.due_s for part in parts])[order],
        sent_s=np.concatenate([part.sent_s for part in parts])[order],
        ended_s=np.concatenate([part.ended_s for part in parts])[order],
        status=np.concatenate([part.status for part in parts])[order],
        tier=np.concatenate([part.tier for part in parts])[order],
    )
