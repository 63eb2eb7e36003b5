"""The frame of every page that the builder writes: one look, the tables that all families share, nothing beside the file.

A page must open anywhere and for years: no script, no font, no address. What a family has of its own stands in its report
module; what two of them say stands here. Whatever comes from a recipe or a shop's data is escaped here.

Units: seconds in, milliseconds shown; bytes in, MB (10^6) shown.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from build_engines.progress import duration
from build_engines.records import SpeedRow
from server.artifacts.manifest import Measurement, Provenance

REPORT_JSON, REPORT_HTML = "report.json", "report.html"

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1b1b1b;max-width:66rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:.2rem} h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid #ddd}
h3{font-size:1rem;margin-bottom:.2rem}
table{border-collapse:collapse;margin:.6rem 0;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.25rem .8rem .25rem 0;border-bottom:1px solid #eee;vertical-align:top}
td.n,th.n{text-align:right} .pass{color:#20703a} .fail,.undecidable{color:#a3341b} .lead{color:#555}
svg{max-width:34rem;width:100%;height:auto;display:inline-block;margin:.5rem 1rem .5rem 0;font-family:inherit}
pre{background:#f6f6f6;padding:.8rem;overflow:auto;font-size:12px} code{font-size:13px}
.flag{background:#fff3d6;border:1px solid #e4c56a;padding:.5rem .8rem}
dl.summary{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.2rem;margin:1rem 0}
dl.summary dt{font-weight:600} dl.summary dd{margin:0}
@media(prefers-color-scheme:dark){body{background:#161616;color:#e6e6e6}pre{background:#222}
th,td{border-color:#333}.lead{color:#aaa}svg{background:#fff;border-radius:4px}.flag{background:#3b3110}}
"""


class StepTaken(msgspec.Struct, frozen=True, kw_only=True):
    """One stage: its name, how long it took, what it has to say."""

    stage: str
    seconds: float
    notes: tuple[str, ...]


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: of the window; plain text.
        parts: HTML, one after the other.
    """
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )


def section(title: str, body: str) -> str:
    """A heading and what stands under it; nothing where there is nothing."""
    return f"<h2>{html.escape(title)}</h2>{body}" if body else ""


def table(head: Sequence[str], rows: Iterable[str], *, numbers: int | None = None) -> str:
    """Rows (``<tr>...``) under a head; columns from ``numbers`` on are headed as figures."""
    cells = (
        f"<th{' class=n' if numbers is not None and place >= numbers else ''}>{html.escape(name)}</th>"
        for place, name in enumerate(head)
    )
    return f"<table><thead><tr>{''.join(cells)}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def row(*cells: str, numbers: int = 1) -> str:
    """A row of plain texts; those from ``numbers`` on stand as figures do."""
    made = (
        f"<td{' class=n' if place >= numbers else ''}>{html.escape(cell)}</td>"
        for place, cell in enumerate(cells)
    )
    return f"<tr>{''.join(made)}</tr>"


def flag_note(flag: str, meaning: str = "") -> str:
    """What a reader must know, where everybody looks."""
    return f'<p class="flag"><b>{html.escape(flag)}</b> {html.escape(meaning)}</p>'


def summary_list(entries: Iterable[tuple[str, str]]) -> str:
    """Names and sentences, plain texts."""
    made = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in entries)
    return f'<dl class="summary">{"".join(made)}</dl>'


def evidence_table(evidence: Sequence[Measurement]) -> str:
    """Each figure against its limit."""
    rows = []
    for item in evidence:
        interval = "" if item.interval is None else f"[{item.interval[0]:.4g}, {item.interval[1]:.4g}]"
        verdict = item.verdict if item.waived_by is None else f"{item.verdict}, waived by {item.waived_by}"
        side = "at most" if item.sense == "at_most" else "at least"
        rows.append(
            f"<tr><td>{html.escape(item.name)}</td><td class=n>{item.value:.4g}</td><td>{interval}</td>"
            f"<td>{side} {item.limit:.4g}</td><td class=n>{item.sample_size:,}</td>"
            f'<td class="{item.verdict}">{html.escape(verdict)}</td><td>{html.escape(item.note)}</td></tr>'
        )
    return table(("what", "figure", "95 % interval", "limit", "n", "verdict", ""), rows)


def speed_table(rows: Sequence[SpeedRow], *, first: str = "batch") -> str:
    """Parent and candidate at each batch size; nothing where there is one engine only."""
    made = [
        row(
            str(one.batch_size),
            f"{one.parent_s * 1e3:.3f}",
            f"{one.candidate_s * 1e3:.3f}",
            f"{one.speedup:.2f}",
            f"[{one.interval[0]:.2f}, {one.interval[1]:.2f}]",
            numbers=0,
        )
        for one in rows
    ]
    head = (first, "parent ms", "candidate ms", "speed-up", "95 % interval")
    return table(head, made, numbers=0) if made else ""


def sizes_table(sizes_bytes: Mapping[str, int]) -> str:
    """Names and their megabytes."""
    return table(("size", "MB"), [row(name, f"{size / 1e6:.2f}") for name, size in sizes_bytes.items()])


def kernels_table(kernels: Mapping[str, int]) -> str:
    """Nodes of the optimized graph by kind."""
    return table(("kernel", "nodes"), [row(name, str(count)) for name, count in kernels.items()])


def steps_table(steps: Sequence[StepTaken]) -> str:
    """Each stage, how long it took, and what it has to say."""
    rows = [
        f"<tr><td>{html.escape(step.stage)}</td><td class=n>{duration(step.seconds)}</td>"
        f"<td>{'<br>'.join(html.escape(note) for note in step.notes)}</td></tr>"
        for step in steps
    ]
    return table(("stage", "time", ""), rows)


def provenance_table(origin: Provenance, more: Sequence[tuple[str, str]] = ()) -> str:
    """Where a version came from, and its recipe."""
    facts = [
        *(("data " + name, digest) for name, digest in origin.data.items()),
        ("recipe SHA-256", origin.recipe_sha256),
        ("build", origin.build),
        ("code", origin.code_version),
        *(("package " + name, version) for name, version in origin.packages.items()),
        *(("machine " + name, text) for name, text in origin.hardware.items()),
        *(("seed " + name, str(seed)) for name, seed in origin.seeds.items()),
        *more,
    ]
    rows = [
        f"<tr><td>{html.escape(name)}</td><td><code>{html.escape(text)}</code></td></tr>"
        for name, text in facts
    ]
    return table(("", ""), rows) + f"<pre>{html.escape(origin.recipe)}</pre>"
