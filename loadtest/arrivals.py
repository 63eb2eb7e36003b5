"""When each request is meant to be sent: pure functions of a profile and a seeded generator.

Every open-loop shape is one thing: a unit-rate process (Poisson, or evenly spaced) bent through the inverse
of the cumulative rate of a piecewise-linear profile.  So ramp, burst and steps are profiles and not
processes, and what holds for one of them holds for all.  No clock in here: the driver in ``pacing.py`` owns
time.

Units: seconds since the start of the run; rates in requests per second.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time in which the rate moves in a straight line.

    Attributes:
        duration_s: length, in seconds (> 0).
        start_rps: rate at its beginning (>= 0).
        end_rps: rate at its end (>= 0).

    Raises:
        ValueError: a value is out of range or not finite.
    """

    duration_s: float
    start_rps: float
    end_rps: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.duration_s) and self.duration_s > 0):
            raise ValueError(f"a segment lasts {self.duration_s} s, it must be more than 0")
        for rate in (self.start_rps, self.end_rps):
            if not (math.isfinite(rate) and rate >= 0):
                raise ValueError(f"a rate of {rate} requests/s, it must be 0 or more")

    @property
    def requests(self) -> float:
        """How many requests are expected in it."""
        return self.duration_s * (self.start_rps + self.end_rps) / 2


Profile = tuple[Segment, ...]


def duration_of(profile: Profile) -> float:
    """How long the profile lasts, in seconds."""
    return math.fsum(segment.duration_s for segment in profile)


def steady(rate_rps: float, duration_s: float) -> Profile:
    """One rate all along."""
    return (Segment(duration_s, rate_rps, rate_rps),)


def ramp(from_rps: float, to_rps: float, duration_s: float) -> Profile:
    """A straight line from one rate to another."""
    return (Segment(duration_s, from_rps, to_rps),)


def burst(base_rps: float, burst_rps: float, *, every_s: float, burst_s: float, duration_s: float) -> Profile:
    """A base rate with a burst of ``burst_s`` at the end of every ``every_s``; cut off at ``duration_s``.

    Raises:
        ValueError: ``burst_s`` is not between 0 and ``every_s``.
    """
    if not 0 < burst_s < every_s:
        raise ValueError(
            f"a burst of {burst_s} s every {every_s} s: it must be longer than 0 and shorter than its period"
        )
    segments: list[Segment] = []
    left = duration_s
    while left > 1e-9:
        for length, rate in ((every_s - burst_s, base_rps), (burst_s, burst_rps)):
            length = min(length, left)
            if length > 1e-9:
                segments.append(Segment(length, rate, rate))
                left -= length
    return tuple(segments)


def parse_steps(text: str) -> Profile:
    """Read ``5s@1000,30s@5000,10s@1000``: for how long, at which rate.

    Raises:
        ValueError: a part is not of that form; names the part.
    """
    segments = []
    for part in text.split(","):
        length, separator, rate = part.strip().partition("@")
        try:
            if not separator:
                raise ValueError("no @")
            duration_s, rps = float(length.removesuffix("s")), float(rate.removesuffix("rps"))
        except ValueError as error:
            raise ValueError(
                f"step {part!r}: write it as 30s@500 (seconds at requests per second)"
            ) from error
        segments.append(Segment(duration_s, rps, rps))
    return tuple(segments)


def poisson(profile: Profile, rng: np.random.Generator) -> Times:
    """Independent arrivals whose rate follows the profile: many shoppers who do not know of each other.

    The count is drawn first and the arrivals are then sorted uniforms, which is exactly a Poisson process and
    needs no loop.

    Returns:
        Intended send times, ascending, inside ``[0, duration)``.
    """
    expected = math.fsum(segment.requests for segment in profile)
    count = int(rng.poisson(expected))
    return _bend(np.sort(rng.random(count)) * expected, profile)


def constant(profile: Profile) -> Times:
    """Evenly spaced arrivals at the profile's rate: the kindest load there is, for calibration.

    Returns:
        Intended send times, ascending, inside ``[0, duration)``.
    """
    expected = math.fsum(segment.requests for segment in profile)
    return _bend(np.arange(math.floor(expected + 1e-9), dtype=np.float64), profile)


def rate_at(profile: Profile, time_s: float) -> float:
    """The profile's rate at a moment; 0 outside of it."""
    start = 0.0
    for segment in profile:
        if start <= time_s < start + segment.duration_s:
            share = (time_s - start) / segment.duration_s
            return segment.start_rps + share * (segment.end_rps - segment.start_rps)
        start += segment.duration_s
    return 0.0


def _bend(counts: Times, profile: Profile) -> Times:
    """Turn positions on the axis of expected requests into moments (the inverse of the cumulative rate)."""
    times = np.empty_like(counts)
    before, start_s = 0.0, 0.0
    for number, segment in enumerate(profile):
        last = number == len(profile) - 1
        low = int(np.searchsorted(counts, before))
        high = len(counts) if last else int(np.searchsorted(counts, before + segment.requests))
        inside = np.minimum(counts[low:high] - before, segment.requests)
        slope = (segment.end_rps - segment.start_rps) / segment.duration_s
        if abs(slope) < 1e-12:
            offset = inside / segment.start_rps if segment.start_rps > 0 else inside
        else:  # a*t + slope*t^2/2 = inside, in the form that does not cancel
            root = np.sqrt(np.maximum(segment.start_rps**2 + 2 * slope * inside, 0.0))
            offset = 2 * inside / np.maximum(segment.start_rps + root, 1e-300)
        end_s = start_s + segment.duration_s
        times[low:high] = np.minimum(start_s + offset, np.nextafter(end_s, 0.0))
        before += segment.requests
        start_s = end_s
    return np.maximum.accumulate(times) if len(times) else times


@dataclass(frozen=True, slots=True)
class Trace:
    """Recorded traffic to be sent again.

    Attributes:
        times_s: when, ascending, from 0.
        bodies: what, one for each time; empty: bodies come from elsewhere.
    """

    times_s: Times
    bodies: tuple[bytes, ...] = ()


def read_trace(path: Path, *, speed: float = 1.0) -> Trace:
    """Read a trace file: a line is a time in seconds, or ``{"t": seconds, "body": {...}}``.

    Times may start anywhere (Unix seconds too) and need not be sorted; the first becomes 0.

    Args:
        path: the file; empty lines and lines that start with ``#`` are passed over.
        speed: 2.0 sends it in half the time.

    Raises:
        ValueError: a line cannot be read, or there is none; names file and line.
    """
    if not (math.isfinite(speed) and speed > 0):
        raise ValueError(f"speed {speed}: it must be more than 0")
    return _trace(_trace_lines(path), str(path), speed)


def _trace_lines(path: Path) -> Iterable[tuple[int, float, bytes | None]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            body = None
            try:
                if text.startswith("{"):
                    record = json.loads(text)
                    time_s = float(record["t"])
                    if record.get("body") is not None:
                        body = json.dumps(record["body"], separators=(",", ":")).encode()
                else:
                    time_s = float(text)
                if not math.isfinite(time_s):
                    raise ValueError("not a finite time")
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f'{path}:{number}: {text[:80]!r} is neither a time in seconds nor {{"t": seconds, "body": {{...}}}}'
                ) from error
            yield number, time_s, body


def _trace(lines: Iterable[tuple[int, float, bytes | None]], name: str, speed: float) -> Trace:
    records: Sequence[tuple[int, float, bytes | None]] = sorted(lines, key=lambda line: line[1])
    if not records:
        raise ValueError(f"{name}: no requests in it")
    bodies = tuple(body for _, _, body in records if body is not None)
    if bodies and len(bodies) != len(records):
        raise ValueError(
            f"{name}: {len(bodies)} of {len(records)} lines have a body; give all of them one, or none"
        )
    times = np.array([time_s for _, time_s, _ in records], dtype=np.float64)
    return Trace((times - times[0]) / speed, bodies)
