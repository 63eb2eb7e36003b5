"""Logs: JSON with the request id, few of each, and nothing about the shopper."""

from __future__ import annotations

import json
import logging
import sys

import httpx
import pytest

from server.errors import EngineFault
from server.logs import BURST, FewOfEach, JsonFormatter
from server.pipelines.customer_service.masking import guard
from tests.server.fake_recommender import FakeRecommender
from tests.server.serving import serving


def record(message: str, level: int = logging.ERROR, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("vitrine.test", level, "x.py", 1, message, (), None)
    made.__dict__.update(extra)
    return made


def test_a_record_is_one_line_of_json_with_known_keys_only() -> None:
    """What is not on the list cannot leak by being passed."""
    line = JsonFormatter().format(
        record("two\nlines", request_id="abc", user_id="someone", history=["sku-1"])
    )

    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["level"], fields["message"], fields["request_id"]) == ("error", "two\nlines", "abc")
    assert "someone" not in line
    assert "sku-1" not in line


def test_repeated_errors_are_cut_and_counted() -> None:
    """A thousand failures a second are a few lines, and the next second says how many were left out."""
    now = [0.0]
    few = FewOfEach(lambda: now[0])

    passed = sum(few.filter(record("engine fault")) for _ in range(1000))
    now[0] = 1.5
    later = record("engine fault")

    assert passed == BURST
    assert few.filter(later)
    assert later.left_out == 1000 - BURST  # type: ignore[attr-defined]
    assert few.filter(record("another"))


def test_information_is_never_cut() -> None:
    """Only warnings and errors come in floods."""
    few = FewOfEach(lambda: 0.0)

    assert all(few.filter(record("request", logging.INFO)) for _ in range(100))


@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_logs_hold_the_id_and_no_personal_data(share: float, caplog: pytest.LogCaptureFixture) -> None:
    """User ids, histories and keys are in no log line, whatever goes wrong."""
    fake = FakeRecommender()
    formatter = JsonFormatter()
    body = {"history": ["sku-1", "secret-item"], "k": 1, "user_id": "jane.doe"}
    with caplog.at_level(logging.DEBUG, "vitrine"):
        async with serving(fake, access_log=share, fallback=False) as server, httpx.AsyncClient() as client:
            url, headers = server.url + "/v1/recommendations", {"x-request-id": "cart-42"}
            await client.post(url, json=body, headers=headers)
            await client.post(url, json={**body, "k": 0}, headers=headers)
            await client.post(url, json={**body, "history": [7]}, headers=headers)
            fake.fault = EngineFault("boom")
            assert (await client.post(url, json=body, headers=headers)).status_code == 500
    lines = [formatter.format(entry) for entry in caplog.records if entry.name.startswith("vitrine")]

    assert not [line for line in lines if "jane.doe" in line or "secret-item" in line]
    outcomes = [json.loads(line).get("outcome") for line in lines if '"request_id": "cart-42"' in line]
    assert outcomes == (["ok", "invalid_argument", "invalid_argument", "internal"] if share else ["internal"])


def test_no_personal_data_reaches_a_line_of_the_log() -> None:
    """A message and an exception that quote what a caller sent are written without card, mailbox or telephone."""
    formatter = JsonFormatter(guard)
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "bad text %r", ("card 4111 1111 1111 1111",), None)
    try:
        raise ValueError("cannot read john@example.com, +49 30 1234567")
    except ValueError:
        record.exc_info = sys.exc_info()

    line = formatter.format(record)

    assert "[card]" in line and "[email]" in line and "[phone]" in line
    assert "4111" not in line and "john" not in line and "1234567" not in line
    assert "ValueError" in line
