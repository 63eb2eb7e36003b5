"""A text model's examples of the gate, as they are kept in a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from build_engines.proof.examples import Examples, with_ragged
from build_engines.proof.slices import script_of
from build_engines.text.pairs import EncodedPair
from server.encoding.text import HuggingFaceCodec

PAIRS, PROMPT_TOKENS = "pairs", "prompt_tokens_C"


def text_examples(pairs: Sequence[EncodedPair], masks: Mapping[str, npt.NDArray[np.bool_]]) -> Examples:
    """Prompts and answers as tokens."""
    prompts = np.array([pair.prompt_tokens for pair in pairs], np.int32)
    return Examples(
        arrays={**with_ragged(PAIRS, [pair.ids for pair in pairs]), PROMPT_TOKENS: prompts}, slices=masks
    )


def pairs_of(examples: Examples) -> list[EncodedPair]:
    """The pairs again."""
    prompts = examples.arrays[PROMPT_TOKENS].tolist()
    rows = examples.ragged(PAIRS)
    return [
        EncodedPair(ids=ids.astype(np.int64), prompt_tokens=prompt)
        for ids, prompt in zip(rows, prompts, strict=True)
    ]


def languages_of(codec: HuggingFaceCodec, pairs: Sequence[EncodedPair]) -> list[str]:
    """Language of each answer, by its script."""
    return [
        script_of(codec.decode(pair.ids[pair.prompt_tokens :].tolist(), skip_special_tokens=True))
        for pair in pairs
    ]
