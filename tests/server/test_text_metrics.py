"""The series of texts: named as documented, right to the token, cheap to record, absent where no text is served."""

from __future__ import annotations

import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from server.telemetry import Telemetry
from server.text_telemetry import REFUSALS, StepReport
from tests.server import serving as plain
from tests.server.text_serving import MESSAGES, serving

NAMES = (
    "vitrine_time_to_first_token_seconds",
    "vitrine_inter_token_seconds",
    "vitrine_text_step_seconds",
    "vitrine_text_engine_seconds",
    "vitrine_text_schedule_seconds",
    "vitrine_grammar_mask_seconds",
    "vitrine_text_batch_tokens",
    "vitrine_text_duration_seconds",
    "vitrine_tokens",
    "vitrine_prefix_asked_tokens",
    "vitrine_prefix_hit_tokens",
    "vitrine_text_preemptions",
    "vitrine_text_refused",
    "vitrine_kv_slots_in_use",
    "vitrine_texts_waiting",
)


def report(**changes: object) -> StepReport:
    """A step of 12 prompt tokens and two running texts."""
    values: dict[str, object] = {
        "seconds": 0.040, "engine_s": 0.030, "mask_s": 0.0, "schedule_s": 0.0001, "calls": 2, "prompt_tokens": 12,
        "cached_tokens": 30, "output_tokens": 3, "prefix_asked": 42, "prefix_hit": 30, "preemptions": 1,
        "slots_in_use": 3, "waiting": 2, "first_tokens_s": (0.25,), "inter_tokens_s": (0.020, 0.021),
    }  # fmt: skip
    return StepReport(**{**values, **changes})  # type: ignore[arg-type]


def series(registry: CollectorRegistry) -> dict[str, float]:
    """Every sample by its name and labels, as Prometheus reads it."""
    lines = generate_latest(registry).decode().splitlines()
    return {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")
    }


def test_a_step_is_counted_to_the_token() -> None:
    """Tokens by kind, prefix asked and hit, slots and queue, first and later tokens: what the report says."""
    registry = CollectorRegistry()
    recorder = Telemetry(registry).text("writer")
    recorder.step_done(report())
    recorder.step_done(report(mask_s=0.001, slots_in_use=1, waiting=0, preemptions=0, first_tokens_s=()))
    found = series(registry)

    assert found['vitrine_tokens_total{kind="prompt",model="writer"}'] == 24
    assert found['vitrine_tokens_total{kind="cached",model="writer"}'] == 60
    assert found['vitrine_tokens_total{kind="output",model="writer"}'] == 6
    assert found['vitrine_prefix_asked_tokens_total{model="writer"}'] == 84
    assert found['vitrine_prefix_hit_tokens_total{model="writer"}'] == 60
    assert found['vitrine_text_preemptions_total{model="writer"}'] == 1
    assert found['vitrine_kv_slots_in_use{model="writer"}'] == 1
    assert found['vitrine_texts_waiting{model="writer"}'] == 0
    assert found['vitrine_time_to_first_token_seconds_count{model="writer"}'] == 1
    assert found['vitrine_time_to_first_token_seconds_bucket{le="0.3",model="writer"}'] == 1
    assert found['vitrine_time_to_first_token_seconds_bucket{le="0.2",model="writer"}'] == 0
    assert found['vitrine_inter_token_seconds_count{model="writer"}'] == 4
    assert found['vitrine_text_step_seconds_sum{model="writer"}'] == pytest.approx(0.080)
    assert found['vitrine_text_engine_seconds_sum{model="writer"}'] == pytest.approx(0.060)
    assert found['vitrine_text_batch_tokens_sum{model="writer"}'] == 28
    assert found['vitrine_grammar_mask_seconds_count{model="writer"}'] == 1


def test_tokens_that_come_from_elsewhere_are_no_steps() -> None:
    """A report without engine calls adds tokens and latencies, but no step."""
    registry = CollectorRegistry()
    recorder = Telemetry(registry).text("writer")
    recorder.step_done(report(calls=0))
    found = series(registry)

    assert found['vitrine_text_step_seconds_count{model="writer"}'] == 0
    assert found['vitrine_tokens_total{kind="output",model="writer"}'] == 3


def test_every_series_is_there_before_the_first_text() -> None:
    """A rate over a counter that appears with its first event misses that event; refusals show all their reasons."""
    registry = CollectorRegistry()
    Telemetry(registry).text("writer")
    names = {metric.name for metric in registry.collect()}
    found = series(registry)

    assert [name for name in NAMES if name not in names] == []
    for reason in REFUSALS:
        assert found[f'vitrine_text_refused_total{{model="writer",reason="{reason}"}}'] == 0


def test_ends_and_refusals_are_counted_by_reason() -> None:
    """One text, one end."""
    registry = CollectorRegistry()
    recorder = Telemetry(registry).text("writer")
    recorder.text_ended("stop", total_s=0.7, output_tokens=9)
    recorder.text_ended("cancelled", total_s=0.1, output_tokens=1)
    recorder.text_refused("backlog")
    found = series(registry)

    assert found['vitrine_text_duration_seconds_count{model="writer",outcome="stop"}'] == 1
    assert found['vitrine_text_duration_seconds_count{model="writer",outcome="cancelled"}'] == 1
    assert found['vitrine_text_refused_total{model="writer",reason="backlog"}'] == 1


def test_recording_a_step_costs_microseconds() -> None:
    """A thousand steps of 8 texts are recorded in well under a tenth of a second: nothing beside a step of 10 ms."""
    recorder = Telemetry(CollectorRegistry()).text("writer")
    step = report(inter_tokens_s=(0.02,) * 8)
    best_s = float("inf")
    for _ in range(5):
        began_s = time.perf_counter()
        for _ in range(1000):
            recorder.step_done(step)
        best_s = min(best_s, time.perf_counter() - began_s)

    assert best_s < 0.1


async def test_a_stream_is_one_request_with_the_outcome_of_its_end() -> None:
    """Whole or streamed, cut or finished: one count; and the text model is among the engines."""
    async with serving() as server, server.client() as client:
        await client.chat.completions.create(model="writer", messages=MESSAGES)
        stream = await client.chat.completions.create(model="writer", messages=MESSAGES, stream=True)
        async for _ in stream:
            pass
        await client.completions.create(model="writer", prompt="x")
        server.text.reload_failures["refused"] = 2
        server.fake.reload_failures["refused"] = 1
        text = server.app.text
        assert text is not None
        await plain.until(lambda: not text.service.admission.in_flight)
        found = series(server.app.registry)

    labels = 'outcome="ok",protocol="http",tier="model"'
    assert found[f'vitrine_request_duration_seconds_count{{endpoint="chat_completions",{labels}}}'] == 2
    assert found[f'vitrine_request_duration_seconds_count{{endpoint="completions",{labels}}}'] == 1
    assert found["vitrine_text_in_flight"] == 0
    assert found['vitrine_reload_failures_total{reason="refused"}'] == 3
    assert found['vitrine_engine_info{engine="bytes",model="writer",precision="fp32",version="7"}'] == 1
    assert 'vitrine_engine_last_progress_timestamp_seconds{model="writer"}' in found


async def test_a_server_without_texts_shows_no_series_of_texts() -> None:
    """The recommender's metrics stay what they were."""
    async with plain.serving() as server:
        names = {metric.name for metric in server.app.registry.collect()}

    assert not names & {*NAMES, "vitrine_text_in_flight"}
