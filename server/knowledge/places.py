"""Where a command finds the knowledge base: a file in this process, or a server over HTTP. The same calls for both.

Units: seconds.
"""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import msgspec

from server.errors import InvalidRequest, NotReady, Overloaded, ServeError
from server.knowledge.store import KnowledgeStore
from server.knowledge_domain import Document, DocumentFormat

_PAGE = 500  # documents of one list
_TRIES = 5
_TIMEOUT_S = 120.0
_LONGEST_WAIT_S = 10.0  # that a refusal may ask for; who is away for longer is said to be
HASH_KEY = "sync_hash"  # in a document's metadata: SHA-256 of the file it came from
SOURCE_KEY = "sync_source"  # the same: which folder's sync it belongs to


class Listed(msgspec.Struct):
    """What a list says of a document."""

    id: str
    metadata: dict[str, str]


class Place(Protocol):
    """A knowledge base, here or elsewhere."""

    def documents(self) -> AsyncIterator[Listed]:
        """All documents, in the order of their ids."""

    async def get(self, document_id: str) -> Document | None:
        """One document."""

    async def put(self, document: Document) -> bool:
        """Put it in; whether something has changed.

        Raises:
            InvalidRequest: it cannot be kept; says why.
        """

    async def delete(self, document_id: str) -> bool:
        """Take it away; whether it was there."""

    async def close(self) -> None:
        """End."""


class FilePlace:
    """A knowledge file, opened by this process."""

    def __init__(self, store: KnowledgeStore) -> None:
        self._store = store

    async def documents(self) -> AsyncIterator[Listed]:
        """All documents; those that come or go meanwhile may be among them."""
        after = ""
        while True:
            _, some = await self._store.listed(after, _PAGE)
            for one in some:
                yield Listed(one.id, dict(one.metadata))
            if len(some) < _PAGE:
                return
            after = some[-1].id

    async def get(self, document_id: str) -> Document | None:
        """One document."""
        found = await self._store.get(document_id)
        return None if found is None else found[1]

    async def put(self, document: Document) -> bool:
        """Put it in."""
        return (await self._store.put(document)).changed

    async def delete(self, document_id: str) -> bool:
        """Take it away."""
        return (await self._store.delete(document_id)).changed

    async def close(self) -> None:
        """Close the file."""
        await self._store.close()


class _ListOut(msgspec.Struct):
    documents: list[Listed]
    next: str | None


class _DocumentOut(msgspec.Struct):
    id: str
    text: str
    format: str
    title: str
    language: str
    url: str
    metadata: dict[str, str]


class _Changed(msgspec.Struct):
    changed: bool


class _Detail(msgspec.Struct):
    code: str = ""
    message: str = ""
    field: str | None = None


class _Error(msgspec.Struct):
    error: _Detail


class UrlPlace:
    """A server's knowledge base, over its HTTP; one request at a time.

    Args:
        url: such as ``http://127.0.0.1:8000``.
        key: API key; empty: none.

    Raises:
        InvalidRequest: the address is none.
    """

    def __init__(self, url: str, key: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidRequest(
                f"--url is {url[:100]!r}; give http://HOST:PORT", field="--url", limit="http or https"
            )
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT_S)
        self._root = parts.path.rstrip("/") + "/v1/knowledge/documents"
        self._where = url
        self._headers = {"x-api-key": key} if key else {}

    async def documents(self) -> AsyncIterator[Listed]:
        """All documents; those that come or go meanwhile may be among them."""
        after: str | None = ""
        while after is not None:
            body = await self._ask("GET", f"{self._root}?limit={_PAGE}&after={quote(after, safe='')}")
            some = msgspec.json.decode(body, type=_ListOut)
            for one in some.documents:
                yield one
            after = some.next

    async def get(self, document_id: str) -> Document | None:
        """One document."""
        try:
            found = msgspec.json.decode(await self._ask("GET", self._path(document_id)), type=_DocumentOut)
        except _NotThere:
            return None
        return Document(
            id=found.id,
            text=found.text,
            format=DocumentFormat(found.format),
            title=found.title,
            language=found.language,
            url=found.url,
            metadata=found.metadata,
        )

    async def put(self, document: Document) -> bool:
        """Put it in."""
        body = msgspec.json.encode(document_fields(document))
        answer = await self._ask("PUT", self._path(document.id), body)
        return msgspec.json.decode(answer, type=_Changed).changed

    async def delete(self, document_id: str) -> bool:
        """Take it away."""
        try:
            await self._ask("DELETE", self._path(document_id))
        except _NotThere:
            return False
        return True

    async def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _path(self, document_id: str) -> str:
        return f"{self._root}/{quote(document_id)}"

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Ask; what is refused because the server is full, or was cut off, is asked again: every call may be repeated."""
        for last in (False,) * (_TRIES - 1) + (True,):
            try:
                status, answer, wait_s = await asyncio.to_thread(self._once, method, path, body)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                if last:
                    raise NotReady(
                        f"{self._where} cannot be reached: {error or type(error).__name__}; start the server, or name another --url"
                    ) from error
                await asyncio.sleep(0.2)
                continue
            if status < 300:
                return answer
            if status in (429, 503) and wait_s <= _LONGEST_WAIT_S and not last:
                await asyncio.sleep(wait_s)
                continue
            raise self._refusal(status, answer)
        raise AssertionError("the last try ends above")

    def _once(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes, float]:
        headers: Mapping[str, str] = {**self._headers, "content-type": "application/json"}
        self._connection.request(method, path, body, dict(headers))
        response = self._connection.getresponse()
        data = response.read()
        wait = response.getheader("retry-after", "1")
        return response.status, data, float(wait) if wait.isdigit() else 1.0

    def _refusal(self, status: int, answer: bytes) -> ServeError:
        try:
            detail = msgspec.json.decode(answer, type=_Error).error
        except msgspec.DecodeError:
            detail = _Detail(message=f"answered {status} without a reason")
        if status == 404 and detail.field == "id":
            return _NotThere(detail.message)
        if status in (400, 413, 422):
            return InvalidRequest(detail.message, field=detail.field)
        if status == 429:
            return Overloaded(self._where, 0, 0, 1.0)
        return NotReady(f"{self._where} refused ({status}): {detail.message}")


class _NotThere(ServeError):
    """There is no such document."""


def document_fields(document: Document) -> dict[str, Any]:
    """A document as the fields of JSON, without its id."""
    return {
        "text": document.text,
        "format": document.format.value,
        "title": document.title,
        "language": document.language,
        "url": document.url,
        "metadata": dict(document.metadata),
    }
