"""Metrics: nothing is lost between an append and a scrape, and every family is as Prometheus wants it."""

from __future__ import annotations

import inspect
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from server.telemetry import REQUEST_BUCKETS_S, Telemetry
from server.telemetry_interface import EngineState, NullTelemetry
from server.telemetry_series import Histograms


def telemetry_and_registry() -> tuple[Telemetry, CollectorRegistry]:
    registry = CollectorRegistry()
    return Telemetry(registry), registry


def fill(telemetry: Telemetry) -> None:
    telemetry.request_done("recommendations", "http", "ok", "model", 0.004)
    telemetry.rejected("overloaded")
    telemetry.fallback("recommendations", "deadline")
    telemetry.fallback("recommendations", "cold_start")
    telemetry.deadline_missed("queue")
    telemetry.cancelled("engine")
    telemetry.loop_lag(0.001)
    recorder = telemetry.batcher("shop", "onnxruntime")
    recorder.queue_depth(3)
    recorder.batch_done(size=4, reason="full", engine_s=0.002, queue_waits_s=[0.001, 0.002], now_s=1.0)
    telemetry.engines(
        lambda: [EngineState(model="shop", version="3", engine="ort", precision="int8", last_progress_s=1.0)]
    )
    telemetry.gauge("vitrine_in_flight", "Requests in flight.", lambda: 7.0)
    telemetry.counter("vitrine_reload_failures", "Not taken up.", "reason", lambda: {"refused": 2})


@given(st.lists(st.one_of(st.sampled_from(REQUEST_BUCKETS_S), st.floats(0.0, 100.0)), max_size=50))
def test_a_folded_histogram_equals_prometheus_own(values: list[float]) -> None:
    """Whatever is observed, buckets, count and sum are those of the library's histogram."""
    registry = CollectorRegistry()
    theirs = Histogram("h", "x", buckets=REQUEST_BUCKETS_S, registry=registry)
    ours = Histograms("h", "x", (), REQUEST_BUCKETS_S)
    ours.buffer(())
    for value in values:
        theirs.observe(value)
        ours.observe((), value)

    (family,) = ours.collect()
    want = {(s.name, s.labels.get("le")): s.value for m in registry.collect() for s in m.samples}
    got = {(s.name, s.labels.get("le")): s.value for s in family.samples}
    for (name, le), value in got.items():
        assert value == pytest.approx(want[(name, le)])


def test_no_observation_is_lost_or_doubled_while_two_scrapers_fold() -> None:
    """A million appends with two threads scraping at the same time are a million in the end."""
    series = Histograms("h", "x", (), (0.5,))
    buffer = series.buffer(())
    over = threading.Event()

    def scrape() -> None:
        while not over.is_set():
            list(series.collect())

    scrapers = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in scrapers:
        thread.start()
    for _ in range(1_000_000):
        buffer.append(1.0)
    over.set()
    for thread in scrapers:
        thread.join(10)
    (family,) = series.collect()

    assert [s.value for s in family.samples if s.name == "h_count"] == [1_000_000.0]


def test_every_family_has_help_a_type_and_a_proper_name() -> None:
    """What promtool's lint would say: help texts, ``_total`` on counters, base units, no colons."""
    telemetry, registry = telemetry_and_registry()
    fill(telemetry)

    families = list(text_string_to_metric_families(generate_latest(registry).decode()))

    ours = [family for family in families if family.name.startswith("vitrine_")]
    assert len(ours) == 17
    for family in ours:
        assert family.documentation.endswith("."), family.name
        assert family.type in ("histogram", "counter", "gauge"), family.name
        assert re.fullmatch(r"vitrine_[a-z_]+", family.name), family.name
        assert not re.search(r"(milliseconds|_ms|_count|_sum|_bucket)$", family.name), family.name
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples), family.name


def test_the_names_dashboards_rely_on_are_there() -> None:
    """Names and labels are a promise; a change here breaks somebody's alert."""
    telemetry, registry = telemetry_and_registry()
    fill(telemetry)

    text = generate_latest(registry).decode()

    for line in (
        'vitrine_request_duration_seconds_count{endpoint="recommendations",outcome="ok",protocol="http",tier="model"} 1',
        'vitrine_queue_wait_seconds_count{model="shop"} 2',
        'vitrine_engine_seconds_count{engine="onnxruntime",model="shop"} 1',
        'vitrine_batch_size_sum{model="shop"} 4',
        'vitrine_batch_release_total{model="shop",reason="full"} 1',
        'vitrine_batch_release_total{model="shop",reason="window"} 0',
        'vitrine_queue_depth{model="shop"} 3',
        'vitrine_rejected_total{reason="overloaded"} 1',
        'vitrine_degraded_total{endpoint="recommendations",rung="fallback"} 1',
        'vitrine_fallback_total{endpoint="recommendations",reason="cold_start"} 1',
        'vitrine_deadline_missed_total{stage="queue"} 1',
        'vitrine_cancelled_total{stage="engine"} 1',
        'vitrine_engine_last_progress_timestamp_seconds{model="shop"}',
        'vitrine_engine_info{engine="ort",model="shop",precision="int8",version="3"} 1',
        "vitrine_in_flight 7",
        'vitrine_reload_failures_total{reason="refused"} 2',
        "vitrine_event_loop_lag_seconds_count 1",
    ):
        assert line in text, line
    for edge in ("0.001", "0.0075", "0.75", "30.0", "+Inf"):
        assert f'le="{edge}",outcome="ok"' in text


def test_a_gauge_whose_source_fails_does_not_fail_the_scrape() -> None:
    """One engine that is being replaced must not blind the whole server."""
    telemetry, registry = telemetry_and_registry()

    def broken() -> float:
        raise RuntimeError("gone")

    telemetry.gauge("vitrine_in_flight", "Requests in flight.", broken)

    assert b"vitrine_build_info" in generate_latest(registry)


def test_metrics_off_has_every_method() -> None:
    """The null object can stand wherever telemetry stands."""
    public = {
        name for name, _ in inspect.getmembers(Telemetry, inspect.isfunction) if not name.startswith("_")
    }

    assert public - {"collect"} <= set(dir(NullTelemetry))
    null = NullTelemetry()
    null.batcher("a", "b").batch_done(size=1, reason="full", engine_s=0.1, queue_waits_s=[], now_s=0.0)
    null.request_done("a", "http", "ok", "model", 0.1)
