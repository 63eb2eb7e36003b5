"""The text engine's figures as Markdown tables."""

from __future__ import annotations

from typing import Any

from bench import sampling as _sampling
from bench.tables import number as _number
from bench.tables import table as _table

Json = dict[str, Any]


def sampling(results: Json) -> str:
    """What choosing tokens takes."""
    return "### Choosing tokens\n\n" + _sampling.table(results)


def engine(rows: list[Json]) -> str:
    """Decode steps and prefill, by graph."""
    head = [
        "package",
        "graph",
        "opened s",
        "decode 1: ms (best, CPU)",
        "decode 8: ms (best, CPU)",
        "prefill tok/s",
        "floor ms",
    ]
    lines = [
        [
            row["variant"],
            row["graph"],
            _number(row["load_s"], 1),
            *(
                f"{row[f'{name}_ms']:.1f} ({row[f'{name}_best_ms']:.1f}, {row[f'{name}_cpu_ms']:.1f})"
                for name in ("decode_1", "decode_8")
            ),
            _number(row["prefill_256_tok_s"], 0),
            _number(row["floor_ms"], 1),
        ]
        for row in rows
    ]
    return "### Text engine alone, Qwen2.5-0.5B's shape\n\n" + _table(head, lines)


def peers(found: Json) -> str:
    """The workloads of other engines, through the server."""
    head = [
        "workload",
        "tok/s",
        "decode tok/s",
        "prefill tok/s",
        "TTFT p50 / p95 ms",
        "CPU-s per 1,000",
        "of a step beside the engine",
        "foreign cores",
    ]
    lines = [
        [
            name,
            _number(row["tok_s"], 1),
            _number(row["decode_tok_s"], 1),
            _number(row["prefill_tok_s"], 0),
            f"{row['ttft_p50_ms']:.0f} / {row['ttft_p95_ms']:.0f}",
            _number(row["cpu_s_per_1000"], 1),
            f"{row['beside_engine']:.1%}",
            _number(row["foreign_cores"], 2),
        ]
        for name in ("single", "eight", "sampled", "trace")
        if (row := found.get(name))
    ]
    text = f"### Text through the server, {found['variant']} (blocks of {found['block']})\n\n" + _table(
        head, lines
    )
    text += f"\n\nReady after {found['ready_s']:.1f} s; {found['rss_mib']:.0f} MiB resident after all."
    if over := found.get("overload"):
        text += (
            f" Overload: {over['best']['good_per_s']:.2f} good answers a second at {over['best']['rate']:g} requests/s, "
            f"{over['twice']['good_per_s']:.2f} at {over['twice']['rate']:g}: {over['share']:.0%}."
        )
    return text
