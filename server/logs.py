"""Structured logs: one JSON object a line on stderr, with the request id and without personal data.

What may be logged about a request is its endpoint, outcome, duration and id. No user id, no history, no body: callers
pass none of these, and the formatter writes only the keys that it knows.

Repeated errors are cut to a few a second for each message, and the number of those left out is told by the next one.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import time
from collections.abc import Callable
from typing import Protocol

from server.errors import Code, ServeError

_EXTRA = ("request_id", "endpoint", "outcome", "duration_ms", "model", "version", "port", "reason")
BURST = 5  # of one message, each second


class Identified(Protocol):
    """What an access line needs of a request."""

    @property
    def request_id(self) -> str:
        """The id that the caller sees."""
        ...


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON.

    Args:
        guard: takes personal data out of messages and exceptions, which may quote what a caller sent.
    """

    def __init__(self, guard: Callable[[str], str] = str) -> None:
        super().__init__()
        self._guard = guard

    def format(self, record: logging.LogRecord) -> str:
        """Only known keys are written; an exception's text is part of the line."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._guard(record.getMessage()),
        }
        for key in _EXTRA:
            value = getattr(record, key, None)
            if value is not None:
                line[key] = value
        left_out = getattr(record, "left_out", 0)
        if left_out:
            line["left_out"] = left_out
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = self._guard(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class FewOfEach(logging.Filter):
    """Lets a few records of the same message through each second; counts the rest."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._windows: dict[object, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this record is written."""
        if record.levelno < logging.WARNING:
            return True
        now_s = self._clock()
        key = (record.name, record.msg)
        began_s, count = self._windows.get(key, (now_s, 0))
        if now_s - began_s >= 1.0:
            record.left_out = max(0, count - BURST)
            began_s, count = now_s, 0
        if len(self._windows) > 1000:
            self._windows.clear()
        self._windows[key] = (began_s, count + 1)
        return count < BURST


def configure(level: str, guard: Callable[[str], str] = str) -> None:
    """Send all logs of the process to stderr as JSON, through a guard against personal data."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(guard))
    handler.addFilter(FewOfEach())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("asyncio", "grpc", "httpx", "uvicorn"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


class AccessLog:
    """A line for a share of the answered requests; the default share is none, and then it costs one comparison."""

    def __init__(self, share: float, chance: Callable[[], float] = random.random) -> None:
        self._share = share
        self._chance = chance
        self._log = logging.getLogger("vitrine.access")

    def done(self, endpoint: str, answer: object, request: Identified, elapsed_s: float) -> None:
        """One request has its answer."""
        if isinstance(answer, ServeError):
            self.ended(endpoint, answer.code.value, request, elapsed_s)
        elif self._share:
            self.ended(endpoint, "ok", request, elapsed_s)

    def ended(self, endpoint: str, outcome: str, request: Identified, elapsed_s: float) -> None:
        """One request has ended; our own faults are always logged, at most a few a second."""
        if outcome == Code.INTERNAL.value:
            level, message = logging.ERROR, "request failed"
        elif self._share and self._chance() < self._share:
            level, message = logging.INFO, "request"
        else:
            return
        self._log.log(
            level,
            message,
            extra={
                "endpoint": endpoint,
                "outcome": outcome,
                "duration_ms": round(elapsed_s * 1e3, 3),
                "request_id": request.request_id,
            },
        )
