"""``/v1/product-copy/jobs``: bulk work over HTTP.

    POST   /v1/product-copy/jobs               lines (application/x-ndjson) or {"items": [...]}; 202 and the job
    GET    /v1/product-copy/jobs               all of the caller's
    GET    /v1/product-copy/jobs/{id}          how far it is
    GET    /v1/product-copy/jobs/{id}/results  JSON lines, in the order of the input; while it runs, those so far
    GET    /v1/product-copy/jobs/{id}/rejects  JSON lines with reasons
    DELETE /v1/product-copy/jobs/{id}          stop it; results so far stay

What the lines do not say is taken from the query (lines) or from beside ``items`` (JSON). Units: milliseconds, bytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, MutableMapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from server.errors import InvalidRequest, RequestTooLarge, ServeError
from server.http_api.asgi import Receive, Send
from server.http_api.calls import JSON, HttpCall, ReaderLeft
from server.http_api.product_copy.shapes import AskedIn, ProductIn, copy_request
from server.http_api.schemas import encode
from server.http_api.wrong_fields import Shapes, explain, malformed
from server.keys import Keys
from server.logs import AccessLog

log = logging.getLogger("vitrine.http")

PATH = "/v1/product-copy/jobs"
NDJSON = b"application/x-ndjson"
_READ_BYTES = 1 << 16


class ItemsIn(AskedIn, forbid_unknown_fields=True, kw_only=True):
    """A job as one JSON object."""

    items: Annotated[list[msgspec.Raw], Meta(description="requests, or bare records, each with an id")]


class JobOut(Struct):
    """How far a job is."""

    id: str
    state: Annotated[
        str, Meta(extra_json_schema={"enum": ["queued", "running", "done", "cancelled", "failed"]})
    ]
    total: int
    done: int
    rejected: int
    per_s: Annotated[float, Meta(description="lines a second, of late")]
    eta_ms: Annotated[float | None, Meta(description="until it is done; null while that is not known")]
    created_unix_s: float
    reason: Annotated[str, Meta(description="why it failed")] | UnsetType = UNSET


class JobList(Struct):
    """A caller's jobs, newest first."""

    jobs: list[JobOut]


class _File(Protocol):
    id: str
    created_s: float
    state: str
    reason: str


class _Standing(Protocol):
    @property
    def total(self) -> int: ...
    @property
    def done(self) -> int: ...
    @property
    def rejected(self) -> int: ...
    @property
    def per_s(self) -> float: ...
    @property
    def eta_s(self) -> float | None: ...


class _Files(Protocol):
    @property
    def out(self) -> Path: ...
    @property
    def rejects(self) -> Path: ...


class JobShown(Protocol):
    """A job, as far as this wire looks at it."""

    @property
    def file(self) -> _File:
        """What it was told."""
        ...

    @property
    def files(self) -> _Files:
        """Where its results are."""
        ...

    def standing(self) -> _Standing:
        """How far it is."""
        ...


class JobDesk(Protocol):
    """``server.bulk.jobs.CopyJobs``, which stands above this room."""

    async def create(self, pieces: AsyncIterator[bytes], shared: AskedIn, tenant: str) -> JobShown:
        """Take on a job."""
        ...

    def get(self, job_id: str, tenant: str) -> JobShown:
        """A job of a tenant."""
        ...

    def all(self, tenant: str) -> Sequence[JobShown]:
        """A tenant's jobs."""
        ...

    def cancel(self, job: Any) -> None:
        """Stop a job."""
        ...


class JobsEndpoint:
    """All paths of jobs, as an ASGI application."""

    paths = (
        (PATH, ("GET", "POST")),
        (PATH + "/{id}", ("GET", "DELETE")),
        (PATH + "/{id}/results", ("GET",)),
        (PATH + "/{id}/rejects", ("GET",)),
    )
    name = "product_copy_jobs"

    def __init__(
        self, jobs: JobDesk, access: AccessLog, keys: Keys, *, max_body_bytes: int, max_json_bytes: int
    ) -> None:
        """Bind.

        Args:
            jobs: where they are.
            access: log.
            keys: which tell the tenants apart.
            max_body_bytes: of a body of lines, which goes to disk as it comes.
            max_json_bytes: of a body that is one JSON object, which is held in memory.
        """
        self._jobs = jobs
        self._access = access
        self._keys = keys
        self._max_body_bytes = max_body_bytes
        self._max_json_bytes = max_json_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        call = HttpCall(scope, receive, send)
        outcome = "cancelled"
        try:
            await self._run(call, scope)
            outcome = "ok"
        except ReaderLeft:
            pass
        except ServeError as error:
            outcome = error.code.value
            await call.fail(error)
        except Exception as error:
            log.error("request failed", exc_info=error, extra={"request_id": call.request_id})
            outcome = "internal"
            await call.fail(ServeError("the server failed on this request; its log says more"))
        finally:
            self._access.ended(self.name, outcome, call, 0.0)

    async def _run(self, call: HttpCall, scope: MutableMapping[str, Any]) -> None:
        headers, method = call.headers, scope["method"]
        tenant = self._keys.caller(headers.get(b"authorization"), headers.get(b"x-api-key"))
        job_id, _, what = scope["path"].removeprefix(PATH).strip("/").partition("/")
        if not job_id:
            if method == "POST":
                job = await self._create(call, scope, tenant)
                location = (b"location", f"{PATH}/{job.file.id}".encode())
                await call.reply(202, encode(job_out(job)), JSON, location)
            else:
                listed = [job_out(job) for job in self._jobs.all(tenant)]
                await call.reply(200, encode(JobList(listed)), JSON)
            return
        job = self._jobs.get(job_id, tenant)
        if what:
            await _lines(call, job.files.out if what == "results" else job.files.rejects)
            return
        if method == "DELETE":
            self._jobs.cancel(job)
        await call.reply(200, encode(job_out(job)), JSON)

    async def _create(self, call: HttpCall, scope: MutableMapping[str, Any], tenant: str) -> JobShown:
        kind = call.headers.get(b"content-type", b"application/json").split(b";")[0].strip().lower()
        if kind in (NDJSON, b"application/jsonl", b"application/jsonlines"):
            shared = _of_query(scope.get("query_string", b""))
            return await self._jobs.create(call.pieces(self._max_body_bytes), shared, tenant)
        if kind != b"application/json":
            raise InvalidRequest(
                f"content-type is {kind[:60].decode('latin-1')!r}; send application/x-ndjson or application/json",
                field="content-type",
                limit="application/x-ndjson, application/json",
            )
        try:
            body = await call.body(self._max_json_bytes)
        except RequestTooLarge as error:
            error.message += ", or as lines (application/x-ndjson)"
            raise
        shared, items = _of_body(body)
        return await self._jobs.create(_pieces(items), shared, tenant)


def job_out(job: JobShown) -> JobOut:
    """The wire form of a job."""
    standing = job.standing()
    return JobOut(
        job.file.id,
        job.file.state,
        standing.total,
        standing.done,
        standing.rejected,
        round(standing.per_s, 3),
        None if standing.eta_s is None else round(standing.eta_s * 1e3),
        job.file.created_s,
        job.file.reason or UNSET,
    )


_SHAPES: Shapes = {"": ItemsIn}
_items = msgspec.json.Decoder(ItemsIn)


def _of_body(body: bytearray) -> tuple[AskedIn, list[msgspec.Raw]]:
    try:
        wire = _items.decode(body)
    except msgspec.ValidationError as error:
        raise explain(error, body, "", _SHAPES) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise malformed(error) from error
    shared = AskedIn(**{name: getattr(wire, name) for name in AskedIn.__struct_fields__})
    copy_request(shared, ProductIn(title="-"))  # its choices exist
    return shared, wire.items


def _of_query(query: bytes) -> AskedIn:
    given: dict[str, Any] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name == "keywords":
            given[name] = value.split(",")
        else:
            given[name] = value
    try:
        shared = msgspec.convert(given, AskedIn, strict=False)
    except msgspec.ValidationError as error:
        body = msgspec.json.encode(given)
        raise explain(error, body, "", {"": AskedIn}) from error
    copy_request(shared, ProductIn(title="-"))
    return shared


async def _pieces(items: Sequence[msgspec.Raw]) -> AsyncIterator[bytes]:
    for item in items:
        # JSON may hold line ends between its tokens; a line may not.
        yield bytes(item).replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


async def _lines(call: HttpCall, path: Path) -> None:
    header = (b"content-type", NDJSON + b"; charset=utf-8")
    if not path.exists():
        await call.reply(200, b"", header)
        return
    with path.open("rb") as file:
        held = b""
        while data := await asyncio.to_thread(file.read, _READ_BYTES):
            whole, end, rest = (held + data).rpartition(b"\n")
            held = rest
            if end:
                await call.write(whole + end, header)
    await call.write(b"", header)
    await call.finish()
