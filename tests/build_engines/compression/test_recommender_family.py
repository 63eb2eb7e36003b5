"""A recommender as the steps see it: what it was trained as, cut to smaller shapes, and served."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from build_engines.compile import TargetSpec, compile_graph
from build_engines.compression.families.recommender import (
    Recommender,
    ShopData,
    open_recommender,
    state_of_export,
)
from build_engines.compression.model import Keep
from build_engines.data.interactions import Interactions
from build_engines.data.sequences import Sequences
from build_engines.data.splits import SplitRule, split_interactions
from build_engines.errors import BuildError
from build_engines.export import Ingredients, export_graph, stored_tables
from build_engines.models.mix import MixConfig
from build_engines.models.popularity import decayed_popularity
from build_engines.models.sasrec import SasRec, SasRecConfig, encode_UD, pad_attributes
from build_engines.models.sasrec_graph import Int8Scales
from build_engines.models.training import TrainingConfig
from build_engines.models.transitions import TransitionConfig, build_transitions
from build_engines.quantize import quantize_catalogue
from build_engines.trained_files import TrainedArrays, read_reference, read_trained
from server.encoding.items import pad_left, pad_right
from server.encoding.tables import PACKED, engine_tables
from server.engines.base import TensorSpec
from server.engines.onnxruntime import OnnxRuntimeEngine

ITEMS = 130
CONFIG = SasRecConfig(num_items=ITEMS, dim=16, blocks=3, heads=4, length=8, dropout=0.1, ffn_multiplier=2.0)


@pytest.fixture(scope="module")
def model() -> Recommender:
    rng = np.random.default_rng(1)
    logs = [
        ((rng.integers(0, ITEMS) + np.arange(rng.integers(3, 9))) % ITEMS + 1).tolist() for _ in range(120)
    ]
    interactions = Interactions(
        users=tuple(f"u{n}" for n in range(len(logs))),
        items=tuple(f"i{n}" for n in range(ITEMS)),
        sequences=Sequences.of(logs),
        timestamps_ms_E=None,
    )
    split = split_interactions(interactions, SplitRule(calibration_share=0.2))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        attributes = pad_attributes([[], *([item % 5] for item in range(ITEMS))], ITEMS)
        module = SasRec(CONFIG, attributes)
        for parameter in module.parameters():  # biases and norms must matter
            torch.nn.init.normal_(parameter, std=0.3)
    weights = module.export_weights()
    table = build_transitions(list(split.train), ITEMS, TransitionConfig(top_m=4), timestamps=None)
    arrays = TrainedArrays(
        weights=weights, table=table, popularity_N=decayed_popularity(list(split.train), ITEMS)
    )
    data = ShopData(
        split=split,
        training=TrainingConfig(batch_size=16),
        arrays=arrays,
        mix=MixConfig(window=2, popularity_weight=0.05),
    )
    own = SasRec(CONFIG)
    own.load_state_dict(state_of_export(weights, CONFIG))
    found = Recommender(own, data)
    histories = list(split.gate.histories)
    np.testing.assert_allclose(encode_UD(module, histories), encode_UD(own, histories), atol=1e-5)
    return found


def serve(
    model: Recommender, folder: Path, histories: list[list[int]], *, int8: bool = False
) -> dict[str, np.ndarray]:
    """Save, export, compile, and ask the engine."""
    (folder / "saved").mkdir(parents=True)
    model.save(folder / "saved")
    trained = read_trained(folder / "saved")
    parts = Ingredients(
        weights=trained.weights,
        transitions=trained.table,
        popularity_N=trained.popularity_N,
        mix=model.data.mix,
        heads=model.sizes.heads,
        max_k=ITEMS,
        max_batch=64,
        max_exclude=32,
    )
    stored = stored_tables(parts)
    scales = Int8Scales(scoring=1 / 127) if int8 else None
    made = folder / "engine"
    made.mkdir()
    record = export_graph(made, parts, stored=quantize_catalogue(stored) if int8 else stored, int8=scales)
    targets = compile_graph(made, made, record, [TargetSpec(kind="onnxruntime")])
    bound = engine_tables({one.tensor: np.load(made / one.file) for one in record.tables})
    specs = tuple(
        TensorSpec(name=t.name, dtype=t.dtype, shape=t.shape) for t in record.inputs if t.name != "candidate"
    )
    engine = OnnxRuntimeEngine(
        made / next(one.file for one in targets if one.entry == "unmasked"),
        inputs=specs,
        outputs=tuple(TensorSpec(name=t.name, dtype=t.dtype, shape=t.shape) for t in record.outputs),
        packed=tuple(n for n in bound if n in PACKED),
        fed=tuple(n for n in bound if n not in PACKED),
    )
    engine.bind(bound)
    answer = engine.run({"item_ids": pad_left(histories, length=8), "exclude_ids": pad_right(histories)})
    engine.close()
    return answer


def cuts(model: Recommender) -> dict[str, Keep]:
    sizes = model.sizes
    popular = np.argsort(-model.traffic_R()[1:])[: ITEMS // 2] + 1
    rows = np.sort(np.concatenate([[0], popular])).astype(np.int64)
    return {
        "nothing": Keep(),
        "heads": Keep(heads=((0, 3), (1, 2), (2, 3))),
        "inner": Keep(inner=(tuple(range(7)),) * 3),
        "width": Keep(dims=tuple(range(0, sizes.dim, 2))),
        "blocks": Keep(blocks=(0, 2)),
        "rows": Keep(rows=rows),
        "all": Keep(
            blocks=(0, 2), heads=((0,), (3,)), inner=((1, 3, 5), (0, 2, 4)), dims=tuple(range(9)), rows=rows
        ),
    }


@pytest.mark.parametrize("name", ["nothing", "heads", "inner", "width", "blocks", "rows", "all"])
def test_a_narrowed_model_answers_in_the_engine_as_it_does_in_training(
    model: Recommender, name: str, tmp_path: Path
) -> None:
    """Whatever was cut, the served scores are those of the smaller network, and every item can still be scored."""
    small = model.narrowed(cuts(model)[name])
    small.save(tmp_path)
    reference = read_reference(tmp_path)
    histories = [rows.tolist() for rows in reference.histories]

    answer = serve(small, tmp_path / "served", histories)

    for row, history in enumerate(histories):
        scores_N = reference.scores_BN[row].copy()
        scores_N[history] = -np.inf
        order = answer["ids"][row][: ITEMS - len(set(history))]
        assert set(order.tolist()) == set(range(1, ITEMS + 1)) - set(history)
        np.testing.assert_allclose(answer["scores"][row][: len(order)], scores_N[order], rtol=1e-3, atol=2e-3)


def test_cutting_what_does_nothing_changes_no_answer(model: Recommender) -> None:
    """A head, an inner channel or a block that adds nothing can go without a trace."""
    quiet = model.narrowed(Keep())
    with torch.no_grad():
        quiet.module.get_parameter("blocks.0.out.weight")[:, 4:8] = 0
        quiet.module.get_parameter("blocks.0.down.weight")[:, 5:] = 0
        for name in ("blocks.1.out", "blocks.1.down"):
            quiet.module.get_parameter(f"{name}.weight").zero_()
            quiet.module.get_parameter(f"{name}.bias").zero_()
    quiet.module.eval()
    smaller = quiet.narrowed(Keep(blocks=(0, 2), inner=(tuple(range(5)), tuple(range(5, 10))))).narrowed(
        Keep(heads=((0, 2, 3), (0, 1, 2)))
    )
    same = quiet.narrowed(Keep(blocks=(0, 2)))
    histories = list(model.data.split.gate.histories)

    wanted, found = encode_UD(quiet.sasrec, histories), encode_UD(same.sasrec, histories)

    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert smaller.sizes == dataclasses.replace(quiet.sizes, blocks=2, heads=3, kv_heads=3, inner=5)


def test_an_item_without_a_row_is_looked_up_as_its_like_and_scored_by_the_shared_row(
    model: Recommender,
) -> None:
    """Items that lost their row keep an answer, and tie with one another in the network's eyes."""
    small = model.narrowed(cuts(model)["rows"])
    rows = small.sasrec.item_rows
    assert rows is not None
    gone = np.flatnonzero(rows.score_N == rows.rows - 1)

    logits = small.traces(next(small.calibration(8))).logits_PC

    assert logits is not None and logits.shape[1] == ITEMS and len(gone) == ITEMS - ITEMS // 2
    assert torch.equal(logits[:, gone[0] - 1], logits[:, gone[1] - 1])
    assert (rows.input_N[gone] < rows.rows - 1).all()
    again = small.narrowed(Keep(rows=np.arange(10)))
    assert again.sizes.rows == 11 and again.sasrec.item_rows is not None


def test_a_saved_model_comes_back_bit_for_bit(model: Recommender, tmp_path: Path) -> None:
    """The next step of a chain starts from exactly what the one before it left."""
    small = model.narrowed(cuts(model)["all"])
    small.save(tmp_path)

    again = open_recommender(tmp_path, small.sasrec.config, model.data)

    assert again.identity == small.identity
    for name, one in small.module.state_dict().items():
        assert torch.equal(one, again.module.state_dict()[name])


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (Keep(blocks=()), "no blocks would be left of 3"),
        (Keep(heads=((), (), ())), "no heads of a block would be left of 4"),
        (Keep(heads=((0,), (1,), (0, 1))), "blocks would keep 1, 1, 2 heads"),
        (Keep(dims=(3, 2)), "must rise"),
        (Keep(inner=((0, 99),) * 3), "name 99, there are 0..31"),
        (Keep(rows=np.array([1, 2])), "row 0"),
        (Keep(rows=np.array([0])), "at least one item"),
    ],
)
def test_pruning_to_nothing_or_to_what_is_not_there_is_refused_in_words(
    model: Recommender, keep: Keep, said: str
) -> None:
    """A cut that leaves no model says which part of it would be gone."""
    with pytest.raises(BuildError, match=said):
        model.narrowed(keep)


def test_a_narrowed_model_learns(model: Recommender) -> None:
    """Gradients reach every parameter of a cut model, and its loss falls."""
    small = model.narrowed(cuts(model)["all"])
    optimizer = torch.optim.AdamW(small.module.parameters(), lr=3e-3)
    plan = small.plan(0)
    before = small.judge()
    for epoch in range(20):
        for batch in small.plan(epoch).batches:
            optimizer.zero_grad()
            small.loss(batch).backward()
            optimizer.step()
    assert all(parameter.grad is not None for parameter in small.module.parameters())
    assert len(small.plan(5).batches) == len(plan.batches) and small.judge() < before - 0.3
    assert model.calibration_digests() and sum(map(len, model.calibration(5))) == 5


def test_shared_rows_serve_in_int8_as_well(model: Recommender, tmp_path: Path) -> None:
    """Row scales are of the table's rows, and every item's score is that of its row."""
    small = model.narrowed(cuts(model)["rows"])
    histories = [rows.tolist() for rows in model.data.split.gate.histories][:8]

    plain = serve(small, tmp_path / "fp32", histories)
    rounded = serve(small, tmp_path / "int8", histories, int8=True)

    for row in range(len(histories)):
        scores = dict(zip(plain["ids"][row].tolist(), plain["scores"][row].tolist(), strict=True))
        for item, score in zip(rounded["ids"][row].tolist(), rounded["scores"][row].tolist(), strict=True):
            if score > -1e8:
                assert abs(score - scores[item]) < 0.8
