"""Stage 3 of a re-ranker: features by the function that serves, a network, and both as what ``own_model`` compresses.

Suffixes: C cases, L lists, R candidates of one, F dense features, S sparse ones, N rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from build_engines.errors import BuildError
from build_engines.onnx_writer import OPSET
from build_engines.own_model.declared import DeclaredModel, DeclaredTensor
from build_engines.own_model.graph_facts import (
    operators_of,
    parameters_of,
    read_precision,
    tensors_of,
    write_graph,
)
from build_engines.own_model.load import LABEL_PREFIX
from build_engines.own_model.python_source import export_declared, run_declared
from build_engines.own_model.records import SourceGraph
from build_engines.own_model.rows import row_hashes, save_rows, take
from build_engines.own_model.states import CALIBRATION_FILE, GATE_FILE, GRAPH_FILE, REFERENCE_FILE
from build_engines.records import CurvePoint
from build_engines.rerank.candidates import GATE, TRAIN, read_lists
from build_engines.rerank.features import attribute_columns, declaration, list_rows, make_tables
from build_engines.rerank.learner import Lists, RankingLearner, identity_of
from build_engines.rerank.network import DENSE, LOGIT, SPARSE, RerankNetwork, make_network
from build_engines.rerank.recipe_parts import RerankTrainPart, RerankTrainStagePart
from build_engines.rerank.records import RerankTrainRecord
from build_engines.rerank.states import Candidates
from build_engines.shop_files import read_shop
from build_engines.stage import Work
from build_engines.tuning_loop import LoopOptions, LossPoint, TuningDiverged, TuningResult, run_loop
from server.encoding.catalogue import ITEM_COLUMNS_FILE, ITEM_IDS_FILE, write_catalogue
from server.encoding.rerank_features import RerankFeatures, RerankRows

FEATURES_FILE, TABLES_FOLDER = "features.json", "tables"
CLICKED, LIST = "clicked", "list"  # labels of the gate's rows
LEAST_LISTS = 32
CALIBRATION_ROWS = 8192
CHECKPOINT = "checkpoint.pt"


def run(candidates: Candidates, part: RerankTrainStagePart, work: Work) -> RerankTrainRecord:
    """Make features, train, export, and write what is calibrated and judged on.

    Raises:
        BuildError: an attribute is not there, there are too few lists, or training diverges.
    """
    shop = read_shop(candidates.loaded.output.folder)
    split = shop.split(candidates.loaded.record.split)
    declared = declaration(part.features)
    columns = attribute_columns(shop.catalogue, part.features.attributes)
    tables = make_tables(shop.catalogue, split.train)
    features = RerankFeatures(declared, shop.catalogue.item_ids, columns, tables)
    cases = {TRAIN: split.validation, GATE: split.gate}
    arrays = {what: read_lists(candidates.output.folder, what) for what in cases}
    made = {
        what: list_rows(features, some.histories, arrays[what]["rows_CR"], arrays[what]["scores_CR"])
        for what, some in cases.items()
    }
    lists = _lists(arrays[TRAIN], made[TRAIN])
    if len(lists) < LEAST_LISTS:
        raise BuildError(
            f"train: {len(lists)} lists hold their right item, {LEAST_LISTS} are needed; raise first_stage.candidates, or give a "
            "longer log"
        )
    network, result = _trained(lists, declared.buckets, part, work)
    graph = _write_graph(network, part, arrays, made, work.folder)
    (work.folder / FEATURES_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(declared), indent=1))
    (work.folder / TABLES_FOLDER).mkdir()
    for name, table in tables.items():
        np.save(work.folder / TABLES_FOLDER / f"{name}.npy", table)
    write_catalogue(
        work.folder / ITEM_IDS_FILE, work.folder / ITEM_COLUMNS_FILE, shop.catalogue.item_ids, columns
    )
    notes = (
        f"{part.network.architecture}: {graph.parameters} parameters, {len(lists)} lists to learn from, held-out loss "
        f"{result.best.heldout_loss:.4f} after {result.best.epoch:.1f} epochs",
    )
    for note in notes:
        work.progress.say(f"  {note}")
    return RerankTrainRecord(
        graph=graph,
        architecture=part.network.architecture,
        curve=tuple(
            CurvePoint(epoch=round(one.epoch), loss=one.loss, metric=one.heldout_loss, seconds=one.seconds)
            for one in result.curve
        ),
        rows={what: len(one.dense_RF) for what, one in made.items()},
        attributes=part.features.attributes,
        buckets=declared.buckets,
        salt=declared.salt,
        max_history=declared.max_history,
        notes=notes,
    )


def open_features(folder: Path, item_ids: tuple[str, ...], columns: dict[str, list[Any]]) -> RerankFeatures:
    """The features that a training stage left in its folder."""
    from server.encoding.rerank_features import TABLES, FeatureDeclaration

    declared = msgspec.json.decode((folder / FEATURES_FILE).read_bytes(), type=FeatureDeclaration)
    tables = {name: np.load(folder / TABLES_FOLDER / f"{name}.npy") for name in TABLES}
    return RerankFeatures(declared, item_ids, columns, tables)


def _lists(arrays: dict[str, npt.NDArray[Any]], rows: RerankRows) -> Lists:
    """Lists that hold their right item, padded to the longest."""
    rows_CR, targets_C = arrays["rows_CR"], arrays["targets_C"]
    filled_CR = rows_CR > 0
    hit_CR = (rows_CR == targets_C[:, None]) & filled_CR
    kept = np.flatnonzero(hit_CR.any(axis=1))
    shape = filled_CR.shape
    dense = np.zeros((*shape, rows.dense_RF.shape[1]), np.float32)
    sparse = np.zeros((*shape, rows.sparse_RS.shape[1]), np.int32)
    dense[filled_CR], sparse[filled_CR] = rows.dense_RF, rows.sparse_RS
    return Lists(
        dense_LRF=torch.from_numpy(dense[kept]),
        sparse_LRS=torch.from_numpy(sparse[kept]),
        filled_LR=torch.from_numpy(filled_CR[kept]),
        right_L=torch.from_numpy(hit_CR[kept].argmax(axis=1)),
    )


def _trained(
    lists: Lists, buckets: dict[str, int], part: RerankTrainStagePart, work: Work
) -> tuple[RerankNetwork, TuningResult]:
    train = part.train
    order = np.random.default_rng(train.seed).permutation(len(lists))
    held = max(1, round(train.validation_share * len(lists)))
    held_out, learnt = lists.take(np.sort(order[:held])), lists.take(np.sort(order[held:]))
    seen = learnt.dense_LRF[learnt.filled_LR]
    mean, deviation = seen.mean(dim=0).numpy(), seen.std(dim=0).clamp_min(1e-3).numpy()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(train.seed)
        network = make_network(part.network.shape(), mean, deviation, list(buckets.values()))
    parameters = dict(network.named_parameters())

    def report(step: int, steps: int, point: LossPoint | None) -> None:
        if point is not None:
            text = f"loss {point.loss:.4f}, held out {point.heldout_loss:.4f}"
            work.progress.step("training, steps", step, steps, text)

    try:
        result = run_loop(
            RankingLearner(network, train, learnt, held_out),
            parameters,
            [torch.optim.AdamW(_groups(network, train), lr=train.learning_rate)],
            LoopOptions(
                epochs=train.epochs,
                learning_rate=train.learning_rate,
                warmup_share=train.warmup_share,
                schedule="cosine",
                clip_norm=train.clip_norm,
                evaluate_every=0,
                checkpoint_every=train.checkpoint_every,
                patience=train.patience,
                seed=train.seed,
                device="cpu",
            ),
            identity=identity_of(network, train, learnt, held_out),
            checkpoint=work.scratch / CHECKPOINT,
            progress=report,
        )
    except TuningDiverged as error:
        raise BuildError(f"train: {error}; or raise train.weight_decay") from error
    network.eval()
    return network, result


def _groups(network: RerankNetwork, train: RerankTrainPart) -> list[dict[str, Any]]:
    table = network.table.weight
    others: list[nn.Parameter] = [one for one in network.parameters() if one is not table]
    return [
        {"params": [table], "weight_decay": train.table_decay},
        {"params": others, "weight_decay": train.weight_decay},
    ]


def _write_graph(
    network: RerankNetwork,
    part: RerankTrainStagePart,
    arrays: dict[str, dict[str, npt.NDArray[Any]]],
    made: dict[str, RerankRows],
    folder: Path,
) -> SourceGraph:
    declared = DeclaredModel(
        module=network,
        inputs=(
            DeclaredTensor(name=DENSE, dtype="float32", shape=("B", network.features)),
            DeclaredTensor(name=SPARSE, dtype="int32", shape=("B", network.ids)),
        ),
        outputs=(DeclaredTensor(name=LOGIT, dtype="float32", shape=("B",)),),
        sample={
            DENSE: torch.zeros(2, network.features),
            SPARSE: torch.zeros(2, network.ids, dtype=torch.int32),
        },
    )
    where = f"{part.network.architecture} trained here"
    model = export_declared(where, declared)
    inputs, outputs = tensors_of(where, model.graph.input), tensors_of(where, model.graph.output)
    write_graph(folder / GRAPH_FILE, model)
    gate, labels = _judged(arrays[GATE], made[GATE])
    save_rows(folder / GATE_FILE, {**gate, **labels})
    calibration = {DENSE: made[TRAIN].dense_RF, SPARSE: made[TRAIN].sparse_RS}
    count = len(made[TRAIN].dense_RF)
    some = np.random.default_rng(part.train.seed).choice(count, min(CALIBRATION_ROWS, count), replace=False)
    calibration = take(calibration, inputs, np.sort(some))
    # Two shoppers with the same short history have the same rows: those are chance, and are left out.
    judged = set(row_hashes(gate, inputs))
    apart = [at for at, one in enumerate(row_hashes(calibration, inputs)) if one not in judged]
    save_rows(folder / CALIBRATION_FILE, take(calibration, inputs, np.array(apart, np.int64)))
    save_rows(folder / REFERENCE_FILE, run_declared(declared, gate, part.max_batch))
    return SourceGraph(
        origin=where,
        precision=read_precision(model.graph),
        opset=OPSET,
        inputs=inputs,
        outputs=outputs,
        parameters=parameters_of(model.graph),
        operators=operators_of(model.graph),
    )


def _judged(
    arrays: dict[str, npt.NDArray[Any]], rows: RerankRows
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
    """Rows of the gate's lists that hold their right item, with ``CLICKED`` and the number of their ``LIST``."""
    rows_CR, targets_C = arrays["rows_CR"], arrays["targets_C"]
    filled_CR = rows_CR > 0
    hit_CR = (rows_CR == targets_C[:, None]) & filled_CR
    kept_CR = filled_CR & hit_CR.any(axis=1)[:, None]
    kept_R = kept_CR[filled_CR]
    gate = {DENSE: rows.dense_RF[kept_R], SPARSE: rows.sparse_RS[kept_R]}
    numbers_CR = np.broadcast_to(np.arange(len(rows_CR))[:, None], rows_CR.shape)
    labels = {
        LABEL_PREFIX + CLICKED: hit_CR[kept_CR].astype(np.int64),
        LABEL_PREFIX + LIST: numbers_CR[kept_CR].astype(np.int64),
    }
    return gate, labels
