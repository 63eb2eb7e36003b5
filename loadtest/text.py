"""A report for a terminal: what matters, in a dozen lines."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def text_of(report: Json) -> str:
    """The report in plain text."""
    load, result, used = report["load"], report["result"], report["result"]["used"]
    latency, late = result["latency_ms"], result["late_ms"]
    refused = result.get("p99_refused")  # not in old reports
    rows = [
        f"{load['target']}  {load['arrivals']}  {load['duration_s']:g} s after {load['warmup_s']:g} s of warm-up",
        f"offered   {result['offered']} requests, {result['offered_rps']:.1f}/s",
        f"answered  {result['ok_rps']:.1f}/s ok, {result['good_rps']:.1f}/s within {result['good_within_ms']:g} ms",
        f"latency   {_line(latency, refused)}   (over all; no success counts as infinite)",
    ]
    if refused:
        rows.append(f"p99       {refused}")
    for name in ("refused", "failed"):
        part = result["classes"][name]
        if part["count"]:
            rows.append(
                f"{name:<9} {part['count']} ({part['share'] * 100:.1f} %), told after {_line(part['took_ms'], refused)}"
            )
    for part in result.get("segments", ()):
        settled = part["settled_after_s"]
        rows.append(
            f"{part['start_s']:6.1f} s   {_rates(part)}: good {part['good_rps']:.0f}/s, refused {part['refused_rps']:.0f}/s,"
            f" normal after {'never' if settled is None else f'{settled:g} s'}"
        )
    rows.append("status    " + ", ".join(f"{name}: {number}" for name, number in result["status"].items()))
    rows.append(
        "served by "
        + ", ".join(f"{name}: {number}" for name, number in result["served_by"].items() if number)
    )
    rows.append(f"generator late {_line(late)}; {used['generator_cores']:.2f} cores")
    if result["client"]["waited_for_connection"]:
        rows.append(
            f"          {result['client']['waited_for_connection']} requests waited for a connection (--connections)"
        )
    if used["server_cpu_s_per_1000_ok"] is not None:
        rows.append(
            f"server    {used['server_cpu_s_per_1000_ok']:.3f} CPU-s per 1000 answers, {used['server_cores']:.2f} cores,"
            f" {used['server_rss_mib']:.0f} MiB"
        )
    if used["foreign_cores"] is not None:
        whose = "others" if used["server_cores"] is not None else "server and others"
        rows.append(f"{whose:<9} {used['foreign_cores']:.2f} cores")
    if report["kind"] == "find":
        rows.append(f"highest rate that passed: {report['highest_passed_rps'] or 'none'} requests/s")
    for verdict in report["verdicts"]:
        rows.append(f"{verdict['verdict']:<11} {verdict['objective']}: {verdict['reason']}")
    return "\n".join(rows)


def _line(figures: Json, refused: str | None = None) -> str:
    shown = {name: _figure(figures[name]) for name in ("p50", "p90", "p99", "p99.9", "max")}
    if refused:
        shown["p99"] = "refused"
    return "  ".join(f"{name} {figure}" for name, figure in shown.items()) + " ms"


def _rates(part: Json) -> str:
    start, end = part["start_rps"], part["end_rps"]
    return f"{start:g}/s" if start == end else f"{start:g} to {end:g}/s"


def _figure(value: float | None) -> str:
    return "inf" if value is None else f"{value:.2f}"
