"""What a document may be, in the same words for every way in.

Units: characters, and bytes of UTF-8.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from server.encoding.surrogates import check_surrogates
from server.errors import InvalidRequest
from server.knowledge_domain import Document

MAX_ID_CHARS = 200
MAX_TITLE_CHARS = 500
MAX_URL_CHARS = 2000
MAX_LANGUAGE_CHARS = 35
MAX_METADATA = 50
MAX_METADATA_NAME_CHARS = 100
MAX_METADATA_CHARS = 2000
DEFAULT_MAX_TEXT_BYTES = 4 << 20

_ID = re.compile(r"[\w\-./:]+")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f]")
_URL = re.compile(r"(?:https?://|/)\S*")


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """Bounds that a shop may move.

    Attributes:
        max_text_bytes: of a document's text.
    """

    max_text_bytes: int = DEFAULT_MAX_TEXT_BYTES

    def check(self, document: Document) -> None:
        """Hold a document against the limits.

        Raises:
            InvalidRequest: names the field, its value, the limit and what to do.
        """
        check_id(document.id)
        size = len(document.text.encode("utf-8", "surrogatepass"))
        if size > self.max_text_bytes:
            raise InvalidRequest(
                f"text has {size} bytes; {self.max_text_bytes} at most: put it in as several documents",
                field="text",
                limit=f"{self.max_text_bytes} bytes",
            )
        if not document.text.strip("\ufeff \t\r\n\f\v"):
            raise InvalidRequest(
                f"text of document {document.id} is empty ({size} bytes); send its text, or DELETE the document",
                field="text",
                limit="at least one sentence",
            )
        for name, text, most in (
            ("text", document.text, 0),
            ("title", document.title, MAX_TITLE_CHARS),
            ("url", document.url, MAX_URL_CHARS),
        ):
            _check_text(name, text, most)
        if document.language and (
            len(document.language) > MAX_LANGUAGE_CHARS or not _LANGUAGE.fullmatch(document.language)
        ):
            raise InvalidRequest(
                f"language is {document.language[:60]!r}; give a tag such as en or zh-Hans, or leave it out",
                field="language",
                limit="BCP 47",
            )
        if document.url and not _URL.fullmatch(document.url):
            raise InvalidRequest(
                f"url is {document.url[:60]!r}; give a web address, or a path that begins with /, without spaces",
                field="url",
                limit="http, https or a path",
            )
        if len(document.metadata) > MAX_METADATA:
            raise InvalidRequest(
                f"metadata has {len(document.metadata)} entries; {MAX_METADATA} at most",
                field="metadata",
                limit=f"{MAX_METADATA} entries",
            )
        for name, value in document.metadata.items():
            if not name or len(name) > MAX_METADATA_NAME_CHARS:
                raise InvalidRequest(
                    f"metadata has a name of {len(name)} characters; 1 to {MAX_METADATA_NAME_CHARS}",
                    field="metadata",
                    limit=f"1 .. {MAX_METADATA_NAME_CHARS} characters",
                )
            _check_text("metadata", name, MAX_METADATA_NAME_CHARS)
            _check_text(f"metadata.{name}", value, MAX_METADATA_CHARS)


def check_id(document_id: str) -> None:
    """Hold an id against what ids may be.

    Raises:
        InvalidRequest: says what it may have.
    """
    if len(document_id) > MAX_ID_CHARS or not _ID.fullmatch(document_id):
        raise InvalidRequest(
            f"id is {document_id[:60]!r}; 1 to {MAX_ID_CHARS} letters, digits and - _ . / :",
            field="id",
            limit=f"1 .. {MAX_ID_CHARS} characters",
        )
    if document_id.startswith("/") or any(part in (".", "..") for part in document_id.split("/")):
        # No file is ever opened by an id, but clients and proxies resolve such a path, and would ask for another document.
        raise InvalidRequest(
            f"id is {document_id[:60]!r}; leave out / at its beginning and parts that are . or ..",
            field="id",
            limit="no . or .. between slashes",
        )


def _check_text(name: str, text: str, most: int) -> None:
    if most and len(text) > most:
        raise InvalidRequest(
            f"{name} has {len(text)} characters; {most} at most", field=name, limit=f"{most} characters"
        )
    check_surrogates(text, name)
    wrong = _CONTROL.search(text)
    if wrong is not None:
        raise InvalidRequest(
            f"{name} has the control character U+{ord(wrong.group()):04X} at character {wrong.start()}; take it out, or "
            "convert the file to UTF-8 text",
            field=name,
            limit="no control characters",
        )
