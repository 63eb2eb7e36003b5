"""The first lines of a page, in plain words: smaller by, faster by, as good as, where it hurts; decided or not.

Whoever reads nothing else must not be misled: a figure stands with its interval, and what was not decided says so.

Units: bytes, seconds; relative losses are shown in per cent.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from build_engines.proof.records import Footprint, GroupRow, SliceRow
from build_engines.records import SpeedRow
from build_engines.report_frame import row, summary_list, table
from build_engines.report_points import Interval, interval_chart
from server.artifacts.manifest import Measurement

_MB = 1e6


def plain_words(
    *,
    evidence: Sequence[Measurement],
    speed: Sequence[SpeedRow],
    sizes_bytes: tuple[int, int] | None,
    footprint: Mapping[str, Footprint] | None = None,
    slices: Sequence[SliceRow] = (),
) -> str:
    """Four or five sentences.

    Args:
        evidence: of the gate; the first quality figure is the one that counts.
        speed: parent against candidate.
        sizes_bytes: of parent and candidate; None: there is no parent.
        footprint: of "parent" and "candidate", where it was measured.
        slices: where the candidate may hurt.
    """
    entries: list[tuple[str, str]] = []
    if sizes_bytes is None:
        entries.append(("Compression", "None: this is the uncompressed model itself."))
    else:
        entries.append(("Size", size_sentence(*sizes_bytes)))
        entries.append(("Speed", speed_sentence(speed)))
        entries.append(("Quality", quality_sentence(evidence)))
        hurt = hurt_sentence(slices)
        if hurt:
            entries.append(("Where it hurts", hurt))
    cost = cost_sentence(footprint or {})
    if cost:
        entries.append(("Where it serves", cost))
    return summary_list(entries)


def size_sentence(parent_bytes: int, candidate_bytes: int) -> str:
    """How much smaller it is."""
    before, after = f"{parent_bytes / _MB:.2f} MB", f"{candidate_bytes / _MB:.2f} MB"
    if candidate_bytes >= parent_bytes:
        return f"Not smaller: {after} instead of {before}."
    return f"{parent_bytes / candidate_bytes:.1f} times smaller: {after} instead of {before}."


def speed_sentence(rows: Sequence[SpeedRow]) -> str:
    """How much faster, at each size, and whether that is decided."""
    if not rows:
        return "Not measured."
    parts = []
    for one in rows:
        low, high = one.interval
        if low > 1:
            what = f"{one.speedup:.2f} times as fast"
        elif high < 1:
            what = f"slower, {one.speedup:.2f} times as fast"
        else:
            what = f"neither faster nor slower that could be shown ({one.speedup:.2f} times)"
        parts.append(f"{what} at batch {one.batch_size} (between {low:.2f} and {high:.2f})")
    return "; ".join(parts)[0].upper() + "; ".join(parts)[1:] + "."


def quality_sentence(evidence: Sequence[Measurement]) -> str:
    """What the first quality figure says."""
    found = next((item for item in evidence if item.kind == "quality"), None)
    if found is None:
        return "Not measured."
    said = {
        "pass": "As good as before, within what was allowed",
        "fail": "Worse than was allowed",
        "undecidable": "Not decided",
    }[found.verdict]
    return f"{said}: {_figure(found)}, {found.sample_size:,} compared." + (
        f" {found.note[0].upper()}{found.note[1:]}." if found.note else ""
    )


def hurt_sentence(slices: Sequence[SliceRow]) -> str:
    """The slices that lose decidedly, worst first; or that none does."""
    judged = [one for one in slices if one.loss is not None and one.interval is not None]
    if not judged:
        return ""
    worse = [one for one in judged if one.interval is not None and one.interval[0] > 0]
    if not worse:
        return f"No slice of {len(judged)} loses anything that could be shown."
    worse.sort(key=lambda one: -(one.loss or 0.0))
    told = ", ".join(f"{one.name} loses {loss_text(one.loss, one.unit)}" for one in worse[:3])
    more = f", and {len(worse) - 3} more" if len(worse) > 3 else ""
    return f"{told[0].upper()}{told[1:]}{more} (of {len(judged)} slices, each with its own uncertainty)."


def cost_sentence(footprint: Mapping[str, Footprint]) -> str:
    """Memory and CPU of the candidate, beside its parent's where there is one."""
    after, before = footprint.get("candidate"), footprint.get("parent")
    if after is None:
        return ""
    memory = f"{after.engine_bytes / _MB:.0f} MB of memory for the model"
    memory += f" (before {before.engine_bytes / _MB:.0f})" if before else ""
    cpu = ""
    if after.batches:
        first = after.batches[0]
        cpu = f", {first.cpu_s_per_1000:.2f} s of CPU for 1,000 at batch {first.batch_size}"
        cpu += f" (before {before.batches[0].cpu_s_per_1000:.2f})" if before and before.batches else ""
    return f"{memory}{cpu}."


def slices_section(slices: Sequence[SliceRow], groups: Sequence[GroupRow] = ()) -> str:
    """Where it hurts: a plot of intervals and the tables behind it; empty where nothing was looked at."""
    if not slices and not groups:
        return ""
    text = ""
    for unit in dict.fromkeys(one.unit for one in slices):
        chosen = [one for one in slices if one.unit == unit]
        scale, axis = (
            (100.0, "loss in per cent of the parent") if unit == "ratio" else (1.0, "loss in points")
        )
        text += interval_chart(
            "Loss by slice, 95 % intervals",
            [
                Interval(
                    name=f"{one.name} ({one.n:,})",
                    value=one.loss * scale,
                    low=one.interval[0] * scale,
                    high=one.interval[1] * scale,
                )
                for one in chosen
                if one.loss is not None and one.interval is not None
            ],
            x_label=axis,
            limit=chosen[-1].limit * scale,
        )
    if slices:
        text += table(
            ("slice", "metric", "n", "before", "after", "loss", "95 % interval", "p", "p of all (Holm)", "", ""),
            [_slice_row(one) for one in slices],
            numbers=2,
        )  # fmt: skip
        text += (
            "<p class=lead>p: how likely so large a loss is where the true one is at the limit. Of many slices one is "
            "bound to look bad; Holm's correction allows for how many were looked at.</p>"
        )
    if groups:
        text += "<h3>Fairness</h3>" + table(
            ("what", "groups by", "group", "n", "before", "after", "change", "95 % interval", "limit", ""),
            [_group_row(one) for one in groups],
            numbers=3,
        )
    return text


def footprint_table(footprint: Mapping[str, Footprint], *, unit: str) -> str:
    """Memory, time and CPU by engine and batch size; ``unit``: what a batch is made of ("requests")."""
    if not footprint:
        return ""
    memory = [
        row(
            name,
            f"{one.disk_bytes / _MB:.2f}",
            f"{one.engine_bytes / _MB:.1f}",
            f"{one.rss_bytes / _MB:.1f}",
            f"{one.load_s:.2f}",
        )
        for name, one in footprint.items()
    ]
    times = [
        row(
            name,
            str(batch.batch_size),
            f"{batch.median_s * 1e3:.3f}",
            f"{batch.p90_s * 1e3:.3f}",
            f"{batch.p99_s * 1e3:.3f}",
            f"{batch.cpu_s_per_1000:.3f}",
        )
        for name, one in footprint.items()
        for batch in one.batches
    ]
    return (
        "<h3>In a process of its own</h3>"
        + table(("engine", "disk MB", "model's memory MB", "process MB", "loaded in s"), memory, numbers=1)
        + table(
            ("engine", f"{unit} at once", "median ms", "p90 ms", "p99 ms", f"CPU s for 1,000 {unit}"),
            times,
            numbers=1,
        )
    )


def loss_text(loss: float | None, unit: str) -> str:
    """A loss as people say it."""
    if loss is None:
        return "-"
    return f"{loss:.2%}" if unit == "ratio" else f"{loss:.2f} points"


def _figure(item: Measurement) -> str:
    per_cent = item.unit == "ratio"

    def said(value: float) -> str:
        return f"{value:+.2%}" if per_cent else f"{value:.4g} {item.unit}".strip()

    between = (
        "" if item.interval is None else f" (between {said(item.interval[0])} and {said(item.interval[1])})"
    )
    limit = f"{item.limit:.2%}" if per_cent else f"{item.limit:.4g} {item.unit}".strip()
    return f"{item.name} {said(item.value)}{between}, allowed {limit}"


def _slice_row(one: SliceRow) -> str:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    between = "-"
    if one.interval is not None:
        between = f"{loss_text(one.interval[0], one.unit)} to {loss_text(one.interval[1], one.unit)}"
    needs = "" if one.n_to_decide is None else f"about {one.n_to_decide:,} would decide"
    cells = (
        one.name, one.metric, f"{one.n:,}", number(one.parent), number(one.candidate), loss_text(one.loss, one.unit),
        between, f"{one.p_value:.3g}", f"{one.p_holm:.3g}",
    )  # fmt: skip
    made = "".join(
        f"<td{' class=n' if place >= 2 else ''}>{html.escape(cell)}</td>" for place, cell in enumerate(cells)
    )
    return f'<tr>{made}<td class="{one.verdict}">{one.verdict}</td><td>{needs}</td></tr>'


def _group_row(one: GroupRow) -> str:
    cells = (
        one.kind, one.by, one.group, f"{one.n:,}", f"{one.before:.4f}", f"{one.after:.4f}", f"{one.change:+.2%}",
        f"{one.interval[0]:+.2%} to {one.interval[1]:+.2%}", f"{one.limit:+.2%}",
    )  # fmt: skip
    made = "".join(
        f"<td{' class=n' if place >= 3 else ''}>{html.escape(cell)}</td>" for place, cell in enumerate(cells)
    )
    return f'<tr>{made}<td class="{one.verdict}">{one.verdict}</td></tr>'
