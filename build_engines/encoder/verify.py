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
from tokenizers import Tokenizer

from build_engines.encoder.evidence import (
    Floats,
    cosine_evidence,
    intent_evidence,
    neighbours_evidence,
    parity_evidence,
    recall_evidence,
    slice_rows,
)
from build_engines.encoder.load import ANSWERS_FILE, GATE, PASSAGES, QUESTIONS, ids_path
from build_engines.encoder.package import head_of
from build_engines.encoder.recipe_parts import EncoderGatePart, VerifyEncoderPart
from build_engines.encoder.records import EncoderVerifyRecord
from build_engines.encoder.states import CANDIDATE, PARENT, EncoderPackaged
from build_engines.encoder.texts import load_ids
from build_engines.errors import GateRefused
from build_engines.hardware import describe_hardware
from build_engines.intents.linear import OUTSIDE
from build_engines.intents.paired import compare_engines, judged_texts
from build_engines.models.encoder.batches import Ids, padded
from build_engines.models.encoder.package import GRAPH_FILE, TOKENIZER_FILE, resolved_form
from build_engines.proof.encoder_examples import ACCURACY, RECALL, encoder_examples
from build_engines.proof.examples import write_examples
from build_engines.proof.footprint import measured
from build_engines.proof.paired_right import paired_texts
from build_engines.proof.records import Footprint
from build_engines.proof.served_process import Ask
from build_engines.proof.sizes import size_evidence
from build_engines.proof.slices import script_of, slice_evidence
from build_engines.proof.speed_ups import speed_evidence
from build_engines.records import SpeedRow
from build_engines.speed import fit_cost, measure_in_turn, speed_row
from build_engines.stage import Work
from server.artifacts.golden import GOLDEN_FILE, write_golden
from server.artifacts.manifest import Cost, Measurement, Tolerance
from server.encoder_domain import ENCODER_TASK
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
    gate, folder = part.gate, packaged.headed.loaded.uncompressed.output.folder
    texts = load_ids(ids_path(folder, GATE))
    names = [CANDIDATE, *([PARENT] if packaged.compressed else [])]
    hardware = describe_hardware()
    with _engines(packaged, names) as engines:
        vectors = {name: encode(engine, texts) for name, engine in engines.items()}
        evidence = [_parity(packaged, part, engines[names[-1]], texts)]
        recall = {name: _hits(engine, folder) for name, engine in engines.items()}
        speed, cost = _speed(engines, gate, hardware["cpu"], work)
        footprint = _footprint(packaged, names, gate, work)
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
        evidence += speed_evidence(speed, gate.min_speedup, of="texts")
        whole = packaged.record.parent
        assert whole is not None, "what is compressed has a parent"
        evidence.append(
            size_evidence(whole.size_bytes, packaged.record.candidate.size_bytes, gate.max_size_ratio)
        )
    accuracy, right = _intents(packaged, gate, evidence)
    languages = _languages(packaged, folder)
    slices = slice_rows({RECALL: recall, ACCURACY: right}, languages, gate, (PARENT, CANDIDATE))
    evidence += slice_evidence(slices)
    for item in evidence:
        work.progress.say(f"  {item.sentence()}")
    if not all(item.passed for item in evidence):
        raise GateRefused(part.model, evidence, advice=_ADVICE)
    if gate.keep_examples:
        write_examples(work.folder, encoder_examples(folder, packaged.headed.output.folder, languages))
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
        slices=slices,
        footprint=footprint,
    )


def _footprint(
    packaged: EncoderPackaged, names: Sequence[str], gate: EncoderGatePart, work: Work
) -> dict[str, Footprint]:
    found = {}
    for name in names if gate.footprint else ():
        work.progress.say(f"  {name}: memory, latency and CPU in a process of its own")
        record = packaged.record.candidate if name == CANDIDATE else packaged.record.parent
        assert record is not None, "a parent that is measured was packaged"
        found[name] = measured(
            Ask(
                task=ENCODER_TASK,
                folder=str(packaged.output.folder / name),
                graph=GRAPH_FILE,
                batch_sizes=(1, *(size for size in gate.batch_sizes if size != 1)),
                tokens=min(gate.tokens, record.limits["max_tokens"]),
                vocab_size=record.limits["vocab_size"],
                seed=gate.seed,
                disk_bytes=record.size_bytes,
            )
        )
    return found


def _languages(packaged: EncoderPackaged, folder: Path) -> dict[str, list[str]]:
    # Of what is judged, in its order; read back from tokens, which is enough to tell scripts apart.
    tokenizer = Tokenizer.from_file(str(packaged.output.folder / CANDIDATE / TOKENIZER_FILE))
    asked: dict[str, Sequence[Ids | None]] = {RECALL: load_ids(ids_path(folder, QUESTIONS))}
    if head_of(packaged.headed) is not None:
        ids, labels_N = judged_texts(packaged.headed.output.folder)
        # A text about no intent is in no slice of accuracy.
        asked[ACCURACY] = [
            None if label == OUTSIDE else one for one, label in zip(ids, labels_N, strict=True)
        ]
    return {
        name: ["" if one is None else script_of(tokenizer.decode(one.tolist())) for one in ids]
        for name, ids in asked.items()
    }


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

        checkpoint = packaged.headed.uncompressed.checkpoint
        _, form = resolved_form(checkpoint, part.form.options("fp32"))
        wanted_ND = reference_vectors(checkpoint, form, compared)
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
) -> tuple[dict[str, float], dict[str, npt.NDArray[np.bool_]]]:
    head = head_of(packaged.headed)
    if head is None:
        return {}, {}
    parent = PARENT if packaged.compressed else CANDIDATE
    pair = compare_engines(
        head,
        packaged.headed.output.folder,
        _graph(packaged, parent),
        _graph(packaged, CANDIDATE),
        parent_head=head_of(packaged.headed.uncompressed),
    )
    if packaged.compressed:
        evidence.append(intent_evidence(pair.paired, gate))
    accuracy = {CANDIDATE: pair.candidate.accuracy, parent: pair.parent.accuracy}
    return accuracy, {PARENT: pair.parent_right_N, CANDIDATE: pair.candidate_right_N}


def _cosines(one_ND: Floats, other_ND: Floats) -> npt.NDArray[np.float64]:
    if (
        one_ND.shape != other_ND.shape
    ):  # another width: what texts are like one another is what can be compared
        one_ND, other_ND = one_ND @ one_ND.T, other_ND @ other_ND.T
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
