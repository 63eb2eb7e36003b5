"""Documents cut into passages: by headings, paragraphs and sentences, or by questions and answers. Pure; no database.

Every passage says where it stands.  Of Markdown and plain text, ``document.text[start:end] == passage.text`` always; of
the other formats it is what that part of the source says once tags, entities and escapes are read, and the source itself
where there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.errors import InvalidRequest
from server.knowledge.cutting.bounds import check_lines
from server.knowledge.cutting.html import HtmlPage
from server.knowledge.cutting.markdown import markdown_page
from server.knowledge.cutting.pieces import MOST_PASSAGES, CutSpan, Outline, packed, pieces_of
from server.knowledge.cutting.questions import Entry, csv_entries, jsonl_entries
from server.knowledge.page_language import language_of
from server.knowledge_domain import Document, DocumentFormat, Passage


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A document's passages, in order, and what was found out about it."""

    title: str
    language: str
    passages: tuple[Passage, ...]


def cut(document: Document) -> Cut:
    """Cut a document; the same document is always cut in the same way.

    Raises:
        InvalidRequest: it has nothing that could be quoted, too much of it, or a wrong line; says what to do.
    """
    done = _CUTTERS[document.format](document)
    if not done.passages:
        raise InvalidRequest(
            f"text of document {document.id} has nothing that could be quoted; it needs at least one sentence, or one entry",
            field="text",
            limit="at least one passage",
        )
    return done


def _by_outline(
    document: Document,
    outline: Outline,
    title: str,
    language: str,
    url: str,
    read: Callable[[int, int], str],
) -> Cut:
    spans = packed(document.text, outline.sections)
    texts = [(span, read(span.start, span.end)) for span in spans]
    texts = [(span, text) for span, text in texts if any(map(str.isalnum, text))]
    shown = document.title or title or outline.first_heading or document.id
    tongue = document.language or language or language_of("\n".join(text for _, text in texts))
    return Cut(
        title=shown,
        language=tongue,
        passages=tuple(
            Passage(
                document_id=document.id,
                ordinal=ordinal,
                title=shown,
                headings=span.headings,
                anchor=span.anchor,
                url=_with_anchor(document.url or url, span.anchor),
                question="",
                text=text,
                start=span.start,
                end=span.end,
                language=tongue,
            )
            for ordinal, (span, text) in enumerate(texts)
        ),
    )


def _markdown(document: Document) -> Cut:
    page = markdown_page(document.text)
    text = document.text
    return _by_outline(
        document, page.outline, page.title, page.language, page.url, lambda start, end: text[start:end]
    )


def _html(document: Document) -> Cut:
    page = HtmlPage(document.text)
    return _by_outline(document, page.outline, page.title, page.language, "", page.text)


def _text(document: Document) -> Cut:
    check_lines(document.text)
    outline, text, start = Outline(), document.text, 0
    for line in text.splitlines(keepends=True):
        pass_end = start + len(line)
        if line.strip():
            outline.block(pieces_of(text, start, pass_end))
        start = pass_end
    return _by_outline(document, outline, "", "", "", lambda first, last: text[first:last])


def _questions(document: Document, entries: list[Entry]) -> Cut:
    tongue = document.language or language_of("\n".join(f"{one.question}\n{one.answer}" for one in entries))
    passages: list[Passage] = []
    for entry in entries:
        exact = document.text[entry.start : entry.end] == entry.answer
        whole = [CutSpan((), entry.anchor, entry.start, entry.end)]
        spans = _cut_answer(document.text, entry) if exact else whole
        for span in spans:
            passages.append(
                Passage(
                    document_id=document.id,
                    ordinal=len(passages),
                    title=entry.title or document.title or document.id,
                    headings=(),
                    anchor=entry.anchor,
                    url=entry.url or _with_anchor(document.url, entry.anchor),
                    question=entry.question,
                    text=document.text[span.start : span.end] if exact else entry.answer,
                    start=span.start,
                    end=span.end,
                    language=entry.language or tongue,
                )
            )
        if len(passages) > MOST_PASSAGES:
            raise InvalidRequest(
                f"text has more than {MOST_PASSAGES} entries; put it in as several documents",
                field="text",
                limit=f"{MOST_PASSAGES} entries",
            )
    return Cut(title=document.title or document.id, language=tongue, passages=tuple(passages))


def _cut_answer(text: str, entry: Entry) -> list[CutSpan]:
    outline = Outline()
    outline.block(pieces_of(text, entry.start, entry.end))
    return [CutSpan((), entry.anchor, span.start, span.end) for span in packed(text, outline.sections)]


def _with_anchor(url: str, anchor: str) -> str:
    return f"{url}#{anchor}" if url and anchor and "#" not in url else url


_CUTTERS: dict[DocumentFormat, Callable[[Document], Cut]] = {
    DocumentFormat.MARKDOWN: _markdown,
    DocumentFormat.HTML: _html,
    DocumentFormat.TEXT: _text,
    DocumentFormat.QUESTIONS_CSV: lambda document: _questions(document, csv_entries(document.text)),
    DocumentFormat.QUESTIONS_JSONL: lambda document: _questions(document, jsonl_entries(document.text)),
}
