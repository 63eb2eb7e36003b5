"""The report is one page that opens anywhere and hides nothing; progress is a page, not a book."""

from __future__ import annotations

import html.parser
import io
import re
import xml.etree.ElementTree as ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_engines.progress import PlainLines, duration, eta_s
from build_engines.report import Report, make_report, report_json
from build_engines.report_html import report_html
from build_engines.report_svg import Bar, Line, bar_chart, line_chart
from build_engines.states import Verified
from server.artifacts.manifest import Provenance
from tests.build_engines.build_cases import ALL_EVIDENCE, compiled, evidence, output, verify_record


def report(*, compressed: bool = True, flags: tuple[str, ...] = (), description: str = "For tests") -> Report:
    """A report with everything in it."""
    record = verify_record(
        (*ALL_EVIDENCE, evidence("quality", name="<loss> on tail", interval=(1.2, 1.9))), flags
    )
    verified = Verified(compiled=compiled(compressed=compressed), output=output("verify"), record=record)
    origin = Provenance(recipe='[model]\nname = "<shop>"', recipe_sha256="0" * 64, packages={"torch": "2.13"})
    targets = verified.compiled.record.targets
    return make_report(
        verified, model="shop", description=description, metric="ndcg@10", targets=targets, provenance=origin
    )


class _Page(html.parser.HTMLParser):
    VOID = ("meta", "br", "rect", "line", "circle", "polyline")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.outside += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.mark.parametrize("compressed", [True, False])
def test_the_page_is_whole_and_needs_nothing_beside_it(compressed: bool) -> None:
    """Well-formed, no script, no file, no address to load."""
    page = report_html(report(compressed=compressed))

    parser = _Page()
    parser.feed(page)
    assert parser.open == []
    assert parser.outside == []
    assert "<script" not in page
    assert not re.search(r"url\(|@import", page)


def test_the_page_shows_figures_limits_and_sample_sizes() -> None:
    """What was measured stands there with its limit and n; speed before and after; every stage; every plot."""
    page = report_html(report())

    for text in (
        "&lt;loss&gt; on tail",
        "[1.2, 1.9]",
        "at least 1",
        "2.00 times as fast",
        "0.200",
        "0.100",
        "torch",
        "&lt;shop&gt;",
    ):
        assert text in page, text
    for stage in ("load", "train", "quantize", "export", "compile", "verify"):
        assert f"<td>{stage}</td>" in page
    assert page.count("<svg") == 4


def test_a_flag_is_explained_where_everybody_looks() -> None:
    """A model below the floor says so at the top of its page."""
    page = report_html(report(flags=("below_floor",)))

    assert "worse than plain transition counts" in page.split("<h2>")[0]


def test_the_json_has_what_the_page_has() -> None:
    """A script reads the same figures; what is not a number is null and not NaN."""
    document = msgspec.json.decode(report_json(report()))

    assert document["evidence"][0]["limit"] == 1.0
    assert document["gate"]["counts"]["slices"]["cold"]["ndcg@10"] is None
    assert msgspec.convert(document, Report) == report()


@given(text=st.text(max_size=60))
def test_whatever_a_shop_writes_stays_text(text: str) -> None:
    """A description cannot become markup."""
    page = report_html(report(description=f"<script>{text}"))

    assert "<script" not in page


@given(
    values=st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)), max_size=8),
    name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12),
)
def test_charts_are_valid_for_any_numbers(values: list[float | None], name: str) -> None:
    """NaN, infinities, one point, equal points, none: valid SVG or nothing, and no number that is none."""
    points = [(float(place), value) for place, value in enumerate(values)]
    bars = [Bar(group=str(place % 2), name=name, value=value) for place, value in points if value is not None]
    for chart in (
        line_chart("Loss", [Line(name=name, points=points)], x_label="epoch", y_label="loss"),
        bar_chart("Quality", bars, y_label="ndcg"),
    ):
        if chart:
            ElementTree.fromstring(chart)  # our own text
            assert not re.search(r'="-?(nan|inf)', chart)


def test_plain_progress_is_rationed_and_has_an_eta() -> None:
    """A thousand steps in a minute are seven lines, each with what is left; the last one always comes."""
    now_s = [0.0]
    stream = io.StringIO()
    lines = PlainLines(stream, clock=lambda: now_s[0])

    for step in range(1001):
        lines.step("training, epoch", step, 1000, "loss 3.2")
        now_s[0] += 0.06

    said = stream.getvalue().splitlines()
    assert len(said) == 7
    assert "40 s left" in said[2]
    assert said[-1] == "  training, epoch 1000/1000, 1 min 00 s so far, loss 3.2"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (42.4, "42 s"), (200, "3 min 20 s"), (3900, "1 h 05 min")],
)
def test_durations_read_as_people_say_them(seconds: float, said: str) -> None:
    """No one reads 3900 s."""
    assert duration(seconds) == said


def test_nothing_done_yet_has_no_eta() -> None:
    """Better no figure than a wrong one."""
    assert eta_s(5.0, 0, 10) is None
    assert eta_s(10.0, 2, 3) == 15.0
