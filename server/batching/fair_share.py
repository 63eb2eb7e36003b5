"""Whose turn it is between tenants: the one that has been served least.

A counter of served tokens a tenant; the smallest is next. A tenant that comes back after a rest starts at the level of
the least served one that is active, not at its old one: unused turns are not saved up.

Source:
    Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024 (virtual token counter).
"""

from __future__ import annotations

ANSWER_WEIGHT = (
    4.0  # an answer token takes a row of a step, a prompt token a part of one: about what it costs
)


class FairShare:
    """Tokens served, by tenant; only tenants with texts under way are remembered."""

    __slots__ = ("_floor", "_served", "_texts")

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._texts: dict[str, int] = {}
        self._floor = 0.0

    def enter(self, tenant: str) -> None:
        """A text of this tenant has come."""
        count = self._texts.get(tenant, 0)
        if count == 0:
            self._served[tenant] = min(self._served.values(), default=self._floor)
        self._texts[tenant] = count + 1

    def leave(self, tenant: str) -> None:
        """A text of this tenant has ended."""
        self._texts[tenant] -= 1
        if not self._texts[tenant]:
            del self._texts[tenant]
            served = self._served.pop(tenant)
            if not self._served:
                self._floor = served

    def charge(self, tenant: str, tokens: float) -> None:
        """This tenant was served."""
        self._served[tenant] += tokens

    def served(self, tenant: str) -> float:
        """What decides: less goes first."""
        return self._served[tenant]
