"""What a served engine thinks of texts that are given: log-probabilities token by token, through the calls that serve.

Prompts go in by chunks and answers by single tokens, several texts at once in neighbouring slots, as in serving. So what is
judged is the engine with its cache and its masks, not a graph run on whole texts. Where the engine has a light graph, prompts
are read in its own graph and answers as asked: in the light one, in its own, or token by token in turn.

Suffixes: B texts of a call, T new tokens of each, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from build_engines.proof.paired_sums import PairedRise, paired_rise
from build_engines.text.pairs import EncodedPair
from server.engines.causal import CausalCall, CausalEngine

Answers = Literal["own", "light", "in turn"]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Of one pair's answer: log-probability (nats) of each of its tokens, and the token that the engine would have chosen."""

    logprobs: npt.NDArray[np.float64]
    greedy: npt.NDArray[np.int64]


def score_pairs(
    engine: CausalEngine,
    pairs: Sequence[EncodedPair],
    *,
    slots: int,
    answers: Answers = "own",
    progress: Callable[[int, int], None] | None = None,
) -> list[Scores]:
    """Read every pair, ``slots`` at once.

    Args:
        engine: with a pool of at least ``slots`` that holds the longest pair; the largest is used.
        pairs: what to read.
        slots: texts at once (1: alone).
        answers: graph that computes answers.
        progress: called with pairs done and pairs in all.

    Raises:
        ValueError: a pair does not fit the engine.
        RuntimeError: the engine failed.
    """
    found: list[Scores | None] = [None] * len(pairs)
    order = sorted(range(len(pairs)), key=lambda one: len(pairs[one].ids))  # alike together: few idle rows
    for start in range(0, len(order), slots):
        group = order[start : start + slots]
        for place, scores in zip(group, _score(engine, [pairs[one] for one in group], answers), strict=True):
            found[place] = scores
        if progress is not None:
            progress(start + len(group), len(order))
    return [one for one in found if one is not None]


def perplexity(scores: Sequence[Scores]) -> float:
    """Of an answer's token, over all answers; infinite where a token has no probability at all."""
    logprobs = np.concatenate([one.logprobs for one in scores])
    return float(np.exp(min(-logprobs.mean(), 700.0)))


def _score(engine: CausalEngine, pairs: Sequence[EncodedPair], answers: Answers) -> list[Scores]:
    capacity = engine.limits.max_context
    longest = max(len(pair.ids) for pair in pairs)
    if longest > capacity:
        raise ValueError(f"a pair has {longest} tokens, the engine holds {capacity}")
    filled_B = np.zeros(len(pairs), np.int64)
    logprobs: list[list[float]] = [[] for _ in pairs]
    greedy: list[list[int]] = [[] for _ in pairs]
    light = False
    while True:
        counts_B = np.array(
            [_next_count(engine, pair, int(done)) for pair, done in zip(pairs, filled_B, strict=True)]
        )
        reading_B = np.array([done < pair.prompt_tokens for pair, done in zip(pairs, filled_B, strict=True)])
        if answers != "own" and reading_B.any():  # answers wait: a call is of one graph
            counts_B *= reading_B
        else:
            light = answers == "light" or (answers == "in turn" and not light)
        width = int(counts_B.max())
        if width == 0:
            return [
                Scores(np.array(told, np.float64), np.array(best, np.int64))
                for told, best in zip(logprobs, greedy, strict=True)
            ]
        # No row runs over: a text advances by a chunk at most, so none is ahead of one that still reads its prompt.
        ids_BT = np.zeros((len(pairs), width), np.int64)
        for row, pair in enumerate(pairs):
            ids_BT[row, : counts_B[row]] = pair.ids[filled_B[row] : filled_B[row] + counts_B[row]]
        logits_BV = engine.run(
            CausalCall(capacity, 0, ids_BT, filled_B.copy(), counts_B, light and not reading_B.any())
        )
        filled_B += counts_B
        for row, pair in enumerate(pairs):
            at = int(filled_B[row])
            if counts_B[row] and pair.prompt_tokens <= at < len(pair.ids):
                logits_V = logits_BV[row].astype(np.float64)
                logits_V -= logits_V.max()
                logprobs[row].append(float(logits_V[pair.ids[at]] - np.log(np.exp(logits_V).sum())))
                greedy[row].append(int(logits_V.argmax()))


def _next_count(engine: CausalEngine, pair: EncodedPair, filled: int) -> int:
    if filled < pair.prompt_tokens:
        return min(pair.prompt_tokens - filled, engine.limits.max_chunk)
    return 1 if filled < len(pair.ids) - 1 else 0  # the last token is only predicted


def rise_over(
    parent: Sequence[Scores], candidate: Sequence[Scores], *, limit: float = 0.0, seed: int = 0
) -> PairedRise:
    """How much higher the candidate's perplexity is, relative, with its 95 % interval over pairs."""
    lost_N, tokens_N = lost_and_tokens(parent, candidate)
    return paired_rise(lost_N, tokens_N, limit=limit, seed=seed)


def lost_and_tokens(
    parent: Sequence[Scores], candidate: Sequence[Scores]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of each pair, nats that the candidate needs beyond the parent, and the tokens of its answer."""
    lost = [float(p.logprobs.sum() - c.logprobs.sum()) for p, c in zip(parent, candidate, strict=True)]
    return np.array(lost, np.float64), np.array([len(one.logprobs) for one in parent], np.float64)
