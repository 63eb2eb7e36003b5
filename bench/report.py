"""The figures as Markdown tables; whatever was not measured is not there."""

from __future__ import annotations

from typing import Any

from bench import support_parts, text_tables
from bench.copy_report import copy_tables
from bench.tables import number as _number
from bench.tables import table as _table

Json = dict[str, Any]


def markdown(results: Json) -> str:
    """All tables of one run."""
    machine = results["machine"]
    parts = [
        f"Measured {results['began']} on {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, in one run."
    ]
    for name, write in (
        ("quality", _quality),
        ("copy", copy_tables),
        ("sampling", text_tables.sampling),
        ("text_engine", text_tables.engine),
        ("text_peers", text_tables.peers),
        ("engine", _engine),
        ("start", _start),
        ("serving", _serving),
        ("overload", _overload),
        ("grpc", _grpc),
        ("metrics", _metrics),
        ("intents", _intents),
        ("support_speed", _support_speed),
    ):
        if name in results:
            parts.append(write(results[name]))
    parts += support_parts.tables(results)
    return "\n\n".join(parts) + "\n"


def _quality(reports: Json) -> str:
    out = []
    for model, report in reports.items():
        rows = {f"{report['precision']} engine as served, all tested users": report["figures"]}
        rows |= {f"{name}, the gate's users": figures for name, figures in report["gate"].items()}
        names = ["recall@10", "ndcg@10", "mrr@10", "recall@20", "ndcg@20", "coverage@10"]
        whole = [
            [who, str(one["n"]), *(_number(one["metrics"].get(name), 4) for name in names)]
            for who, one in rows.items()
        ]
        parts = [
            [who, part, str(int(values.get("n") or 0)), *(_number(values.get(name), 4) for name in names[:2])]
            for who, one in rows.items()
            for part, values in one["slices"].items()
        ]
        out.append(f"### Quality, {model} (protocol A)\n\n" + _table(["model", "users", *names], whole))
        out.append(_table(["model", "slice", "users", *names[:2]], parts))
    return "\n\n".join(out)


def _intents(sets: list[Json]) -> str:
    from bench.intents import markdown as intents_table

    told = "This run chose on validation and read the test file once; earlier runs had looked at it while settings were chosen."
    return f"### Intents, public sets\n\n{told}\n\n" + intents_table(sets).rstrip()


def _support_speed(results: Json) -> str:
    from bench.support_speed import markdown as speed_table

    return "### Customer service under load\n\n" + speed_table(results).rstrip()


def _engine(rows: list[Json]) -> str:
    head = [
        "batch",
        "FP32 ms",
        "INT8 ms",
        "FP32 answers/s",
        "INT8 answers/s",
        "FP32 CPU-ms an answer",
        "INT8",
        "speed-up",
    ]
    body = [
        [
            str(row["batch_size"]),
            _number(row["fp32_ms"], 3),
            _number(row["int8_ms"], 3),
            _number(row["fp32_answers_s"], 0),
            _number(row["int8_answers_s"], 0),
            _number(row["fp32_cpu_ms_answer"], 3),
            _number(row["int8_cpu_ms_answer"], 3),
            _number(row["speedup"]) + "x",
        ]
        for row in rows
    ]
    return "### The engine alone (50,000 items x 64, 2 blocks, history 50, top 20; one thread)\n\n" + _table(
        head, body
    )


def _start(models: Json) -> str:
    rows = [[name, _number(one["ready_s"]), _number(one["rss_mib"], 0)] for name, one in models.items()]
    return "### Start\n\n" + _table(["engine", "process start to ready, s", "RSS then, MiB"], rows)


def _serving(models: Json) -> str:
    head = [
        "engine",
        "highest rate, p99 <= 20 ms",
        "p99 <= 50 ms",
        "saturation, 64 in flight",
        "CPU-s per 1,000 answers there",
    ]
    head += ["p50 / p99 at 50/s, ms", "RSS after load, MiB"]
    rows = [
        [
            name,
            _number(one["highest_rps_20ms"], 0),
            _number(one["highest_rps_50ms"], 0),
            _number(one["saturation"]["rps"], 0),
            _number(one["saturation"]["server_cpu_s_per_1000"], 3),
            f"{_number(one['p50_ms_at_50rps'])} / {_number(one['p99_ms_at_50rps'])}",
            _number(one["rss_mib_after_load"], 0),
        ]
        for name, one in models.items()
    ]
    return "### Serving over HTTP\n\n" + _table(head, rows)


def _overload(result: Json) -> str:
    segments = result["report"]["segments"]
    head = [
        "stretch",
        "offered/s",
        "answered/s",
        "within 50 ms/s",
        "refused/s",
        "refusal p99, ms",
        "settled after, s",
    ]
    rows = [
        [
            name,
            _number(one["offered_rps"], 0),
            _number(one["ok_rps"], 0),
            _number(one["good_rps"], 0),
            _number(one["refused_rps"], 0),
            _number((one.get("refused_took_ms") or {}).get("p99")),
            _number(one["settled_after_s"]),
        ]
        for name, one in zip(("best rate", "twice that", "after"), segments, strict=True)
    ]
    kept = segments[1]["good_rps"] / segments[0]["good_rps"] if segments[0]["good_rps"] else 0.0
    return (
        "### Twice the highest rate\n\n"
        + _table(head, rows)
        + f"\n\nGoodput kept (answers within 50 ms): {kept:.0%}."
    )


def _grpc(rows: Json) -> str:
    body = [
        [
            name,
            _number(rows[name]["highest_rps_50ms"], 0),
            _number(rows[name]["rps"], 0),
            _number(rows[name]["server_cpu_s_per_1000"], 3),
        ]
        for name in ("http", "grpc")
    ]
    ratio = rows["ratio"]
    told = ", ".join(f"{value:.0%} ({name})" for name, value in ratio.items())
    head = ["wire", "highest rate, p99 <= 50 ms", "saturation", "CPU-s per 1,000"]
    return "### gRPC beside HTTP (INT8)\n\n" + _table(head, body) + f"\n\ngRPC over HTTP: {told}."


def _metrics(result: Json) -> str:
    cost = result["cpu_s_per_1000"]
    rows = [[name, ", ".join(_number(value, 3) for value in cost[name])] for name in ("on", "off")]
    change = (result["ratio_median"] - 1) * 100
    return (
        "### Metrics on and off, in turn, 1,500 requests/s\n\n"
        + _table(["metrics", "CPU-s per 1,000 answers"], rows)
        + f"\n\nOn against off: {change:+.1f} % (median of pairs)."
    )
