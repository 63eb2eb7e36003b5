"""Two reports side by side, with the ratio of each figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
Getter = Callable[[Json], float | None]


def _latency(name: str) -> Getter:
    return lambda report: report["result"]["latency_ms"][name]


def _used(name: str) -> Getter:
    return lambda report: report["result"]["used"][name]


ROWS: tuple[tuple[str, Getter], ...] = (
    ("highest rate passed, /s", lambda report: report.get("highest_passed_rps")),
    ("offered, /s", lambda report: report["result"]["offered_rps"]),
    ("ok, /s", lambda report: report["result"]["ok_rps"]),
    ("good, /s", lambda report: report["result"]["good_rps"]),
    ("p50, ms", _latency("p50")),
    ("p90, ms", _latency("p90")),
    ("p99, ms", _latency("p99")),
    ("p99.9, ms", _latency("p99.9")),
    ("max, ms", _latency("max")),
    ("refused, share", lambda report: report["result"]["classes"]["refused"]["share"]),
    ("refusal told p99, ms", lambda report: report["result"]["classes"]["refused"]["took_ms"]["p99"]),
    ("failed, share", lambda report: report["result"]["classes"]["failed"]["share"]),
    ("generator late p99, ms", lambda report: report["result"]["late_ms"]["p99"]),
    ("server CPU-s per 1000 ok", _used("server_cpu_s_per_1000_ok")),
    ("server RSS, MiB", _used("server_rss_mib")),
    ("foreign cores", _used("foreign_cores")),
)


def table(first: Json, second: Json, *, names: tuple[str, str] = ("A", "B")) -> str:
    """A Markdown table of both reports and second / first; rows that neither has are left out."""
    rows: list[tuple[str, ...]] = [("", *names, "ratio")]
    for title, getter in ROWS:
        values = getter(first), getter(second)
        if values == (None, None):
            continue
        rows.append((title, *(_figure(value) for value in values), _ratio(*values)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    differing = [
        key
        for key in ("target", "arrivals", "offered_rps", "duration_s")
        if first["load"][key] != second["load"][key]
    ]
    for name, report in zip(names, (first, second), strict=True):
        if reason := report["result"].get("p99_refused"):
            lines.append(f"\np99 of {name} {reason}.")
    if differing:
        lines.append(f"\nNot the same load: {', '.join(differing)} differ.")
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _ratio(first: float | None, second: float | None) -> str:
    if first is None or second is None or first == 0:
        return "-"
    return f"{second / first:.2f}"
