"""What several blocks share is stored once in what is published, inside a graph and beside it, and computes the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from hypothesis import given
from hypothesis import strategies as st

from build_engines.export import export_graph, stored_tables
from build_engines.models.causal.store import WeightFile
from build_engines.onnx_writer import OnnxWriter, model_bytes
from tests import tiny


def test_equal_constants_of_any_name_are_written_once() -> None:
    """Large ones by their content: the graph is as large as with one, and multiplies by both."""
    one = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    other = one + 1

    def graph(*weights: Any) -> bytes:
        w = OnnxWriter("shared")
        x = w.input("x", "float32", ["B", 64])
        for at, weight in enumerate(weights):
            x = w.op("MatMul", x, w.constant(weight, name=f"blocks.{at}"))
        return model_bytes(w.model({"y": (x, "float32", ["B", 64])}))

    shared, plain = graph(one, one.copy(), one.copy()), graph(one, other, one + 2)

    assert len(shared) < one.nbytes * 1.2 < 3 * one.nbytes < len(plain)
    x = np.eye(64, dtype=np.float32)
    (y,) = ort.InferenceSession(shared).run(None, {"x": x})
    assert np.allclose(y, one @ one @ one, rtol=1e-3, atol=1e-3)


def test_a_shape_or_type_of_its_own_is_a_constant_of_its_own() -> None:
    """The same bytes in another shape or type are another constant."""
    values = np.zeros((32, 64), np.float32)
    w = OnnxWriter("shapes")

    found = [w.constant(one) for one in (values, values.T, values.view(np.int32), values.copy())]

    assert found[0] is found[3]
    assert len({id(one) for one in found}) == 3
    assert [list(one.shape) for one in found[:2]] == [[32, 64], [64, 32]]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_a_weights_file_holds_equal_tensors_once_and_gives_each_back(kinds: list[int]) -> None:
    """Whatever comes after which, each name reads its own values, and the file grows by what is new only."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder, sizes = Path(name), []
        with WeightFile(folder) as store:
            for at, kind in enumerate(kinds):
                array = np.full((kind + 1, 100), kind, np.float32)
                store.append(f"t{at}", ir.DataType.FLOAT, array.shape, [array[:1], array[1:]])
                store._file.flush()
                sizes.append(store.path.stat().st_size)
            found = {key: np.array(one.numpy()) for key, one in store.written.items()}

    for at, kind in enumerate(kinds):
        assert np.array_equal(found[f"t{at}"], np.full((kind + 1, 100), kind, np.float32))
        if kind in kinds[:at]:
            assert sizes[at] == sizes[at - 1]


def test_an_engine_whose_blocks_share_is_smaller_by_a_block(tmp_path: Path) -> None:
    """The recommender's graph with two equal blocks holds one block's matrices."""
    parts = tiny.ingredients(1)
    weights: dict[str, Any] = dict(parts.weights)
    for name, array in parts.weights.items():
        if name.startswith("blocks.0."):
            weights[name.replace("blocks.0.", "blocks.1.")] = array.copy()
    shared = dataclasses.replace(parts, weights=weights)

    def matrices(folder: Path, of: Any) -> tuple[int, int]:
        folder.mkdir()
        record = export_graph(folder, of, stored=stored_tables(of), int8=None)
        graph = onnx.load(str(folder / record.file)).graph
        large = [one for one in graph.initializer if len(one.raw_data) >= 4096]
        return len(large), (folder / record.file).stat().st_size

    plain_count, plain_size = matrices(tmp_path / "plain", parts)
    count, size = matrices(tmp_path / "shared", shared)

    assert count < plain_count and size < plain_size
