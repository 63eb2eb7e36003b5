"""Whether a passage is about what the question is about, by the encoder's own intent head.

Two pages may share a question's words and even its meaning ("how long until my money is back", "how long do I have to send it
back"); the head was taught by the shop which of them is meant. It reads a passage as it reads a question, so what a passage is
about is a distribution over intents too, and the product of the two says how likely both are about the same.

Pages are read behind all live work before they are asked for (``learn``); one that has not been read yet is read when it is
found. What a passage is about is remembered for as long as the passage and the encoder are what they were: pages, not conversations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from server.encoder_domain import EncodeRequest, EncoderInfo, InputKind, Truncate
from server.errors import ServeError
from server.knowledge_domain import Hit, Passage
from server.pipelines.customer_service.intents import intent_probabilities
from server.sentence_encoder import SentenceEncoder

MOST_KEPT = 20_000  # passages; with 40 intents 3 MB
MOST_CHARS = 200  # of a passage that are read: its beginning says what it is about, and a short text is encoded at once
LEARNT_AT_ONCE = 2  # a question waits for no more than these
Floats = npt.NDArray[np.float32]


class PassageIntents:
    """What passages are about; for one encoder at a time."""

    def __init__(self, encoder: SentenceEncoder, most_kept: int = MOST_KEPT) -> None:
        self._encoder = encoder
        self._most_kept = most_kept
        self._kept: dict[tuple[str, str], Floats] = {}
        self._version: tuple[str, str] = ("", "")

    async def agreements(
        self, question_C: Floats | None, hits: Sequence[Hit], deadline_at_s: float
    ) -> list[float]:
        """How likely each hit is about what the question is about.

        Args:
            question_C: probabilities of the question's intents; None: there is no head.
            hits: few; those that are not known yet are encoded in one call.
            deadline_at_s: by when.

        Returns:
            0 to 1 for each hit, or NaN for all of them where it cannot be said.
        """
        unknown = [float("nan")] * len(hits)
        if question_C is None:
            return unknown
        info = self._encoder.info()
        self._begin_with(info)
        keys = [_key(hit.passage) for hit in hits]
        missing = [at for at, key in enumerate(keys) if key not in self._kept]
        if missing:
            texts = tuple(_text(hits[at].passage) for at in missing)
            try:
                encoded = await self._encoder.encode(
                    EncodeRequest(
                        inputs=texts, kind=InputKind.PASSAGE, truncate=Truncate.END, deadline_s=deadline_at_s
                    )
                )
            except ServeError:
                return unknown
            found_NC = intent_probabilities(info, encoded.logits_NC)
            if found_NC is None or self._encoder.info() != info:
                return unknown
            for at, row_C in zip(missing, found_NC, strict=True):
                self._keep(keys[at], row_C)
        return [float(self._kept[key] @ question_C) if key in self._kept else float("nan") for key in keys]

    async def learn(self, passages: Sequence[Passage]) -> None:
        """Read passages before anyone asks for them, behind all that is live; those that are known cost nothing.

        Raises:
            ServeError: the encoder is away.
        """
        self._begin_with(self._encoder.info())
        fresh = {_key(one): one for one in passages}
        missing = [key for key in fresh if key not in self._kept][: max(0, self._most_kept - len(self._kept))]
        for first in range(0, len(missing), LEARNT_AT_ONCE):
            keys = missing[first : first + LEARNT_AT_ONCE]
            info = self._encoder.info()
            request = EncodeRequest(
                inputs=tuple(_text(fresh[key]) for key in keys),
                kind=InputKind.PASSAGE,
                truncate=Truncate.END,
                bulk=True,
            )
            encoded = await self._encoder.encode(request)
            found_NC = intent_probabilities(info, encoded.logits_NC)
            if found_NC is None or self._encoder.info() != info:
                return
            for key, row_C in zip(keys, found_NC, strict=True):
                self._keep(key, row_C)

    def _begin_with(self, info: EncoderInfo) -> None:
        if (info.name, info.version) != self._version:
            self._kept.clear()
            self._version = (info.name, info.version)

    def _keep(self, key: tuple[str, str], row_C: Floats) -> None:
        if len(self._kept) >= self._most_kept:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = row_C


def _key(passage: Passage) -> tuple[str, str]:
    return passage.document_id, _text(passage)


def _text(passage: Passage) -> str:
    heads = [passage.question or (passage.headings[-1] if passage.headings else passage.title)]
    return ". ".join([*(head for head in heads if head), passage.text[:MOST_CHARS]])
