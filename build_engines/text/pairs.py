"""What a text model learns from: a prompt and its answer, as text and as tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPair:
    """One thing to learn.

    Attributes:
        prompt: what the model reads; a conversation is (role, text) after (role, text), for the model's chat template.
        answer: what it should write after it.
        group: pairs of one group are never on two sides of a split (the product they are about).
    """

    prompt: str | tuple[tuple[str, str], ...]
    answer: str
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedPair:
    """A prompt and its answer as tokens.

    Attributes:
        ids: int64, prompt and then answer, end of text included.
        prompt_tokens: how many of them are the prompt (1..len-1).
    """

    ids: npt.NDArray[np.int64]
    prompt_tokens: int

    def __post_init__(self) -> None:
        """Check that there is something on both sides."""
        if not 1 <= self.prompt_tokens < len(self.ids):
            raise ValueError(
                f"{self.prompt_tokens} prompt tokens of {len(self.ids)}; both sides need one or more"
            )


def encode_pairs(
    pairs: Iterable[TextPair],
    encode_prompt: Callable[[str | tuple[tuple[str, str], ...]], Sequence[int]],
    encode_answer: Callable[[str], Sequence[int]],
    *,
    eos_id: int,
    max_tokens: int,
) -> list[EncodedPair | None]:
    """Pairs as tokens: prompt and answer apart, as serving encodes a prompt alone, and the end of text behind.

    Returns:
        One for each pair; None for a pair of more than ``max_tokens``, or with an empty prompt.
    """
    encoded: list[EncodedPair | None] = []
    for pair in pairs:
        prompt, answer = list(encode_prompt(pair.prompt)), list(encode_answer(pair.answer))
        fits = bool(prompt) and len(prompt) + len(answer) < max_tokens
        ids = np.array([*prompt, *answer, eos_id], np.int64)
        encoded.append(EncodedPair(ids=ids, prompt_tokens=len(prompt)) if fits else None)
    return encoded
