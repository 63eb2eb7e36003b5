"""Weights that share few values: what they lose, what is stored, and that the runtime computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from build_engines.compression.codebooks import CodebookRefused, share_values
from build_engines.compression.registry import find
from build_engines.compression.step import StepWork
from build_engines.errors import BuildError
from build_engines.progress import Silent
from build_engines.targets.shared_constants import share_constants
from tests.build_engines.compression.tiny_model import TinyModel

STEP = find("share_weights")


def work(folder: Path) -> StepWork:
    return StepWork(scratch=folder, progress=Silent(), parent=TinyModel())


VALUES = arrays.arrays(
    np.float32,
    st.integers(20, 400),
    elements=st.floats(-1e3, 1e3, width=32),
)


@given(VALUES, st.integers(2, 16), st.booleans())
@settings(max_examples=100, deadline=None)
def test_every_value_gets_the_nearest_of_its_codebook(values: np.ndarray, codes: int, zero: bool) -> None:
    """No value could be coded better by another code, zeros that are kept stay zero, and the codebook is not exceeded."""
    shared = share_values(values, codes, keep_zero=zero)

    assert len(shared.codebook_K) <= codes
    left = shared.values()
    nearest = np.abs(values[:, None].astype(np.float64) - shared.codebook_K).min(axis=1)
    moved = np.abs(values.astype(np.float64) - left)
    free = (values != 0) if zero else np.ones(values.shape, bool)
    assert (moved[free] <= nearest[free] * 1.0001 + 1e-30).all()
    if zero:
        assert (left[values == 0] == 0).all()


@given(VALUES, st.sampled_from([4, 8, 32]))
@settings(max_examples=60, deadline=None)
def test_k_means_is_no_worse_than_even_steps(values: np.ndarray, codes: int) -> None:
    """What k-means starts from is an even grid from lowest to highest, and it never ends above that grid's error."""
    if codes >= values.size:
        return
    grid = np.linspace(values.min(), values.max(), codes)
    even = np.square(values[:, None] - grid).min(axis=1).sum()

    shared = share_values(values, codes)

    assert np.square(values - shared.values()).sum() <= even * 1.001 + 1e-6


@pytest.mark.parametrize(
    ("codes", "complaint"), [(1, "the same value"), (300, "one byte"), (100, "no smaller")]
)
def test_codebooks_that_do_not_compress_are_refused(codes: int, complaint: str) -> None:
    """One value, more than a byte, or as many as there are weights: each is a sentence with both numbers."""
    with pytest.raises(CodebookRefused, match=complaint):
        share_values(np.arange(64, dtype=np.float32), codes, what="blocks.0.q.weight")


def test_values_that_are_not_finite_are_refused_by_name() -> None:
    """A broken weight is named, not coded."""
    with pytest.raises(CodebookRefused, match=r"down\.weight: values are not finite"):
        share_values(np.array([1.0, np.nan, 2.0, 3.0]), 2, what="down.weight")


def test_the_step_leaves_few_values_in_every_matrix_and_says_both_sizes(tmp_path: Path) -> None:
    """Each linear of each block has 8 values at most afterwards, as an ordinary parameter."""
    model = TinyModel()

    after, record = STEP.run(model, STEP.options(bits=3), work(tmp_path))

    names = [f"{name}.weight" for block in after.blocks for name in block.linears]
    for name in names:
        weight = dict(after.module.named_parameters())[name]
        assert len(torch.unique(weight)) <= 8
        assert weight.requires_grad
    assert record.figures["bytes stored"] < record.figures["bytes in memory"] / 4
    assert "stored in" in record.said


def test_codebooks_learn_without_a_code_changing(tmp_path: Path) -> None:
    """Tuning lowers the held-out loss or leaves the weights; the number of values does not grow, and others stay."""
    model = TinyModel(seed=1)
    table = model.module.table.weight.detach().clone()

    after, record = STEP.run(
        model, STEP.options(bits=2, tune=True, epochs=2, learning_rate=1e-2), work(tmp_path)
    )

    assert record.figures["loss after"] <= record.figures["loss before"]
    assert all(
        len(torch.unique(after.module.get_submodule(name).weight)) <= 4
        for block in after.blocks
        for name in block.linears
    )
    torch.testing.assert_close(after.module.table.weight.detach(), table)
    assert all(one.requires_grad for one in after.module.parameters())


def test_pruned_weights_stay_pruned(tmp_path: Path) -> None:
    """Zeros of a pruned matrix are zeros of the shared one, through learning too."""
    model = TinyModel(seed=2)
    weight = model.module.blocks[0].up.weight
    with torch.no_grad():
        weight[torch.rand_like(weight) < 0.5] = 0.0
    zeros = (weight == 0).clone()

    after, _ = STEP.run(model, STEP.options(bits=2, tune=True, learning_rate=1e-2), work(tmp_path))

    assert (after.module.blocks[0].up.weight[zeros] == 0).all()


def test_a_tied_table_is_not_coded_twice(tmp_path: Path) -> None:
    """A table that another layer multiplies by is stored once already, and is refused with a sentence."""
    model = TinyModel()
    model.module.head = torch.nn.Linear(16, 24, bias=False)
    model.module.head.weight = model.module.table.weight

    with pytest.raises(BuildError, match="tied to another layer"):
        STEP.run(model, STEP.options(bits=3, table=True), work(tmp_path))


@pytest.mark.parametrize("values", [7, 200, 1000])
def test_the_runtime_computes_the_same_from_codes(values: int) -> None:
    """A graph with shared constants is smaller by what is said, and answers bit for bit; one of many values is left."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal(values).astype(np.float32)[rng.integers(0, values, (96, 101))]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 96])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 101])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=11)
    plain = model.SerializeToString()

    saved = share_constants(model.graph)

    shared = model.SerializeToString()
    onnx.checker.check_model(model, full_check=True)
    if values == 1000:
        assert saved == 0
        return
    assert len(plain) - len(shared) > 0.7 * weight.nbytes
    assert abs(len(plain) - len(shared) - saved) < 1000
    x = rng.standard_normal((3, 96)).astype(np.float32)
    wanted, got = (
        ort.InferenceSession(one, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for one in (plain, shared)
    )
    np.testing.assert_array_equal(got, wanted)
