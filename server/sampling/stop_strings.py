"""Stop strings over a text that comes in pieces: the same end, however it was cut.

An automaton reads the text character by character, so that its cost does not grow with the number of stop strings, and
what it has matched of one so far is exactly what must be held back.

Source: Aho and Corasick, "Efficient String Matching", 1975.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class StopStrings:
    """The automaton; immutable, so that texts may share one.

    Args:
        stops: strings that end a text; empty ones are none.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._depth = [0]
        self._fail = [0]
        self._ends: list[str | None] = [None]
        for stop in stops:
            if stop:
                self._add(stop)
        waiting = deque(self._next[0].values())
        while waiting:
            node = waiting.popleft()
            if self._ends[node] is None:
                self._ends[node] = self._ends[self._fail[node]]
            for char, child in self._next[node].items():
                self._fail[child] = self.step(self._fail[node], char)
                waiting.append(child)

    def _add(self, stop: str) -> None:
        node = 0
        for char in stop:
            child = self._next[node].get(char)
            if child is None:
                child = len(self._next)
                self._next[node][char] = child
                self._next.append({})
                self._depth.append(self._depth[node] + 1)
                self._fail.append(0)
                self._ends.append(None)
            node = child
        self._ends[node] = stop

    def step(self, node: int, char: str) -> int:
        """Where a character leads; 0 is where every text begins."""
        while node and char not in self._next[node]:
            node = self._fail[node]
        return self._next[node].get(char, 0)

    def held(self, node: int) -> int:
        """Characters at the end of the text that may become a stop string."""
        return self._depth[node]

    def met(self, node: int) -> str | None:
        """The longest stop string that the text ends in, if it does."""
        return self._ends[node]
