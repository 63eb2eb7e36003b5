"""A shop always gets its answer: whatever the GPU engine does, and whenever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.engines.base import Arrays, TensorSpec
from server.engines.cuda import CudaError, CudaRuntime, CudaUnavailable, DeviceLost
from server.engines.guarded import FIRST_RETRY_S, GuardedEngine, State, faster_at
from server.engines.tensorrt import TensorRTEngine
from tests.server.gpu import fake_tensorrt
from tests.server.gpu.fake_cuda import FakeCuda
from tests.server.gpu.fake_tensorrt import plan_of
from tests.server.gpu.test_tensorrt_engine import INPUTS, OUTPUTS, batch, model, table

X = (TensorSpec(name="x", dtype="float32", shape=("B",)),)


@dataclass
class Adds:
    """x plus the table; can be told to fail."""

    kind: str
    fail: BaseException | None = None
    wrong: bool = False
    added: float | None = None
    closed: int = 0
    ran: int = 0
    inputs: tuple[TensorSpec, ...] = X
    outputs: tuple[TensorSpec, ...] = X

    def bind(self, constants: Arrays) -> None:
        assert not self.closed
        self.added = float(constants["table"][0])

    def run(self, inputs: Arrays) -> dict[str, Any]:
        assert not self.closed and self.added is not None
        self.ran += 1
        if self.fail is not None:
            raise self.fail
        X[0].check(inputs["x"], {})
        return {"x": inputs["x"] + np.float32(self.added + self.wrong)}

    def close(self) -> None:
        self.closed += 1


@dataclass
class Told:
    """A recorder."""

    failures: list[str] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    def engine_failed(self, wanted: str, reason: str) -> None:
        self.failures.append(reason)

    def engine_state(self, wanted: str, state: State) -> None:
        self.states.append(state)


@dataclass
class Site:
    """A guarded engine, its time, and all GPU engines that were ever made."""

    now_s: float = 0.0
    made: list[Adds] = field(default_factory=list)
    broken: BaseException | None = None
    wrong: bool = False
    waiting: list[Callable[[], None]] = field(default_factory=list)
    told: Told = field(default_factory=Told)

    def open(self) -> Adds:
        if self.broken is not None:
            raise self.broken
        self.made.append(Adds("gpu", wrong=self.wrong))
        return self.made[-1]

    def check(self, engine: Any) -> None:
        found = engine.run({"x": np.zeros(1, np.float32)})["x"]
        if engine.added is not None and found[0] != engine.added:
            raise RuntimeError("golden replay differs")

    def guarded(self, **changes: Any) -> GuardedEngine:
        self.cpu = Adds("cpu")
        return GuardedEngine(
            self.open, self.cpu, wanted="gpu", check=self.check, recorder=self.told, clock=lambda: self.now_s,
            spawn=self.waiting.append, **changes,
        )  # fmt: skip


def tables(value: float) -> dict[str, Any]:
    return {"table": np.array([value], np.float32)}


ASK = {"x": np.arange(3, dtype=np.float32)}
FAULTS = [RuntimeError("kernel"), CudaError("cudaMalloc", "cudaErrorMemoryAllocation", "oom"), OSError("driver"),
          CudaError("cudaLaunch", "cudaErrorIllegalAddress", "bad"), DeviceLost("gone")]  # fmt: skip


@given(
    acts=st.lists(
        st.one_of(
            st.tuples(st.just("run"), st.none()),
            st.tuples(st.just("hurt"), st.sampled_from(range(len(FAULTS)))),
            st.tuples(st.just("break"), st.sampled_from([None, 0, 1, 2, 3, 4])),
            st.tuples(st.just("wrong"), st.booleans()),
            st.tuples(st.just("bind"), st.integers(0, 9)),
            st.tuples(st.just("pass"), st.sampled_from([1.0, 6.0, 400.0])),
            st.tuples(st.just("work"), st.none()),
        ),
        max_size=40,
    )
)
@settings(max_examples=300, deadline=None)
def test_every_batch_is_answered_rightly_and_every_engine_is_closed_once(acts: list[Any]) -> None:
    """Failures, wrong rebuilds, new tables and closing at any time: right answers from whoever is there; nothing is leaked."""
    site = Site()
    guarded = site.guarded()
    guarded.bind(tables(1.0))
    guarded.start()
    value = 1.0
    for what, how in acts:
        if what == "run":
            np.testing.assert_array_equal(guarded.run(ASK)["x"], ASK["x"] + value)
        elif what == "hurt" and site.made:
            site.made[-1].fail = FAULTS[how]
        elif what == "break":
            site.broken = None if how is None else FAULTS[how]
        elif what == "wrong":
            site.wrong = how
        elif what == "bind":
            value = float(how)
            guarded.bind(tables(value))
        elif what == "pass":
            site.now_s += how
        elif what == "work" and site.waiting:
            site.waiting.pop(0)()
    guarded.close()
    for work in site.waiting:  # who comes back after the end is closed too
        work()

    assert site.cpu.closed == 1 and all(one.closed == 1 for one in site.made)


def test_a_batch_that_fails_on_the_gpu_is_answered_by_the_cpu_and_the_gpu_comes_back() -> None:
    site = Site()
    guarded = site.guarded()
    guarded.bind(tables(2.0))
    guarded.start()
    assert guarded.kind == "gpu" and guarded.run(ASK)["x"][0] == 2.0 and site.cpu.ran == 0
    site.made[0].fail = RuntimeError("kernel")
    assert guarded.run(ASK)["x"][0] == 2.0 and guarded.kind == "cpu" and site.told.failures == ["run"]
    guarded.run(ASK)
    assert not site.waiting  # not at once
    site.now_s += FIRST_RETRY_S
    guarded.run(ASK)
    assert site.told.states[-1] == "rebuilding" and len(site.waiting) == 1
    guarded.run(ASK)  # traffic goes on meanwhile, and nobody begins a second one
    assert len(site.waiting) == 1
    site.waiting.pop()()
    guarded.run(ASK)
    assert guarded.kind == "gpu" and site.told.states == ["preferred", "waiting", "rebuilding", "preferred"]


@pytest.mark.parametrize("gone", [FAULTS[3], FAULTS[4], CudaUnavailable("no driver")])
def test_a_lost_device_is_not_tried_again(gone: BaseException) -> None:
    site = Site()
    guarded = site.guarded()
    guarded.bind(tables(2.0))
    guarded.start()
    site.made[0].fail = gone
    for _ in range(5):
        assert guarded.run(ASK)["x"][0] == 2.0
        site.now_s += 1000.0
    assert guarded.state == "given up" and not site.waiting and site.told.failures == ["lost"]


def test_where_there_is_no_gpu_the_cpu_serves_from_the_start() -> None:
    site = Site(broken=CudaUnavailable("no driver"))
    guarded = site.guarded()
    guarded.bind(tables(3.0))
    guarded.start()
    assert guarded.kind == "cpu" and guarded.run(ASK)["x"][0] == 3.0 and site.told.failures == ["lost"]


def test_an_engine_that_is_not_faster_is_not_taken() -> None:
    """Timed on both; the GPU's takes twice as long here."""
    site = Site()
    ticks = iter(range(1000))

    def clock() -> float:
        return float(next(ticks)) + (site.made[-1].ran if site.made else 0)

    guarded = site.guarded(faster=faster_at({"three": ASK}, clock=clock))
    guarded.bind(tables(3.0))
    guarded.start()
    assert guarded.kind == "cpu" and guarded.state == "given up" and site.made[0].closed == 1


def test_a_wrong_request_is_the_askers_fault_and_no_engines() -> None:
    site = Site()
    guarded = site.guarded()
    guarded.bind(tables(3.0))
    guarded.start()
    with pytest.raises(ValueError, match="needs float32"):
        guarded.run({"x": np.zeros(2)})
    assert guarded.kind == "gpu" and site.told.failures == []


def test_a_batch_that_hangs_is_given_up_in_time_and_the_device_with_it() -> None:
    """The wait ends at the limit by the injected clock; afterwards nothing waits for that device."""
    api, now = FakeCuda(), [0.0]
    fake_tensorrt.Runtime.cuda = api

    def sleep(seconds: float) -> None:
        now[0] += max(seconds, 0.0001)

    engine = TensorRTEngine(
        plan_of(model()), kind="tensorrt", inputs=INPUTS, outputs=OUTPUTS, tables=("table",), cuda=CudaRuntime(api=api),
        trt=fake_tensorrt, name="shop", hang_s=1.5, clock=lambda: now[0], sleep=sleep,
    )  # fmt: skip
    engine.bind(table())
    with pytest.raises(DeviceLost, match=r"hangs: a batch took more than 1\.5 s"):
        engine.run(batch(2))  # nobody drains the fake's streams: the event is never reached
    assert 1.5 < now[0] < 1.51
    with pytest.raises(DeviceLost, match="hangs"):
        engine.run(batch(1))
    calls = len(api.calls)
    engine.close()
    assert "cudaStreamSynchronize" not in api.calls[calls:]
