"""Stage 4 of somebody's own model: hold the engine against its source, its parent and its labels, and time both.

The engines run as the server runs them (``server.engines.onnxruntime_tensors``), one thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from build_engines.errors import BuildError, GateRefused
from build_engines.hardware import describe_hardware
from build_engines.own_model.declared import BATCH
from build_engines.own_model.evidence import (
    disagreement_evidence,
    error_evidence,
    quality_evidence,
    source_evidence,
)
from build_engines.own_model.load import LABEL_PREFIX
from build_engines.own_model.metrics import paired_loss
from build_engines.own_model.recipe_parts import OwnGatePart, OwnVerifyPart, ServePart
from build_engines.own_model.records import OwnVerifyRecord, SourceGraph
from build_engines.own_model.rows import Rows, count_rows, load_rows, take
from build_engines.own_model.states import (
    CANDIDATE,
    GATE_FILE,
    PARENT,
    REFERENCE_FILE,
    GraphState,
    OwnCompiled,
)
from build_engines.proof.sizes import size_evidence
from build_engines.proof.speed_ups import speed_evidence
from build_engines.records import SpeedRow
from build_engines.speed import fit_cost, measure_in_turn, speed_row
from build_engines.stage import Work
from server.artifacts.golden import GOLDEN_FILE, Golden, write_golden
from server.artifacts.manifest import Cost, Measurement, TensorInfo, Tolerance
from server.engines.base import TensorSpec
from server.engines.onnxruntime_tensors import OnnxRuntimeTensors

GOLDEN_ROWS = 8
_ADVICE = (
    'Serve it as it came instead (gate.on_refused = "publish_parent", or quantize.precision = "fp32"), leave the nodes that hurt as '
    "they are (quantize.exclude), give more rows to decide by, or move a limit in [gate] on purpose."
)


def run(compiled: OwnCompiled, part: OwnVerifyPart, work: Work) -> OwnVerifyRecord:
    """Measure everything; a candidate that does not hold is never written down.

    Raises:
        GateRefused: something does not hold.
        BuildError: labels or outputs cannot be judged.
    """
    record, evidence = measure(compiled, part, work)
    for item in evidence:
        work.progress.say(f"  {item.sentence()}")
    if not all(item.passed for item in evidence):
        raise GateRefused(part.model, evidence, advice=_ADVICE)
    return record


def measure(
    compiled: OwnCompiled, part: OwnVerifyPart, work: Work
) -> tuple[OwnVerifyRecord, list[Measurement]]:
    """Everything but the verdict; golden answers are written."""
    source, compressed = compiled.quantized.source, compiled.quantized.compressed
    graph, gate = source.graph, part.gate
    rows, labels = gate_rows(source)
    names = [CANDIDATE, *([PARENT] if compressed else [])]
    hardware = describe_hardware()
    with open_engines(compiled, names, part.serve) as engines:
        answers = {name: answers_of(engine, rows) for name, engine in engines.items()}
        reference = load_rows(source.output.folder / REFERENCE_FILE)
        evidence = [source_evidence(reference, answers[names[-1]], gate.max_source_error)]
        speed, cost = _speed(engines, rows, graph.inputs, gate, hardware["cpu"], work)
        first = take(rows, graph.inputs, slice(0, min(GOLDEN_ROWS, part.serve.max_batch)))
        golden = Golden(inputs=first, outputs=engines[CANDIDATE].run(first))
        write_golden(work.folder / GOLDEN_FILE, golden)
    quality: dict[str, float] = {}
    if compressed:
        evidence.append(error_evidence(answers[PARENT], answers[CANDIDATE], gate))
        evidence.append(_quality(answers, labels, graph, part, quality))
        evidence += speed_evidence(speed, gate.min_speedup, of="rows")
        sizes = compiled.record.sizes_bytes
        evidence.append(size_evidence(sizes[PARENT], sizes[CANDIDATE], gate.max_size_ratio))
    elif gate.metric is not None:
        answers[PARENT] = answers[CANDIDATE]
        _quality(answers, labels, graph, part, quality)
        quality.pop(PARENT, None)
    return (
        OwnVerifyRecord(
            evidence=tuple(evidence),
            cost=cost,
            speed=speed,
            tolerance=tolerance(golden),
            quality=quality,
            metric=gate.metric or "",
            hardware=hardware,
            notes=(f"{count_rows(rows, graph.inputs)} rows",),
        ),
        evidence,
    )


def gate_rows(source: GraphState) -> tuple[Rows, Rows]:
    """The gate's inputs, and its labels by name."""
    arrays = load_rows(source.output.folder / GATE_FILE)
    inputs = {one.name for one in source.graph.inputs}
    labels = {
        name.removeprefix(LABEL_PREFIX): array
        for name, array in arrays.items()
        if name.startswith(LABEL_PREFIX)
    }
    return {name: array for name, array in arrays.items() if name in inputs}, labels


@contextlib.contextmanager
def open_engines(
    compiled: OwnCompiled, names: list[str], serve: ServePart
) -> Iterator[dict[str, OnnxRuntimeTensors]]:
    """Engines by name, as the server opens them."""
    graph = compiled.quantized.source.graph
    with contextlib.ExitStack() as stack:
        engines: dict[str, OnnxRuntimeTensors] = {}
        for name in names:
            target = compiled.record.targets[0] if name == CANDIDATE else compiled.record.parent
            assert target is not None, "a parent's target comes with it"
            engine = OnnxRuntimeTensors(
                compiled.output.folder / name / target.file,
                inputs=tuple(map(_spec, graph.inputs)),
                outputs=tuple(map(_spec, graph.outputs)),
                max_batch=serve.max_batch,
                max_dims=dict(serve.dims),
            )
            stack.callback(engine.close)
            engines[name] = engine
        yield engines


def answers_of(engine: OnnxRuntimeTensors, rows: Rows) -> Rows:
    """Outputs for rows, as many at a time as the engine takes."""
    infos = tuple(TensorInfo(name=one.name, dtype=one.dtype, shape=one.shape) for one in engine.inputs)
    found = [
        engine.run(take(rows, infos, slice(start, start + engine.max_batch)))
        for start in range(0, count_rows(rows, infos), engine.max_batch)
    ]
    return {
        one.name: np.concatenate([answer[one.name] for answer in found])
        if one.shape[:1] == (BATCH,)
        else found[0][one.name]
        for one in engine.outputs
    }


def tolerance(golden: Golden) -> Tolerance:
    """Of the replay: rounding on another machine's kernels, not another model."""
    largest = max(
        (
            float(np.abs(one[np.isfinite(one)]).max(initial=0.0))
            for one in golden.outputs.values()
            if one.dtype.kind == "f"
        ),
        default=0.0,
    )
    return Tolerance(score_abs=max(1e-4, 5e-3 * largest), score_rel=5e-3, min_overlap=0.99)


def _quality(
    answers: Mapping[str, Rows],
    labels: Rows,
    graph: SourceGraph,
    part: OwnVerifyPart,
    quality: dict[str, float],
) -> Measurement:
    name = part.gate.output or graph.outputs[0].name
    if name not in {one.name for one in graph.outputs}:
        known = ", ".join(one.name for one in graph.outputs)
        raise BuildError(f"gate.output is {name!r}, the model has {known}")
    parent, candidate = answers[PARENT][name], answers[CANDIDATE][name]
    if part.gate.metric is None or part.labels is None:
        return disagreement_evidence(parent, candidate, part.gate)
    paired = paired_loss(
        part.gate.metric,
        parent,
        candidate,
        labels[part.labels],
        None if part.groups is None else labels[part.groups],
        logits=part.gate.logits,
        seed=part.gate.seed,
    )
    quality |= {CANDIDATE: paired.candidate, PARENT: paired.parent}
    return quality_evidence(paired, part.gate)


def _speed(
    engines: Mapping[str, OnnxRuntimeTensors],
    rows: Rows,
    inputs: tuple[TensorInfo, ...],
    gate: OwnGatePart,
    cpu: str,
    work: Work,
) -> tuple[tuple[SpeedRow, ...], Cost]:
    found: list[SpeedRow] = []
    times = {}
    count = count_rows(rows, inputs)
    batched = any(one.shape[:1] == (BATCH,) for one in inputs)
    sizes = gate.batch_sizes if batched else (1,)
    for done, size in enumerate(sizes):
        work.progress.step("timing batches, rows", done, len(sizes), str(size))
        at = np.random.default_rng(gate.seed).integers(0, count, size)
        feed = take(rows, inputs, at)
        runs = {name: partial(engine.run, feed) for name, engine in engines.items()}
        measured = measure_in_turn(runs, rounds=gate.rounds)
        times[size] = measured[CANDIDATE]
        if PARENT in measured:
            found.append(speed_row(size, measured[PARENT], measured[CANDIDATE], seed=gate.seed))
    work.progress.step("timing batches, rows", len(sizes), len(sizes))
    return tuple(found), fit_cost(times, cpu)


def _spec(one: TensorInfo) -> TensorSpec:
    return TensorSpec(name=one.name, dtype=one.dtype, shape=one.shape)
