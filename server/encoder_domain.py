"""What a sentence encoder is asked for and what comes back; knows no wire and no tokenizer.

Units: tokens; seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

ENCODER_TASK = "sentence_encoding"  # of manifests and lists of models


class InputKind(StrEnum):
    """What a text is to the others: E5 and its kin mark questions and passages with different prefixes."""

    QUERY = "query"
    PASSAGE = "passage"
    PLAIN = "plain"  # no prefix


class Truncate(StrEnum):
    """What happens to a text that is longer than the encoder reads."""

    ERROR = "error"
    END = "end"  # its end is left out, and told


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderInfo:
    """What is served.

    Attributes:
        name, version: of the model.
        engine: runner.
        precision: "int8", "fp32".
        dim: of the vectors.
        dims: widths that may be asked for (Matryoshka), widest first; ``dim`` alone: the vectors cannot be cut.
        max_tokens: a text may have, special tokens included.
        labels: of the intents that its head tells apart, in the order of ``logits_NC``; empty: it has no head.
        temperature: logits are divided by it before they are probabilities.
        threshold: probability below which an intent is "out of scope", chosen on validation.
        created_s: Unix time of publishing.
        flags: what a reader must know ("trained_small": by the builder, on the shop's own texts alone).
    """

    name: str
    version: str
    engine: str
    precision: str
    dim: int
    max_tokens: int
    dims: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    temperature: float = 1.0
    threshold: float = 0.0
    created_s: int = 0
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeRequest:
    """Texts to encode.

    Attributes:
        inputs: texts, or token ids without special tokens; at least one. What is wrong with one of several is told with its
            place: the error's ``field`` is ``input[3]``.
        kind: see there; the same for all.
        truncate: see there.
        deadline_s: on the monotonic clock; None: none.
        bulk: work that waits behind all that is live (indexing a folder).
        whole: the inputs are token ids as the graph takes them, special tokens among them.
    """

    inputs: tuple[str | tuple[int, ...], ...]
    kind: InputKind = InputKind.PLAIN
    truncate: Truncate = Truncate.ERROR
    deadline_s: float | None = None
    bulk: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Vectors, in the order of the inputs.

    Attributes:
        vectors_ND: float32, of length 1.
        logits_NC: float32 of the intent head; None where there is none.
        tokens_N: read of each input, special tokens included.
        truncated_N: whether the end of an input was left out.
        known_N: share of each input's tokens that the vocabulary has: a vector of a text that is mostly unknown means little.
        queue_s, engine_s: waiting, and computing.
    """

    vectors_ND: npt.NDArray[np.float32]
    logits_NC: npt.NDArray[np.float32] | None
    tokens_N: tuple[int, ...]
    truncated_N: tuple[bool, ...]
    known_N: tuple[float, ...] = ()
    queue_s: float = 0.0
    engine_s: float = 0.0
