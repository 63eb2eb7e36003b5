"""The HTTP connection: order, and clients who leave. Raw sockets; also the guard of our uvicorn overrides."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from prometheus_client import generate_latest

from tests.server.serving import post, serving, until

ASK = {"history": ["sku-1"], "k": 1}


def first(body: bytes) -> str:
    return str(json.loads(body)["items"][0]["item_id"])


async def test_a_connection_carries_request_after_request() -> None:
    """Keep-alive holds across hot and cold paths."""
    async with serving() as server:
        connection = await server.connect()
        for n in (1, 2):
            connection.send(post({"history": [f"sku-{n}"], "k": 1}))
            status, headers, body = await connection.answer()
            assert (status, first(body)) == (200, f"sku-{n}-r1")
            assert "connection" not in headers
        connection.send(b"GET /readyz HTTP/1.1\r\nhost: shop\r\n\r\n")
        assert (await connection.answer())[0] == 200
        connection.send(post(ASK))
        assert (await connection.answer())[0] == 200


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    """Hot, cold, hot, refused and hot in one packet, while the first is held: five answers in order."""
    async with serving() as server:
        server.fake.hold = True
        connection = await server.connect()
        connection.send(
            post({"history": ["sku-1"], "k": 1})
            + b"GET /healthz HTTP/1.1\r\nhost: shop\r\n\r\n"
            + post({"history": ["sku-2"], "k": 1})
            + post({"history": ["sku-3"], "k": 0})
            + post({"history": ["sku-4"], "k": 1})
        )
        await until(lambda: server.fake.waiting)
        server.fake.hold = False
        server.fake.release()

        answers = [await connection.answer() for _ in range(5)]

        assert [status for status, _, _ in answers] == [200, 200, 200, 422, 200]
        assert first(answers[0][2]) == "sku-1-r1"
        assert json.loads(answers[1][2])["alive"] is True
        assert first(answers[4][2]) == "sku-4-r1"


async def test_two_thousand_pipelined_requests_need_no_deep_stack() -> None:
    """What has waited behind a held one is answered in a loop, not by recursion."""
    async with serving(default_deadline_ms=9000) as server:
        server.fake.hold = True
        connection = await server.connect()
        connection.send(post(ASK))
        await until(lambda: server.fake.waiting)
        connection.send(post({"history": ["sku-1"], "k": 0}) * 2000)
        await connection.writer.drain()
        connection.send(b"GET /healthz HTTP/1.1\r\nhost: shop\r\n\r\n")
        neighbour = await server.connect()
        neighbour.send(post({"history": ["sku-1"], "k": 0}))
        assert (await neighbour.answer())[0] == 422  # by now the queue behind the held one has been read
        server.fake.release()

        assert (await connection.answer())[0] == 200
        for _ in range(2000):
            assert (await connection.answer())[0] == 422
        assert (await connection.answer())[0] == 200


async def test_who_leaves_with_requests_in_line_takes_all_of_them_along() -> None:
    """The one being worked on is cancelled though others wait behind it; those never begin."""
    async with serving(default_deadline_ms=60_000, max_deadline_ms=60_000) as server:
        server.fake.hold = True
        connection = await server.connect()
        connection.send(post(ASK) * 3)
        await until(lambda: server.fake.waiting)

        connection.close()

        await until(lambda: server.app.admission.in_flight == 0)
        assert server.fake.waiting[0][1].cancelled()
        assert len(server.fake.seen) == 1


async def test_who_does_not_read_its_answers_is_not_asked_for_more_requests() -> None:
    """Back-pressure: of 200 requests for large answers only a few are worked on until the client reads; then all are."""
    async with serving(max_in_flight=4096, write_timeout_s=15.0, target_wait_ms=0) as server:
        greedy = await server.connect()
        transport: Any = greedy.writer.transport
        transport.pause_reading()
        batch = {"requests": [{"history": ["sku-1"], "k": 100}] * 64}
        greedy.send(post(batch, "/v1/recommendations/batch") * 200)
        protocol = next(iter(server.app.connections._open))
        await until(lambda: protocol.flow.write_paused)
        neighbour = await server.connect()
        for _ in range(20):
            neighbour.send(post(ASK))
            assert (await neighbour.answer())[0] == 200

        assert len(server.fake.seen) < 100 * 64
        transport.resume_reading()
        for _ in range(200):
            assert (await greedy.answer())[0] == 200


async def test_a_request_may_come_in_pieces() -> None:
    """Every split of head and body gives the same answer."""
    async with serving() as server:
        connection = await server.connect()
        for byte in post(ASK):
            connection.send(bytes((byte,)))
            await connection.writer.drain()
        assert first((await connection.answer())[2]) == "sku-1-r1"


async def test_a_chunked_body_is_read() -> None:
    """Transfer-Encoding: chunked is HTTP/1.1, so it works."""
    async with serving() as server:
        connection = await server.connect()
        body = json.dumps(ASK).encode()
        head = b"POST /v1/recommendations HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n"
        parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:5], body[5:])]
        connection.send(head + parts[0])
        connection.send(parts[1] + b"0\r\n\r\n")
        assert (await connection.answer())[0] == 200


async def test_who_leaves_takes_its_request_along() -> None:
    """A closed connection cancels the work, and its permit comes back."""
    async with serving(default_deadline_ms=60_000, max_deadline_ms=60_000) as server:
        server.fake.hold = True
        connection = await server.connect()
        connection.send(post(ASK))
        await until(lambda: server.fake.waiting)

        connection.close()

        await until(lambda: server.app.admission.in_flight == 0)
        assert server.fake.waiting[0][1].cancelled()


@pytest.mark.parametrize("path", ["/v1/recommendations", "/v1/recommendations/batch"])
async def test_who_leaves_is_an_outcome_in_the_log_and_the_metrics(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """499 of the status table: nobody is told, an operator can count and find them, once."""
    caplog.set_level(logging.INFO, "vitrine.access")
    async with serving(default_deadline_ms=60_000, max_deadline_ms=60_000, access_log=1.0) as server:
        server.fake.hold = True
        connection = await server.connect()
        body = ASK if path == "/v1/recommendations" else {"requests": [ASK]}
        connection.send(post(body, path, "x-request-id: gone-1"))
        await until(lambda: server.fake.waiting)

        connection.close()

        await until(lambda: server.app.admission.in_flight == 0)
        text = await asyncio.to_thread(lambda: generate_latest(server.app.registry).decode())
    assert 'outcome="cancelled",protocol="http",tier="none"} 1.0' in text
    told = [(record.outcome, record.request_id) for record in caplog.records if hasattr(record, "outcome")]
    assert told == [("cancelled", "gone-1")]


async def test_two_thousand_who_leave_mid_batch_leave_no_trace() -> None:
    """Permits, connections and flights are all back; a neighbour whose request was among them has its own answer."""
    async with serving(
        max_in_flight=4096, target_wait_ms=0, default_deadline_ms=60_000, max_deadline_ms=60_000
    ) as server:
        server.fake.hold = True
        neighbour = await server.connect()
        neighbour.send(post({"history": ["sku-7"], "k": 1}))
        for _ in range(4):
            crowd = [await server.connect() for _ in range(500)]
            for connection in crowd:
                connection.send(post(ASK))
            await until(lambda: server.app.admission.in_flight == 501)
            for connection in crowd:
                connection.close()
            await until(lambda: server.app.admission.in_flight == 1)
        server.fake.release()

        assert first((await neighbour.answer())[2]) == "sku-7-r1"
        await until(lambda: len(server.app.connections) == 1)
        assert len(server.app.service.flights) == 0


async def test_a_client_that_resets_while_it_is_answered_is_no_error() -> None:
    """Gone between the engine and the wire: nothing is raised, the next one is served."""
    async with serving() as server:
        server.fake.hold = True
        connection = await server.connect()
        connection.send(post(ASK))
        await until(lambda: server.fake.waiting)
        connection.writer.transport.abort()
        server.fake.hold = False
        server.fake.release()

        other = await server.connect()
        other.send(post(ASK))
        assert (await other.answer())[0] == 200


async def test_when_full_a_refusal_comes_fast_with_its_hint() -> None:
    """429 at once, Retry-After in whole seconds, the connection goes on."""
    async with serving(max_in_flight=1, max_batch_requests=1) as server:
        server.fake.hold = True
        held, refused = await server.connect(), await server.connect()
        held.send(post(ASK))
        await until(lambda: server.fake.waiting)
        refused.send(post(ASK))
        status, headers, body = await refused.answer()
        assert (status, int(headers["retry-after"]) >= 1) == (429, True)
        assert json.loads(body)["error"]["retry_after_ms"] >= 1
        server.fake.hold = False
        server.fake.release()
        assert (await held.answer())[0] == 200
        refused.send(post(ASK))
        assert (await refused.answer())[0] == 200


async def test_when_full_a_long_body_is_refused_before_it_comes() -> None:
    """No permit: no reason to read a megabyte first; the connection is usable after it."""
    async with serving(max_in_flight=1, max_batch_requests=1) as server:
        server.fake.hold = True
        held, refused = await server.connect(), await server.connect()
        held.send(post(ASK))
        await until(lambda: server.fake.waiting)
        refused.send(b"POST /v1/recommendations HTTP/1.1\r\nhost: shop\r\ncontent-length: 100000\r\n\r\n")
        assert (await refused.answer())[0] == 429
        server.fake.hold = False
        server.fake.release()
        refused.send(b" " * 100_000 + post(ASK))
        assert (await refused.answer())[0] == 200


async def test_expect_100_continue_is_answered() -> None:
    """curl waits for it before a long body."""
    async with serving() as server:
        connection = await server.connect()
        request = post(ASK, "/v1/recommendations", "expect: 100-continue")
        head, _, body = request.partition(b"\r\n\r\n")
        connection.send(head + b"\r\n\r\n")
        assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(body)
        assert (await connection.answer())[0] == 200


async def test_http_1_0_and_connection_close_end_the_connection() -> None:
    """Who says close gets an answer and an end."""
    async with serving() as server:
        connection = await server.connect()
        connection.send(post(ASK, "/v1/recommendations", "connection: close"))
        status, headers, _ = await connection.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await connection.closed()


async def test_what_is_not_http_gets_400_and_an_end() -> None:
    """A TLS hello or a stray byte stream is told off, not a crash."""
    async with serving() as server:
        for junk in (
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET \xff HTTP/1.1\r\n\r\n",
        ):
            connection = await server.connect()
            connection.send(junk)
            assert (await connection.answer())[0] in (400, 404)


async def test_too_many_connections_are_told_so() -> None:
    """The limit answers 503 and closes; those already there are served."""
    async with serving(max_connections=2) as server:
        kept = [await server.connect(), await server.connect()]
        for connection in kept:
            connection.send(post(ASK))
            assert (await connection.answer())[0] == 200
        extra = await server.connect()
        assert (await extra.answer())[0] == 503
        assert await extra.closed()
        kept[0].send(post(ASK))
        assert (await kept[0].answer())[0] == 200


async def test_an_upgrade_is_answered_as_plain_http() -> None:
    """No WebSocket here; asking for one harms nothing."""
    async with serving() as server:
        connection = await server.connect()
        connection.send(
            b"GET /healthz HTTP/1.1\r\nhost: shop\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
        )
        assert (await connection.answer())[0] == 200


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAB")


@pytest.mark.parametrize("path", ["/v1/recommendations", "/v1/recommendations?x=1"])
async def test_a_post_that_offers_h2c_is_answered_as_plain_http(path: str) -> None:
    """curl --http2 and Java's HttpClient ask for an upgrade with their body; hot and cold, in one packet, chunked, and the
    connection goes on."""
    async with serving() as server:
        connection = await server.connect()
        connection.send(post({"history": ["sku-1"], "k": 1}, path, *UPGRADE) * 3 + post(ASK, path))
        for _ in range(4):
            status, headers, body = await connection.answer()
            assert (status, first(body)) == (200, "sku-1-r1")
            assert "upgrade" not in headers
        text = b'{"history":["sku-2"],"k":1}'
        head = post(b"", path, *UPGRADE, "transfer-encoding: chunked").replace(b"content-length: 0\r\n", b"")
        connection.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(text), text))
        assert first((await connection.answer())[2]) == "sku-2-r1"


async def test_an_upgrade_may_come_in_pieces_and_speak_of_upgrades_in_its_body() -> None:
    """Every split of the head gives the same answer, and no byte of a body is touched."""
    async with serving() as server:
        connection = await server.connect()
        text = b'{"history": ["sku-1"], "k": 1, "user_id":\r\n"Upgrade: h2c"\r\n}'
        for byte in post(text, "/v1/recommendations", *UPGRADE):
            connection.send(bytes((byte,)))
            await connection.writer.drain()
        status, _, _ = await connection.answer()
        assert status == 200
        assert server.fake.seen[-1].user_id == "Upgrade: h2c"


async def test_limits_hold_for_a_request_that_offers_h2c() -> None:
    """Asking for an upgrade is no way around the body's limit, nor around a wrong head."""
    async with serving() as server:
        for size, want in (("67108864", 413), ("x", 400)):
            connection = await server.connect()
            lines = ("POST /v1/recommendations HTTP/1.1", "host: shop", *UPGRADE, f"content-length: {size}")
            connection.send("\r\n".join((*lines, "", "")).encode())
            assert (await connection.answer())[0] == want


async def test_refusals_by_the_connection_itself_are_counted() -> None:
    """Too large, not HTTP, too slow, too many: each has its reason, so that an operator sees an attack."""
    async with serving(read_timeout_s=0.2, max_connections=3) as server:
        kept = []
        for junk in (
            b"POST /x HTTP/1.1\r\nhost: shop\r\ncontent-length: 67108864\r\n\r\n",
            b"\x16\x03\x01",
            b"GET /healthz HTTP/1.1\r\nhost",
        ):
            connection = await server.connect()
            connection.send(junk)
            await connection.answer()
            connection.close()
        await until(lambda: len(server.app.connections) == 0)
        for _ in range(4):
            kept.append(await server.connect())
        await kept[-1].answer()

        text = await asyncio.to_thread(lambda: generate_latest(server.app.registry).decode())
        for reason in ("too_large", "malformed", "timeout", "connections"):
            assert f'vitrine_rejected_total{{reason="{reason}"}} 1.0' in text
