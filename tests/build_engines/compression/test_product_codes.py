"""An item table as product codes: what they cost in error, that every graph form scores what they say, and that they serve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build_engines.compile import TargetSpec, compile_graph, load_bound
from build_engines.compression.codebooks import (
    CodebookRefused,
    ProductCodes,
    product_codes,
    query_metric,
    read_codes,
    save_codes,
)
from build_engines.compression.tune_codes import tune_codes, whole_histories
from build_engines.export import export_graph, stored_tables
from build_engines.models.mix import MixConfig
from build_engines.models.sasrec_graph import Int8Scales, group_width
from build_engines.quantize import code_catalogue, pack_transitions
from build_engines.records import GraphRecord
from server.domain import RecommendRequest, RecommendResponse
from server.encoding import packed_tables, tables
from server.encoding.items import pad_left, pad_right
from server.engines.base import TensorSpec
from server.engines.onnxruntime import OnnxRuntimeEngine
from server.pipelines.loading import load_model
from tests import tiny

HISTORIES = [[5], [7, 7, 9], [250, 1, 2, 3, 4], [300, 299]]


def coded(parts: tiny.Ingredients, subspaces: int = 8) -> ProductCodes:
    return product_codes(parts.weights["item_emb_ND"], subspaces=subspaces, codes=64, rounds=4)


def with_table(parts: tiny.Ingredients, table_ND: np.ndarray) -> tiny.Ingredients:
    """The same model with another item table; its own row 0 and the folding of the length stay."""
    return replace(parts, weights={**parts.weights, "item_emb_ND": table_ND})


def engine(folder: Path, record: GraphRecord) -> OnnxRuntimeEngine:
    bound = load_bound(folder, record)
    targets = compile_graph(folder, folder, record, [TargetSpec(kind="onnxruntime")])
    file = next(target.file for target in targets if target.entry == "unmasked")
    made = OnnxRuntimeEngine(
        folder / file,
        inputs=tuple(
            TensorSpec(name=t.name, dtype=t.dtype, shape=t.shape)
            for t in record.inputs
            if t.name != "candidate"
        ),
        outputs=tuple(TensorSpec(name=t.name, dtype=t.dtype, shape=t.shape) for t in record.outputs),
        packed=tuple(n for n in bound if n in tables.PACKED),
        fed=tuple(n for n in bound if n not in tables.PACKED),
    )
    made.bind(bound)
    return made


def answers(made: OnnxRuntimeEngine) -> dict[str, np.ndarray]:
    return made.run(
        {"item_ids": pad_left(HISTORIES, length=tiny.LENGTH), "exclude_ids": pad_right(HISTORIES)}
    )


def exported(folder: Path, parts: tiny.Ingredients, scored: str, codes: ProductCodes) -> GraphRecord:
    stored = code_catalogue(stored_tables(parts), codes, scored=scored)  # type: ignore[arg-type]
    return export_graph(folder, parts, stored=stored, int8=Int8Scales(scoring=1 / 127))


@pytest.mark.parametrize(("scored", "tolerance"), [("lookup", 2e-4), ("decoded", 0.2)])
def test_scores_are_those_of_the_decoded_rows(tmp_path: Path, scored: str, tolerance: float) -> None:
    """Sums of looked-up products are the dequantized rows' own products; unpacked to INT8 they are that within INT8's error."""
    parts = tiny.ingredients(2)
    codes = coded(parts)
    decoded = codes.rows()
    decoded[0] = 0
    reference = tiny.reference_scores(with_table(parts, decoded), HISTORIES)
    for b, history in enumerate(HISTORIES):
        reference[b, history] = -np.inf

    got = answers(engine(tmp_path, exported(tmp_path, parts, scored, codes)))

    best = np.sort(reference, axis=1)[:, ::-1][:, : parts.max_k]
    np.testing.assert_allclose(got["scores"], best, rtol=1e-3, atol=tolerance)


@pytest.mark.parametrize("scored", ["lookup", "decoded"])
def test_the_real_rtx_builder_takes_the_graph(tmp_path: Path, scored: str) -> None:
    """A plan is built of both forms: gather and sum, and codes that were unpacked."""
    pytest.importorskip("tensorrt_rtx")
    parts = tiny.ingredients(3)
    record = exported(tmp_path, parts, scored, coded(parts))

    targets = compile_graph(tmp_path, tmp_path, record, [TargetSpec.parse("tensorrt_rtx:sm86")])

    assert {target.entry for target in targets} == {"masked", "unmasked"}
    assert all((tmp_path / target.file).stat().st_size > 10_000 for target in targets)


def test_packed_tables_come_back_as_the_tables_they_were() -> None:
    """Unpacking gives INT8 rows of the decoded vectors, and every transition within half a step of its weight."""
    parts = tiny.ingredients(4)
    fp32 = stored_tables(parts)
    codes = coded(parts)

    plain = tables.plain(pack_transitions(code_catalogue(fp32, codes, scored="decoded"), kept=5))

    rows = plain["item_emb_ND"] * plain["score_scale_N"][:, None]
    wanted = codes.rows()
    assert np.abs(rows[1 : len(wanted)] - wanted[1:]).max() < 0.05
    folded = fp32["neighbour_weights_NM"][:, :5]
    step = folded.max() / 255
    np.testing.assert_array_equal(plain["neighbour_ids_NM"] > 0, folded > 0)
    assert np.abs(plain["neighbour_weights_NM"] - folded).max() <= step
    assert not any(name.startswith("packed_") for name in plain)


@given(
    st.integers(1, 40),
    st.integers(1, 6),
    st.integers(1, 8),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_any_transitions_survive_packing(rows: int, neighbours: int, kept: int, seed: int) -> None:
    """Whatever the counts, ids are kept exactly, no neighbour is lost or made up, and weights move by half a step at most."""
    rng = np.random.default_rng(seed)
    there = np.sort(rng.random((rows, neighbours)) < 0.6, axis=1)[:, ::-1]
    ids = np.where(there, rng.integers(1, 100_000, there.shape), 0).astype(np.int32)
    weights = np.where(there, rng.gamma(1.0, 2.0, there.shape) + 1e-6, 0).astype(np.float32)

    packed = packed_tables.packed_neighbours(ids, weights, kept=kept)
    plain = tables.plain(packed)

    width = plain["neighbour_ids_NM"].shape[1]
    np.testing.assert_array_equal(plain["neighbour_ids_NM"], ids[:, :kept][:, :width])
    assert not there[:, :kept][:, width:].any()
    np.testing.assert_array_equal(plain["neighbour_weights_NM"] > 0, there[:, :kept][:, :width])
    step = float(packed["packed_neighbour_scale_1"][0])
    error = np.abs(plain["neighbour_weights_NM"] - weights[:, :kept][:, :width])
    assert (error <= step * 1.001).all()


@given(st.sampled_from([1, 2, 4, 8]), st.integers(2, 32), st.integers(40, 90), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_more_rounds_never_code_worse_than_the_start_by_much(
    subspaces: int, codes: int, rows: int, seed: int
) -> None:
    """Lloyd's turns lower the error: what comes out is no worse than coding every row as the mean row."""
    table = np.random.default_rng(seed).standard_normal((rows, 8)).astype(np.float32)

    found = product_codes(table, subspaces=subspaces, codes=codes, rotate=False, rounds=6, seed=seed)

    assert found.codes_NM.max() < codes
    assert np.square(found.rows() - table).sum() <= np.square(table - table.mean(axis=0)).sum() * 1.001


def test_rows_of_few_kinds_are_coded_exactly() -> None:
    """A table with no more different pieces than codes loses nothing."""
    kinds = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    table = kinds[np.random.default_rng(1).integers(0, 6, 80)]

    found = product_codes(table, subspaces=4, codes=16, rotate=False, rounds=10)

    np.testing.assert_allclose(found.rows(), table, atol=1e-5)


def test_a_metric_spends_the_codes_where_queries_are() -> None:
    """With queries that see one half of the directions, their scores err less than with all directions alike."""
    rng = np.random.default_rng(3)
    table = rng.standard_normal((400, 16)).astype(np.float32)
    queries = rng.standard_normal((200, 16)).astype(np.float32) * np.repeat([3.0, 0.1], 8).astype(np.float32)

    plain = product_codes(table, subspaces=4, codes=32, rounds=6).rows()
    aware = product_codes(table, subspaces=4, codes=32, rounds=6, metric_DD=query_metric(queries)).rows()

    def error(rows: np.ndarray) -> float:
        return float(np.square(queries @ (rows - table).T).mean())

    assert error(aware) < 0.9 * error(plain)


def test_rows_of_one_length_come_back_at_that_length() -> None:
    """Item tables of one length are brought back to it, whatever coding did to a row."""
    table = tiny.ingredients(5).weights["item_emb_ND"]

    found = product_codes(table, subspaces=2, codes=8, rounds=3)

    lengths = np.linalg.norm(found.rows(), axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(table[1]), rtol=1e-4)


@pytest.mark.parametrize(
    ("subspaces", "codes", "complaint"),
    [
        (3, 16, "must divide the width 16"),
        (4, 1, "every"),
        (4, 256, "one byte|no smaller"),
        (4, 400, "one byte"),
    ],
)
def test_codes_that_cannot_be_are_refused(subspaces: int, codes: int, complaint: str) -> None:
    """A width that is not divided, a codebook of one, above a byte, or as large as the table: each says its number."""
    table = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
    with pytest.raises(CodebookRefused, match=complaint):
        product_codes(table, subspaces=subspaces, codes=codes)


def test_codes_are_read_as_they_were_written(tmp_path: Path) -> None:
    """What the quantize stage leaves, the export stage reads."""
    codes = coded(tiny.ingredients(6))
    save_codes(tmp_path / "codes.npz", codes)
    np.testing.assert_array_equal(read_codes(tmp_path / "codes.npz").rows(), codes.rows())


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ({packed_tables.ITEM_CODEBOOK: None}, "needs packed_item_codebook_MKW"),
        ({packed_tables.ITEM_CODEBOOK: np.zeros((8, 3, 2), np.float16)}, "must be uint8 below 3"),
        ({packed_tables.ITEM_TURN: np.eye(3, dtype=np.float16)}, "must be \\(16, 16\\)"),
    ],
)
def test_a_broken_packed_table_is_refused_by_name(broken: dict, complaint: str) -> None:
    """A missing part, a code above the codebook, a matrix of another width: refused at load, not served."""
    parts = tiny.ingredients(7)
    stored = code_catalogue(stored_tables(parts), coded(parts), scored="decoded")
    stored = {name: table for name, table in {**stored, **broken}.items() if table is not None}
    with pytest.raises(ValueError, match=complaint):
        tables.engine_tables(stored)


def test_lengths_of_transition_rows_must_add_up() -> None:
    """Counts that say more than there is are refused with both numbers."""
    ids, weights = np.array([[0], [2]], np.int32), np.array([[0.0], [1.0]], np.float32)
    packed = packed_tables.packed_neighbours(ids, weights, kept=1)
    with pytest.raises(ValueError, match="adds up to 5"):
        tables.plain({**packed, packed_tables.NEIGHBOUR_COUNTS: np.array([0, 5], np.uint8)})


@pytest.mark.parametrize(("rows", "k", "width"), [(12_160, 100, 8), (50_048, 20, 64), (320, 100, None)])
def test_the_top_k_is_grouped_where_it_pays(rows: int, k: int, width: int | None) -> None:
    """Groups are as wide as the square root of rows over ranks, and there are none where half the groups would be chosen."""
    assert group_width(rows, k) == width


def test_window_of_one_still_adds_its_transitions(tmp_path: Path) -> None:
    """The newest item alone: no split of one piece, the same answers as the reference."""
    parts = replace(tiny.ingredients(8), mix=MixConfig(window=1))
    record = export_graph(tmp_path, parts, stored=stored_tables(parts), int8=None)
    reference = tiny.reference_scores(parts, HISTORIES)
    for b, history in enumerate(HISTORIES):
        reference[b, history] = -np.inf

    got = answers(engine(tmp_path, record))

    best = np.sort(reference, axis=1)[:, ::-1][:, : parts.max_k]
    np.testing.assert_allclose(got["scores"], best, rtol=1e-4, atol=1e-4)


def test_tuned_codebooks_rank_more_like_the_table() -> None:
    """On queries that were not trained on, the distance to the table's own ranking falls; codes and lengths stay."""
    rng = np.random.default_rng(5)
    table = tiny.ingredients(9).weights["item_emb_ND"]
    queries = rng.standard_normal((600, tiny.DIM)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    codes = product_codes(table, subspaces=4, codes=16, rounds=4)

    tuned, before, after = tune_codes(codes, table, queries, steps=100)

    assert after < before
    np.testing.assert_array_equal(tuned.codes_NM, codes.codes_NM)
    np.testing.assert_allclose(np.linalg.norm(tuned.rows(), axis=1), codes.length, rtol=1e-4)


def test_whole_histories_of_some_users_are_asked() -> None:
    """Each is one user's from first to last, nobody's twice, and users without one are never asked."""
    rows = np.arange(1, 11, dtype=np.int32)
    offsets = np.array([0, 4, 4, 10])

    assert [one.tolist() for one in whole_histories(rows, offsets, 50, seed=0)] == [
        [1, 2, 3, 4],
        list(range(5, 11)),
    ]
    assert len(whole_histories(rows, offsets, 1, seed=0)) == 1


@pytest.mark.parametrize("scored", ["lookup", "decoded"])
def test_a_version_with_packed_tables_is_published_loaded_and_answers(tmp_path: Path, scored: str) -> None:
    """From disk through the golden replay into the runner: the same best items as an INT8 version, explained as well."""
    parts = tiny.ingredients(10)
    codes = product_codes(parts.weights["item_emb_ND"], subspaces=16, codes=128, rounds=4)

    def pack(stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return pack_transitions(code_catalogue(stored, codes, scored=scored), 8)  # type: ignore[arg-type]

    small = tiny.publish_tiny(tmp_path / "pq", parts=parts, pack=pack)
    plain = tiny.publish_tiny(tmp_path / "int8", parts=parts, int8=True)
    requests = [
        RecommendRequest(history=("sku-5", "sku-9", "sku-200"), k=10, explain=True),
        RecommendRequest(history=("sku-7",), k=10, exclude=("sku-8",), filters=None),
    ]

    shared = []
    answered = []
    for opened in (small.opened, plain.opened):
        runner = load_model(opened).runner
        packed = runner.pack(requests)
        answered.append(runner.unpack(packed, runner.run(packed), requests))
    for one, other in zip(*answered, strict=True):
        assert isinstance(one, RecommendResponse) and isinstance(other, RecommendResponse)
        shared.append(len(set(one.item_ids) & set(other.item_ids)) / 10)
    assert np.mean(shared) >= 0.6
    assert answered[0][0].reasons and len(answered[0][0].reasons) == 10
    sizes = [
        sum(p.stat().st_size for p in (o.folder / "tables").iterdir()) for o in (small.opened, plain.opened)
    ]
    assert sizes[0] < sizes[1] * (0.9 if scored == "decoded" else 1.2)
