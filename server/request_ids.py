"""Request ids and traces as both wires take them over: what a caller sends is kept if it is sane, else made here."""

from __future__ import annotations

import itertools
import re
import secrets

_SANE_ID = re.compile(rb"[\x21-\x7e]{1,128}\Z")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_prefix = secrets.token_hex(6)
_numbers = itertools.count(1)


def new_request_id() -> str:
    """An id that no other request of any server has: the process's random prefix and a number."""
    return f"{_prefix}-{next(_numbers):x}"


def chosen_request_id(given: bytes | None) -> str:
    """The caller's own id if it is 1 to 128 printable characters without blanks, else a new one."""
    if given is not None and _SANE_ID.match(given):
        return given.decode("ascii")
    return new_request_id()


def sane_traceparent(given: bytes) -> bool:
    """Whether it has the W3C form, so that it may be sent back."""
    return _TRACEPARENT.match(given) is not None
