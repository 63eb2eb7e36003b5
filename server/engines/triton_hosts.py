"""Which Triton host is asked next: a pure record of who is in, who is out, and who has how much to do.

The rules. A host that cannot be reached is out at once; one that fails otherwise is out after ``MAX_FAILURES`` in a row; whoever
is out comes back when a look at it finds the model ready. Of those that are in, the one with the fewest requests on their way is
asked, and among equals the one that was asked longest ago.

No clock, no connection and no thread is in here; ``triton.py`` has them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

MAX_FAILURES = 3


@dataclass(slots=True)
class Host:
    """One server of the fleet.

    Attributes:
        address: HOST:PORT of its gRPC port.
        ready: models with their versions that it was seen to have ready.
        out: whether it is not asked at present.
        why: the reason when it is out, as a sentence.
        outstanding: requests on their way there.
        failures: in a row.
        asked: order of its last request.
        requests, ejections: counts, for the log and the tests.
    """

    address: str
    ready: set[tuple[str, str]] = field(default_factory=set)
    out: bool = True  # until it was looked at
    why: str = "it was not looked at yet"
    outstanding: int = 0
    failures: int = 0
    asked: int = 0
    requests: int = 0
    ejections: int = 0


class Hosts:
    """All of them."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.all = tuple(Host(address) for address in addresses)
        self._order = 0

    def pick(self, model: tuple[str, str], without: Collection[Host] = ()) -> Host | None:
        """The host to ask for a model and version; None where none that is in has it ready.

        The caller says ``begin`` before it asks and ``end`` after it.
        """
        able = [
            host
            for host in self.all
            if not host.out and model in host.ready and all(host is not other for other in without)
        ]
        return min(able, key=lambda host: (host.outstanding, host.asked), default=None)

    def begin(self, host: Host) -> None:
        """A request sets out."""
        self._order += 1
        host.asked = self._order
        host.outstanding += 1
        host.requests += 1

    def end(self, host: Host) -> None:
        """It has ended, however."""
        host.outstanding -= 1

    def succeeded(self, host: Host) -> None:
        """It answered."""
        host.failures = 0

    def failed(self, host: Host, why: str, *, away: bool) -> bool:
        """It did not; ``away`` where it cannot even be reached. True: it is out by this."""
        host.failures += 1
        if host.out or not (away or host.failures >= MAX_FAILURES):
            return False
        host.out, host.why = True, why
        host.ejections += 1
        return True

    def seen(self, host: Host, ready: Collection[tuple[str, str]], why: str = "") -> bool:
        """What a look at it found: the models that it has ready, none where it is away. True: it is back by this."""
        host.ready = set(ready)
        if not host.ready:
            if not host.out:
                host.out, host.why = True, why
                host.ejections += 1
            else:
                host.why = why
            return False
        back, host.out, host.failures = host.out, False, 0
        return back

    def lost(self, host: Host, model: tuple[str, str]) -> None:
        """It said that it has not this model and version."""
        host.ready.discard(model)

    def why_none(self, model: tuple[str, str]) -> str:
        """A sentence for when ``pick`` finds none."""
        name, version = model
        told = "; ".join(
            f"{host.address}: {host.why if host.out else 'it has not this version ready'}"
            for host in self.all
        )
        return f"no Triton host has {name} version {version} ready ({told})"
