"""A search as one self-contained page: the point that is taken and why, the front as plots and as a table, all that was tried.

Units: seconds, bytes in; milliseconds, MB, per cent shown.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from build_engines.progress import duration
from build_engines.report_frame import page, row, section, summary_list, table
from build_engines.report_points import Point, point_chart
from build_engines.search.choose import (
    chosen,
    explained,
    figures_text,
    holds,
    objective_text,
    pareto,
    violations,
)
from build_engines.search.outcome import Outcome
from build_engines.search.part import SearchPart
from build_engines.search.study import Searched


def search_html(
    title: str, part: SearchPart, found: Searched, hardware: Mapping[str, str], recipe: str
) -> str:
    """The page.

    Args:
        title: name of the model.
        part: what was asked.
        found: by the study.
        hardware: the machine.
        recipe: its text.
    """
    full, reference = found.rungs[-1], found.reference[0]
    taken = chosen(full, part.objective)
    entries = [
        ("Asked", objective_text(part.objective)),
        ("Taken", explained(full, reference, part.objective)),
        ("How to build it", build_line(taken) if taken else "Nothing is taken."),
        ("How sure", noise_text(part, found)),
    ]
    return page(
        f"{title}: search",
        (
            f"<h1>{html.escape(title)}: which recipe serves best</h1>",
            f'<p class="lead">{found.trials} candidates looked at, {len(full)} measured in full; '
            f"{html.escape(hardware.get('cpu', ''))}</p>",
            summary_list(entries),
            section("The front", _plots(part, found, taken) + _front(part, full, reference, taken)),
            section("Everything that was measured", _everything(part, found)),
            section("What was searched", _space(part) + f"<pre>{html.escape(recipe)}</pre>"),
        ),
    )


def build_line(one: Outcome) -> str:
    """What to type for a candidate."""
    return " ".join(f"--set '{text}'" for text in one.sets) or "the recipe as it stands"


def noise_text(part: SearchPart, found: Searched) -> str:
    """Seeds, and how much figures of the same thing differ on this machine."""
    times = [one.p99_s for one in found.reference if one.p99_s is not None]
    text = f"Seed of the sampler and of resampling {part.seed}."
    if len(times) > 1:
        spread = (max(times) - min(times)) / min(times)
        text += (
            f" The reference was measured {len(times)} times: p99 {', '.join(f'{one * 1e3:.2f}' for one in times)} ms, "
            f"{spread:.0%} apart: smaller differences of p99 mean nothing here."
        )
    cheap = {one.loss for one in found.rungs[0] if one.measured}
    if len(found.rungs) > 1 and len(found.rungs[0]) > 1 and len(cheap) == 1:
        text += (
            " All candidates lost the same in the first look: it told nothing of quality (trained too little, a network is not "
            "served at all). Make it less cheap."
        )
    text += " Losses stand with their 95 % intervals over the gate's examples; another seed of training was not tried."
    return text


def front_rows(part: SearchPart, full: Sequence[Outcome], reference: Outcome) -> list[tuple[str, ...]]:
    """The front as texts: candidate, loss, p99, size, memory, and whether it holds."""
    rows = []
    for one in pareto(full):
        rows.append((*_cells(one, reference), "yes" if holds(one, part.objective) else _missed(one, part)))
    return rows


FRONT_HEAD = (
    "candidate", "loss", "95 % interval", "p99 ms", "MB", "smaller", "memory MB", "CPU s for 1,000", "holds",
)  # fmt: skip


def _front(part: SearchPart, full: Sequence[Outcome], reference: Outcome, taken: Outcome | None) -> str:
    rows = [row(*cells, numbers=1) for cells in front_rows(part, full, reference)]
    rows.append(row(*_cells(reference, reference), "the reference", numbers=1))
    text = table(FRONT_HEAD, rows, numbers=1)
    if taken is not None:
        text = (
            f"<p>Taken: <code>{html.escape(' '.join(taken.sets))}</code>: {html.escape(figures_text(taken))}.</p>"
            + text
        )
    return text


def _cells(one: Outcome, reference: Outcome) -> tuple[str, ...]:
    loss = "-" if one.loss is None else f"{one.loss:+.2%}"
    between = "" if one.interval is None else f"{one.interval[0]:+.2%} to {one.interval[1]:+.2%}"
    smaller = f"{reference.size_bytes / one.size_bytes:.2f} x" if one.size_bytes else "-"
    return (
        " ".join(one.sets) or "reference",
        loss,
        between,
        "-" if one.p99_s is None else f"{one.p99_s * 1e3:.2f}",
        f"{one.size_bytes / 1e6:.3f}",
        smaller,
        f"{one.memory_bytes / 1e6:.1f}",
        f"{one.cpu_s_per_1000:.3f}",
    )


def _missed(one: Outcome, part: SearchPart) -> str:
    return "no: " + ", ".join(name for name, value in violations(one, part.objective).items() if value > 0)


def _plots(part: SearchPart, found: Searched, taken: Outcome | None) -> str:
    full = found.rungs[-1]
    front = {one.sets for one in pareto(full)}
    points: list[tuple[Outcome, str]] = [(found.reference[0], "reference")]
    seen = {one.sets for one in full}
    for one in found.rungs[0] if len(found.rungs) > 1 else ():
        if one.measured and one.sets not in seen:
            points.append((one, "cheap look"))
    for one in full:
        if one.measured:
            kind = (
                "taken"
                if taken is not None and one.sets == taken.sets
                else "front"
                if one.sets in front
                else "in full"
            )
            points.append((one, kind))
    text = ""
    for name, unit, at in (("size", "MB", 2), ("p99", "ms", 1), ("memory", "MB", 3)):
        scale = 1e3 if unit == "ms" else 1e-6
        drawn = [
            Point(
                x=one.objectives[at] * scale,
                y=one.objectives[0] * 100,
                label=" ".join(one.sets) or "reference",
                kind=kind,
                shown=kind in ("taken", "reference"),
            )
            for one, kind in points
            if one.measured
        ]
        line = sorted((one.objectives[at] * scale, one.objectives[0] * 100) for one in full if one.measured)
        text += point_chart(
            f"Loss against {name}", drawn, x_label=f"{name}, {unit}", y_label="loss, %", front=_lower(line)
        )
    return text


def _lower(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    # Of points by rising x, those that are lower than all before them: the front of this plot's two figures.
    kept: list[tuple[float, float]] = []
    for x, y in points:
        if not kept or y < kept[-1][1]:
            kept.append((x, y))
    return kept


def _everything(part: SearchPart, found: Searched) -> str:
    rows = []
    for place, outcomes in enumerate(found.rungs):
        for one in outcomes:
            told = one.refused or (
                "yes"
                if holds(one, part.objective, full=place == len(found.rungs) - 1)
                else _missed(one, part)
            )
            rows.append(
                row(f"{place + 1}", *_cells(one, found.reference[0]), duration(one.seconds), told, numbers=9)
            )
    return table(("look", *FRONT_HEAD[:-1], "took", "holds"), rows)


def _space(part: SearchPart) -> str:
    rows = [row(one.set, _range(one.choices, one.low, one.high), numbers=9) for one in part.vary]
    for step in part.chain:
        varied = ", ".join(f"{one.set} {_range(one.choices, one.low, one.high)}" for one in step.vary)
        rows.append(
            row(f"step {step.step}", f"{'always' if step.always else 'perhaps'}; {varied}", numbers=9)
        )
    looks = [
        f"look {place + 1}: {rung.examples or 'all'} examples, {dict(rung.set) or 'nothing cheaper'}, {rung.keep:.0%} go on"
        for place, rung in enumerate(part.all_rungs())
    ]
    return table(("what varies", ""), rows) + "".join(f"<p>{html.escape(one)}</p>" for one in looks)


def _range(choices: Sequence[object], low: object, high: object) -> str:
    return ", ".join(str(one) for one in choices) if choices else f"{low} to {high}"
