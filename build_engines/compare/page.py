"""A comparison as one self-contained page, in the frame of the reports."""

from __future__ import annotations

import html

from build_engines.compare.records import Comparison, MetricRow
from build_engines.report_frame import page, row, section, speed_table, summary_list, table
from build_engines.report_summary import (
    footprint_table,
    hurt_sentence,
    loss_text,
    size_sentence,
    slices_section,
    speed_sentence,
)
from build_engines.report_svg import Bar, bar_chart

_SAID = {
    "holds": "B is as good as A within what was allowed.",
    "undecided": "Not decided: nothing shows that B is worse, and nothing shows that it is not.",
    "regression": "B is worse than A.",
}
_UNITS = {"recommendation": "requests", "sentence_encoding": "texts", "text_generation": "tokens"}


def comparison_html(found: Comparison) -> str:
    """The page."""
    parts = (
        f"<h1>{html.escape(found.b.name)} against {html.escape(found.a.name)}</h1>",
        f'<p class="lead">{html.escape(found.task)}; {found.examples:,} examples of the gate of '
        f"{html.escape(found.examples_of)}; {html.escape(found.hardware.get('cpu', ''))}</p>",
        _summary(found),
        section("Quality", _quality(found)),
        section("Where it hurts", slices_section(found.slices, found.groups)),
        section("Speed", _speed(found)),
        section(
            "Where it serves",
            footprint_table(found.footprint, unit=_UNITS.get(found.task, "requests")) + _rate(found),
        ),
        section("What was compared", _sides(found)),
    )
    return page(f"{found.b.name} against {found.a.name}: {found.verdict}", parts)


def _summary(found: Comparison) -> str:
    entries = [
        ("Verdict", f"{_SAID[found.verdict]} {_sentence(found.reasons)}"),
        ("Size", size_sentence(found.a.size_bytes, found.b.size_bytes)),
        ("Speed", speed_sentence(found.speed)),
    ]
    entries += [(one.name, _metric_sentence(one)) for one in found.metrics if one.limit is not None]
    hurt = hurt_sentence(found.slices)
    if hurt:
        entries.append(("Where it hurts", hurt))
    return summary_list(entries) + "".join(f'<p class="flag">{html.escape(note)}</p>' for note in found.notes)


def _metric_sentence(one: MetricRow) -> str:
    between = ""
    if one.interval is not None:
        between = (
            f" (between {loss_text(one.interval[0], one.unit)} and {loss_text(one.interval[1], one.unit)})"
        )
    figures = "" if one.a is None or one.b is None else f"{one.a:.4f} became {one.b:.4f}: "
    allowed = "" if one.limit is None else f", allowed {loss_text(one.limit, one.unit)}"
    said = {"pass": "decided, it holds", "fail": "decided, it does not hold", "undecidable": "not decided"}[
        one.verdict
    ]
    needs = f"; about {one.n_to_decide:,} examples would decide it" if one.n_to_decide else ""
    return f"{figures}loss {loss_text(one.loss, one.unit)}{between}{allowed}; {said}{needs}."


def _quality(found: Comparison) -> str:
    rows = []
    for one in found.metrics:
        between = (
            ""
            if one.interval is None
            else f"{loss_text(one.interval[0], one.unit)} to {loss_text(one.interval[1], one.unit)}"
        )
        cells = (
            one.name, f"{one.n:,}", "-" if one.a is None else f"{one.a:.4f}", "-" if one.b is None else f"{one.b:.4f}",
            loss_text(one.loss, one.unit), between, "" if one.p_value is None else f"{one.p_value:.3g}", one.test,
        )  # fmt: skip
        rows.append(row(*cells, numbers=1))
    text = table(("figure", "n", "A", "B", "loss", "95 % interval", "p", "test"), rows, numbers=1)
    bars = [
        Bar(group=one.name, name=side, value=value)
        for one in found.metrics
        for side, value in (("A", one.a), ("B", one.b))
        if value is not None and one.limit is not None
    ]
    return text + bar_chart("A and B", bars, y_label="figure")


def _speed(found: Comparison) -> str:
    text = speed_table(found.speed).replace("parent ms", "A ms").replace("candidate ms", "B ms")
    bars = [
        Bar(group=f"batch {one.batch_size}", name="speed-up", value=one.speedup, interval=one.interval)
        for one in found.speed
    ]
    return (
        text + bar_chart("B's speed-up over A, 95 % intervals", bars, y_label="times") if found.speed else ""
    )


def _rate(found: Comparison) -> str:
    rows = []
    for name, one in found.footprint.items():
        if one.p99_s is not None and one.p99_interval_s is not None:
            low, high = one.p99_interval_s
            rows.append(
                row(
                    name,
                    f"{one.rate_per_s:g}",
                    f"{one.served_per_s:.0f}",
                    f"{one.p99_s * 1e3:.2f}",
                    f"{low * 1e3:.2f} to {high * 1e3:.2f}",
                )
            )
    head = ("engine", "requests/s asked", "served", "p99 ms", "95 % interval")
    return table(head, rows, numbers=1) if rows else ""


def _sides(found: Comparison) -> str:
    def fact(name: str, of: str) -> str:
        values = [str(getattr(side, of)) for side in (found.a, found.b)]
        return row(name, *values, numbers=9)

    sizes = row("MB", *(f"{side.size_bytes / 1e6:.2f}" for side in (found.a, found.b)), numbers=1)
    facts = (
        ("version", "name"),
        ("precision", "precision"),
        ("build", "build"),
        ("recipe SHA-256", "recipe_sha256"),
        ("signed by", "signed_by"),
    )
    machine = [row(f"machine {name}", text, "", numbers=9) for name, text in found.hardware.items()]
    same = row(
        "judged on the same examples when built", "yes" if found.same_examples else "no", "", numbers=9
    )
    seed = row("seed of resampling", str(found.seed), "", numbers=9)
    return table(("", "A", "B"), [*(fact(*one) for one in facts), sizes, same, seed, *machine])


def _sentence(reasons: tuple[str, ...]) -> str:
    text = "; ".join(reasons)
    return f"{text[0].upper()}{text[1:]}." if text else ""
