"""The TensorRT engine on a device that records: right answers in any order of work, and every byte given back."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.engines.base import TensorSpec
from server.engines.cuda import CudaError, CudaRuntime, CudaUnavailable
from server.engines.tensorrt import SLOTS, TensorRTEngine
from tests.server.gpu import fake_tensorrt
from tests.server.gpu.fake_cuda import FakeCuda, cudaError_t, functions
from tests.server.gpu.fake_tensorrt import Model, plan_of

LARGEST, LENGTH, WIDTH = 8, 6, 3
INPUTS = (
    TensorSpec(name="ids", dtype="int32", shape=("B", "L")),
    TensorSpec(name="allowed", dtype="bool", shape=(1, "N")),
)
OUTPUTS = (
    TensorSpec(name="best", dtype="int64", shape=("B", 2)),
    TensorSpec(name="scores", dtype="float32", shape=("B", WIDTH)),
)


def compute(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Any function of all inputs, row by row."""
    totals_B = (feed["ids"].astype(np.int64) * np.arange(1, feed["ids"].shape[1] + 1)).sum(axis=1)
    allowed = int(feed["allowed"].sum())
    scores_BW = totals_B[:, None] + feed["table"].sum() + allowed + np.arange(WIDTH)
    return {"best": np.stack([totals_B, -totals_B], axis=1), "scores": scores_BW.astype(np.float32)}


def shapes_of(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    rows = shapes["ids"][0]
    return {"best": (rows, 2), "scores": (rows, WIDTH)}


def model(**changes: Any) -> Model:
    narrow = {"ids": ((1, 1), (2, LENGTH)), "allowed": ((1, 1), (1, 9)), "table": ((1, 2), (4, 2))}
    wide = {**narrow, "ids": ((1, 1), (LARGEST, LENGTH))}
    given: dict[str, Any] = {
        "inputs": {"ids": np.int32, "allowed": np.bool_, "table": np.float32},
        "outputs": {"best": np.int64, "scores": np.float32},
        "profiles": [narrow, wide],
        "shape": shapes_of,
        "run": compute,
    }
    return Model(**{**given, **changes})


@pytest.fixture
def api() -> FakeCuda:
    return FakeCuda()


def opened(api: FakeCuda, **changes: Any) -> TensorRTEngine:
    fake_tensorrt.Runtime.cuda = api
    arguments: dict[str, Any] = {"inputs": INPUTS, "outputs": OUTPUTS, "tables": ("table",), **changes}
    plan = arguments.pop("plan", None) or plan_of(arguments.pop("model", None) or model())
    return TensorRTEngine(
        plan, kind="tensorrt", cuda=CudaRuntime(api=api), trt=fake_tensorrt, name="shop", **arguments
    )


def batch(rows: int, length: int = LENGTH, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "ids": rng.integers(0, 1000, (rows, length)).astype(np.int32),
        "allowed": rng.integers(0, 2, (1, 1 + seed % 9)).astype(np.bool_),
    }


def table(rows: int = 3, seed: int = 5) -> dict[str, np.ndarray]:
    return {"table": np.random.default_rng(seed).integers(0, 100, (rows, 2)).astype(np.float32)}


def check(
    engine: TensorRTEngine,
    found: dict[str, np.ndarray],
    inputs: dict[str, np.ndarray],
    bound: dict[str, np.ndarray],
) -> None:
    wanted = compute({**inputs, **bound})
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(1, LARGEST), st.integers(1, LENGTH), st.integers(0, 99)),
        st.tuples(st.just("wait"), st.just(0), st.just(0), st.just(0)),
        st.tuples(st.just("bind"), st.integers(1, 4), st.just(0), st.integers(0, 99)),
    ),
    max_size=30,
)


@given(acts=ACTS)
@settings(max_examples=150, deadline=None)
def test_batches_in_any_order_get_their_own_answers_and_everything_is_given_back(acts: list[Any]) -> None:
    """Two under way, other sizes, new tables between: right answers (the fake works as late as it may), no leak, no fault."""
    api = FakeCuda()
    engine = opened(api)
    bound = table()
    engine.bind(bound)
    under_way: list[tuple[Any, dict[str, np.ndarray]]] = []
    for what, rows, length, seed in acts:
        if what == "submit" and len(under_way) < SLOTS:
            inputs = batch(rows, length, seed)
            ticket = engine.submit(inputs)
            under_way.append((ticket, {name: array.copy() for name, array in inputs.items()}))
            for array in inputs.values():  # the caller's again: what it does with them must not matter
                array.fill(0)
        elif what == "wait" and under_way:
            ticket, inputs = under_way.pop(0)
            check(engine, engine.wait(ticket), inputs, bound)
        elif what == "bind" and not under_way:
            bound = table(rows, seed)
            engine.bind(bound)
    for ticket, inputs in under_way:
        check(engine, engine.wait(ticket), inputs, bound)
    engine.close()
    engine.close()

    assert api.faults == [] and api.leaks() == []


@given(
    at=st.integers(0, 120),
    hurt=st.sampled_from([cudaError_t.cudaErrorMemoryAllocation, cudaError_t.cudaErrorLaunchFailure]),
)
@settings(max_examples=150, deadline=None)
def test_a_failure_of_any_call_is_an_error_and_the_next_batch_is_right_or_the_device_is_said_to_be_lost(
    at: int, hurt: cudaError_t
) -> None:
    """Whichever call fails: nothing wrong is answered, nothing leaks, and only a lost device stays lost."""
    api = FakeCuda()
    api.fail_at, api.hurt = at, hurt
    bound, failed, engine = table(), 0, None
    for _ in range(2):  # whoever loads a model tries again
        try:
            engine = engine or opened(api)
            engine.bind(bound)
        except (RuntimeError, CudaUnavailable):
            failed += 1
    for seed in range(5):
        if engine is None:
            break
        inputs, others = batch(1 + seed % 3, seed=seed), batch(2, seed=50 + seed)
        try:
            first, second = engine.submit(inputs), engine.submit(others)
            check(engine, engine.wait(first), inputs, bound)
            check(engine, engine.wait(second), others, bound)
        except RuntimeError as error:
            failed += 1
            if hurt is cudaError_t.cudaErrorLaunchFailure:
                assert "lost" in str(error) or "refused to run" in str(error)
    if engine is not None:
        engine.close()

    if hurt is cudaError_t.cudaErrorMemoryAllocation:
        assert failed <= 1
    assert api.faults == [] and api.leaks() == []


def test_a_bucket_is_recorded_when_it_comes_again_and_launched_from_then_on(api: FakeCuda) -> None:
    """The first run is in the open, the second as well and recorded, later ones of the same bucket only launch."""
    engine = opened(api)
    engine.bind(table())
    for _ in range(2 * 5):  # in turn on two slots
        engine.run(batch(4))
    assert api.calls.count("execute_async_v3") == 2 * 3
    assert api.calls.count("cudaGraphLaunch") == 2 * 3
    engine.run(batch(3))  # padded to the same bucket
    assert api.calls.count("execute_async_v3") == 2 * 3
    engine.close()
    assert api.leaks() == [] and api.faults == []


def test_with_a_limit_on_hanging_answers_are_the_same(api: FakeCuda) -> None:
    """Asked about instead of waited for."""
    api.by_itself = True
    engine, bound = opened(api, hang_s=60.0), table()
    engine.bind(bound)
    for seed in range(5):
        inputs = batch(3, seed=seed)
        check(engine, engine.run(inputs), inputs, bound)
    engine.close()
    assert "cudaEventSynchronize" not in api.calls and api.leaks() == [] and api.faults == []


def test_graphs_are_bounded(api: FakeCuda) -> None:
    """More shapes than are kept: the oldest are given up, and answers stay right."""
    engine = opened(api)
    bound = table()
    engine.bind(bound)
    for turn in range(4):
        for rows in range(1, LARGEST + 1):
            for length in range(1, LENGTH + 1):
                inputs = batch(rows, length, seed=turn)
                check(engine, engine.run(inputs), inputs, bound)
    engine.close()
    assert api.leaks() == [] and api.faults == []


REFUSED = [
    ({"ids": batch(9)["ids"]}, r"9 rows, must be in 1\.\.8"),
    ({"ids": batch(2)["ids"].astype(np.int64)}, "ids: dtype int64, needs int32"),
    ({"ids": np.zeros((2, 99), np.int32)}, r"ids of shape \(2, 99\), the plan takes \(1, 1\) to \(8, 6\)"),
    ({"ids": np.zeros((0, 2), np.int32)}, "0 rows"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_begun(
    api: FakeCuda, changes: dict[str, Any], said: str
) -> None:
    engine = opened(api)
    engine.bind(table())
    before = len(api.calls)
    with pytest.raises(ValueError, match=said):
        engine.run({**batch(2), **changes})
    assert len(api.calls) == before
    engine.close()


def test_a_third_batch_and_a_ticket_that_was_used_are_refused(api: FakeCuda) -> None:
    engine = opened(api)
    engine.bind(table())
    tickets = [engine.submit(batch(2, seed=one)) for one in range(SLOTS)]
    with pytest.raises(RuntimeError, match="are under way"):
        engine.submit(batch(1))
    for ticket in tickets:
        engine.wait(ticket)
    with pytest.raises(RuntimeError, match="not under way"):
        engine.wait(tickets[0])
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.run(batch(1))


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"plan": b"of another version"}, "cannot load this plan .*magic tag.*build it for this GPU"),
    ({"inputs": (INPUTS[0],)}, r"tensors \['allowed'\] are not the same"),
    (
        {"outputs": (TensorSpec(name="best", dtype="int32", shape=("B", 2)), OUTPUTS[1])},
        "best is int64 in the plan, the manifest says int32",
    ),
    (
        {"model": model(shape=lambda shapes: {"best": (-1, 2), "scores": (1, WIDTH)})},
        "size of output best depends on data",
    ),
    ({"model": model(memory=1 << 30)}, r"MiB are missing; serve fewer models"),
]


@pytest.mark.parametrize(("changes", "said"), BROKEN)
def test_a_plan_that_cannot_serve_is_refused_with_the_reason(
    api: FakeCuda, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(RuntimeError, match=said):
        opened(api, **changes)
    assert api.leaks() == []


def test_tables_that_do_not_fit_leave_the_engine_as_it_was(api: FakeCuda) -> None:
    """Missing, of another dtype, too large for the plan or for the device: refused, and the old tables serve on."""
    engine = opened(api)
    with pytest.raises(RuntimeError, match="never bound"):
        engine.run(batch(1))
    bound = table()
    engine.bind(bound)
    api.total = 1
    for bad, said in (
        ({}, r"tables \['table'\] are missing"),
        ({"table": np.zeros((2, 2))}, "dtype float64, needs float32"),
        ({"table": np.zeros((5, 2), np.float32)}, "the plan takes"),
    ):
        with pytest.raises(ValueError, match=said):
            engine.bind(bad)
    with pytest.raises(RuntimeError, match=r"tables need .* are missing"):
        engine.bind(table(4))
    inputs = batch(3)
    check(engine, engine.run(inputs), inputs, bound)
    engine.close()
    assert api.leaks() == [] and api.faults == []


def test_no_device_is_a_sentence() -> None:
    with pytest.raises(CudaUnavailable, match=r"device 0 cannot be used: .*a GPU and its driver are needed"):
        CudaRuntime(api=FakeCuda(devices=0))


def test_without_a_driver_the_real_package_says_so() -> None:
    """On a machine without a GPU the real runtime refuses at once, and with a GPU it opens."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    error, _ = runtime.cudaGetDeviceCount()
    if error == runtime.cudaError_t.cudaSuccess:
        CudaRuntime()
    else:
        with pytest.raises(CudaUnavailable, match=error.name):
            CudaRuntime()


@pytest.mark.parametrize("name", sorted(functions()))
def test_the_fake_has_the_signatures_of_the_real_functions(name: str) -> None:
    """A name or an argument that CUDA does not have fails here."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    real = list(inspect.signature(getattr(runtime, name)).parameters)
    assert list(functions()[name].parameters)[1:] == real


def _calls(text: str) -> Iterator[str]:
    yield from re.findall(r'self\._do\("(\w+)"', text)


def test_every_function_that_is_called_is_one_of_the_fake() -> None:
    """What the tests do not record, they do not test."""
    source = inspect.getsource(inspect.getmodule(CudaRuntime))  # type: ignore[arg-type]
    assert set(_calls(source)) <= set(functions())


CLASSES = {
    "Runtime": fake_tensorrt.Runtime,
    "ICudaEngine": fake_tensorrt.ICudaEngine,
    "IExecutionContext": fake_tensorrt.IExecutionContext,
}


@pytest.mark.parametrize("owner", sorted(CLASSES))
def test_the_fake_has_methods_and_arguments_of_the_real_classes(owner: str) -> None:
    """Each method of the fake is one of the real class, with the same names of arguments."""
    trt = pytest.importorskip("tensorrt_rtx")
    real = getattr(trt, owner)
    for name, method in vars(CLASSES[owner]).items():
        if name.startswith("_") or not (inspect.isfunction(method) or isinstance(method, property)):
            continue
        assert hasattr(real, name), name
        if inspect.isfunction(method):
            said = getattr(real, name).__doc__ or ""
            for argument in list(inspect.signature(method).parameters)[1:]:
                assert re.search(rf"\b{argument}\b", said), f"{owner}.{name} has no {argument}: {said[:200]}"


def test_an_error_says_the_call_and_its_name(api: FakeCuda) -> None:
    cuda = CudaRuntime(api=api)
    api.fail_at, api.hurt = len(api.calls), cudaError_t.cudaErrorIllegalAddress
    with pytest.raises(
        CudaError, match=r"cudaMalloc: cudaErrorIllegalAddress .*the device is lost"
    ) as caught:
        cuda.allocate(10)
    assert caught.value.sticky
