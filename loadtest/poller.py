"""Waits for sockets or for a moment, whichever comes first, to a few microseconds.

``epoll`` in Python (and libuv) rounds waits up to whole milliseconds, which would make every request late by
half of one.  An epoll descriptor is itself readable, so ``select`` on that single descriptor gives its
microseconds to the wait, at the price of one system call only where there really is a wait.

Linux only; a generator elsewhere would want kqueue behind the same four methods.
"""

from __future__ import annotations

import select

_WORTH_WAITING_S = 20e-6  # less than what falling asleep and waking costs


class Poller:
    """Readiness of many sockets; not thread-safe."""

    READ = select.EPOLLIN
    WRITE = select.EPOLLOUT
    READ_WRITE = select.EPOLLIN | select.EPOLLOUT

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched = (self._epoll.fileno(),)

    def watch(self, descriptor: int, events: int) -> None:
        """Start to watch a descriptor."""
        self._epoll.register(descriptor, events)

    def change(self, descriptor: int, events: int) -> None:
        """Watch a descriptor for other events."""
        self._epoll.modify(descriptor, events)

    def wait(self, timeout_s: float, most: int = 64) -> list[tuple[int, int]]:
        """Ready descriptors with their events; empty when ``timeout_s`` has passed without any.

        At most ``most`` at once, so that a flood of answers cannot keep the next request from being sent on
        time.
        """
        if timeout_s > _WORTH_WAITING_S:
            ready, _, _ = select.select(self._watched, (), (), timeout_s)
            if not ready:
                return []
        return self._epoll.poll(0, most)

    def close(self) -> None:
        """Let go of the descriptor."""
        self._epoll.close()
