"""Customer service without an engine or a database: pages in memory, an encoder of words, and ears that hear a few words.

They keep the protocols' promises and nothing more; what the real ones find is tested with the real ones.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from server.copy_domain import Language
from server.encoder_domain import Encoded, EncodeRequest, EncoderInfo
from server.errors import ServeError
from server.knowledge_domain import Hit, Passage, SearchAsked, SearchFound
from server.pipelines.customer_service.events import SupportEvent
from server.pipelines.customer_service.pipeline import SupportPipeline, Thresholds
from server.pipelines.customer_service.words import content_words, coverage
from server.support_domain import (
    Entity,
    EntityKind,
    Order,
    OrderItem,
    Role,
    Signals,
    SupportAnswer,
    SupportRequest,
    Turn,
)

DIM = 64
LABELS = ("shipping_cost", "return_item", "talk_to_person")
SHIPPING = "Standard delivery costs €4.95 per order and is free from €50. Express delivery costs €9.95, whatever the order is worth."
RETURNS = (
    "You can return any item within 30 days of the day you received it. The item must be unused and complete."
)
ELECTRONICS = "Electronics can be returned within 14 days. The seal of software must not be broken."
RETURNS_ZH = "自收到商品之日起30天内可以退货。商品必须未使用、配件齐全。"
ORDER = Order(
    order_id="A-1001",
    status="shipped",
    placed_on="2026-03-01",
    shipped_on="2026-03-02",
    expected_on="2026-03-05",
    carrier="DHL",
    tracking_number="JD0146000012",
    items=(OrderItem(title="Kettle 1.7 l"), OrderItem(title="Mug", quantity=2)),
    total=49.9,
    currency="EUR",
    refund_status="processing",
)


def page(name: str, text: str, *, title: str = "", language: str = "en", heading: str = "") -> Passage:
    return Passage(
        document_id=f"{name}.md",
        ordinal=0,
        title=title or name.capitalize(),
        headings=(heading,) if heading else (),
        anchor=name,
        url=f"http://localhost/{name}#{name}",
        question="",
        text=text,
        start=0,
        end=len(text),
        language=language,
    )


PAGES = (
    page("shipping", SHIPPING, title="Shipping costs"),
    page("returns", RETURNS, title="Returns"),
    page("electronics", ELECTRONICS, title="Returning electronics"),
    page("returns-zh", RETURNS_ZH, title="退货", language="zh"),
)


def vector(text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Words hashed into a vector of length 1, so that texts with the same words are near."""
    made = np.zeros(DIM, np.float32)
    for word in content_words(text):
        made[zlib.crc32(word.encode()) % DIM] += 1.0
    length = float(np.linalg.norm(made))
    return made / length if length else made


class WordEncoder:
    """A ``SentenceEncoder``.

    Attributes:
        asked: every request.
        fails: raised instead of an answer.
        hangs: never answers.
        logits: of one text.
    """

    def __init__(self, logits: Callable[[str], Sequence[float]] = lambda _: (8.0, 0.0, 0.0)) -> None:
        self.asked: list[EncodeRequest] = []
        self.fails: ServeError | None = None
        self.hangs = False
        self.logits = logits

    def info(self) -> EncoderInfo:
        return EncoderInfo(
            name="words", version="1", engine="test", precision="fp32", dim=DIM, max_tokens=256, labels=LABELS, threshold=0.5
        )  # fmt: skip

    async def encode(self, request: EncodeRequest) -> Encoded:
        self.asked.append(request)
        await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails
        texts = [str(text) for text in request.inputs]
        return Encoded(
            vectors_ND=np.stack([vector(text) for text in texts]),
            logits_NC=np.asarray([self.logits(text) for text in texts], np.float32),
            tokens_N=tuple(len(text.split()) + 2 for text in texts),
            truncated_N=(False,) * len(texts),
        )

    def ready(self) -> tuple[bool, str]:
        return self.fails is None, ""


class Shelf:
    """A ``Knowledge`` of a few pages.

    Attributes:
        asked: every search.
        fails: raised instead of an answer.
        hangs: never answers.
    """

    def __init__(self, pages: Sequence[Passage] = PAGES) -> None:
        self.pages = list(pages)
        self.asked: list[SearchAsked] = []
        self.fails: ServeError | None = None
        self.hangs = False

    async def search(self, asked: SearchAsked) -> SearchFound:
        self.asked.append(asked)
        await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails
        words = content_words(asked.text)
        scored = []
        for one in self.pages:
            cosine = (
                float("nan")
                if asked.vector_D is None
                else float(vector(one.title + " " + one.text) @ asked.vector_D)
            )
            found = coverage(words, content_words(one.title + " " + one.text))
            if found:
                scored.append((found + 0.1 * (one.language == asked.language), cosine, one))
        scored.sort(key=lambda entry: -entry[0])
        hits = tuple(
            Hit(passage=one, score=score, cosine=cosine, bm25_rank=at + 1)
            for at, (score, cosine, one) in enumerate(scored[: asked.k])
        )
        return SearchFound(hits=hits, epoch=7, search_s=0.001)

    def epoch(self) -> int:
        return 7

    def ready(self) -> tuple[bool, str]:
        return self.fails is None, ""


class Ears:
    """A ``Hearing`` that knows a handful of words."""

    def language(self, text: str, turns: Sequence[Turn], locale: str) -> Language:
        if locale:
            return Language.ZH if locale.startswith("zh") else Language.EN
        return Language.ZH if re.search(r"[\u4e00-\u9fff]", text) else Language.EN

    def signals(self, text: str) -> Signals:
        plain = text.lower()

        def said(words: str) -> str:
            found = re.search(words, plain)
            return found.group() if found else ""

        return Signals(
            asked_for_person=said("human|转人工"),
            angry=said("furious"),
            vulnerable=said("suicid"),
            legal=said("lawyer"),
            payment_dispute=said("chargeback"),
            safety=said("fire|着火"),
            injection=said("ignore (?:all|previous|your)|忽略"),
        )

    def instructs(self, text: str) -> bool:
        return bool(self.signals(text).injection)

    def without_attempts(self, text: str) -> str:
        return " ".join(part for part in re.split(r"(?<=[.?!])\s+", text) if not self.instructs(part))

    def entities(self, text: str) -> tuple[Entity, ...]:
        return tuple(
            Entity(
                kind=EntityKind.ORDER_NUMBER, text=m.group(), start=m.start(), end=m.end(), value=m.group()
            )
            for m in re.finditer(r"\b[A-Z]-\d{4}\b", text)
        )

    def masked(self, text: str) -> str:
        return re.sub(r"[\w.]+@[\w.]+", "[e-mail]", text)


@dataclass
class World:
    """One pipeline with what it is made of, and what it told."""

    encoder: WordEncoder | None = field(default_factory=WordEncoder)
    shelf: Shelf | None = field(default_factory=Shelf)
    generator: Any = None
    thresholds: Thresholds = field(
        default_factory=lambda: Thresholds(answer=0.2, answer_by_words=0.3, quotes=1)
    )
    generate: bool = False
    clock: Any = None
    told: list[SupportEvent] = field(default_factory=list)

    def pipeline(self) -> SupportPipeline:
        extra = {} if self.clock is None else {"clock": self.clock}
        return SupportPipeline(
            self.encoder, self.shelf, self.generator, Ears(), self.thresholds, generate=self.generate, **extra
        )

    async def ask(self, *said: str, deadline_s: float = 5.0, **of_request: Any) -> SupportAnswer:
        """Ask; what is said goes to and fro between shopper and shop, and the shopper has the last word."""
        import time

        self.told.clear()
        request = SupportRequest(turns=talk(*said), **of_request)
        clock = self.clock or time.monotonic
        return await self.pipeline().answer(
            request, emit=self.told.append, deadline_at_s=clock() + deadline_s
        )


def talk(*said: str) -> tuple[Turn, ...]:
    roles = [Role.USER if (len(said) - at) % 2 else Role.ASSISTANT for at in range(len(said))]
    return tuple(Turn(role=role, content=text) for role, text in zip(roles, said, strict=True))
