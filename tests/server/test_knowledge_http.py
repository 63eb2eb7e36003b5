"""The shop's pages over HTTP, by a client of somebody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from server.http_api.knowledge.document import add_knowledge
from server.http_api.knowledge.endpoint import KnowledgeEndpoint
from server.http_api.openapi import MEANING
from server.keys import Keys
from server.knowledge.document_limits import DocumentLimits
from server.knowledge.store import KnowledgeStore
from server.logs import AccessLog

PAGE = "# Returns\n\nYou may return an item within 30 days.\n"
ROOT = "/v1/knowledge/documents"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[KnowledgeStore]:
    store = KnowledgeStore(tmp_path / "k.db", None, DocumentLimits(max_text_bytes=10_000))
    await store.start()
    yield store
    await store.close()


@pytest.fixture
async def client(store: KnowledgeStore) -> AsyncIterator[httpx.AsyncClient]:
    endpoint = KnowledgeEndpoint(store, AccessLog(0.0), Keys(()))
    app = Starlette(routes=[Route(path, endpoint, methods=list(methods)) for path, methods in endpoint.paths])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


async def test_a_page_goes_in_and_comes_out_and_goes(client: httpx.AsyncClient) -> None:
    """Put in by text or JSON, read, listed, changed, taken away; each answer names the epoch."""
    raw = {"content-type": "text/markdown; charset=utf-8", "x-request-id": "req-1"}
    new = await client.put(f"{ROOT}/en/returns.md?url=/help/returns", content=PAGE, headers=raw)
    same = await client.put(f"{ROOT}/en/returns.md?url=/help/returns", content=PAGE, headers=raw)
    body = {"text": "Three days.", "format": "text", "title": "Delivery", "metadata": {"team": "care"}}
    other = await client.put(f"{ROOT}/delivery", json=body)
    read = await client.get(f"{ROOT}/en/returns.md?passages=true")
    unchanged = await client.get(f"{ROOT}/delivery", headers={"if-none-match": other.headers["etag"]})
    listed = await client.get(f"{ROOT}?limit=1")
    rest = await client.get(f"{ROOT}?after={listed.json()['next']}")
    gone = await client.delete(f"{ROOT}/delivery")
    again = await client.delete(f"{ROOT}/delivery")
    standing = await client.get("/v1/knowledge")

    assert (new.status_code, new.headers["x-request-id"], new.headers["etag"]) == (201, "req-1", '"1"')
    assert (same.status_code, same.json()) == (200, {**new.json(), "changed": False})
    assert other.json()["epoch"] == new.json()["epoch"] + 1
    shown = read.json()
    assert (shown["text"], shown["url"], shown["format"]) == (PAGE, "/help/returns", "markdown")
    passage = shown["passage_list"][0]
    assert PAGE[passage["start"] : passage["end"]] == passage["text"]
    assert unchanged.status_code == 304
    assert [one["id"] for one in listed.json()["documents"] + rest.json()["documents"]] == [
        "delivery",
        "en/returns.md",
    ]
    assert (gone.status_code, again.status_code) == (200, 404)
    assert standing.json() == {
        "epoch": gone.json()["epoch"],
        "documents": 1,
        "passages": 1,
        "waiting": 0,
        "ready": True,
    }


async def test_what_has_changed_meanwhile_is_not_overwritten(client: httpx.AsyncClient) -> None:
    """If-Match and If-None-Match refuse with 412, and nothing has changed."""
    await client.put(f"{ROOT}/a", json={"text": "One."})
    await client.put(f"{ROOT}/a", json={"text": "Two."}, headers={"if-match": '"1"'})
    for headers in ({"if-match": '"1"'}, {"if-none-match": "*"}):
        refused = await client.put(f"{ROOT}/a", json={"text": "Three."}, headers=headers)
        assert refused.status_code == 412, refused.text
        assert "version 2" in refused.json()["error"]["message"]
    missing = await client.delete(f"{ROOT}/b", headers={"if-match": "*"})
    assert missing.status_code == 412
    assert (await client.get(f"{ROOT}/a")).json()["text"] == "Two."


@pytest.mark.parametrize(
    ("path", "content", "kind", "status", "field"),
    [
        ("a", b"", "text/plain", 422, "text"),
        ("a", b"\xff\xfe", "text/plain", 400, "body"),
        ("a", b"a\x00b", "text/plain", 422, "text"),
        ("a", b"x" * 10_001, "text/plain", 413, "body"),
        ("a", b"a", "application/pdf", 422, "content-type"),
        ("a", b"a", "text/plain; charset=latin-1", 422, "content-type"),
        ("a", b"{", "application/json", 400, "body"),
        ("a", b'{"text": 1}', "application/json", 422, "text"),
        ("a", b'{"text": "a", "format": "pdf"}', "application/json", 422, "format"),
        ("a", b'{"text": "a", "name": "b"}', "application/json", 422, "name"),
        ("a", b"question,answer\na,", "text/csv", 422, "text"),
        ("a?name=b", b"a", "text/plain", 422, "name"),
        ("a%20b", b"a", "text/plain", 422, "id"),
    ],
)
async def test_a_wrong_page_is_refused_with_a_sentence(
    client: httpx.AsyncClient, path: str, content: bytes, kind: str, status: int, field: str
) -> None:
    """Status, field and a request id, in the form of every error."""
    refused = await client.put(f"{ROOT}/{path}", content=content, headers={"content-type": kind})

    error = refused.json()["error"]
    assert (refused.status_code, error["field"]) == (status, field), error
    assert error["request_id"] == refused.headers["x-request-id"]
    assert (await client.get("/v1/knowledge")).json()["documents"] == 0


async def test_only_who_has_the_key_reads_or_changes_pages(store: KnowledgeStore) -> None:
    """Without the key every path is closed, and too many at once are told when to come again."""
    endpoint = KnowledgeEndpoint(store, AccessLog(0.0), Keys(("secret",)), max_in_flight=1)
    app = Starlette(routes=[Route(path, endpoint, methods=list(methods)) for path, methods in endpoint.paths])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        for method, path in (
            ("PUT", f"{ROOT}/a"),
            ("GET", ROOT),
            ("DELETE", f"{ROOT}/a"),
            ("GET", "/v1/knowledge"),
        ):
            assert (await client.request(method, path)).status_code == 401
        allowed = await client.get(ROOT, headers={"x-api-key": "secret"})
        endpoint.in_flight = 1
        full = await client.get(ROOT, headers={"x-api-key": "secret"})

    assert allowed.status_code == 200
    assert full.status_code == 429
    assert full.headers["retry-after"]


def test_the_document_names_every_path_and_every_schema() -> None:
    """What the OpenAPI document refers to is in it."""
    paths: dict[str, object] = {}
    components: dict[str, object] = {"ErrorBody": {}}
    add_knowledge(paths, components, MEANING)

    text = msgspec.json.encode(paths).decode()
    assert set(paths) == {"/v1/knowledge", ROOT, ROOT + "/{id}"}
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in components
