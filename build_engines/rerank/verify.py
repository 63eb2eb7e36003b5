"""Stage 6 of a re-ranker: what any model must prove, and that the order which it makes is better than the one which it was given.

The comparison is over *all* of the gate's cases: where the right item is not among the candidates, both get 0.

Suffixes: C cases, R candidates of one case, N rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from build_engines.errors import GateRefused
from build_engines.own_model.metric_names import metric_cutoff
from build_engines.own_model.metrics import auc, unit_values
from build_engines.own_model.recipe_parts import OwnGatePart, OwnVerifyPart, ServePart
from build_engines.own_model.states import CANDIDATE, OwnCompiled
from build_engines.own_model.verify import answers_of, gate_rows, measure, open_engines
from build_engines.proof.paired_means import PairedVerdict, paired_verdict
from build_engines.rerank.candidates import GATE, read_lists
from build_engines.rerank.network import LOGIT
from build_engines.rerank.recipe_parts import RerankGatePart, RerankVerifyPart
from build_engines.rerank.records import RerankVerifyRecord
from build_engines.rerank.states import RerankTrained
from build_engines.rerank.train import CLICKED, LIST
from build_engines.shop_files import read_shop
from build_engines.stage import Work
from server.artifacts.manifest import Measurement
from server.pipelines.rerank_loading import GOLDEN_LISTS_FILE, GoldenList

GOLDEN_LISTS = 6
FIRST, RERANKER = "first stage", "re-ranker"
_ADVICE = (
    "A re-ranker that does not beat the first stage's own order costs time and brings nothing. Give it attributes that the first "
    "stage does not know (features.attributes), more candidates, a longer log, or another network; where only the compressed one "
    'fails, quantize.precision = "fp32" or gate.on_refused = "publish_parent".'
)


def run(compiled: OwnCompiled, part: RerankVerifyPart, work: Work) -> RerankVerifyRecord:
    """Measure everything; a candidate that does not hold is never written down.

    Raises:
        GateRefused: something does not hold.
    """
    trained = compiled.quantized.source
    assert isinstance(trained, RerankTrained), "this line's own source"
    gate, serve = part.gate, ServePart(max_batch=part.max_batch)
    plain = OwnGatePart(
        **{name: getattr(gate, name) for name in OwnGatePart.__dataclass_fields__ if name != "metric"},
        metric=gate.first_metric,
    )
    own = OwnVerifyPart(
        gate=replace(plain, output=LOGIT), labels=CLICKED, groups=LIST, serve=serve, model=part.model
    )
    record, evidence = measure(compiled, own, work)
    rows, labels = gate_rows(trained)
    with open_engines(compiled, [CANDIDATE], serve) as engines:
        logits_N = answers_of(engines[CANDIDATE], rows)[LOGIT]
    arrays = read_lists(trained.candidates.output.folder, GATE)
    first_C, second_C = list_values(gate.first_metric, arrays, logits_N, labels[LIST])
    verdict = paired_verdict(first_C, second_C, metric=gate.first_metric, limit=0.0, seed=gate.seed)
    evidence.append(_first_stage_evidence(verdict, gate))
    lists = {
        FIRST: {
            gate.first_metric: float(first_C.mean()),
            "auc": auc(_scores(arrays, labels[LIST]), labels[CLICKED]),
        },
        RERANKER: {
            gate.first_metric: float(second_C.mean()),
            "auc": auc(logits_N, labels[CLICKED]),
            "log_loss": float(unit_values("log_loss", logits_N, labels[CLICKED], logits=True).mean()),
        },
    }
    for item in evidence:
        work.progress.say(f"  {item.sentence()}")
    work.progress.say(
        f"  AUC {lists[FIRST]['auc']:.4f} to {lists[RERANKER]['auc']:.4f}, log loss {lists[RERANKER]['log_loss']:.4f}"
    )
    if not all(item.passed for item in evidence):
        raise GateRefused(part.model, evidence, advice=_ADVICE)
    _write_golden_lists(trained, arrays, logits_N, labels[LIST], work)
    return RerankVerifyRecord(
        engine=msgspec.structs.replace(record, evidence=tuple(evidence)),
        lists=lists,
        cases=len(first_C),
        notes=(
            f"{len(first_C)} cases, {len(np.unique(labels[LIST]))} of them with the right item among the candidates",
        ),
    )


def list_values(
    metric: str,
    arrays: dict[str, npt.NDArray[Any]],
    logits_N: npt.NDArray[np.floating],
    lists_N: npt.NDArray[np.integer],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The metric of every case by the first stage's order and by the re-ranker's, ``[C]``; one right item each.

    Args:
        metric: "ndcg@10".
        arrays: the gate's candidates, see ``candidates.lists_file``.
        logits_N: of the rows of cases that hold their right item, case after case.
        lists_N: the case of each.
    """
    cutoff = metric_cutoff(metric)
    assert cutoff is not None, "the recipe was checked"
    rows_CR, targets_C = arrays["rows_CR"], arrays["targets_C"]
    filled_CR = rows_CR > 0
    hit_CR = (rows_CR == targets_C[:, None]) & filled_CR
    found_C = hit_CR.any(axis=1)
    first_C = np.where(found_C, _gain(hit_CR.argmax(axis=1), cutoff), 0.0)
    logits_CR = np.full(rows_CR.shape, -np.inf)
    logits_CR[filled_CR & found_C[:, None]] = logits_N
    assert np.array_equal(np.flatnonzero(found_C), np.unique(lists_N)), "the gate's rows are these lists'"
    right_C = np.where(hit_CR, logits_CR, -np.inf).max(axis=1)
    with np.errstate(invalid="ignore"):
        above_C = (logits_CR >= right_C[:, None]).sum(axis=1) - 1  # ties count against us
    return first_C, np.where(found_C & np.isfinite(right_C), _gain(above_C, cutoff), 0.0)


def _gain(place_C: npt.NDArray[np.integer], cutoff: int) -> npt.NDArray[np.float64]:
    return np.where(place_C < cutoff, 1 / np.log2(place_C + 2.0), 0.0)


def _scores(arrays: dict[str, npt.NDArray[Any]], lists_N: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    cases = np.unique(lists_N)
    return np.asarray(arrays["scores_CR"][cases][arrays["rows_CR"][cases] > 0], np.float64)


def _first_stage_evidence(verdict: PairedVerdict, gate: RerankGatePart) -> Measurement:
    note = f"{verdict.parent_mean:.4f} to {verdict.candidate_mean:.4f}"
    if verdict.verdict == "undecidable" and verdict.n_to_decide is not None:
        note += f"; about {verdict.n_to_decide} cases would decide"
    return Measurement(
        kind="floor",
        name=f"relative loss of {gate.first_metric} to the first stage's own order",
        value=verdict.relative_loss,
        unit="ratio",
        limit=0.0,
        sense="at_most",
        verdict=verdict.verdict,
        sample_size=verdict.n,
        interval=(verdict.ci_low, verdict.ci_high),
        note=note,
    )


def _write_golden_lists(
    trained: RerankTrained,
    arrays: dict[str, npt.NDArray[Any]],
    logits_N: npt.NDArray[np.floating],
    lists_N: npt.NDArray[np.integer],
    work: Work,
) -> None:
    loaded = trained.candidates.loaded
    shop = read_shop(loaded.output.folder)
    cases = shop.split(loaded.record.split).gate
    ids = ("", *shop.catalogue.item_ids)
    found = np.unique(lists_N)
    golden = []
    for case in found[:: max(1, len(found) // GOLDEN_LISTS)][:GOLDEN_LISTS].tolist():
        filled = arrays["rows_CR"][case] > 0
        golden.append(
            GoldenList(
                history=tuple(ids[row] for row in cases.histories[case].tolist()),
                item_ids=tuple(ids[row] for row in arrays["rows_CR"][case][filled].tolist()),
                scores=tuple(arrays["scores_CR"][case][filled].tolist()),
                logits=tuple(float(one) for one in logits_N[lists_N == case]),
            )
        )
    (work.folder / GOLDEN_LISTS_FILE).write_bytes(msgspec.json.encode(golden))
