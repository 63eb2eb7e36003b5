"""What a sentence encoder's engine is: token ids in, one vector a text out, and the logits of a head where there is one.

Suffixes: B texts, T tokens (padded on the right), D width, C intents.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


class EncoderOutput(NamedTuple):
    """What one batch gave.

    Attributes:
        embedding_BD: float32.
        logits_BC: float32; None where the engine has no head.
    """

    embedding_BD: Floats
    logits_BC: Floats | None


class EncoderEngine(Protocol):
    """One loaded encoder.

    Attributes:
        kind: runner name.
        dim: D.
        intents: C; 0: no head.
    """

    kind: str
    dim: int
    intents: int

    def run(self, input_ids_BT: Ids, lengths_B: Ids) -> EncoderOutput:
        """Encode one batch and block until it is done; the interpreter lock is released while the device works.

        Not thread-safe: exactly one thread may be inside. Outputs are fresh arrays.

        Args:
            input_ids_BT: int64; what stands behind a text's length is not read, but must be a token.
            lengths_B: int64, each 1..T.

        Raises:
            ValueError: the arrays do not go together; nothing was computed.
            RuntimeError: the runtime failed; the caller decides whether the engine is kept.
        """
        ...

    def close(self) -> None:
        """Let go of memory; ``run`` afterwards raises RuntimeError. Safe to call twice."""
        ...
