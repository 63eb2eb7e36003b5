"""Passages are parts of their documents, of a size that can be quoted, under the headings that stand above them."""

from __future__ import annotations

import csv
import html
import io
import json
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.errors import InvalidRequest
from server.knowledge.cutting import Cut, cut
from server.knowledge.cutting.html_tokens import Kind, tokens
from server.knowledge.cutting.pieces import MOST_WEIGHT, weight
from server.knowledge.cutting.questions import csv_entries
from server.knowledge_domain import Document, DocumentFormat

F = DocumentFormat
_ALPHABET = st.sampled_from(
    [*"ab \n\t#-*>|`~[]()!&;<>/=\"'.。？1退货é\r", "\n\n", "# ", "| a | b |\n|---|---|\n", "```\n", "- "]
)
SOURCES = st.lists(_ALPHABET, max_size=80).map("".join)


def cut_of(text: str, format: DocumentFormat = F.MARKDOWN, **fields: str) -> Cut:
    return cut(Document(id="doc", text=text, format=format, **fields))


@given(source=SOURCES, format=st.sampled_from([F.MARKDOWN, F.TEXT]))
@settings(max_examples=400, deadline=None)
def test_a_quote_is_a_byte_exact_part_of_its_source(source: str, format: DocumentFormat) -> None:
    """Whatever the source, every passage is what stands at its place, in order, without overlap, and not too long."""
    try:
        found = cut_of(source, format)
    except InvalidRequest:
        return
    last = 0
    for ordinal, passage in enumerate(found.passages):
        assert source[passage.start : passage.end] == passage.text
        assert passage.start >= last
        assert passage.text == passage.text.strip()
        assert passage.ordinal == ordinal
        assert weight(passage.text) <= MOST_WEIGHT
        last = passage.end


@given(words=st.lists(st.text("abcdefg退换货。. ", min_size=1, max_size=400), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_no_letter_of_a_plain_text_is_lost(words: list[str]) -> None:
    """The passages of a plain text hold all of its letters, however long its lines are."""
    source = "\n\n".join(words)
    try:
        found = cut_of(source, F.TEXT)
    except InvalidRequest:
        assert not any(map(str.isalnum, source))
        return
    kept = "".join(passage.text for passage in found.passages)
    assert [c for c in kept if c.isalnum()] == [c for c in source if c.isalnum()]


@given(source=SOURCES)
@settings(max_examples=400, deadline=None)
@example("<p>a</p><script>x<y")
@example('<a "<p>b')
def test_html_is_read_whatever_it_is(source: str) -> None:
    """Tokens follow each other without a gap, and a passage is what its part of the source reads like."""
    found = list(tokens(source))
    assert "".join(source[token.start : token.end] for token in found) == source
    try:
        page = cut_of(source, F.HTML)
    except InvalidRequest:
        return
    for passage in page.passages:
        part = source[passage.start : passage.end]
        if "<" not in part and "&" not in part:
            assert passage.text == part


_TEXTS = st.text("abc é退&.", min_size=1, max_size=12).map(lambda text: f"w{text}")


@given(
    parts=st.lists(
        st.tuples(st.sampled_from(["p", "div", "b", "h2", "li", "td", "script"]), _TEXTS),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=150, deadline=None)
def test_html_tokens_agree_with_the_standard_library(parts: list[tuple[str, str]]) -> None:
    """On pages that are well-formed, tags and texts are those that the standard library's parser finds."""
    source = "".join(
        f"<{tag} title=\"a>b\" class='x'>{text if tag == 'script' else html.escape(text)}</{tag}>"
        for tag, text in parts
    )
    theirs: list[tuple[str, str]] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            theirs.append(("open", tag))

        def handle_endtag(self, tag: str) -> None:
            theirs.append(("close", tag))

        def handle_data(self, data: str) -> None:
            theirs.append(("text", data))

    parser = Parser()
    parser.feed(source)
    parser.close()
    ours = []
    for token in tokens(source):
        if token.kind is Kind.TEXT:
            ours.append(("text", html.unescape(source[token.start : token.end])))
        elif token.kind is Kind.RAW_TEXT:
            ours.append(("text", source[token.start : token.end]))
        else:
            ours.append(("open" if token.kind is Kind.OPEN else "close", token.name))
    assert ours == theirs


_CELLS = st.text('ab",;\n 退', max_size=8).map(lambda text: f"x{text}x")


@given(rows=st.lists(st.tuples(_CELLS, _CELLS), min_size=1, max_size=6), end=st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=150, deadline=None)
def test_csv_is_read_as_the_standard_library_reads_it(rows: list[tuple[str, str]], end: str) -> None:
    """Questions and answers are those of the csv module, and each answer is at its place."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=end)
    writer.writerow(["question", "answer"])
    writer.writerows(rows)
    source = out.getvalue()
    found = csv_entries(source)
    assert [(entry.question, entry.answer) for entry in found] == rows
    for entry in found:
        assert source[entry.start : entry.end].replace('""', '"') == entry.answer


def test_markdown_is_cut_at_its_headings() -> None:
    """Title, path of headings, anchors and addresses; code is not read as headings; emphasis stays."""
    source = (
        "---\ntitle: Help\nurl: http://localhost/help\n---\n# Returns *and* refunds\n\nIntro.\n\n"
        "## Costs\n\nA label is **free**.\n\n```\n# no heading\n```\n\n## Costs\n\n- one\n- two\n\n### How {#how-to}\n\nSo.\n"
    )
    found = cut_of(source)
    assert found.title == "Help"
    assert [(p.headings, p.anchor, p.url) for p in found.passages] == [
        (("Returns and refunds",), "returns-and-refunds", "http://localhost/help#returns-and-refunds"),
        (("Returns and refunds", "Costs"), "costs", "http://localhost/help#costs"),
        (("Returns and refunds", "Costs"), "costs-1", "http://localhost/help#costs-1"),
        (("Returns and refunds", "Costs", "How"), "how-to", "http://localhost/help#how-to"),
    ]
    assert found.passages[1].text == "A label is **free**.\n\n```\n# no heading\n```"


def test_html_is_read_as_people_read_it() -> None:
    """Scripts, styles and menus are not read; inline tags and entities are; what never closes ends with the page."""
    source = (
        '<html lang="en-GB"><head><title>Help &amp; contact</title><script>var a = "<p>evil</p>";</script></head><body>'
        "<nav>Home</nav><h1 id=top>Returns</h1><p>A <b>label</b> is free up to 5&nbsp;kg.<p>Second paragraph."
        "<h2>Costs</h2><table><tr><td>Germany</td><td>3 days</td></tr></table><!-- never closed"
    )
    found = cut_of(source, F.HTML)
    assert (found.title, found.language) == ("Help & contact", "en-GB")
    assert [p.text for p in found.passages] == [
        "A label is free up to 5\xa0kg.\nSecond paragraph.",
        "Germany 3 days",
    ]
    assert [p.anchor for p in found.passages] == ["top", "costs"]


def test_html_that_never_closes_is_read_to_its_end() -> None:
    """A thousand elements that never close are so many paragraphs, and a menu that never closes hides nothing."""
    found = cut_of("<div><nav><p>Free returns. " * 1000, F.HTML)
    assert "".join(p.text for p in found.passages).count("Free returns.") == 1000


def test_questions_are_cut_by_their_entries() -> None:
    """An entry's answer is quoted, its question is not; escapes are read."""
    lines = [
        json.dumps({"question": "How long?", "answer": "30 days.", "id": "long", "url": "/faq"}),
        json.dumps({"question": "多久？", "answer": "三十天。\n从收到起。"}),
    ]
    source = "\n".join(lines)
    first, second = cut_of(source, F.QUESTIONS_JSONL).passages
    assert (first.question, first.text, first.anchor, first.url) == ("How long?", "30 days.", "long", "/faq")
    assert source[first.start : first.end] == first.text
    assert second.text == "三十天。\n从收到起。"
    assert json.loads(f'"{source[second.start : second.end]}"') == second.text


@pytest.mark.parametrize(
    ("source", "format", "words"),
    [
        ("question;reply\na;b", F.QUESTIONS_CSV, "line 1 has no column answer"),
        ("question,answer\na,b\nc,\n", F.QUESTIONS_CSV, "line 3 has no answer"),
        ('question,answer\na,"b\nc,d', F.QUESTIONS_CSV, "line 2 opens a quotation mark"),
        ("question,answer\na,b,c", F.QUESTIONS_CSV, "line 2 has 3 columns"),
        ('{"question": "a", "answer": "b"}\n{"question": "a"}', F.QUESTIONS_JSONL, "line 2 has no answer"),
        ('{"question": "a", "answer": 3}', F.QUESTIONS_JSONL, "line 1 has answer that is not a text"),
        ("[1]", F.QUESTIONS_JSONL, "line 1 is not a JSON object"),
        ("{", F.QUESTIONS_JSONL, "line 1 is not JSON"),
        ("{}", F.QUESTIONS_JSONL, "line 1 has no question"),
        ("[" * 100_000, F.QUESTIONS_JSONL, "line 1 is not JSON"),
    ],
)
def test_a_wrong_line_is_named(source: str, format: DocumentFormat, words: str) -> None:
    """Questions and answers are taken whole or not at all, and the line that is wrong is said."""
    with pytest.raises(InvalidRequest, match=words):
        cut_of(source, format)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("You may return the item within 30 days.", "en"),
        ("您可以在收货后30天内退货，支持 PayPal 付款。", "zh"),
        ("ご注文の商品は30日以内に返品できます。", "ja"),
        ("Sie können die Ware innerhalb von 30 Tagen zurückgeben, und wir erstatten das Geld.", "de"),
        ("Vous pouvez retourner les articles dans les 30 jours avec votre facture.", "fr"),
        ("42 + 7", ""),
    ],
)
def test_the_language_of_a_page_is_found_out(text: str, language: str) -> None:
    """By its script, and by its most common words; what the shop says counts more."""
    assert cut_of(text, F.TEXT).language == language
    assert cut_of(text, F.TEXT, language="nl").language == "nl"
