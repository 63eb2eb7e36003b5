"""Stage 4 of a text model, the gate: read pairs that calibration and training never saw through the serving engine, and judge.

- parity: the FP32 engine's log-probabilities are those of another implementation on the same weights;
- quality: the candidate's perplexity is not above its parent's by more than the limit, the whole interval of it;
- speed: a decode step is faster than the parent's at each batch size;
- floor: the model predicts answers better than the counts of their tokens do.

The golden texts are written here, from prompts of the gate. Suffixes: B texts, V vocabulary.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from build_engines.errors import GateRefused
from build_engines.hardware import describe_hardware
from build_engines.proof.examples import write_examples
from build_engines.proof.footprint import measured
from build_engines.proof.records import Footprint
from build_engines.proof.served_process import Ask
from build_engines.proof.sizes import size_evidence
from build_engines.proof.slices import slice_evidence, value_masks
from build_engines.proof.text_examples import languages_of, text_examples
from build_engines.records import SpeedRow
from build_engines.speed import fit_cost, measure_in_turn, speed_row
from build_engines.stage import Work
from build_engines.text.evidence import (
    decode_speed_evidence,
    floor_evidence,
    parity_evidence,
    perplexity_evidence,
    slice_rows,
    token_counts_scores,
)
from build_engines.text.pair_arrays import load_pairs, pairs_path
from build_engines.text.pairs import EncodedPair
from build_engines.text.recipe_parts import TextGatePart, VerifyTextPart
from build_engines.text.records import PackagedRecord, Sample, TextVerifyRecord
from build_engines.text.reference import reference_scores
from build_engines.text.scoring import Answers, Scores, perplexity, score_pairs
from build_engines.text.states import CANDIDATE, PARENT, Packaged
from server.artifacts.golden import GOLDEN_FILE, write_golden
from server.artifacts.manifest import Cost, Tolerance
from server.encoding.text import load_codec
from server.engines.causal import CausalCall, CausalEngine
from server.engines.onnxruntime_causal import OnnxRuntimeCausal
from server.pipelines.text_golden import TOKEN_IDS, record_golden
from server.text_domain import TEXT_TASK

SLOTS = 8
GRAPH_FILE, LIGHT_FILE = "model.onnx", "light.onnx"
# An engine of two graphs is judged as it serves repeatable texts, and besides by how it may serve others.
_OTHERS: dict[Answers, str] = {"own": "answers in its own graph", "in turn": "answers in both graphs in turn"}
GOLDEN_TEXTS, GOLDEN_TOKENS = 6, 32
SAMPLE_TOKENS = 256
TOLERANCES = {"fp32": Tolerance(score_abs=1e-2, min_overlap=1.0)}
QUANTIZED = Tolerance(score_abs=0.25, min_overlap=0.9)  # other CPUs have other dot products

_ADVICE = (
    'Publish the FP32 parent instead (gate.on_refused = "publish_parent", or package.variant = "fp32"), try another '
    "package.variant or package.awq, give more pairs or gate.rounds to decide by, or move a limit in [gate] on purpose."
)

Open = Callable[[Path, Mapping[int, int], int], CausalEngine]


def open_packaged(folder: Path, pools: Mapping[int, int], max_chunk: int) -> CausalEngine:
    """The packaged engine, as the server opens it."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    light = folder / LIGHT_FILE
    return OnnxRuntimeCausal(
        folder / GRAPH_FILE,
        pools=pools,
        threads=min(threads, 8),
        max_chunk=max_chunk,
        light=light if light.is_file() else None,
    )


def run(
    packaged: Packaged, part: VerifyTextPart, work: Work, *, open_engine: Open = open_packaged
) -> TextVerifyRecord:
    """Measure everything, then judge.

    Raises:
        GateRefused: something does not hold.
        BuildError: the reference cannot be loaded.
    """
    pairs = load_pairs(pairs_path(packaged.tuned.loaded.output.folder, "gate"))
    limits = packaged.record.candidate.limits
    folders = [CANDIDATE, *([PARENT] if packaged.compressed else [])]
    pools = {_capacity(pairs, part.gate, limits["max_context"]): max(SLOTS, *part.gate.batch_sizes)}
    compared = pairs[: part.gate.reference_pairs]
    wanted = None
    if part.gate.reference == "transformers":
        work.progress.say("  reading pairs with transformers")
        wanted = reference_scores(
            packaged.tuned.uncompressed.checkpoint, packaged.tuned.loaded.record.family, compared
        )
    with _engines(packaged, folders, pools, limits["max_chunk"], open_engine) as engines:
        scores = {name: _read(name, engine, pairs, work) for name, engine in engines.items()}
        light = engines[CANDIDATE]
        others = {
            answers: _read(CANDIDATE, light, pairs, work, answers)
            for answers in ((*_OTHERS,) if light.limits.light else ())
        }
        plain = engines[folders[-1]]
        alone = score_pairs(plain, compared, slots=1)
        if wanted is None:
            wanted = scores[folders[-1]][: len(compared)]
        hardware = describe_hardware()
        speed, cost = _speed(engines, part.gate, hardware["cpu"], work)
        footprint = _footprint(packaged, folders, part.gate, work)
        _write_golden(packaged, engines[CANDIDATE], pairs, work)
        samples = _samples(packaged, engines[CANDIDATE], pairs, part.gate.samples)
    counts = token_counts_scores(_learnt(packaged), pairs, limits["vocab_size"])
    evidence = [
        parity_evidence(alone, wanted, part.gate),
        floor_evidence(scores[CANDIDATE], counts, part.gate),
    ]
    if packaged.compressed:
        evidence.append(perplexity_evidence(scores[PARENT], scores[CANDIDATE], part.gate))
        evidence += [
            perplexity_evidence(scores[PARENT], found, part.gate, _OTHERS[answers])
            for answers, found in others.items()
        ]
        evidence += decode_speed_evidence(speed, part.gate)
        whole = _records(packaged)[PARENT]
        evidence.append(
            size_evidence(whole.size_bytes, packaged.record.candidate.size_bytes, part.gate.max_size_ratio)
        )
    masks = value_masks("language", languages_of(load_codec(packaged.tuned.checkpoint), pairs))
    slices = slice_rows(masks, scores, part.gate)
    evidence += slice_evidence(slices)
    for item in evidence:
        work.progress.say(f"  {item.sentence()}")
    if not all(item.passed for item in evidence):
        raise GateRefused(part.model, evidence, advice=_ADVICE)
    if part.gate.keep_examples:
        write_examples(work.folder, text_examples(pairs, masks))
    sizes = {name: record.size_bytes for name, record in _records(packaged).items()}
    return TextVerifyRecord(
        evidence=tuple(evidence),
        cost=cost,
        speed=speed,
        tolerance=TOLERANCES.get(packaged.record.candidate.precision, QUANTIZED),
        perplexity={
            **{name: perplexity(one) for name, one in scores.items()},
            "token counts": perplexity(counts),
        },
        sizes_bytes=sizes,
        samples=samples,
        hardware=hardware,
        notes=(f"{len(pairs)} pairs read, {sum(len(one.logprobs) for one in counts)} tokens of answers",),
        slices=slices,
        footprint=footprint,
    )


def _footprint(
    packaged: Packaged, names: Sequence[str], gate: TextGatePart, work: Work
) -> dict[str, Footprint]:
    found = {}
    for name in names if gate.footprint else ():
        work.progress.say(f"  {name}: memory, latency and CPU in a process of its own")
        record = _records(packaged)[name]
        folder = packaged.output.folder / name
        found[name] = measured(
            Ask(
                task=TEXT_TASK,
                folder=str(folder),
                graph=GRAPH_FILE,
                light=LIGHT_FILE if (folder / LIGHT_FILE).is_file() else None,
                batch_sizes=gate.batch_sizes,
                tokens=min(gate.filled, record.limits["max_context"] - 64),
                vocab_size=record.limits["vocab_size"],
                max_chunk=record.limits["max_chunk"],
                seed=gate.seed,
                disk_bytes=record.size_bytes,
            )
        )
    return found


def _records(packaged: Packaged) -> dict[str, PackagedRecord]:
    return {
        name: record
        for name, record in ((CANDIDATE, packaged.record.candidate), (PARENT, packaged.record.parent))
        if record is not None
    }


@contextlib.contextmanager
def _engines(
    packaged: Packaged, names: Sequence[str], pools: Mapping[int, int], max_chunk: int, open_engine: Open
) -> Iterator[dict[str, CausalEngine]]:
    with contextlib.ExitStack() as stack:
        engines: dict[str, CausalEngine] = {}
        for name in names:
            engines[name] = open_engine(packaged.output.folder / name, pools, max_chunk)
            stack.callback(engines[name].close)
        yield engines


def _read(
    name: str,
    engine: CausalEngine,
    pairs: Sequence[EncodedPair],
    work: Work,
    answers: Answers | None = None,
) -> list[Scores]:
    answers = answers or ("light" if engine.limits.light else "own")

    def report(done: int, total: int) -> None:
        work.progress.step(f"reading pairs, {name}", done, total)

    return score_pairs(engine, pairs, slots=SLOTS, answers=answers, progress=report)


def _capacity(pairs: Sequence[EncodedPair], gate: TextGatePart, max_context: int) -> int:
    needed = max(*(len(pair.ids) for pair in pairs), gate.filled + 1, GOLDEN_TOKENS * 2, SAMPLE_TOKENS)
    rounded = -(-needed // 256) * 256 + SAMPLE_TOKENS
    return min(rounded, max_context)


def _speed(
    engines: Mapping[str, CausalEngine], gate: TextGatePart, cpu: str, work: Work
) -> tuple[tuple[SpeedRow, ...], Cost]:
    rows: list[SpeedRow] = []
    times = {}
    for done, size in enumerate(gate.batch_sizes):
        work.progress.step("timing decode steps, batch size", done, len(gate.batch_sizes), str(size))
        found = measure_in_turn(
            {name: decode_step(engine, size, gate.filled) for name, engine in engines.items()},
            rounds=gate.rounds,
        )
        times[size] = found[CANDIDATE]
        if PARENT in found:
            rows.append(speed_row(size, found[PARENT], found[CANDIDATE], seed=gate.seed))
    work.progress.step("timing decode steps, batch size", len(gate.batch_sizes), len(gate.batch_sizes))
    return tuple(rows), fit_cost(times, cpu)


def decode_step(engine: CausalEngine, size: int, filled: int) -> Callable[[], object]:
    """A decode step of ``size`` texts that hold ``filled`` tokens each, to be timed."""
    capacity = engine.limits.max_context
    call = CausalCall(
        capacity,
        0,
        np.zeros((size, 1), np.int64),
        np.full(size, min(filled, capacity - 1), np.int64),
        np.ones(size, np.int64),
        engine.limits.light,
    )
    return lambda: engine.run(call)


def _write_golden(packaged: Packaged, engine: CausalEngine, pairs: Sequence[EncodedPair], work: Work) -> None:
    record = packaged.record.candidate
    most = min(engine.limits.max_context, record.limits["max_context"]) - GOLDEN_TOKENS
    prompts = [pair.ids[: pair.prompt_tokens].tolist()[-most:] for pair in pairs[:GOLDEN_TEXTS]]
    long = [token for prompt in prompts for token in prompt]
    if len(long) > record.limits["max_chunk"]:  # one that takes more than one chunk
        prompts[-1] = long[: min(record.limits["max_chunk"] + 16, most)]
    golden = record_golden(engine, prompts, tokens=GOLDEN_TOKENS, eos_ids=record.eos_ids)
    write_golden(work.folder / GOLDEN_FILE, golden)


def _samples(
    packaged: Packaged, engine: CausalEngine, pairs: Sequence[EncodedPair], count: int
) -> tuple[Sample, ...]:
    codec = load_codec(packaged.tuned.checkpoint)
    fits = [pair for pair in pairs if pair.prompt_tokens + SAMPLE_TOKENS <= engine.limits.max_context]
    chosen = fits[:: max(1, len(fits) // count)][:count] if count else []
    prompts = [pair.ids[: pair.prompt_tokens].tolist() for pair in chosen]
    if not prompts:
        return ()
    eos_ids = packaged.record.candidate.eos_ids
    written = record_golden(engine, prompts, tokens=SAMPLE_TOKENS, eos_ids=eos_ids).outputs[TOKEN_IDS]
    return tuple(
        Sample(
            prompt=codec.decode(prompt, skip_special_tokens=False),
            text=codec.decode([int(one) for one in row if one >= 0], skip_special_tokens=True),
        )
        for prompt, row in zip(prompts, written, strict=True)
    )


def _learnt(packaged: Packaged) -> list[EncodedPair]:
    folder = packaged.tuned.loaded.output.folder
    return [pair for side in ("train", "calibration") for pair in load_pairs(pairs_path(folder, side))]
