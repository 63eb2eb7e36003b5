"""The report of intents: JSON for the machine, HTML for a person, with the threshold's trade-off drawn.

The HTML opens anywhere: its plots are inline SVG (``build_engines.report_svg``).
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from build_engines.intents.calibration import Floats, Labels, ThresholdPoint, reliability
from build_engines.intents.figures import Figures
from build_engines.intents.linear import L2Trial
from build_engines.intents.records import IntentsRecord
from build_engines.proof.paired_right import PairedTexts
from build_engines.report_frame import page, row, table
from build_engines.report_svg import Line, line_chart

REPORT_FILE, REPORT_HTML = "intents_report.json", "intents_report.html"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntentsReport:
    """What is told beside the record.

    Attributes:
        test: by intent, and what is taken for what.
        reliability_N: calibrated probabilities ``[N, C]`` of the test texts about an intent.
        labels_N: of the same.
        uncalibrated_ece: calibration error on test at temperature 1.
        chosen_on, told_on: thresholds on validation and on test.
        has_outside: texts about nothing are known.
        trials: of L2.
        suspects: text, its label, and what it looks like.
    """

    test: Figures
    reliability_N: Floats
    labels_N: Labels
    uncalibrated_ece: float
    chosen_on: tuple[ThresholdPoint, ...]
    told_on: tuple[ThresholdPoint, ...]
    has_outside: bool
    trials: tuple[L2Trial, ...]
    suspects: tuple[tuple[str, str, str], ...]


def write_report(folder: Path, record: IntentsRecord, report: IntentsReport) -> None:
    """Write both forms into ``folder``."""
    bins = reliability(report.reliability_N, report.labels_N)
    plain: dict[str, Any] = {
        "record": msgspec.to_builtins(record),
        "test": asdict(report.test),
        "reliability": bins,
        "uncalibrated_ece": report.uncalibrated_ece,
        "validation_thresholds": [asdict(point) for point in report.chosen_on],
        "test_thresholds": [asdict(point) for point in report.told_on],
        "l2_trials": [asdict(trial) for trial in report.trials],
        "suspects": report.suspects,
    }
    (folder / REPORT_FILE).write_text(
        json.dumps(_finite(plain), ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    (folder / REPORT_HTML).write_text(
        page("Intents", [report_fragment(record, report, bins)]), encoding="utf-8"
    )


def report_fragment(
    record: IntentsRecord, report: IntentsReport, bins: Sequence[tuple[float, float, int]]
) -> str:
    """Headings, tables and plots, to stand inside a page."""
    head = (
        "set",
        "texts",
        "accuracy",
        "95 %",
        "macro F1",
        "ECE",
        "get an intent",
        "of those right",
        "outside answered",
    )
    rows = [
        (
            one.name,
            str(one.texts),
            f"{one.accuracy:.4f}",
            f"{one.accuracy_low:.3f} to {one.accuracy_high:.3f}",
            f"{one.macro_f1:.4f}",
            f"{one.ece:.4f}",
            f"{one.coverage:.1%}",
            f"{one.answered_accuracy:.1%}",
            f"{one.out_answered:.1%} of {one.outside}" if one.outside else "-",
        )
        for one in record.figures
    ]
    parts = [
        "<h2>Intents</h2>",
        f"<p>{html.escape(record.method)}: {record.train} examples of {len(record.labels)} intents, temperature "
        f"{record.temperature:.3f}, threshold {record.threshold:.3f} (chosen on validation). Calibration error on test "
        f"{record.of('test').ece:.4f}, without temperature {report.uncalibrated_ece:.4f}.</p>",
        _table(head, rows),
        "".join(f"<p>{html.escape(note)}.</p>" for note in record.notes),
        _trade_off("Threshold on validation, where it is chosen", report.chosen_on, report.has_outside),
        _trade_off("Threshold on test", report.told_on, report.has_outside),
        line_chart(
            "Coverage against accuracy (test)",
            [Line(name="accuracy", points=_by_coverage(report.told_on))],
            x_label="share that gets an intent",
            y_label="accuracy of those",
        ),
        line_chart(
            "Reliability (test)",
            [
                Line(name="accuracy", points=[(confidence, right) for confidence, right, _ in bins]),
                Line(name="ideal", points=[(confidence, confidence) for confidence, _, _ in bins]),
            ],
            x_label="confidence",
            y_label="accuracy",
        ),
        "<h3>What is taken for what (test)</h3>",
        _table(
            ("intent", "taken for", "texts"),
            [(one.intent, one.taken_for, str(one.texts)) for one in report.test.confusions],
        ),
        "<h3>By intent, worst recall first (test)</h3>",
        _table(
            ("intent", "texts", "recall", "precision", "F1"),
            [
                (one.label, str(one.texts), f"{one.recall:.3f}", f"{one.precision:.3f}", f"{one.f1:.3f}")
                for one in report.test.rows
            ],
        ),
    ]
    if report.suspects:
        parts += [
            f"<h3>Labels that look wrong ({record.suspects})</h3>",
            _table(("text", "label", "looks like"), report.suspects),
        ]
    return "\n".join(parts)


def paired_fragment(parent: str, candidate: str, paired: PairedTexts) -> str:
    """The comparison of two engines, to stand inside a page."""
    return f"<h3>{html.escape(candidate)} against {html.escape(parent)}</h3><p>{html.escape(paired.sentence(parent, candidate))}.</p>"


def _trade_off(title: str, points: Sequence[ThresholdPoint], has_outside: bool) -> str:
    lines = [
        Line(name="get an intent", points=[(one.threshold, one.coverage) for one in points]),
        Line(name="of those right", points=[(one.threshold, _or_gap(one.accuracy)) for one in points]),
    ]
    if has_outside:
        outside = [(one.threshold, one.out_answered) for one in points]
        lines.append(Line(name="outside answered", points=outside))
    return line_chart(title, lines, x_label="threshold", y_label="share")


def _by_coverage(points: Sequence[ThresholdPoint]) -> list[tuple[float, float | None]]:
    return sorted(
        {(round(one.coverage, 4), round(one.accuracy, 4)) for one in points if not math.isnan(one.accuracy)}
    )


def _or_gap(value: float) -> float | None:
    return None if math.isnan(value) else value


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(head, [row(*cells) for cells in rows], numbers=1)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
