"""What a text model learns from: a prompt and its answer, and how they become tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from build_engines.text.batches import EncodedPair

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPair:
    """One thing to learn.

    Attributes:
        prompt: what the model reads.
        answer: what it should write after it.
        group: pairs of one group are never on both sides of a split (the product they are about).
    """

    prompt: str
    answer: str
    group: str = ""


def encode_pairs(
    pairs: Iterable[TextPair], encode: Encode, *, eos_id: int, max_tokens: int
) -> tuple[list[EncodedPair], int]:
    """Pairs as tokens: prompt and answer apart, as serving encodes a prompt alone, and the end of text behind.

    Returns:
        Those that fit into ``max_tokens``, and how many did not.
    """
    kept: list[EncodedPair] = []
    left_out = 0
    for pair in pairs:
        prompt, answer = list(encode(pair.prompt)), list(encode(pair.answer))
        if not prompt or len(prompt) + len(answer) + 1 > max_tokens:
            left_out += 1
            continue
        kept.append(EncodedPair(ids=np.array([*prompt, *answer, eos_id], np.int64), prompt_tokens=len(prompt)))
    return kept, left_out
