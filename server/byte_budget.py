"""Bytes of requests that are in memory and not yet taken, over all connections of a server.

A limit for one request and a limit for connections do not bound memory: thousands of connections that each send most of
a long body do. Here the sum is bounded, and who would exceed it is refused.
"""

from __future__ import annotations

from server.errors import TooManyBytes

RETRY_AFTER_S = 1.0


class ByteBudget:
    """The sum and its limit.

    Attributes:
        most_bytes: what may wait.
        used_bytes: what waits.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.used_bytes = 0

    def take(self, size: int) -> None:
        """Hold ``size`` bytes more.

        Raises:
            TooManyBytes: that would be too many; nothing is held.
        """
        if self.used_bytes + size > self.most_bytes:
            raise TooManyBytes(self.most_bytes, RETRY_AFTER_S)
        self.used_bytes += size

    def give(self, size: int) -> None:
        """Hold ``size`` bytes less."""
        self.used_bytes -= size


class Share:
    """What one connection may hold of a budget: a part of it, so that no client alone can use it up.

    Attributes:
        used_bytes: what it holds.
    """

    def __init__(self, budget: ByteBudget, *, least_bytes: int, parts: int = 8) -> None:
        """Hold a part of the budget at most, but never fewer than ``least_bytes``: what one request may be."""
        self._budget = budget
        self._most_bytes = max(budget.most_bytes // parts, least_bytes)
        self.used_bytes = 0

    def take(self, size: int) -> None:
        """Hold ``size`` bytes more.

        Raises:
            TooManyBytes: that would be too many, of this connection or of all; nothing is held.
        """
        if self.used_bytes + size > self._most_bytes:
            raise TooManyBytes(self._most_bytes, RETRY_AFTER_S)
        self._budget.take(size)
        self.used_bytes += size

    def give(self, size: int) -> None:
        """Hold ``size`` bytes less."""
        self.used_bytes -= size
        self._budget.give(size)
