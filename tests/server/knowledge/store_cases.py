"""A knowledge store with an encoder whose vectors say which words a text has, and that can be sent away."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from server.encoder_domain import Encoded, EncodeRequest, EncoderInfo
from server.errors import EngineFault, InvalidRequest, NotReady
from server.knowledge.search import KnowledgeSearch
from server.knowledge.store import KnowledgeStore
from server.knowledge.vectors import Floats
from server.knowledge.words import words
from server.knowledge_domain import Document, DocumentFormat, SearchAsked

DIM = 64


def vector(text: str, version: str = "1") -> Floats:
    found = np.zeros(DIM, np.float32)
    for word in words(text):
        found[zlib.crc32(f"{version}{word}".encode()) % DIM] += 1
    return found / max(1e-9, float(np.linalg.norm(found)))


class WordEncoder:
    """``SentenceEncoder`` for tests of the store alone."""

    def __init__(self) -> None:
        self.version = "1"
        self.away = False
        self.failing = 0  # calls that fail from now on
        self.calls = 0
        self.first_waits = False  # the first call lets others go ahead

    def info(self) -> EncoderInfo:
        if self.away:
            raise NotReady("the encoder is away")
        return EncoderInfo(
            name="words", version=self.version, engine="test", precision="fp32", dim=DIM, max_tokens=512
        )

    def ready(self) -> tuple[bool, str]:
        return not self.away, ""

    async def encode(self, request: EncodeRequest) -> Encoded:
        self.calls += 1
        if self.first_waits and self.calls == 1:
            for _ in range(200):
                await asyncio.sleep(0)
        if self.away:
            raise NotReady("the encoder is away")
        if self.failing:
            self.failing -= 1
            raise EngineFault("the engine failed")
        assert request.bulk, "a document waits behind those who are live"
        for at, text in enumerate(request.inputs):
            if not list(words(str(text))):
                raise InvalidRequest(f"input[{at}] has nothing to read", field=f"input[{at}]")
        count = len(request.inputs)
        return Encoded(
            vectors_ND=np.stack([vector(str(text), self.version) for text in request.inputs]),
            logits_NC=None,
            tokens_N=(1,) * count,
            truncated_N=(False,) * count,
        )


@asynccontextmanager
async def open_store(
    path: Path, encoder: WordEncoder | None = None, *, follow: bool = False
) -> AsyncIterator[KnowledgeStore]:
    async def at_once(_: float) -> None:
        await asyncio.sleep(0)

    store = KnowledgeStore(path, encoder, now_unix_s=lambda: 1000.0, sleep=at_once)
    try:
        await store.start(follow=follow)
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def searching(store: KnowledgeStore) -> AsyncIterator[KnowledgeSearch]:
    search = KnowledgeSearch(store.open_reader)
    await search.start()
    try:
        yield search
    finally:
        await search.close()


def page(
    document_id: str, text: str, format: DocumentFormat = DocumentFormat.MARKDOWN, **fields: object
) -> Document:
    return Document(id=document_id, text=text, format=format, **fields)  # type: ignore[arg-type]


def asked(text: str, *, by_vector: bool = True, k: int = 8) -> SearchAsked:
    return SearchAsked(text=text, vector_D=vector(text) if by_vector else None, k=k)
