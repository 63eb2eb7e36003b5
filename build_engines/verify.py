"""Stage 6, the gate: lay out candidate and parent as versions, open them as the server would, measure, judge.

Quality and parity are measured on users that calibration never saw; the figures on all tested users are there
to be published. What does not hold ends the build with its figure, limit and sample size, and nothing is
kept.

Suffixes: B histories, K ranks, N item rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from build_engines.data.sequences import Sequences
from build_engines.data.splits import Cases, Split
from build_engines.evaluation.evaluate import Evaluation, compare, evaluate_scores, evaluate_topk
from build_engines.evaluation.metrics import per_case
from build_engines.gate import (
    ALL,
    ReferenceAgreement,
    floor_evidence,
    parity_evidence,
    quality_evidence,
    refuse_unless_all_hold,
    slice_rows,
    speed_evidence,
)
from build_engines.hardware import describe_hardware
from build_engines.models.mix import mix_scores_BN
from build_engines.proof.examples import write_examples
from build_engines.proof.fairness import Shown, fairness_evidence, group_rows
from build_engines.proof.footprint import ask_of_version, measured
from build_engines.proof.records import Footprint, GroupRow, SliceRow
from build_engines.proof.shop_examples import recommender_examples, shop_groups
from build_engines.proof.sizes import size_evidence
from build_engines.proof.slices import value_masks
from build_engines.ranker import RankerUnderTest, ServedRanker
from build_engines.recipe_parts import GatePart
from build_engines.records import ModelFigures, SpeedRow, VerifyRecord
from build_engines.shop_files import Shop, read_shop
from build_engines.speed import fit_cost, measure_in_turn, speed_row
from build_engines.stage import Work
from build_engines.stage_parts import VerifyPart
from build_engines.states import Compiled
from build_engines.trained_files import Reference, TrainedArrays, read_reference, read_trained
from build_engines.version_files import draft_manifest, lay_out, with_files, write_golden_answers
from server.artifacts.manifest import Cost, Measurement, Tolerance
from server.artifacts.repository import OpenedVersion
from server.encoding import tables

CANDIDATE, PARENT, COUNTS, POPULARITY = "candidate", "parent", "counts", "popularity"
COMPARED_ITEMS = 20

# Golden answers on another machine than the one that made them: kernels differ in rounding, INT8 ones in
# more.
TOLERANCES = {
    "fp32": Tolerance(score_abs=2e-3, score_rel=1e-3, min_overlap=0.9),
    "int8": Tolerance(score_abs=0.1, score_rel=0.02, min_overlap=0.8),
    "pq": Tolerance(score_abs=0.1, score_rel=0.02, min_overlap=0.8),
}


def run(compiled: Compiled, part: VerifyPart, work: Work) -> VerifyRecord:
    """Measure everything, then judge.

    Raises:
        GateRefused: something does not hold.
        ArtifactError: an engine cannot be loaded, or does not reproduce its own golden answers.
    """
    loaded = compiled.exported.quantized.trained.loaded
    shop = read_shop(loaded.output.folder)
    split = shop.split(loaded.record.split)
    cases = _chosen(split.gate, part.gate)
    rankers = {CANDIDATE: _ranker(compiled, CANDIDATE, part.model, shop, cases, work)}
    if compiled.compressed:
        rankers[PARENT] = _ranker(compiled, PARENT, part.model, shop, cases, work)
    gate = _evaluations(compiled, rankers, split, cases, _categories(cases, shop), work)
    hardware = describe_hardware()
    speed, cost = _speed(rankers, cases, part.gate, hardware["cpu"], work)
    evidence, flags, slices = _judge(compiled, rankers, gate, speed, part.gate)
    groups = _groups(gate, cases, split, shop, part.gate)
    evidence += tuple(fairness_evidence(groups, part.gate.fairness))
    sizes = _sizes(work.folder, compiled, rankers)
    if PARENT in sizes:
        evidence += (size_evidence(sizes[PARENT], sizes[CANDIDATE], part.gate.max_size_ratio),)
    for item in evidence:
        work.progress.say(f"  {item.sentence()}")
    refuse_unless_all_hold(part.model, evidence, flags)
    counts_N1 = split.train_counts_N1()
    if part.gate.keep_examples:
        write_examples(work.folder / CANDIDATE, recommender_examples(cases, counts_N1, gate[CANDIDATE].masks))
    everyone = evaluate_topk(CANDIDATE, rankers[CANDIDATE].top_k, split.test, counts_N1)
    return VerifyRecord(
        evidence=evidence,
        flags=flags,
        cost=cost,
        speed=speed,
        tolerance=TOLERANCES[compiled.exported.record.graph.precision],
        gate={name: _figures(one) for name, one in gate.items()},
        test={CANDIDATE: _figures(everyone)},
        sizes_bytes=sizes,
        hardware=hardware,
        slices=slices,
        groups=groups,
        footprint=_footprint(rankers, part.gate, work),
    )


def agreement(
    ranker: RankerUnderTest, reference: Reference, items: int = COMPARED_ITEMS
) -> ReferenceAgreement:
    """How far an engine's best items are the reference's best; an item whose reference score ties counts."""
    scores_BN = reference.scores_BN.astype(np.float64)
    scores_BN[reference.histories.owners_E(), reference.histories.item_rows_E] = -np.inf
    k = min(items, scores_BN.shape[1] - 1)
    kth_B = np.partition(scores_BN, -k, axis=1)[:, -k]
    slack_B = 1e-3 * np.maximum(1.0, np.abs(kth_B))
    rows_BK, _ = ranker.top_k(reference.histories, k)
    own_BK = np.take_along_axis(scores_BN, rows_BK.astype(np.int64), axis=1)
    agree_BK = (own_BK >= (kth_B - slack_B)[:, None]) & (rows_BK > 0)
    return ReferenceAgreement(overlap=float(agree_BK.mean()), rows=len(rows_BK), items=k)


def _chosen(cases: Cases, part: GatePart) -> Cases:
    if not part.max_users or len(cases) <= part.max_users:
        return cases
    generator = np.random.default_rng(part.seed)
    return cases.take(np.sort(generator.choice(len(cases), part.max_users, replace=False)))


def _ranker(compiled: Compiled, which: str, model: str, shop: Shop, cases: Cases, work: Work) -> ServedRanker:
    work.progress.say(f"  {which}: golden answers, then loaded as the server does")
    export = compiled.exported.record
    graph = export.graph if which == CANDIDATE else export.parent
    targets = compiled.record.targets if which == CANDIDATE else compiled.record.parent
    assert graph is not None, "a parent's targets come with its graph"
    folder = work.folder / which
    lay_out(folder, compiled, which, shop.catalogue)
    figures = {"items": float(len(shop.catalogue))}
    manifest = draft_manifest(model, folder, graph, targets, TOLERANCES[graph.precision], figures)
    opened = OpenedVersion(manifest=manifest, folder=folder)
    rows = next(table.shape[0] for table in graph.tables if table.tensor == tables.POPULARITY)
    write_golden_answers(opened, list(cases.histories.slice(0, 8)), _listed(shop, rows))
    return ServedRanker(OpenedVersion(manifest=with_files(manifest, folder), folder=folder))


def _listed(shop: Shop, rows: int) -> npt.NDArray[np.bool_]:
    listed_N = np.zeros(rows, np.bool_)
    listed_N[1 : len(shop.catalogue) + 1] = True
    return listed_N


def _evaluations(
    compiled: Compiled,
    rankers: Mapping[str, ServedRanker],
    split: Split,
    cases: Cases,
    more: Mapping[str, npt.NDArray[np.bool_]],
    work: Work,
) -> dict[str, Evaluation]:
    counts_N1 = split.train_counts_N1()
    found = {}
    for done, (name, ranker) in enumerate(rankers.items()):
        work.progress.step("evaluating through the serving code, model", done, len(rankers), name)
        found[name] = evaluate_topk(name, ranker.top_k, cases, counts_N1, more_slices=more)
    work.progress.step("evaluating through the serving code, model", len(rankers), len(rankers))
    trained = compiled.exported.quantized.trained
    arrays = read_trained(trained.output.folder)
    found[COUNTS] = evaluate_scores(
        COUNTS, _CountsAlone(arrays, compiled), cases, counts_N1, more_slices=more
    )
    popular_1N = arrays.popularity_N[None, :].astype(np.float32)
    found[POPULARITY] = evaluate_scores(
        POPULARITY,
        lambda histories: np.repeat(popular_1N, len(histories), axis=0),
        cases,
        counts_N1,
        more_slices=more,
    )
    return found


class _CountsAlone:
    """The floor: transition counts with the mix that was best for them alone, and no network."""

    def __init__(self, arrays: TrainedArrays, compiled: Compiled) -> None:
        self._arrays = arrays
        self._mix = compiled.exported.quantized.trained.record.counts

    def __call__(self, histories: Sequences) -> npt.NDArray[np.float32]:
        nothing_BN = np.zeros((len(histories), self._arrays.popularity_N.size), np.float32)
        return mix_scores_BN(
            nothing_BN, self._arrays.table, list(histories), self._mix, self._arrays.popularity_N
        )


def _speed(
    rankers: Mapping[str, ServedRanker], cases: Cases, part: GatePart, hardware: str, work: Work
) -> tuple[tuple[SpeedRow, ...], Cost]:
    generator = np.random.default_rng(part.seed)
    rows, times = [], {}
    for done, size in enumerate(part.batch_sizes):
        work.progress.step("timing, batch size", done, len(part.batch_sizes), str(size))
        histories = cases.histories.take(generator.integers(0, len(cases), size))
        runs = {name: ranker.prepared(histories) for name, ranker in rankers.items()}
        measured = measure_in_turn(runs, rounds=part.rounds)
        times[size] = measured[CANDIDATE]
        if PARENT in measured:
            rows.append(speed_row(size, measured[PARENT], measured[CANDIDATE], seed=part.seed))
    work.progress.step("timing, batch size", len(part.batch_sizes), len(part.batch_sizes))
    return tuple(rows), fit_cost(times, hardware)


def _judge(
    compiled: Compiled,
    rankers: Mapping[str, ServedRanker],
    gate: Mapping[str, Evaluation],
    speed: tuple[SpeedRow, ...],
    part: GatePart,
) -> tuple[tuple[Measurement, ...], tuple[str, ...], tuple[SliceRow, ...]]:
    evidence: list[Measurement] = []
    slices: tuple[SliceRow, ...] = ()
    if PARENT in gate:
        verdicts = compare(
            gate[PARENT],
            gate[CANDIDATE],
            metric=part.metric,
            limit=part.max_relative_loss,
            slice_limit=part.max_slice_loss,
            seed=part.seed,
        )
        slices = slice_rows(verdicts)
        evidence += quality_evidence(verdicts, part)
        evidence += speed_evidence(speed, part)
    trained = compiled.exported.quantized.trained
    for name, ranker in rankers.items():
        whose = trained if name == CANDIDATE else trained.uncompressed
        reference = read_reference(whose.output.folder)
        precision = compiled.exported.record.graph.precision if name == CANDIDATE else "fp32"
        evidence.append(parity_evidence(name, agreement(ranker, reference), precision, part))
    versus_counts = compare(gate[COUNTS], gate[CANDIDATE], metric=part.metric, limit=0.0, seed=part.seed)[ALL]
    floor, flags = floor_evidence(versus_counts, part)
    return (*evidence, floor), flags, slices


def _categories(cases: Cases, shop: Shop) -> dict[str, npt.NDArray[np.bool_]]:
    categories = shop.catalogue.frame["category"].to_list()
    return value_masks("category", [categories[row - 1] for row in cases.targets_C.tolist()])


def _groups(
    gate: Mapping[str, Evaluation], cases: Cases, split: Split, shop: Shop, part: GatePart
) -> tuple[GroupRow, ...]:
    shown = {
        name: Shown(top_rows_CK=gate[name].top_rows_CK, quality_C=per_case(gate[name].ranks_C)[part.metric])
        for name in (CANDIDATE, PARENT)
        if name in gate
    }
    groups = shop_groups(
        cases,
        split.train_counts_N1(),
        {name: shop.catalogue.frame[name].to_list() for name in ("category", "brand")},
        part.fairness,
    )
    return group_rows(shown[CANDIDATE], shown.get(PARENT), groups, part.fairness, seed=part.seed)


def _footprint(rankers: Mapping[str, ServedRanker], part: GatePart, work: Work) -> dict[str, Footprint]:
    found = {}
    for name, ranker in rankers.items() if part.footprint else ():
        work.progress.say(f"  {name}: memory, latency and CPU in a process of its own")
        opened = ranker.opened
        found[name] = measured(ask_of_version(opened.folder, opened.manifest, batch_sizes=part.batch_sizes))
    return found


def _figures(evaluation: Evaluation) -> ModelFigures:
    def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
        return {name: float(value) if np.isfinite(value) else None for name, value in metrics.items()}

    slices = {name: {"n": float(one.n), **finite(one.metrics)} for name, one in evaluation.slices.items()}
    return ModelFigures(n=evaluation.n, metrics=finite(evaluation.metrics), slices=slices)


def _sizes(folder: Path, compiled: Compiled, rankers: Mapping[str, ServedRanker]) -> dict[str, int]:
    # What one server holds: the tables and the engine measured here, not the plans for other machines.
    targets = {CANDIDATE: compiled.record.targets, PARENT: compiled.record.parent}
    sizes = {}
    for name in rankers:
        stored = list((folder / name / "tables").iterdir())
        engines = [folder / name / one.file for one in targets[name] if one.kind == "onnxruntime"]
        sizes[name] = sum(path.stat().st_size for path in (*stored, *engines))
        sizes[f"{name} item table"] = sum(
            path.stat().st_size for path in stored if path.stem.removeprefix("packed_").startswith("item_")
        )
    return sizes
