"""The text gate's rules: from scores to evidence with a verdict each. Pure; measuring is ``verify``'s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from build_engines.proof.records import SliceRow
from build_engines.proof.slices import judged, of_sums
from build_engines.records import SpeedRow
from build_engines.text.pairs import EncodedPair
from build_engines.text.recipe_parts import TextGatePart
from build_engines.text.scoring import Scores, lost_and_tokens, perplexity, rise_over
from server.artifacts.manifest import Measurement


def parity_evidence(engine: Sequence[Scores], wanted: Sequence[Scores], part: TextGatePart) -> Measurement:
    """The largest difference of a token's log-probability to the reference's."""
    errors = np.concatenate([np.abs(a.logprobs - b.logprobs) for a, b in zip(engine, wanted, strict=True)])
    worst = float(errors.max())
    who = "transformers" if part.reference == "transformers" else "itself in a batch"
    return Measurement(
        kind="parity",
        name=f"largest log-probability difference of the FP32 engine to {who}",
        value=worst,
        unit="nats",
        limit=part.max_logprob_error,
        sense="at_most",
        verdict="pass" if worst <= part.max_logprob_error else "fail",
        sample_size=int(errors.size),
    )


def perplexity_evidence(
    parent: Sequence[Scores], candidate: Sequence[Scores], part: TextGatePart, answers: str = ""
) -> Measurement:
    """How much higher the perplexity is than the parent's; ``answers``: in which graph those were computed."""
    found = rise_over(parent, candidate, limit=part.max_perplexity_rise, seed=part.seed)
    rise, low, high = found.rise, found.low, found.high
    verdict = _verdict(low, high, part.max_perplexity_rise)
    agree = np.concatenate([a.greedy == b.greedy for a, b in zip(parent, candidate, strict=True)]).mean()
    note = f"the parent's choice at {agree:.1%} of tokens"
    if verdict == "undecidable":
        needed = "no number of" if found.n_to_decide is None else f"about {found.n_to_decide:,}"
        note += f"; {needed} pairs would decide it"
    return Measurement(
        kind="quality",
        name="perplexity rise over the FP32 parent" + (f", {answers}" if answers else ""),
        value=rise,
        unit="ratio",
        limit=part.max_perplexity_rise,
        sense="at_most",
        verdict=verdict,
        sample_size=len(parent),
        interval=(low, high),
        note=note,
    )


def slice_rows(
    masks: Mapping[str, npt.NDArray[np.bool_]], scores: Mapping[str, Sequence[Scores]], part: TextGatePart
) -> tuple[SliceRow, ...]:
    """Perplexity on each slice, judged as one of many; nothing where there is no parent."""
    if "parent" not in scores:
        return ()
    rows = []
    for name, mask in masks.items():
        sides = [
            [one for one, inside in zip(scores[which], mask, strict=True) if inside]
            for which in ("parent", "candidate")
        ]
        lost_N, tokens_N = lost_and_tokens(*sides)
        figures = perplexity(sides[0]), perplexity(sides[1])
        rows.append(of_sums(name, lost_N, tokens_N, figures, limit=part.max_slice_rise, seed=part.seed))
    return judged(rows)


def floor_evidence(model: Sequence[Scores], counts: Sequence[Scores], part: TextGatePart) -> Measurement:
    """Perplexity over that of token counts, less 1: below 0 or it has learnt nothing that can be used."""
    found = rise_over(counts, model, seed=part.seed)
    rise, low, high = found.rise, found.low, found.high
    return Measurement(
        kind="floor",
        name="perplexity relative to token counts",
        value=rise,
        unit="ratio",
        limit=0.0,
        sense="at_most",
        verdict=_verdict(low, high, 0.0),
        sample_size=len(model),
        interval=(low, high),
    )


def decode_speed_evidence(rows: Sequence[SpeedRow], part: TextGatePart) -> list[Measurement]:
    """The speed-up of a decode step at each batch size."""
    return [
        Measurement(
            kind="speed",
            name=f"decode speed-up over the FP32 parent, {row.batch_size} at once",
            value=row.speedup,
            unit="x",
            limit=part.min_speedup,
            sense="at_least",
            verdict=(
                "pass"
                if row.interval[0] > part.min_speedup
                else "fail"
                if row.interval[1] < part.min_speedup
                else "undecidable"
            ),
            sample_size=row.rounds,
            interval=row.interval,
            note=f"{row.parent_s * 1e3:.3f} ms -> {row.candidate_s * 1e3:.3f} ms",
        )
        for row in rows
    ]


def token_counts_scores(
    learnt: Sequence[EncodedPair], judged: Sequence[EncodedPair], vocab_size: int
) -> list[Scores]:
    """What counting the tokens of answers predicts: each token by its share, one added to every count."""
    counts_V = np.ones(vocab_size)
    for pair in learnt:
        counts_V += np.bincount(pair.ids[pair.prompt_tokens :], minlength=vocab_size)[:vocab_size]
    logprobs_V = np.log(counts_V / counts_V.sum())
    best = int(counts_V.argmax())
    return [
        Scores(logprobs_V[pair.ids[pair.prompt_tokens :]], np.full(len(pair.ids) - pair.prompt_tokens, best))
        for pair in judged
    ]


def _verdict(low: float, high: float, limit: float) -> Literal["pass", "fail", "undecidable"]:
    return "pass" if high <= limit else "fail" if low > limit else "undecidable"  # NaN is neither
