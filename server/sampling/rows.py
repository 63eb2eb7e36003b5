"""What a text's sampler remembers: its random numbers, which tokens it has seen, and its constraint's next tokens.

Suffixes: ``_V`` the vocabulary, ``_N`` some of its tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.errors import InvalidRequest
from server.sampling.base import Mask, RowSampler
from server.text_domain import GenerateRequest

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


@dataclass(slots=True)
class SeenTokens:
    """Tokens with their counts, growing by one at a time."""

    ids: Ids
    counts: Floats
    size: int = 0
    places: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, tokens: Ids) -> SeenTokens:
        """Each of these once."""
        room = max(16, 2 * len(tokens))
        seen = cls(np.zeros(room, np.int64), np.zeros(room, np.float32), len(tokens))
        seen.ids[: len(tokens)], seen.counts[: len(tokens)] = tokens, 1.0
        seen.places = {int(token): at for at, token in enumerate(tokens)}
        return seen

    def add(self, token: int) -> None:
        """One more of it."""
        at = self.places.get(token)
        if at is None:
            at = self.size
            if at == len(self.ids):
                self.ids, self.counts = (
                    np.concatenate([old, np.zeros_like(old)]) for old in (self.ids, self.counts)
                )
            self.places[token], self.ids[at] = at, token
            self.size += 1
        self.counts[at] += 1.0


@dataclass(slots=True)
class Row(RowSampler):
    """One text's state.

    Attributes:
        random: its own numbers; nobody else draws from them.
        bias: tokens and what is added to each.
        seen: of prompt and answer, for the repetition penalty; None when it is off.
        written: of the answer, for presence and frequency; None when both are off.
        allowed: bits of the constraint's next tokens.
        filled: whether ``allowed`` is of the coming step.
    """

    random: np.random.Generator
    bias: tuple[Ids, Floats] | None
    seen: SeenTokens | None
    written: SeenTokens | None
    allowed: npt.NDArray[np.uint32] | None
    filled: bool = False

    def adjust(self, logits_V: Floats) -> bool:
        """Penalties and bias, in place; whether there are any."""
        sampling = self.request.sampling
        if self.seen is not None and self.seen.size:
            ids = self.seen.ids[: self.seen.size]
            values_N = logits_V[ids]
            factor = np.float32(sampling.repetition_penalty)
            logits_V[ids] = np.where(values_N > 0, values_N / factor, values_N * factor)
        if self.written is not None and self.written.size:
            size = self.written.size
            logits_V[self.written.ids[:size]] -= np.float32(sampling.presence_penalty) + (
                np.float32(sampling.frequency_penalty) * self.written.counts[:size]
            )
        if self.bias is not None:
            logits_V[self.bias[0]] += self.bias[1]
        return self.seen is not None or self.written is not None or self.bias is not None

    def fill(self) -> None:
        """Make the bits of the coming step, unless they are made."""
        if self.mask is not None and self.allowed is not None and not self.filled:
            self.mask.fill(self.allowed)
            self.filled = True

    def account(self, token: int) -> None:
        """This token was chosen."""
        if self.seen is not None:
            self.seen.add(token)
        if self.written is not None:
            self.written.add(token)
        if self.mask is not None:
            self.filled = False
            self.mask.accept(token)


def mask_words(vocab_size: int) -> int:
    """Words of 32 bits that a mask has."""
    return -(-vocab_size // 32)


def open_row(request: GenerateRequest, mask: Mask | None, vocab_size: int) -> Row:
    """State for one text.

    Raises:
        InvalidRequest: a bias is of no token.
    """
    sampling = request.sampling
    bias = None
    if sampling.logit_bias:
        wrong = next((token for token in sampling.logit_bias if not 0 <= token < vocab_size), None)
        if wrong is not None:
            raise InvalidRequest(
                f"logit_bias names the token {wrong}; the model's are 0 .. {vocab_size - 1}",
                field="logit_bias",
                limit=f"0 .. {vocab_size - 1}",
            )
        ids = np.fromiter(sampling.logit_bias, np.int64, len(sampling.logit_bias))
        bias = ids, np.fromiter(sampling.logit_bias.values(), np.float32, len(ids))
    seen = None
    if sampling.repetition_penalty != 1.0:
        prompt = np.unique(np.asarray(request.prompt_ids, np.int64))
        seen = SeenTokens.of(prompt[(prompt >= 0) & (prompt < vocab_size)])
    written = None
    if sampling.presence_penalty != 0.0 or sampling.frequency_penalty != 0.0:
        written = SeenTokens.of(np.empty(0, np.int64))
    seed = None if sampling.seed is None else sampling.seed & 0xFFFF_FFFF_FFFF_FFFF
    allowed = None if mask is None else np.zeros(mask_words(vocab_size), np.uint32)
    return Row(request, mask, np.random.Generator(np.random.PCG64(seed)), bias, seen, written, allowed)
