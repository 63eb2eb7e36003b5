"""One run as data: everything that decides what is sent where, picklable, with no clock and no socket in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from loadtest.arrivals import Profile, Segment, Times, constant, duration_of, poisson
from loadtest.client import ClientOptions, Target
from loadtest.pacing import NAP_S, Closed

_MOST_REQUESTS = 20_000_000  # 27 bytes each
OPEN_SHAPES = ("poisson", "constant", "ramp", "burst", "steps", "replay")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one run does.

    Attributes:
        target: where to.
        bodies: JSON bodies, used in turn.
        arrivals: one of ``OPEN_SHAPES``, or ``closed``.
        profile: rates over the measured time; empty for replay and closed.
        trace: times of a replay; None otherwise.
        closed: the closed loop; None for an open one.
        warmup_s: sent before the measured time at its first rate, and left out of every figure.
        seed: of the arrivals.
        options: how the client behaves.
        processes: generators to share the load (>= 1).
        nap_s: how long to gather sends and answers at high rates (>= 0; see ``pacing``).
    """

    target: Target
    bodies: tuple[bytes, ...]
    arrivals: str = "poisson"
    profile: Profile = ()
    trace: Times | None = None
    closed: Closed | None = None
    warmup_s: float = 1.0
    seed: int = 1
    options: ClientOptions = field(default_factory=ClientOptions)
    processes: int = 1
    nap_s: float = NAP_S

    def __post_init__(self) -> None:
        if not self.bodies:
            raise ValueError("no request bodies")
        if self.warmup_s < 0 or self.processes < 1 or not 0 <= self.nap_s <= 0.01:
            raise ValueError(
                f"warm-up {self.warmup_s} s, {self.processes} processes and naps of {self.nap_s} s:"
                " must be >= 0, >= 1 and 0 to 10 ms"
            )
        if self.offered_rps * self.duration_s > _MOST_REQUESTS:
            raise ValueError(
                f"{self.offered_rps * self.duration_s:.3g} requests in one run, {_MOST_REQUESTS} is the most"
            )
        if (self.closed is None) == (self.trace is None and not self.profile):
            raise ValueError("a plan has a profile or a trace, or it is a closed loop")

    @property
    def duration_s(self) -> float:
        """Length of the measured time."""
        if self.closed is not None:
            return self.closed.duration_s
        if self.trace is not None:
            return float(self.trace[-1]) + 1e-6 if len(self.trace) else 0.0
        return duration_of(self.profile)

    @property
    def offered_rps(self) -> float:
        """Mean rate that is meant to be offered; 0 for a closed loop."""
        if self.trace is not None:
            return len(self.trace) / max(self.duration_s, 1e-6)
        total = sum(segment.requests for segment in self.profile)
        return total / self.duration_s if self.profile else 0.0

    def schedule(self) -> Times:
        """Intended send times of an open loop, the warm-up first; seconds since the start of the run."""
        warmup, rng = self.effective_warmup_s, np.random.default_rng(self.seed)
        if self.trace is not None:
            return self.trace
        profile = self.profile
        if warmup > 0:
            first = profile[0].start_rps or profile[0].end_rps / 10
            profile = (Segment(warmup, first, first), *profile)
        if self.arrivals == "constant":
            return constant(profile)
        return poisson(profile, rng)

    @property
    def effective_warmup_s(self) -> float:
        """The warm-up; a replay has none, its trace is sent as it is."""
        return 0.0 if self.trace is not None else self.warmup_s
