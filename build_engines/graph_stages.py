"""Stages 3 to 5: quantize, export and compile, each between the states before and after it.

What they do is in ``quantize``, ``export`` and ``compile``; here is what they read and what they leave, so
that those modules know no stage and no cache. A compressed candidate always brings its FP32 parent along,
through the same steps.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from build_engines.compile import TargetSpec, compile_graph
from build_engines.compression.codebooks import (
    CodebookRefused,
    product_codes,
    query_metric,
    read_codes,
    save_codes,
)
from build_engines.compression.step_records import StepRecord
from build_engines.compression.tune_codes import tune_codes, whole_histories
from build_engines.data.sequences import Sequences
from build_engines.errors import BuildError, TargetError
from build_engines.export import Ingredients, export_graph, stored_tables
from build_engines.mixed_linears import choose_linears
from build_engines.models.sasrec_graph import Int8Scales
from build_engines.proof.leak import digests_of, refuse_leak
from build_engines.quantize import calibrate, code_catalogue, pack_transitions, quantize_catalogue, queries
from build_engines.recipe_parts import CompilePart, ExportPart, QuantizePart
from build_engines.records import CompileRecord, ExportRecord, GraphRecord, QuantizeRecord
from build_engines.shop_files import read_shop
from build_engines.stage import Work
from build_engines.states import Exported, Quantized, Trained
from build_engines.trained_files import read_trained
from server.artifacts.manifest import Calibration, Target
from server.encoding import tables

CANDIDATE, PARENT = "candidate", "parent"
SCORING = "scoring"
LONG = 5  # items
CODES = "item_codes.npz"


def quantize(trained: Trained, part: QuantizePart, work: Work) -> QuantizeRecord:
    """Measure activation scales on histories of users whom the gate never judges.

    Raises:
        BuildError: nobody was set apart for calibration, or one of them is among the gate's users.
    """
    if part.precision == "fp32":
        note = "not quantized" if trained.chain else "not compressed: the FP32 parent itself"
        return QuantizeRecord(precision="fp32", notes=(note,))
    if trained.record.mix.neural_weight == 0:
        note = "not compressed: the counts alone were best, and nothing of the network is scored"
        work.progress.say(f"  {note}")
        return QuantizeRecord(precision="fp32", notes=(note,))
    loaded = trained.loaded
    split = read_shop(loaded.output.folder).split(loaded.record.split)
    if not len(split.calibration):
        raise BuildError(
            "quantize: no user is set apart for calibration; raise split.calibration_share above 0"
        )
    generator = np.random.default_rng(part.seed)
    count = min(part.samples, len(split.calibration))
    chosen = np.sort(generator.choice(len(split.calibration), count, replace=False))
    histories = split.calibration.take(chosen)
    _refuse_leak(histories, split.gate.histories)
    ingredients = _ingredients(trained, ExportPart())
    scales = calibrate(
        ingredients,
        list(histories),
        scope="all" if part.linears or part.precision == "mixed" else "catalogue",
        calibrator=part.calibrator,
        percentile=part.percentile,
    )
    work.progress.say(f"  calibrated on {count} histories")
    mixed: StepRecord | None = None
    if part.precision == "mixed":
        scales, whole = choose_linears(ingredients, list(histories), scales, part.mixed_budget, work.progress)
        mixed = whole.record
        work.progress.say(f"  mixed precision: {mixed.said}")
    notes = [f"item table {_table_note(part)}{' and all linears in INT8' if part.linears else ''}"]
    if part.table == "pq":
        notes.append(_save_codes(ingredients, part, split.train, work))
    if part.neighbours:
        notes.append(f"at most {part.neighbours} transitions an item, three bytes each")
    method = f"percentile {part.percentile:g} of absolute values"
    return QuantizeRecord(
        precision="int8",
        calibration=Calibration(
            method=method if part.calibrator == "percentile" else part.calibrator,
            samples=count,
            seed=part.seed,
            data_sha256=hashlib.sha256(histories.item_rows_E.tobytes()).hexdigest(),
        ),
        scales={SCORING: scales.scoring, **scales.linears},
        scored=part.pq.scored if part.table == "pq" else "",
        neighbours=part.neighbours,
        mixed=mixed,
        notes=tuple([*notes, *([mixed.said] if mixed is not None else [])]),
    )


def _table_note(part: QuantizePart) -> str:
    if part.table == "int8":
        return "in INT8 with row scales"
    return f"as {part.pq.subspaces} product codes a row ({part.pq.scored})"


def _save_codes(ingredients: Ingredients, part: QuantizePart, learnt_from: Sequences, work: Work) -> str:
    pq, rows_ND = part.pq, ingredients.weights[tables.ITEM_EMB]
    asked_BD = queries(
        ingredients, whole_histories(learnt_from.item_rows_E, learnt_from.offsets_U1, pq.queries, part.seed)
    )
    work.progress.say(f"  {pq.subspaces} product codes for each of {len(rows_ND)} rows")
    try:
        codes = product_codes(
            rows_ND,
            subspaces=pq.subspaces,
            codes=pq.codes,
            rotate=pq.rotate,
            rounds=pq.rounds,
            seed=part.seed,
            metric_DD=query_metric(asked_BD),
        )
    except CodebookRefused as error:
        raise BuildError(f"quantize.pq: {error}") from error
    tuned = ""
    if pq.tune_steps:
        codes, before, after = tune_codes(
            codes,
            rows_ND,
            asked_BD,
            steps=pq.tune_steps,
            seed=part.seed,
            progress=lambda done, steps: work.progress.step("tuning codebooks, step", done, steps),
        )
        tuned = f", {before:.4f} -> {after:.4f} nats from its ranking after tuning"
    save_codes(work.folder / CODES, codes)
    lost = float(np.square(codes.rows() - rows_ND)[1:].sum() / np.square(rows_ND).sum())
    size = f"{codes.stored_bytes / 1e6:.2f} MB instead of {rows_ND.nbytes / 1e6:.2f}"
    return f"{size}; {lost:.1%} of their energy is lost{tuned}"


def export(quantized: Quantized, part: ExportPart, work: Work) -> ExportRecord:
    """Write the candidate's graph and tables, and its parent's."""
    trained = quantized.trained
    ingredients = _ingredients(trained, part)
    fp32 = stored_tables(ingredients)
    if quantized.record.precision == "fp32":
        graph = export_graph(_made(work.folder / CANDIDATE), ingredients, stored=fp32, int8=None)
        return ExportRecord(graph=graph, parent=_parent(trained, part, work) if trained.chain else None)
    scales = dict(quantized.record.scales)
    int8 = Int8Scales(scoring=scales.pop(SCORING), linears=scales)
    stored = quantize_catalogue(fp32)
    if quantized.record.scored:
        codes = read_codes(quantized.output.folder / CODES)
        stored = code_catalogue(fp32, codes, scored=quantized.record.scored)
    if quantized.record.neighbours:
        stored = pack_transitions(stored, quantized.record.neighbours)
    return ExportRecord(
        graph=export_graph(_made(work.folder / CANDIDATE), ingredients, stored=stored, int8=int8),
        parent=_parent(trained, part, work),
    )


def _parent(trained: Trained, part: ExportPart, work: Work) -> GraphRecord:
    whole = _ingredients(trained.uncompressed, part)
    return export_graph(_made(work.folder / PARENT), whole, stored=stored_tables(whole), int8=None)


def compile(exported: Exported, part: CompilePart, work: Work) -> CompileRecord:
    """Compile the candidate for every target, and its parent for the one that the gate measures on.

    Raises:
        TargetError: a target cannot be built here and may not be skipped.
    """
    notes: list[str] = []
    targets: list[Target] = []
    candidate = _made(work.folder / CANDIDATE)
    for text in part.targets:
        try:
            targets += _compiled(exported, CANDIDATE, exported.record.graph, candidate, text, work)
        except TargetError as error:
            if not part.skip_missing:
                raise
            notes.append(f"skipped: {error}")
            work.progress.say(f"  skipped: {error}")
    parent: tuple[Target, ...] = ()
    if exported.record.parent is not None:
        folder = _made(work.folder / PARENT)
        parent = _compiled(exported, PARENT, exported.record.parent, folder, "onnxruntime", work)
    return CompileRecord(targets=tuple(targets), parent=parent, notes=tuple(notes))


def _compiled(
    exported: Exported, which: str, graph: GraphRecord, folder: Path, target: str, work: Work
) -> tuple[Target, ...]:
    source = exported.output.folder / which
    say = work.progress.say
    try:
        return compile_graph(
            folder, source, graph, [TargetSpec.parse(target)], say=lambda text: say(f"  {which} {text}")
        )
    except ValueError as error:
        raise BuildError(f"compile: {which} for {target}: {error}") from error


def _ingredients(trained: Trained, part: ExportPart) -> Ingredients:
    arrays = read_trained(trained.output.folder)
    return Ingredients(
        weights=arrays.weights,
        transitions=arrays.table,
        popularity_N=arrays.popularity_N,
        mix=trained.record.mix,
        heads=trained.record.network.heads,
        max_k=part.max_k,
        max_batch=part.max_batch,
        max_exclude=part.max_exclude,
    )


def _refuse_leak(calibration: Sequences, gate: Sequences) -> None:
    # The split sets users apart; this would find a split that does not. Short histories are alike by chance, and a few
    # long ones are (bots, shared carts): more than one in a hundred is no chance.
    long = digests_of(rows for rows in calibration if rows.size >= LONG)
    if long:
        refuse_leak(
            "quantize",
            long,
            [*digests_of(gate), *digests_of(gate.without_last(1))],
            what="calibration histories",
            allowed=max(1, len(long) // 100),
            advice="calibrate on other users: the split's calibration share must not overlap the gate",
        )


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
