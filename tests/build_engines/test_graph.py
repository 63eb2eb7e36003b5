"""The graph says what the weights say, on every entry, at any width, and in INT8 nearly so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from build_engines.compile import TargetSpec, compile_graph, load_bound
from build_engines.export import export_graph, stored_tables
from build_engines.models.mix import MixConfig
from build_engines.models.sasrec_graph import Int8Scales, quantize_rows
from build_engines.quantize import calibrate, quantize_catalogue
from build_engines.records import GraphRecord
from build_engines.targets.onnxruntime_cpu import check_kernels, package
from server.encoding.items import pad_left, pad_right
from server.encoding.tables import NEVER, PACKED
from server.engines.base import TensorSpec
from server.engines.onnxruntime import OnnxRuntimeEngine
from tests import tiny

HISTORIES = [[5], [7, 7, 9], [250, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14], [300, 299]]


def engines(folder: Path, parts: tiny.Ingredients, *, int8: bool = False) -> tuple[dict, GraphRecord]:
    stored = stored_tables(parts)
    scales = Int8Scales(scoring=1 / 127) if int8 else None
    record = export_graph(folder, parts, stored=quantize_catalogue(stored) if int8 else stored, int8=scales)
    bound = load_bound(folder, record)
    made = {}
    for target in compile_graph(folder, folder, record, [TargetSpec(kind="onnxruntime")]):
        names = [t for t in record.inputs if t.name != "candidate" or target.entry == "masked"]
        engine = OnnxRuntimeEngine(
            folder / target.file,
            inputs=tuple(TensorSpec(name=t.name, dtype=t.dtype, shape=t.shape) for t in names),
            outputs=tuple(TensorSpec(name=t.name, dtype=t.dtype, shape=t.shape) for t in record.outputs),
            packed=tuple(n for n in bound if n in PACKED),
            fed=tuple(n for n in bound if n not in PACKED),
        )
        engine.bind(bound)
        made[target.entry] = engine
    return made, record


def run(engine: OnnxRuntimeEngine, histories: list[list[int]], candidate: np.ndarray | None = None) -> dict:
    inputs = {"item_ids": pad_left(histories, length=tiny.LENGTH), "exclude_ids": pad_right(histories)}
    if candidate is not None:
        inputs["candidate"] = candidate
    return engine.run(inputs)


def best(scores_BN: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-scores_BN, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores_BN, order, axis=1)


def masked_reference(parts: tiny.Ingredients, histories: list[list[int]]) -> np.ndarray:
    scores_BN = tiny.reference_scores(parts, histories)
    for b, history in enumerate(histories):
        scores_BN[b, history] = -np.inf
    return scores_BN


@pytest.mark.parametrize("items", [300, 63, 3000])
def test_the_engine_ranks_as_numpy_does_from_the_same_weights(tmp_path: Path, items: int) -> None:
    """Whatever the size of the catalogue (grouped top K or plain), ids and scores are the reference's."""
    parts = tiny.ingredients(3, items=items)
    histories = [[row % items + 1 for row in history] for history in HISTORIES]
    made, _ = engines(tmp_path, parts)
    rows, scores = best(masked_reference(parts, histories), parts.max_k)

    got = run(made["unmasked"], histories)

    np.testing.assert_allclose(got["scores"], scores, rtol=1e-4, atol=1e-4)
    assert np.mean(got["ids"] == rows) > 0.98  # equal scores may swap


def test_a_history_means_the_same_alone_and_beside_a_longer_one(tmp_path: Path) -> None:
    """Padding to the longest history of a batch changes nobody's answer."""
    made, _ = engines(tmp_path, tiny.ingredients(4))

    together = run(made["unmasked"], HISTORIES)

    for b, history in enumerate(HISTORIES):
        alone = run(made["unmasked"], [history])
        np.testing.assert_allclose(alone["scores"][0], together["scores"][b], rtol=1e-5, atol=1e-5)


def test_the_mask_leaves_only_candidates_and_changes_no_score(tmp_path: Path) -> None:
    """The masked entry ranks candidates as the unmasked one would, and marks what is missing as never."""
    parts = tiny.ingredients(5)
    made, record = engines(tmp_path, parts)
    rows = len(load_bound(tmp_path, record)["item_emb_ND"])
    candidate = np.zeros((len(HISTORIES), rows), np.bool_)
    candidate[:, [20, 21, 22]] = True

    got = run(made["masked"], HISTORIES, candidate)

    reference = masked_reference(parts, HISTORIES)
    for b in range(len(HISTORIES)):
        assert set(got["ids"][b][:3]) == {20, 21, 22}
        np.testing.assert_allclose(
            got["scores"][b][:3], np.sort(reference[b, [20, 21, 22]])[::-1], rtol=1e-4, atol=1e-4
        )
        assert (got["scores"][b][3:] <= NEVER / 2).all()


@pytest.mark.parametrize("mix", [MixConfig(neural_weight=0.0, popularity_weight=1e-6), MixConfig(gamma=0.0)])
def test_counts_alone_and_network_alone_are_the_same_graph(tmp_path: Path, mix: MixConfig) -> None:
    """Where validation gives all weight to one part, the engine serves exactly that part."""
    parts = replace(tiny.ingredients(6), mix=mix)
    made, _ = engines(tmp_path, parts)
    _, scores = best(masked_reference(parts, HISTORIES), parts.max_k)

    got = run(made["unmasked"], HISTORIES)

    np.testing.assert_allclose(got["scores"], scores, rtol=1e-4, atol=1e-6)


def test_a_popularity_prior_is_served_in_int8_too(tmp_path: Path) -> None:
    """A bias on the scores costs no fused kernel, whatever the precision."""
    parts = replace(tiny.ingredients(6), mix=MixConfig(neural_weight=1.0, popularity_weight=0.3))
    made, _ = engines(tmp_path, parts, int8=True)
    _, scores = best(masked_reference(parts, HISTORIES), parts.max_k)

    got = run(made["unmasked"], HISTORIES)

    assert np.abs(got["scores"] - scores).max() < 0.2


def test_int8_keeps_nearly_all_of_the_top_items(tmp_path: Path) -> None:
    """Codes with row scales move scores by about a hundredth of their range, and few items leave the top."""
    parts = tiny.ingredients(7)
    made, record = engines(tmp_path, parts, int8=True)
    rows, scores = best(masked_reference(parts, HISTORIES), parts.max_k)

    got = run(made["unmasked"], HISTORIES)

    assert record.precision == "int8"
    assert np.abs(got["scores"] - scores).max() < 0.15
    shared = [
        len(set(a) & set(b)) / parts.max_k for a, b in zip(got["ids"].tolist(), rows.tolist(), strict=True)
    ]
    assert np.mean(shared) >= 0.85


def test_an_empty_history_gives_finite_scores(tmp_path: Path) -> None:
    """Nothing known is no softmax over nothing."""
    made, _ = engines(tmp_path, tiny.ingredients(8))

    got = run(made["unmasked"], [[]])

    assert np.isfinite(got["scores"]).all()


def test_rows_come_back_within_half_a_code_of_what_went_in() -> None:
    """Quantizing a row and multiplying by its scale errs by at most half a step, whatever the row's size."""
    rng = np.random.default_rng(0)
    table = rng.standard_normal((50, 8)) * np.geomspace(1e-6, 1e6, 50)[:, None]
    table[3] = 0

    codes, scales = quantize_rows(table)

    assert (np.abs(codes * scales[:, None] - table) <= scales[:, None] * 0.501).all()


def test_calibration_covers_what_the_network_says() -> None:
    """The scoring input has length one, so its scale is between that of even and of single-peaked vectors."""
    parts = tiny.ingredients(9)

    scales = calibrate(parts, [np.array([1, 2, 3]), np.array([9])], scope="all", percentile=100.0)

    assert 1 / np.sqrt(tiny.DIM) / 127 <= scales.scoring <= 1 / 127
    assert set(scales.linears) == {f"blocks.{b}.{n}" for b in (0, 1) for n in ("qkv", "out", "up", "down")}


def test_int8_everywhere_is_fused_everywhere(tmp_path: Path) -> None:
    """With every linear in INT8 the runtime still finds a fused kernel for each: no silent fallback."""
    parts = tiny.ingredients(10)
    scales = calibrate(parts, [np.arange(1, 12)], scope="all")
    record = export_graph(tmp_path, parts, stored=quantize_catalogue(stored_tables(parts)), int8=scales)

    targets = compile_graph(tmp_path, tmp_path, record, [TargetSpec(kind="onnxruntime")])

    assert len(targets) == 2  # compile_graph has counted the kernels
    assert record.parameters["integer_matmuls"] == 1 + 2 * 6


def test_a_silent_fallback_is_refused(tmp_path: Path) -> None:
    """A count that is off names what was expected, and what the runtime made of it."""
    parts = tiny.ingredients(11)
    record = export_graph(tmp_path, parts, stored=stored_tables(parts), int8=None)
    bound = load_bound(tmp_path, record)
    packed = {name: table for name, table in bound.items() if name in PACKED}
    packaged = package(onnx.load(str(tmp_path / record.file)), packed).SerializeToString()

    with pytest.raises(ValueError, match="must have 3"):
        check_kernels(packaged, packed, attention=3, integer_matmuls=0)
