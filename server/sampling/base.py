"""What the continuous batcher needs of a sampler. One ``RowSampler`` lives as long as one text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from server.errors import InvalidRequest
from server.text_domain import Chunk, GenerateRequest, TokenLogprob


class Mask(Protocol):
    """A constraint's state in one text."""

    def fill(self, allowed_V: npt.NDArray[np.uint32]) -> None:
        """Write the bitmask of tokens allowed next (``ceil(V / 32)`` words, bit i % 32 of word i // 32)."""

    def accept(self, token_id: int) -> None:
        """This token was chosen.

        Raises:
            ValueError: it was not allowed.
        """

    @property
    def refused(self) -> InvalidRequest | None:
        """Why the constraint cannot be followed any further, for the one who sent it; None: it can.

        Where it is set, no token is allowed, and the text must end with it: not the engine has failed, but the constraint.
        """

    def done(self) -> bool:
        """Whether nothing but the end of the text may follow."""


@dataclass(slots=True)
class RowSampler:
    """One text's state: opaque to the batcher, owned by the sampler.

    Attributes:
        request: what was asked.
        mask: the constraint, when there is one.
    """

    request: GenerateRequest
    mask: Mask | None


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a step chose.

    Attributes:
        tokens_B: int64.
        logprobs: one a row; None where not asked for.
        bad_B: bool; rows whose logits were NaN or allowed nothing: their text must fail.
    """

    tokens_B: npt.NDArray[np.int64]
    logprobs: Sequence[TokenLogprob | None]
    bad_B: npt.NDArray[np.bool_]


class Sampler(Protocol):
    """Chooses tokens for all rows of a step at once. Engine thread only, but for ``open``."""

    def open(self, request: GenerateRequest, mask: Mask | None) -> RowSampler:
        """State for one text."""

    def prepare(self, rows: Sequence[RowSampler]) -> None:
        """Make the masks of the coming step; called while the engine computes, on another thread than it."""

    def sample(self, logits_BV: npt.NDArray[np.float32], rows: Sequence[RowSampler]) -> Sampled:
        """Choose a token for each row (may write into ``logits_BV``) and account for it in the row's state."""


class ConstraintCompiler(Protocol):
    """Makes masks; slow work, not for the event loop's thread."""

    def compile(self, request: GenerateRequest) -> Mask | None:
        """A mask for the request's constraint, None without one; bounded in time and memory.

        Raises:
            InvalidRequest: it does not compile, or is too large; says where.
        """


class TextWriter(Protocol):
    """Tokens to chunks for one text, with stop strings and UTF-8 held back where they are not whole."""

    def push(self, token_id: int, logprob: TokenLogprob | None) -> Chunk | None:
        """What can be shown now; None when nothing yet. After it, ``stopped`` says whether a stop string was met."""

    def finish(self) -> Chunk | None:
        """What was held back, at the end of a text that no stop string ended."""

    @property
    def stopped(self) -> str | None:
        """The stop string that was met."""
