"""Two text models on the same texts: what each thinks of answers that are given, token by token.

Both must cut texts into the same tokens, since a token of one is otherwise not a token of the other.
"""

from __future__ import annotations

import contextlib

import numpy as np

from build_engines.compare.limits import CompareLimits
from build_engines.compare.records import MetricRow
from build_engines.errors import BuildError
from build_engines.proof.examples import Examples
from build_engines.proof.records import Outcome, SliceRow
from build_engines.proof.signed_rank import signed_rank
from build_engines.proof.slices import judged, of_sums
from build_engines.proof.text_examples import pairs_of
from build_engines.records import SpeedRow
from build_engines.speed import measure_in_turn, speed_row
from build_engines.text.scoring import Scores, lost_and_tokens, perplexity, rise_over, score_pairs
from build_engines.text.verify import decode_step, open_packaged
from server.artifacts.repository import OpenedVersion

TOKENIZER_FILE = "tokenizer.json"
SLOTS, FILLED = 8, 128


def compare_texts(
    a: OpenedVersion, b: OpenedVersion, examples: Examples, limits: CompareLimits
) -> tuple[tuple[MetricRow, ...], tuple[SliceRow, ...], tuple[SpeedRow, ...]]:
    """Perplexity, slices, decode speed.

    Raises:
        BuildError: the two have different tokenizers, or a text does not fit.
    """
    refuse_other_tokens(a, b)
    pairs = pairs_of(examples)
    chosen = min(limits.examples or len(pairs), len(pairs))
    pairs = pairs[:chosen]
    sizes = tuple(size for size in limits.batch_sizes if size <= SLOTS)
    longest = max(len(pair.ids) for pair in pairs)
    capacity = min(
        -(-max(longest, FILLED + 1) // 256) * 256 + 64,
        *(one.manifest.limits["max_context"] for one in (a, b)),
    )
    if longest > capacity:
        raise BuildError(f"a text of the gate has {longest} tokens, one of the two holds {capacity}")
    with contextlib.ExitStack() as stack:
        engines = {}
        for name, opened in (("A", a), ("B", b)):
            engines[name] = open_packaged(
                opened.folder, {capacity: SLOTS}, opened.manifest.limits["max_chunk"]
            )
            stack.callback(engines[name].close)
        scores = {
            name: score_pairs(engine, pairs, slots=SLOTS, answers="light" if engine.limits.light else "own")
            for name, engine in engines.items()
        }
        speed = []
        for size in sizes if limits.rounds else ():
            runs = {name: decode_step(engine, size, FILLED) for name, engine in engines.items()}
            measured = measure_in_turn(runs, rounds=limits.rounds)
            speed.append(speed_row(size, measured["A"], measured["B"], seed=limits.seed))
    rows = []
    for name, mask in examples.slices.items():
        sides = [
            [one for one, inside in zip(scores[which], mask[:chosen], strict=True) if inside]
            for which in "AB"
        ]
        if sides[0]:
            lost_N, tokens_N = lost_and_tokens(*sides)
            figures = perplexity(sides[0]), perplexity(sides[1])
            rows.append(
                of_sums(name, lost_N, tokens_N, figures, limit=limits.max_slice_loss, seed=limits.seed)
            )
    return _metrics(scores["A"], scores["B"], limits), judged(rows), tuple(speed)


def refuse_other_tokens(a: OpenedVersion, b: OpenedVersion) -> None:
    """Stop where two versions cut texts differently.

    Raises:
        BuildError: their tokenizers differ.
    """
    digests = [
        next((entry.sha256 for entry in one.manifest.files if entry.path == TOKENIZER_FILE), "")
        for one in (a, b)
    ]
    if digests[0] != digests[1]:
        raise BuildError(
            f"{a.folder} and {b.folder} have different {TOKENIZER_FILE}: their tokens cannot be compared one by one; "
            "compare versions of one checkpoint"
        )


def _metrics(before: list[Scores], after: list[Scores], limits: CompareLimits) -> tuple[MetricRow, ...]:
    found = rise_over(before, after, limit=limits.max_loss, seed=limits.seed)
    verdict: Outcome = "undecidable"
    if found.high < limits.max_loss:
        verdict = "pass"
    elif found.low > limits.max_loss:
        verdict = "fail"
    lost_N, tokens_N = lost_and_tokens(before, after)
    agree = float(np.mean(np.concatenate([p.greedy == c.greedy for p, c in zip(before, after, strict=True)])))
    return (
        MetricRow(
            name="perplexity",
            n=found.n,
            a=perplexity(before),
            b=perplexity(after),
            loss=found.rise,
            interval=(found.low, found.high),
            limit=limits.max_loss,
            test="paired bootstrap over texts; p by Wilcoxon's signed ranks of the loss a token",
            p_value=signed_rank(lost_N / tokens_N).p_two_sided,
            verdict=verdict,
            n_to_decide=found.n_to_decide if verdict == "undecidable" else None,
        ),
        MetricRow(name="A's choice of token is B's", n=int(tokens_N.sum()), a=1.0, b=agree),
    )
