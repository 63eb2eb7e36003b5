"""Stage 4 of an encoder, the gate: read texts that calibration never saw through the serving engine, and judge.

- parity: the FP32 engine's vectors are those of another implementation; the candidate's point where the parent's do;
- quality: questions find the passages that they found before, and the intent head is right as often, question by question;
- speed: a batch is faster than the parent's at each size.

Suffixes: B texts of a batch, N texts, D width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from build_engines.encoder.evidence import (
    Floats,
    cosine_evidence,
    intent_evidence,
    neighbours_evidence,
    parity_evidence,
    recall_evidence,
    speed_evidence,
)
from build_engines.encoder.load import ANSWERS_FILE, GATE, PASSAGES, QUESTIONS, ids_path
from build_engines.encoder.package import head_of
from build_engines.encoder.recipe_parts import EncoderGatePart, VerifyEncoderPart
from build_engines.encoder.records import EncoderVerifyRecord
from build_engines.encoder.states import CANDIDATE, PARENT, EncoderPackaged
from build_engines.encoder.texts import load_ids
from build_engines.errors import GateRefused
from build_engines.hardware import describe_hardware
from build_engines.intents.figures import paired_texts
from build_engines.intents.paired import compare_engines
from build_engines.models.encoder.batches import Ids, padded
from build_engines.models.encoder.package import GRAPH_FILE, resolved_form
from build_engines.records import SpeedRow
from build_engines.speed import fit_cost, measure_in_turn, speed_row
from build_engines.stage import Work
from server.artifacts.golden import GOLDEN_FILE, write_golden
from server.artifacts.manifest import Cost, Measurement, Tolerance
from server.engines.onnxruntime_encoder import OnnxRuntimeEncoder
from server.pipelines.encoder_golden import record_golden

BATCH = 16
GOLDEN_TEXTS = 8
# Of the golden replay: cosine of a vector, and how far a logit may be off. Other CPUs have other dot products.
TOLERANCES = {"fp32": Tolerance(score_abs=1e-2, min_overlap=0.9999)}
QUANTIZED = Tolerance(score_abs=1.0, min_overlap=0.98)
_ADVICE = (
    'Publish the FP32 parent instead (gate.on_refused = "publish_parent", or package.variant = "fp32"), give more texts or '
    "gate.rounds to decide by, or move a limit in [gate] on purpose."
)


def run(packaged: EncoderPackaged, part: VerifyEncoderPart, work: Work) -> EncoderVerifyRecord:
    """Measure everything, then judge.

    Raises:
        GateRefused: something does not hold.
        BuildError: the reference cannot be loaded.
    """
    gate, folder = part.gate, packaged.headed.loaded.output.folder
    texts = load_ids(ids_path(folder, GATE))
    names = [CANDIDATE, *([PARENT] if packaged.compressed else [])]
    hardware = describe_hardware()
    with _engines(packaged, names) as engines:
        vectors = {name: encode(engine, texts) for name, engine in engines.items()}
        evidence = [_parity(packaged, part, engines[names[-1]], texts)]
        recall = {name: _hits(engine, folder) for name, engine in engines.items()}
        speed, cost = _speed(engines, gate, hardware["cpu"], work)
        golden = record_golden(engines[CANDIDATE], [ids.tolist() for ids in _spread(texts, GOLDEN_TEXTS)])
        write_golden(work.folder / GOLDEN_FILE, golden)
    cosines_N = np.ones(len(texts))
    if packaged.compressed:
        cosines_N = _cosines(vectors[CANDIDATE], vectors[PARENT])
        evidence.append(cosine_evidence(cosines_N, gate))
        if recall[PARENT].size:
            evidence.append(recall_evidence(paired_texts(recall[PARENT], recall[CANDIDATE]), gate))
        else:
            same_N = _nearest(vectors[CANDIDATE]) == _nearest(vectors[PARENT])
            evidence.append(neighbours_evidence(same_N, gate))
        evidence += speed_evidence(speed, gate)
    accuracy = _intents(packaged, gate, evidence)
    for item in evidence:
        work.progress.say(f"  {item.sentence()}")
    if not all(item.passed for item in evidence):
        raise GateRefused(part.model, evidence, advice=_ADVICE)
    return EncoderVerifyRecord(
        evidence=tuple(evidence),
        cost=cost,
        cost_tokens=gate.tokens,
        speed=speed,
        tolerance=TOLERANCES.get(packaged.record.candidate.precision, QUANTIZED),
        cosine=(float(cosines_N.mean()), float(np.quantile(cosines_N, 0.01)), float(cosines_N.min())),
        recall={name: float(hits.mean()) for name, hits in recall.items() if hits.size},
        accuracy=accuracy,
        hardware=hardware,
        notes=(f"{len(texts)} texts read, {sum(map(len, texts))} tokens",),
    )


def encode(engine: OnnxRuntimeEncoder, texts: Sequence[Ids]) -> Floats:
    """Vectors of texts in their order, ``[N, D]``; texts of like length are read together."""
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    found = np.zeros((len(texts), engine.dim), np.float32)
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        found[places] = engine.run(*padded([texts[place] for place in places])).embedding_BD
    return found


@contextlib.contextmanager
def _engines(packaged: EncoderPackaged, names: Sequence[str]) -> Iterator[dict[str, OnnxRuntimeEncoder]]:
    with contextlib.ExitStack() as stack:
        engines: dict[str, OnnxRuntimeEncoder] = {}
        for name in names:
            engines[name] = OnnxRuntimeEncoder(_graph(packaged, name), threads=1)
            stack.callback(engines[name].close)
        yield engines


def _graph(packaged: EncoderPackaged, name: str) -> Path:
    return packaged.output.folder / name / GRAPH_FILE


def _parity(
    packaged: EncoderPackaged, part: VerifyEncoderPart, plain: OnnxRuntimeEncoder, texts: Sequence[Ids]
) -> Measurement:
    compared = _spread(texts, part.gate.reference_texts)
    if part.gate.reference == "transformers":
        # Here and not above: torch and transformers are only wanted for this.
        from build_engines.encoder.reference import reference_vectors

        _, form = resolved_form(packaged.headed.checkpoint, part.form.options("fp32"))
        wanted_ND = reference_vectors(packaged.headed.checkpoint, form, compared)
    else:
        wanted_ND = np.concatenate([plain.run(*padded([ids])).embedding_BD for ids in compared])
    return parity_evidence(encode(plain, compared), wanted_ND, part.gate)


def _hits(engine: OnnxRuntimeEncoder, folder: Path) -> npt.NDArray[np.bool_]:
    questions = load_ids(ids_path(folder, QUESTIONS))
    if not questions:
        return np.zeros(0, np.bool_)
    passages_PD = encode(engine, load_ids(ids_path(folder, PASSAGES)))
    first_N = (encode(engine, questions) @ passages_PD.T).argmax(axis=1)
    hits: npt.NDArray[np.bool_] = first_N == np.load(folder / ANSWERS_FILE)
    return hits


def _intents(
    packaged: EncoderPackaged, gate: EncoderGatePart, evidence: list[Measurement]
) -> dict[str, float]:
    head = head_of(packaged.headed)
    if head is None:
        return {}
    parent = PARENT if packaged.compressed else CANDIDATE
    pair = compare_engines(
        head, packaged.headed.output.folder, _graph(packaged, parent), _graph(packaged, CANDIDATE)
    )
    if packaged.compressed:
        evidence.append(intent_evidence(pair.paired, gate))
    return {CANDIDATE: pair.candidate.accuracy, parent: pair.parent.accuracy}


def _cosines(one_ND: Floats, other_ND: Floats) -> npt.NDArray[np.float64]:
    lengths_N = np.linalg.norm(one_ND, axis=1) * np.linalg.norm(other_ND, axis=1)
    cosines_N: npt.NDArray[np.float64] = (one_ND.astype(np.float64) * other_ND).sum(axis=1) / np.maximum(
        lengths_N, 1e-12
    )
    return cosines_N


def _nearest(vectors_ND: Floats) -> npt.NDArray[np.int64]:
    closeness_NN = vectors_ND @ vectors_ND.T
    np.fill_diagonal(closeness_NN, -np.inf)
    nearest_N: npt.NDArray[np.int64] = closeness_NN.argmax(axis=1)
    return nearest_N


def _speed(
    engines: Mapping[str, OnnxRuntimeEncoder], gate: EncoderGatePart, cpu: str, work: Work
) -> tuple[tuple[SpeedRow, ...], Cost]:
    rows: list[SpeedRow] = []
    times = {}
    for done, size in enumerate(gate.batch_sizes):
        work.progress.step("timing batches, texts", done, len(gate.batch_sizes), str(size))
        found = measure_in_turn(
            {name: _batch(engine, size, gate.tokens) for name, engine in engines.items()}, rounds=gate.rounds
        )
        times[size] = found[CANDIDATE]
        if PARENT in found:
            rows.append(speed_row(size, found[PARENT], found[CANDIDATE], seed=gate.seed))
    work.progress.step("timing batches, texts", len(gate.batch_sizes), len(gate.batch_sizes))
    return tuple(rows), fit_cost(times, cpu)


def _batch(engine: OnnxRuntimeEncoder, size: int, tokens: int) -> Callable[[], object]:
    ids_BT, lengths_B = np.full((size, tokens), 7, np.int64), np.full(size, tokens, np.int64)
    return lambda: engine.run(ids_BT, lengths_B)


def _spread(texts: Sequence[Ids], count: int) -> list[Ids]:
    by_length = sorted(texts, key=len)
    return by_length[:: max(1, len(by_length) // count)][:count]
