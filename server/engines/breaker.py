"""Whether a server elsewhere should be asked: a circuit breaker, pure, with the time as an argument.

It opens after some failures in a row, lets one request through when its wait is over, and waits twice as long each time that
one fails as well. What the caller did wrong, and refusals of a server that is full, are no failures.

Units: seconds on any monotonic clock.
"""

from __future__ import annotations

FAILURES = 3
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0


class Breaker:
    """One server's.

    Attributes:
        failures: in a row.
    """

    def __init__(
        self,
        failures: int = FAILURES,
        first_wait_s: float = FIRST_WAIT_S,
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        """Begin closed.

        Args:
            failures: in a row that open it (> 0).
            first_wait_s: how long it is open the first time (> 0).
            longest_wait_s: how long at most.
        """
        self._most = failures
        self._first_s = first_wait_s
        self._longest_s = longest_wait_s
        self._wait_s = 0.0
        self._until_s = 0.0
        self._trying = False
        self.failures = 0

    @property
    def closed(self) -> bool:
        """Whether the server is thought to work."""
        return self.failures < self._most

    def wait_s(self, now_s: float) -> float:
        """How long until it may be asked; 0: now."""
        if self.closed:
            return 0.0
        return max(0.0, self._until_s - now_s) if not self._trying else self._wait_s

    def take(self, now_s: float) -> bool:
        """Whether it may be asked now; while open, one request at a time may, once the wait is over."""
        if self.closed:
            return True
        if self._trying or now_s < self._until_s:
            return False
        self._trying = True
        return True

    def worked(self) -> None:
        """It answered."""
        self.failures = 0
        self._wait_s = 0.0
        self._trying = False

    def failed(self, now_s: float) -> None:
        """It did not."""
        self.failures += 1
        was_trying, self._trying = self._trying, False
        if self.closed or (now_s < self._until_s and not was_trying):
            return  # those who were on their way when it opened do not make the wait longer
        self._wait_s = min(2 * self._wait_s, self._longest_s) if self._wait_s else self._first_s
        self._until_s = now_s + self._wait_s

    def left(self) -> None:
        """Who was let through left before there was an answer."""
        self._trying = False
