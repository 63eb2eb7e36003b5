"""The causal engine's promises to the batcher: slots that do not disturb each other, calls that are checked, faults that end."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.batching.token_cost import measure
from server.engines.causal import CausalCall
from server.engines.onnxruntime_causal import KEPT_BINDINGS, OnnxRuntimeCausal
from tests.build_engines.causal_models import CONTEXT, VOCAB, Packed, call, pack, prompt, random_model


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack(random_model("qwen2"), tmp_path_factory.mktemp("engine"))


def test_a_copied_slot_goes_on_as_the_original(packed: Packed) -> None:
    """A prefix that is copied to a slot of another pool is continued there bit by bit, and only its tokens are copied."""
    engine, ids = packed.engine(), prompt(30)
    engine.run(call([ids[:20]], [0], first=1))

    engine.copy((64, 1), (CONTEXT, 0), 20)
    moved = engine.run(call([ids[20:]], [20], capacity=CONTEXT))
    stayed = engine.run(call([ids[20:]], [20], first=1))

    np.testing.assert_allclose(moved, stayed, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="21"):
        engine.copy((64, 1), (16, 0), 21)


def test_neighbours_are_never_written(packed: Packed) -> None:
    """A call for slots 1 and 2, one of them idle, leaves the texts of slots 0 and 3 as they were."""
    engine, ids = packed.engine(), prompt(12)
    for slot in (0, 3):
        engine.run(call([ids[:11]], [0], first=slot))

    engine.run(call([prompt(40, seed=5), np.empty(0, np.int64)], [0, 0], first=1))

    for slot in (0, 3):
        found = engine.run(call([ids[11:]], [11], first=slot))
        np.testing.assert_allclose(found[0], packed.logits_TV(ids)[-1], rtol=1e-4, atol=1e-4)


def test_an_idle_row_keeps_what_its_slot_holds(packed: Packed) -> None:
    """A row without new tokens may be written from ``write_index`` on, and never before it."""
    engine, ids = packed.engine(), prompt(21)
    engine.run(call([ids[:20]], [0], first=1))

    for width in (1, 30):
        engine.run(call([prompt(width, seed=width), np.empty(0, np.int64)], [0, 20], first=0))
    found = engine.run(call([ids[20:]], [20], first=1))

    np.testing.assert_allclose(found[0], packed.logits_TV(ids)[-1], rtol=1e-4, atol=1e-4)


def test_logits_belong_to_the_caller(packed: Packed) -> None:
    """They may be written into, and a later call does not change them."""
    engine = packed.engine()
    first = engine.run(call([prompt(5)], [0]))
    kept = first.copy()
    second = engine.run(call([prompt(5, seed=9)], [0]))
    second[:] = np.nan

    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(engine.run(call([prompt(5)], [0])), kept, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"capacity": 32}, "capacity 32"),
        ({"first_slot": 3}, "slots 3..5"),
        ({"first_slot": -1}, "slots -1"),
        ({"write_index_B": np.array([62, 0])}, "a slot holds 64"),
        ({"write_index_B": np.array([-1, 0])}, "write_index"),
        ({"write_index_B": np.array([0])}, r"must be \[B, T\]"),
        ({"n_new_B": np.array([4, 0])}, "n_new"),
        ({"n_new_B": np.array([3, -1])}, "n_new"),
        ({"input_ids_BT": np.full((2, 3), VOCAB)}, f"token {VOCAB}"),
        ({"input_ids_BT": np.full((2, 3), -1)}, "token -1"),
        ({"input_ids_BT": np.zeros((2, 0), np.int64)}, "input_ids"),
        ({"input_ids_BT": np.zeros((2, 3), np.int32)}, "int32"),
        ({"capacity": CONTEXT, "input_ids_BT": np.zeros((2, 65), np.int64)}, "limit is 64"),
    ],
)
def test_a_call_that_does_not_fit_is_refused_before_anything_is_computed(
    packed: Packed, changes: dict[str, Any], said: str
) -> None:
    """The message holds the value and the limit."""
    good = CausalCall(64, 0, np.zeros((2, 3), np.int64), np.zeros(2, np.int64), np.array([3, 1]))

    with pytest.raises(ValueError, match=said):
        packed.engine().run(dataclasses.replace(good, **changes))


def test_a_slot_is_clean_after_a_text_that_went_wrong(packed: Packed) -> None:
    """NaN in the cache, as a fault leaves it, is gone with the call that shows it: the slot's next text is right."""
    engine, ids = packed.engine(), prompt(20, seed=3)
    engine._pools[64][:, 0, :, :30] = np.nan

    spoilt = engine.run(call([ids[:1]], [5]))
    assert not np.isfinite(spoilt).all()
    engine._pools[64][:, 0, :, :5] = 0.0  # a text begins at 0 and overwrites its own places
    found = engine.run(call([ids], [0]))

    np.testing.assert_allclose(found[0], packed.logits_TV(ids)[-1], rtol=1e-4, atol=1e-4)


def test_many_ranges_of_slots_keep_few_bindings(packed: Packed) -> None:
    """What is kept for ranges of slots is bounded, and a range that was dropped works again."""
    engine, ids = packed.engine({16: 12}), prompt(4)
    wanted = engine.run(call([ids], [0], capacity=16))
    for first in range(12):
        for rows in range(1, 13 - first):
            engine.run(call([ids] * rows, [0] * rows, capacity=16, first=first))

    assert len(engine._bindings) == KEPT_BINDINGS
    np.testing.assert_allclose(engine.run(call([ids], [0], capacity=16)), wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"pools": {}}, "pools"),
        ({"pools": {16: 0}}, "0 slots of 16"),
        ({"pools": {2 * CONTEXT: 1}}, "packaged for 128"),
        ({"threads": 0}, "threads = 0"),
        ({"max_chunk": 0}, "max_chunk = 0"),
    ],
)
def test_an_engine_that_cannot_be_is_not_opened(packed: Packed, arguments: dict[str, Any], said: str) -> None:
    """The message names the argument and its value."""
    with pytest.raises(ValueError, match=said):
        OnnxRuntimeCausal(packed.folder / "model.onnx", **{"pools": {16: 1}, **arguments})


@pytest.mark.parametrize("file", ["model.onnx", "model.weights"])
def test_a_graph_or_weights_cut_short_are_named(packed: Packed, tmp_path: Path, file: str) -> None:
    """Half a file is an error with its path, not a crash."""
    for name in ("model.onnx", "model.weights"):
        content = (packed.folder / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2] if name == file else content)

    with pytest.raises(RuntimeError, match=str(tmp_path)):
        OnnxRuntimeCausal(tmp_path / "model.onnx", pools={16: 1})


def test_another_kind_of_graph_is_refused(tmp_path: Path) -> None:
    """A graph that is no language model is refused with what it has."""
    onnx = pytest.importorskip("onnx")
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [1]) for name in ("x", "y"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    imports = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=imports, ir_version=8), tmp_path / "model.onnx")

    with pytest.raises(RuntimeError, match="no causal language model"):
        OnnxRuntimeCausal(tmp_path / "model.onnx", pools={16: 1})


def test_a_closed_engine_says_so(packed: Packed) -> None:
    """Closing twice is fine; running afterwards is an error."""
    engine = packed.engine()
    engine.close()
    engine.close()

    with pytest.raises(RuntimeError, match="closed"):
        engine.run(call([prompt(3)], [0]))


def test_its_costs_can_be_measured(packed: Packed) -> None:
    """The batcher's own warm-up runs on every pool."""
    costs = measure(packed.engine())

    assert set(costs.decode) == {64, CONTEXT}
    assert all(costs.call_s(capacity, 2, 8) > 0 for capacity in costs.prompt)
