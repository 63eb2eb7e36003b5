"""Who used the processors while a run lasted: the generator, the server, or somebody else.

A figure taken beside a busy neighbour is not a figure about the server; ``foreign_cores`` makes the neighbour
visible.  Reads ``/proc`` only, so it needs nothing installed; where there is no ``/proc`` the readings are
None.

Units: CPU seconds, MiB.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True, slots=True)
class Reading:
    """Totals at one moment.

    Attributes:
        at_s: monotonic time.
        busy_s: CPU seconds of the whole machine; None: unknown.
        own_s: of this process and its ended children.
        server_s: of the server's process tree; None: not asked for or unknown.
        server_rss_mib: its resident memory; None likewise.
    """

    at_s: float
    busy_s: float | None
    own_s: float
    server_s: float | None
    server_rss_mib: float | None


def read(server_pid: int | None = None) -> Reading:
    """Take a reading now."""
    own = os.times()
    server_s, rss = tree_usage(server_pid) if server_pid is not None else (None, None)
    return Reading(
        time.monotonic(),
        _busy_s(),
        own.user + own.system + own.children_user + own.children_system,
        server_s,
        rss,
    )


def between(start: Reading, end: Reading) -> dict[str, float | None]:
    """What was used between two readings.

    Returns:
        ``generator_cores``, ``server_cpu_s``, ``server_cores``, ``server_rss_mib`` and ``foreign_cores``
        (everybody else; the server counts as foreign unless its process id is known).
    """
    span = max(end.at_s - start.at_s, 1e-9)
    own = end.own_s - start.own_s
    server = (
        end.server_s - start.server_s if start.server_s is not None and end.server_s is not None else None
    )
    foreign = None
    if start.busy_s is not None and end.busy_s is not None:
        foreign = max(0.0, (end.busy_s - start.busy_s - own - (server or 0.0)) / span)
    return {
        "generator_cores": own / span,
        "server_cpu_s": server,
        "server_cores": None if server is None else server / span,
        "server_rss_mib": end.server_rss_mib,
        "foreign_cores": foreign,
    }


def tree_usage(pid: int) -> tuple[float | None, float | None]:
    """CPU seconds and resident MiB of a process and all its descendants; None where it is not to be seen."""
    children: dict[int, list[int]] = {}
    stats: dict[int, tuple[float, float]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = entry.read_text()
            fields = text[text.rindex(")") + 2 :].split()
        except (OSError, ValueError):
            continue
        number = int(entry.parent.name)
        children.setdefault(int(fields[1]), []).append(number)
        stats[number] = (
            (int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])) / _TICK,
            int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20,
        )
    if pid not in stats:
        return None, None
    cpu_s, rss, todo = 0.0, 0.0, [pid]
    while todo:
        number = todo.pop()
        cpu_s, rss = cpu_s + stats[number][0], rss + stats[number][1]
        todo.extend(children.get(number, ()))
    return cpu_s, rss


def _busy_s() -> float | None:
    try:
        with open("/proc/stat", encoding="ascii") as lines:
            fields = [int(value) for value in lines.readline().split()[1:]]
    except (OSError, ValueError):
        return None
    idle = fields[3] + fields[4]
    return (sum(fields[:8]) - idle) / _TICK
