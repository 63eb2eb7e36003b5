"""The tables and the chart of ``bench.support``."""

from __future__ import annotations

from typing import Any

from bench.tables import number, table
from loadtest.svg import Chart, Series, draw

Json = dict[str, Any]


def support_tables(result: Json) -> str:
    """The figures as Markdown."""
    chosen = result["chosen"]
    head = ["questions", "answered", "wrong", "wrong of released", "handed over", "outside answered", "person missed", "citation precision", "recall"]  # fmt: skip

    def row(name: str, one: Json) -> list[str]:
        return [name, *(_percent(one[key]) for key in (
            "answered", "wrong", "wrong_of_released", "handed_over", "outside_answered", "person_missed", "citation_precision", "citation_recall"
        ))]  # fmt: skip

    rows = [row("all", result["reported"]), row("development questions, which chose", result["choosing"])]
    rows += [row(name, one) for name, one in (*result["languages"].items(), *result["halves"].items())]
    rows.append(row("the server's defaults", result["defaults"]))
    rows.append(row("the encoder away", result["encoder_away"]))
    told = (
        f"### Customer service, sample shop ({result['encoder'] or 'words alone'})\n\n"
        f"Thresholds chosen on the development questions: answer {chosen['answer']}, by words {chosen['answer_by_words']}, "
        f"intent {result['intent_threshold']:.3f} (the model's own).\n\n"
    )
    parts = [told + table(head, rows)]
    parts.append(
        "#### What the threshold costs\n\n"
        + table(
            ["threshold", "answered", "wrong", "handed over", "outside answered", "person missed"],
            [
                [f"{one['threshold']:.2f}", *(_percent(one[key]) for key in ("answered", "wrong", "handed_over", "outside_answered", "person_missed"))]
                for one in result["curve"][::5]
            ],
        )
    )  # fmt: skip
    parts.append(
        "#### Handing over\n\n"
        + table(
            ["reason", "should", "given", "recall", "to a person at all", "precision"],
            [
                [name, str(one["should"]), str(one["given"]), _percent(one["recall"]), _percent(one.get("handed_over_at_all")), _percent(one["precision"])]
                for name, one in result["reasons"].items()
            ],
        )
    )  # fmt: skip
    parts.append(
        "#### Time in each stage, one question at a time\n\n"
        + table(
            ["stage", "p50, ms", "p99, ms"],
            [
                [name, number(one["p50"], 3), number(one["p99"], 3)]
                for name, one in result["milliseconds"].items()
            ],
        )
    )
    return "\n\n".join(parts)


def support_chart(result: Json) -> str:
    """The curve over the threshold, as SVG."""
    curve = result["curve"]
    lines = (
        ("answered", "answered", "var(--good, #2a7)"),
        ("wrong", "wrong", "var(--bad, #c33)"),
        ("handed_over", "handed over", "var(--muted, #888)"),
        ("outside_answered", "outside answered", "var(--warn, #c80)"),
    )
    return draw(
        Chart(
            title="Customer service over the threshold of an answer",
            x=[one["threshold"] for one in curve],
            series=[
                Series(name, [None if one[key] is None else 100 * one[key] for one in curve], colour)
                for key, name, colour in lines
            ],
            x_label="threshold",
            y_label="% of their kind",
            marks=((result["chosen"]["answer"], "chosen"),),
            top=100.0,
        )
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
