"""Vectors for passages, by whatever encoder serves; what nobody can encode is left without one, not refused."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from server.encoder_domain import EncodeRequest, EncoderInfo, InputKind, Truncate
from server.errors import InvalidRequest
from server.knowledge.file_writer import PassageVectors
from server.knowledge.passage_texts import PassageTexts, passage_texts, passage_vectors
from server.knowledge.vectors import Floats, pack_rows
from server.knowledge_domain import Passage
from server.sentence_encoder import SentenceEncoder

TEXTS_AT_ONCE = 64  # of one call to the encoder
_PLACE = re.compile(r"input(?:\[(\d+)\])?\Z")


def encoder_name(info: EncoderInfo) -> str:
    """Under which the vectors of an encoder are kept."""
    return f"{info.name}/{info.version}"


async def encode_passages(encoder: SentenceEncoder, passages: Sequence[Passage]) -> list[PassageVectors]:
    """Encode passages behind all that is live.

    Raises:
        ServeError: the encoder is away, full, or failed; try again later.
    """
    wanted = [passage_texts(passage) for passage in passages]
    flat = list(dict.fromkeys(text for texts in wanted for text in texts.all()))
    known: dict[str, Floats] = {}
    for first in range(0, len(flat), TEXTS_AT_ONCE):
        known.update(await _encode(encoder, flat[first : first + TEXTS_AT_ONCE]))
    return [_vectors(texts, known) for texts in wanted]


async def _encode(encoder: SentenceEncoder, texts: Sequence[str]) -> dict[str, Floats]:
    """Vectors by text, without the texts that have nothing to read."""
    left = list(texts)
    while left:
        try:
            encoded = await encoder.encode(
                EncodeRequest(inputs=tuple(left), kind=InputKind.PASSAGE, truncate=Truncate.END, bulk=True)
            )
        except InvalidRequest as error:
            place = _PLACE.match(error.field or "")
            if place is None or int(place.group(1) or 0) >= len(left):
                raise
            del left[int(place.group(1) or 0)]
            continue
        return dict(zip(left, encoded.vectors_ND, strict=True))
    return {}


def _vectors(texts: PassageTexts, known: dict[str, Floats]) -> PassageVectors:
    if not all(text in known for text in texts.scan):
        return PassageVectors(scan=None, close=b"")
    readable = PassageTexts(texts.scan, tuple(text for text in texts.close if text in known))
    scan_1D, close_SD = passage_vectors(readable, np.stack([known[text] for text in readable.all()]))
    return PassageVectors(scan=pack_rows(scan_1D), close=pack_rows(close_SD) if len(close_SD) else b"")
