"""``/v1/knowledge``: the shop's pages over HTTP.

    GET    /v1/knowledge                  epoch, counts, how many passages wait for a vector
    GET    /v1/knowledge/documents        a page of them; ?after=ID&limit=100
    PUT    /v1/knowledge/documents/{id}   JSON, or the text itself with its content type; 201 new, 200 changed or the same
    GET    /v1/knowledge/documents/{id}   as it was put in; ?passages=true: with its passages
    DELETE /v1/knowledge/documents/{id}

A version's ``ETag`` is its number. ``If-Match`` refuses (412) to change what has changed since it was read, and
``If-None-Match: *`` to overwrite. A change is answered when it is on the disk, and seen by every search after that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, MutableMapping
from typing import Any

from msgspec import UNSET

from server.errors import InvalidRequest, NotFound, NotReady, Overloaded, ServeError
from server.http_api.asgi import Receive, Send
from server.http_api.calls import JSON, Header, HttpCall, ReaderLeft
from server.http_api.knowledge.shapes import (
    MOST_LISTED,
    DocumentList,
    KnowledgeOut,
    WrittenOut,
    decode_document,
    document_out,
    query_of,
)
from server.http_api.openai.errors import error_body
from server.http_api.schemas import encode
from server.keys import Keys
from server.knowledge.document_limits import check_id
from server.knowledge.file_writer import VersionDiffers, Written
from server.knowledge.store import KnowledgeStore
from server.logs import AccessLog

log = logging.getLogger("vitrine.http")

ROOT = "/v1/knowledge"
PATH = ROOT + "/documents"
_JSON_GROWTH = 2  # a text as JSON has so many times its bytes: Chinese as \uXXXX has 2 times
_JSON_REST_BYTES = 1 << 17
_RETRY_S = 0.5


class KnowledgeEndpoint:
    """All paths of the knowledge base, as an ASGI application.

    Args:
        store: documents.
        access: log.
        keys: who may call; checked before this.
        max_in_flight: changes and reads at once; more are refused with 429.
    """

    paths = ((ROOT, ("GET",)), (PATH, ("GET",)), (PATH + "/{id:path}", ("DELETE", "GET", "PUT")))
    name = "knowledge"

    def __init__(
        self,
        store: KnowledgeStore,
        access: AccessLog,
        keys: Keys,
        *,
        max_in_flight: int = 64,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._access = access
        self._keys = keys
        self._max_in_flight = max_in_flight
        self._clock = clock
        self.in_flight = 0
        self.stopping = False

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        call = HttpCall(scope, receive, send)
        began_s, outcome = self._clock(), "cancelled"
        self.in_flight += 1
        try:
            await self._run(call, scope)
            outcome = "ok"
        except ReaderLeft:
            pass
        except VersionDiffers as error:
            outcome = error.code.value
            await call.reply(412, error_body(scope["path"], error, call.request_id), JSON)
        except ServeError as error:
            outcome = error.code.value
            await call.fail(error)
        except Exception as error:
            log.error("request failed", exc_info=error, extra={"request_id": call.request_id})
            outcome = "internal"
            await call.fail(ServeError("the server failed on this request; its log says more"))
        finally:
            self.in_flight -= 1
            self._access.ended(self.name, outcome, call, self._clock() - began_s)

    async def _run(self, call: HttpCall, scope: MutableMapping[str, Any]) -> None:
        if self.stopping:
            raise NotReady("the server is stopping; try another replica")
        if self.in_flight > self._max_in_flight:
            raise Overloaded("the knowledge base", self.in_flight - 1, self._max_in_flight, _RETRY_S)
        self._keys.check(call.headers.get(b"authorization"), call.headers.get(b"x-api-key"))
        path, method, query = scope["path"], scope["method"], scope.get("query_string", b"")
        if path == ROOT:
            await self._standing(call)
        elif path == PATH:
            await self._list(call, query)
        else:
            document_id = path.removeprefix(PATH + "/")
            check_id(document_id)
            if method == "PUT":
                await self._put(call, document_id, query)
            elif method == "DELETE":
                await self._delete(call, document_id)
            else:
                await self._get(call, document_id, query)

    async def _standing(self, call: HttpCall) -> None:
        epoch, documents, passages, waiting = await self._store.standing()
        ready, reason = self._store.ready()
        out = KnowledgeOut(epoch, documents, passages, waiting, ready, reason or UNSET)
        await call.reply(200, encode(out), JSON)

    async def _list(self, call: HttpCall, query: bytes) -> None:
        said = query_of(query, ("after", "limit"))
        limit = said.get("limit", "100")
        if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= MOST_LISTED:
            raise InvalidRequest(
                f"limit is {limit[:40]!r}; ask for 1 to {MOST_LISTED} documents",
                field="limit",
                limit=f"1 .. {MOST_LISTED}",
            )
        wanted = int(limit)
        epoch, kept = await self._store.listed(said.get("after", ""), wanted + 1)
        more = kept[wanted - 1].id if len(kept) > wanted else None
        out = DocumentList(epoch, [document_out(one) for one in kept[:wanted]], more)
        await call.reply(200, encode(out), JSON)

    async def _put(self, call: HttpCall, document_id: str, query: bytes) -> None:
        kind = call.headers.get(b"content-type", b"application/json").decode("latin-1")
        most = self._store.limits.max_text_bytes
        if kind.split(";")[0].strip().lower() == "application/json":
            most = _JSON_GROWTH * most + _JSON_REST_BYTES
        expected = _expected(call)
        document = decode_document(document_id, await call.body(most), kind, query)
        written = await self._store.put(document, expected_version=expected)
        await self._written(call, document_id, written)

    async def _delete(self, call: HttpCall, document_id: str) -> None:
        written = await self._store.delete(document_id, expected_version=_expected(call))
        if not written.changed:
            raise _not_there(document_id)
        await self._written(call, document_id, written)

    async def _written(self, call: HttpCall, document_id: str, written: Written) -> None:
        out = WrittenOut(document_id, written.epoch, written.version, written.passages, written.changed)
        headers = (_etag(written.version),) if written.version else ()
        await call.reply(201 if written.created else 200, encode(out), JSON, *headers)

    async def _get(self, call: HttpCall, document_id: str, query: bytes) -> None:
        said = query_of(query, ("passages",))
        found = await self._store.get(document_id)
        if found is None:
            raise _not_there(document_id)
        kept, document = found
        tag = _etag(kept.version)
        if tag[1] in [one.strip() for one in call.headers.get(b"if-none-match", b"").split(b",")]:
            await call.reply(304, b"", tag)
            return
        wants = said.get("passages", "false").lower() in ("true", "1", "")
        passages = await self._store.passages_of(document_id) if wants else None
        await call.reply(200, encode(document_out(kept, document.text, passages)), JSON, tag)


def _etag(version: int) -> Header:
    return (b"etag", b'"%d"' % version)


def _expected(call: HttpCall) -> int | None:
    match, none = call.headers.get(b"if-match"), call.headers.get(b"if-none-match")
    if none is not None:
        if none.strip() != b"*" or match is not None:
            raise InvalidRequest(
                "if-none-match can only be * where a document is changed, and not with if-match",
                field="if-none-match",
                limit="*",
            )
        return 0
    if match is None:
        return None
    given = match.strip()
    if given == b"*":
        return -1
    number = given[1:-1]
    if len(given) < 3 or given[:1] + given[-1:] != b'""' or not number.isdigit() or len(number) > 15:
        raise InvalidRequest(
            f"if-match is {given[:40].decode('latin-1')!r}; give the ETag of the version that was read, or *",
            field="if-match",
            limit="an ETag, or *",
        )
    return int(number)


def _not_there(document_id: str) -> NotFound:
    return NotFound(f"there is no document {document_id} here; GET {PATH} lists those there are", field="id")
