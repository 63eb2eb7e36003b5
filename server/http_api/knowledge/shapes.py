"""The JSON of ``/v1/knowledge``, and what a content type says of a document; the structs are the one description of it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from server.errors import InvalidRequest, MalformedRequest
from server.http_api.wrong_fields import Shapes, explain, malformed
from server.knowledge.document_limits import (
    MAX_LANGUAGE_CHARS,
    MAX_METADATA,
    MAX_TITLE_CHARS,
    MAX_URL_CHARS,
)
from server.knowledge.reader import KeptDocument
from server.knowledge_domain import Document, DocumentFormat, Passage

MOST_LISTED = 1000
FORMATS = {
    "text/markdown": DocumentFormat.MARKDOWN,
    "text/x-markdown": DocumentFormat.MARKDOWN,
    "text/html": DocumentFormat.HTML,
    "application/xhtml+xml": DocumentFormat.HTML,
    "text/plain": DocumentFormat.TEXT,
    "text/csv": DocumentFormat.QUESTIONS_CSV,
    "application/x-ndjson": DocumentFormat.QUESTIONS_JSONL,
    "application/jsonl": DocumentFormat.QUESTIONS_JSONL,
}
CONTENT_TYPES = (
    "application/json",
    "text/markdown",
    "text/html",
    "text/plain",
    "text/csv",
    "application/x-ndjson",
)
_FORMAT = Meta(
    description="how the text is read; questions_csv and questions_jsonl hold entries of question and answer",
    extra_json_schema={"enum": [one.value for one in DocumentFormat]},
)


class DocumentIn(Struct, forbid_unknown_fields=True):
    """A document as JSON."""

    text: Annotated[
        str, Meta(description="the whole source; quotes are parts of it", extra_json_schema={"minLength": 1})
    ]
    format: Annotated[str, _FORMAT] = "markdown"
    title: Annotated[
        str,
        Meta(
            description="shown with a quote; empty: found", extra_json_schema={"maxLength": MAX_TITLE_CHARS}
        ),
    ] = ""
    language: Annotated[
        str, Meta(description="BCP 47; empty: found out", extra_json_schema={"maxLength": MAX_LANGUAGE_CHARS})
    ] = ""
    url: Annotated[
        str, Meta(description="where people read it", extra_json_schema={"maxLength": MAX_URL_CHARS})
    ] = ""
    metadata: Annotated[
        dict[str, str], Meta(description="given back", extra_json_schema={"maxProperties": MAX_METADATA})
    ] = msgspec.field(default_factory=dict)


class WrittenOut(Struct):
    """What a change has done; it is on the disk, and searches see it."""

    id: str
    epoch: Annotated[int, Meta(description="of the knowledge base, in which the change is seen")]
    version: Annotated[int, Meta(description="of the document; 0: it is gone")]
    passages: int
    changed: Annotated[bool, Meta(description="false: the same was there already")]


class PassageOut(Struct):
    """A passage; ``text`` stands at ``start`` of the document, in Unicode characters."""

    ordinal: int
    headings: tuple[str, ...]
    anchor: str
    question: str
    text: str
    start: int
    end: int
    language: str


class DocumentOut(Struct):
    """A document; without its text in a list."""

    id: str
    version: int
    epoch: int
    format: Annotated[str, _FORMAT]
    title: str
    language: str
    url: str
    metadata: dict[str, str]
    hash: Annotated[str, Meta(description="SHA-256 of all that was put in")]
    chars: int
    passages: int
    waiting: Annotated[int, Meta(description="passages that have no vector yet; words find them")]
    changed_unix_s: float
    text: str | UnsetType = UNSET
    passage_list: (
        Annotated[list[PassageOut], Meta(description="where ?passages=true asks for them")] | UnsetType
    ) = UNSET


class DocumentList(Struct):
    """Documents in the order of their ids."""

    epoch: int
    documents: list[DocumentOut]
    next: Annotated[str | None, Meta(description="ask for it as ?after=; null: there are no more")]


class KnowledgeOut(Struct):
    """How the knowledge base stands."""

    epoch: int
    documents: int
    passages: int
    waiting: Annotated[int, Meta(description="passages that have no vector of the present encoder yet")]
    ready: bool
    reason: Annotated[str, Meta(description="why it cannot be written now")] | UnsetType = UNSET


_SHAPES: Shapes = {"": DocumentIn}
_decoder = msgspec.json.Decoder(DocumentIn)


def decode_document(document_id: str, body: bytes | bytearray, content_type: str, query: bytes) -> Document:
    """Read a document: JSON, or a text of which the query says title, language and url.

    Raises:
        MalformedRequest: the bytes are not JSON, or not UTF-8.
        InvalidRequest: a field or the content type is wrong; names it.
    """
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    charset = parameters.lower().partition("charset=")[2].split(";")[0].strip(" \"'") or "utf-8"
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise InvalidRequest(
            f"charset is {charset[:40]!r}; send UTF-8", field="content-type", limit="charset=utf-8"
        )
    if kind == "application/json":
        return _of_json(document_id, body)
    if kind not in FORMATS:
        known = ", ".join(CONTENT_TYPES)
        raise InvalidRequest(
            f"content-type is {kind[:60]!r}; send one of {known}", field="content-type", limit=known
        )
    said = query_of(query, ("title", "language", "url"))
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise MalformedRequest(
            f"the body is not UTF-8 at byte {error.start}; convert the file to UTF-8",
            field="body",
            limit="UTF-8",
        ) from error
    return Document(
        id=document_id,
        text=text,
        format=FORMATS[kind],
        title=said.get("title", ""),
        language=said.get("language", ""),
        url=said.get("url", ""),
    )


def _of_json(document_id: str, body: bytes | bytearray) -> Document:
    try:
        wire = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise explain(error, body, "", _SHAPES) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise malformed(error) from error
    try:
        form = DocumentFormat(wire.format)
    except ValueError:
        known = ", ".join(DocumentFormat)
        raise InvalidRequest(
            f"format is {wire.format[:60]!r}; choose one of {known}", field="format", limit=known
        ) from None
    return Document(
        id=document_id,
        text=wire.text,
        format=form,
        title=wire.title,
        language=wire.language,
        url=wire.url,
        metadata=wire.metadata,
    )


def query_of(query: bytes, known: tuple[str, ...]) -> dict[str, str]:
    """What a query says.

    Raises:
        InvalidRequest: it has a name that means nothing here.
    """
    found: dict[str, str] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            raise InvalidRequest(
                f"{name[:60]} is not a parameter of this request; it has {', '.join(known)}",
                field=name[:60],
                limit=", ".join(known),
            )
        found[name] = value
    return found


def document_out(
    kept: KeptDocument, text: str | UnsetType = UNSET, passages: list[Passage] | None = None
) -> DocumentOut:
    """The wire form of a document."""
    return DocumentOut(
        id=kept.id,
        version=kept.version,
        epoch=kept.epoch,
        format=kept.format.value,
        title=kept.title,
        language=kept.language,
        url=kept.url,
        metadata=dict(kept.metadata),
        hash=kept.hash,
        chars=kept.chars,
        passages=kept.passages,
        waiting=kept.waiting,
        changed_unix_s=kept.changed_unix_s,
        text=text,
        passage_list=UNSET if passages is None else [_passage(one) for one in passages],
    )


def _passage(one: Passage) -> PassageOut:
    return PassageOut(
        one.ordinal, one.headings, one.anchor, one.question, one.text, one.start, one.end, one.language
    )
