"""Cutting a document costs seconds at most, whatever it holds: too much structure is refused with both numbers."""

from __future__ import annotations

import time

import pytest

from server.errors import InvalidRequest
from server.knowledge.cutting import cut
from server.knowledge.cutting.bounds import MOST_CELLS, MOST_LINES, MOST_TOKENS
from server.knowledge_domain import Document, DocumentFormat

MARKDOWN, HTML, TEXT = DocumentFormat.MARKDOWN, DocumentFormat.HTML, DocumentFormat.TEXT


@pytest.mark.parametrize(
    ("text", "form", "limit"),
    [
        ("b\n" * (MOST_LINES + 1), MARKDOWN, MOST_LINES),
        ("b\n" * (MOST_LINES + 1), TEXT, MOST_LINES),
        ("|a" * (MOST_CELLS + 1), MARKDOWN, MOST_CELLS),
        ("<li>a" * MOST_TOKENS, HTML, MOST_TOKENS),
    ],
)
def test_more_structure_than_may_be_is_refused_with_the_limit(
    text: str, form: DocumentFormat, limit: int
) -> None:
    """Before the work is done that it would cost."""
    began_s = time.thread_time()
    with pytest.raises(InvalidRequest, match=str(limit)) as refused:
        cut(Document(id="x", text=text, format=form))

    assert refused.value.field == "text" and "several documents" in refused.value.message
    assert time.thread_time() - began_s < 5.0


@pytest.mark.parametrize("marks", ["> ", "- ", "> - ", "1. "])
def test_nesting_costs_no_more_the_deeper_it_is(marks: str) -> None:
    """A quote of quotes with lazy lines behind it: deeper than the bound it is text, and costs what the bound costs."""

    def cost_s(depth: int) -> float:
        began_s = time.thread_time()
        cut(Document(id="x", text=marks * depth + "a\n" + "b\n" * 8_000))
        return time.thread_time() - began_s

    assert cost_s(400) < 4 * cost_s(12) + 0.2


def test_what_is_nested_too_deep_is_still_a_part_of_the_source() -> None:
    """Nothing is lost: it is quoted as text."""
    text = "> " * 40 + "The deepest word is kettle.\n"

    passages = cut(Document(id="x", text=text)).passages

    assert any("kettle" in one.text for one in passages)
    assert all(text[one.start : one.end] == one.text for one in passages)
