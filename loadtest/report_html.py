"""The report as one page that can be mailed: inline SVG and CSS, nothing fetched, no script.

It is made from the JSON report alone, so an old report can be drawn again.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from loadtest.svg import Chart, Series, draw

Json = dict[str, Any]
_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--ink:#1c2430;--soft:#5d6b7d;--line:#e3e8ee;--card:#f7f9fb;
--blue:#2f6fde;--green:#1d9a6c;--amber:#d58a00;--red:#d23f4b;--violet:#7a55d3}
@media(prefers-color-scheme:dark){:root{--bg:#12161c;--ink:#e6ebf2;--soft:#95a3b6;--line:#2a323d;--card:#1a2029;
--blue:#6ea1ff;--green:#46c796;--amber:#f0b342;--red:#ff7b84;--violet:#a98bf5}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:980px;margin:0 auto;padding:28px 20px 60px}h1{font-size:24px;margin:0 0 2px}h2{font-size:17px;margin:32px 0 8px}
.sub,.empty{color:var(--soft);overflow-wrap:anywhere}.cards{display:flex;flex-wrap:wrap;gap:10px;margin:18px 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:10px 14px;min-width:130px;flex:1}
.card b{display:block;font-size:21px;font-variant-numeric:tabular-nums}.card span{color:var(--soft);font-size:13px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{text-align:right;padding:5px 8px;
border-bottom:1px solid var(--line)}th{color:var(--soft);font-weight:500}th:first-child,td:first-child,.left{text-align:left}
.PASS{color:var(--green)}.FAIL{color:var(--red)}.UNDECIDABLE{color:var(--amber)}.PASS,.FAIL,.UNDECIDABLE{font-weight:650}
figure{margin:14px 0 22px}figcaption{font-weight:600;margin-bottom:4px}svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}.grid{stroke:var(--line)}.level{stroke:var(--soft);stroke-dasharray:4 4}
.legend span{margin-right:16px;color:var(--soft);font-size:13px}.legend i{display:inline-block;width:10px;height:10px;
border-radius:3px;margin-right:5px}
"""


def page(report: Json) -> str:
    """The report as an HTML document."""
    load, result = report["load"], report["result"]
    title = report["title"] or f"Load test of {load['target']}"
    sections = [
        f"<h1>{_e(title)}</h1>",
        f'<p class="sub">{_e(report["created"])} · {_e(load["target"])} · {_e(load["arrivals"])} · '
        f"{load['duration_s']:g} s after {load['warmup_s']:g} s of warm-up</p>",
        _cards(report),
        _verdicts(report["verdicts"]),
        _probes(report),
        *_over_time(report),
        _segments(result),
        *_distribution(report),
        "<h2>Latency</h2>",
        f'<p class="sub">p99 {_e(result["p99_refused"])}</p>' if result.get("p99_refused") else "",
        _latency_table(result),
        "<h2>Answers</h2>",
        _table(("status", "requests", "share"), _shares(result["status"])),
        _table(("served by", "answers", "share"), _shares(result["served_by"])),
        "<h2>Circumstances</h2>",
        _table(("", ""), _facts(report), left=True),
    ]
    body = "\n".join(section for section in sections if section)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width,initial-scale=1"><title>{_e(title)}</title><style>{_STYLE}</style></head>'
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def _cards(report: Json) -> str:
    result = report["result"]
    cards = [
        (_ms(result["latency_ms"]["p50"]), "p50"),
        (_p99(result["latency_ms"], result), "p99"),
        (f"{result['offered_rps']:.0f}/s", "offered"),
        (f"{result['ok_rps']:.0f}/s", "answered"),
        (f"{result['good_rps']:.0f}/s", f"within {result['good_within_ms']:g} ms"),
    ]
    if report["verdict"] is not None:
        cards.insert(0, (f'<span class="{report["verdict"]}">{report["verdict"]}</span>', "verdict"))
    if report["kind"] == "find":
        highest = report["highest_passed_rps"]
        cards.insert(0, (f"{highest:g}/s" if highest else "none", "highest rate passed"))
    return (
        '<div class="cards">'
        + "".join(f'<div class="card"><b>{b}</b><span>{_e(s)}</span></div>' for b, s in cards)
        + "</div>"
    )


def _verdicts(verdicts: Sequence[Json]) -> str:
    if not verdicts:
        return ""
    rows = "".join(
        f'<tr><td>{_e(row["objective"])}</td><td class="left {row["verdict"]}">{row["verdict"]}</td>'
        f'<td class="left">{_e(row["reason"])}</td></tr>'
        for row in verdicts
    )
    return f'<h2>Objectives</h2><table><tr><th>objective</th><th class="left">verdict</th><th class="left">why</th></tr>{rows}</table>'


def _probes(report: Json) -> str:
    if report["kind"] != "find":
        return ""
    rows = "".join(
        f'<tr><td>{probe["rate_rps"]:g}/s</td><td class="left {probe["verdict"]}">{probe["verdict"]}</td>'
        f"<td>{probe['ok_rps']:.0f}/s</td><td>{_ms(probe['latency_ms']['p50'])}</td><td>{_p99(probe['latency_ms'], probe)}</td>"
        f"<td>{_ms(probe['late_ms']['p99'])}</td></tr>"
        for probe in report["probes"]
    )
    ordered = sorted(report["probes"], key=lambda probe: float(probe["rate_rps"]))
    chart = Chart(
        title="Latency at each rate tried",
        x=[probe["rate_rps"] for probe in ordered],
        series=(
            Series("p99", [probe["latency_ms"]["p99"] for probe in ordered], "var(--red)"),
            Series("p50", [probe["latency_ms"]["p50"] for probe in ordered], "var(--blue)"),
        ),
        x_label="offered, requests/s",
        y_label="ms",
        levels=_limits(report),
        top=_ceiling([probe["latency_ms"]["p99"] for probe in ordered], _limits(report)),
    )
    return (
        '<h2>Search</h2><table><tr><th>rate</th><th class="left">verdict</th><th>answered</th><th>p50</th><th>p99</th>'
        f"<th>generator late p99</th></tr>{rows}</table>{draw(chart)}<h2>The highest rate that passed</h2>"
    )


def _over_time(report: Json) -> list[str]:
    line, limits = report["result"]["timeline"], _limits(report)
    x, scale = line["start_s"], 1 / line["bin_s"]

    def rate(name: str) -> list[float | None]:
        return [count * scale for count in line[name]]

    latency = Chart(
        title="Latency over time, by intended send time (answers only)",
        x=x,
        series=(
            Series("max", line["max_ms"], "var(--line)"),
            Series("p99", line["p99_ms"], "var(--red)"),
            Series("p50", line["p50_ms"], "var(--blue)"),
        ),
        x_label="s",
        y_label="ms",
        levels=limits,
        top=_ceiling(line["max_ms"], limits),
    )
    late_ok = [ok - good for ok, good in zip(line["ok"], line["good"], strict=True)]
    offered = Chart(
        title="What became of the requests of each moment",
        x=x,
        series=(
            Series(
                f"within {report['result']['good_within_ms']:g} ms", rate("good"), "var(--green)", True, True
            ),
            Series("answered later", [count * scale for count in late_ok], "var(--amber)", True, True),
            Series("refused", rate("refused"), "var(--violet)", True, True),
            Series("failed", rate("failed"), "var(--red)", True, True),
        ),
        x_label="s",
        y_label="requests/s",
        stacked=True,
    )
    answered = Chart(
        title="Rate offered and rate answered",
        x=x,
        series=(
            Series("answered", rate("answered"), "var(--green)", stepped=True),
            Series("offered", rate("offered"), "var(--soft)", stepped=True, dashed=True),
        ),
        x_label="s",
        y_label="requests/s",
    )
    return ["<h2>Over time</h2>", draw(latency), draw(offered), draw(answered)]


def _segments(result: Json) -> str:
    segments = result.get("segments", ())
    if not segments:
        return ""
    rows = [
        (
            f"{part['start_s']:g} to {part['start_s'] + part['duration_s']:g} s",
            *(f"{part[name]:.0f}/s" for name in ("offered_rps", "ok_rps", "good_rps", "refused_rps")),
            _p99(part["ok_took_ms"], result) if part["ok_rps"] else "-",
            _p99(part["refused_took_ms"], result) if part["refused_rps"] else "-",
            "never" if part["settled_after_s"] is None else f"{part['settled_after_s']:g} s",
        )
        for part in segments
    ]
    head = ("when", "offered", "answered", "good", "refused", "answer p99", "refusal p99", "normal after")
    return "<h2>Stretch by stretch</h2>" + _table(head, rows)


def _distribution(report: Json) -> list[str]:
    points = report["result"]["cdf_ms"]
    marks = [(limit, text) for limit, text in _limits(report)]
    chart = Chart(
        title="Share of all requests answered within a time",
        x=[max(point[0], 0.001) for point in points],
        series=(Series("answered", [point[1] * 100 for point in points], "var(--blue)", True),),
        x_label="ms (logarithmic)",
        y_label="%",
        log_x=True,
        marks=marks,
        top=100.0,
    )
    return ["<h2>Distribution</h2>", draw(chart)]


def _latency_table(result: Json) -> str:
    names = ("p50", "p75", "p90", "p95", "p99", "p99.9", "max", "mean")

    def figures(of: Json) -> list[str]:
        return [_p99(of, result) if name == "p99" else _ms(of[name]) for name in names]

    rows = [("over all, no success is infinite", *figures(result["latency_ms"]))]
    for key, part in result["classes"].items():
        if part["count"]:
            rows.append((f"{key} ({part['count']})", *figures(part["took_ms"])))
    rows.append(("generator late", *(_ms(result["late_ms"][name]) for name in names)))
    return _table(("", *names), rows)


def _facts(report: Json) -> list[tuple[str, str]]:
    groups = (
        ("", report["load"]),
        ("", report["environment"]),
        ("client: ", report["result"]["client"]),
        ("used: ", report["result"]["used"]),
    )
    rows = [
        (prefix + key.replace("_", " "), _value(value))
        for prefix, group in groups
        for key, value in group.items()
    ]
    return [("command", " ".join(report["command"])), *((name, value) for name, value in rows if value != "")]


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_value(part) for part in value)
    return "" if value is None else str(value)


def _shares(counts: Json) -> list[tuple[str, str, str]]:
    total = sum(counts.values())
    return [(name, str(count), f"{count / total * 100:.2f} %") for name, count in counts.items() if count]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: bool = False) -> str:
    tag = '<td class="left">' if left else "<td>"
    top = "".join(f"<th>{_e(cell)}</th>" for cell in head) if any(head) else ""
    body = "".join("<tr>" + "".join(f"{tag}{_e(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>" if top else f"<table>{body}</table>"


def _limits(report: Json) -> list[tuple[float, str]]:
    return [(row["limit_ms"], row["objective"]) for row in report["verdicts"] if row["limit_ms"] is not None]


def _ceiling(values: Sequence[float | None], limits: Sequence[tuple[float, str]]) -> float | None:
    """Keep one stray maximum from flattening everything else: 3 times the 95th percentile, if that is lower."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    usual = known[min(len(known) - 1, int(0.95 * len(known)))]
    return max(
        [min(known[-1] * 1.05, usual * 3), *(limit * 1.1 for limit, _ in limits if limit < usual * 10)]
    )


def _ms(value: float | None) -> str:
    return "∞" if value is None else f"{value:.2f} ms" if value < 1000 else f"{value / 1000:.2f} s"


def _p99(figures: Json, result: Json) -> str:
    return "refused" if result.get("p99_refused") else _ms(figures["p99"])


def _e(value: object) -> str:
    return html.escape(str(value))
