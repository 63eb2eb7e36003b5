"""The tables of ``bench.retrieval``."""

from __future__ import annotations

from typing import Any

from bench.tables import number, table


def markdown(results: dict[str, Any]) -> str:
    """The tables."""
    parts = ["# Retrieval"]
    if "scan" in results:
        head = ["way", "recall@10", "MiB", "wall p50 ms", "wall p99 ms", "CPU p50 ms", "CPU p99 ms"]
        keys = ("wall_p50_ms", "wall_p99_ms", "cpu_p50_ms", "cpu_p99_ms")
        rows = [
            [
                one["name"],
                number(one["recall_at_10"], 4),
                number(one["mib"], 0),
                *(number(one[key]) for key in keys),
            ]
            for one in results["scan"]
        ]
        parts += ["## Vectors alone", table(head, rows)]
    if "search" in results:
        one = results["search"]
        head = [
            "passages",
            "wall p50 ms",
            "wall p99 ms",
            "CPU mean ms",
            "memory MiB",
            "of it vectors",
            "start s",
        ]
        told = ("wall_p50_ms", "wall_p99_ms", "cpu_mean_ms", "mib", "vectors_mib", "start_s")
        parts += [
            "## Whole searches",
            table(head, [[number(one["passages"], 0), *(number(one[key]) for key in told)]]),
        ]
    head = ["set", "questions", "R@1", "R@5", "MRR", "search p50 ms", "p99 ms"]
    asked = [(f"sample shop, {one['language']}", one) for one in results.get("shop", ())]
    asked += [(f"StackFAQ, {one['what']}", one) for one in results.get("stackfaq", ())]
    if asked:
        rows = [
            [
                *(name, number(one["questions"], 0)),
                *(number(one[key], 4) for key in ("r_at_1", "r_at_5", "mrr")),
                *(number(one[key]) for key in ("wall_p50_ms", "wall_p99_ms")),
            ]
            for name, one in asked
        ]
        parts += ["## Questions", table(head, rows)]
    if "embed" in results:
        one = results["embed"]
        rate = one["passages"] / one["seconds"]
        parts.append(
            f"{one['passages']:,} passages were cut, encoded and kept in {one['seconds']:.1f} s: {rate:.0f}/s."
        )
    return "\n\n".join(parts) + "\n"
