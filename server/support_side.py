"""What a server has for customer service: the product, its endpoints on both wires, and the order in which they stop.

It is there with an encoder, pages and a text model, and without any of them: what is away is told with each answer, and
questions about an order that was passed in are answered all the same.

Units: seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from server.batching.admission import Admission
from server.errors import ServeError
from server.grpc_api.customer_service import CustomerService
from server.http_api.customer_service.endpoint import SupportEndpoint
from server.keys import Keys
from server.knowledge_domain import Knowledge, Passage
from server.logs import AccessLog
from server.pipelines.customer_service.pipeline import SupportPipeline, Thresholds
from server.pipelines.customer_service.ports import Hearing
from server.sentence_encoder import SentenceEncoder
from server.settings import Settings
from server.support_limits import SupportRequestLimits
from server.support_service import SupportService
from server.telemetry_interface import NullTelemetry
from server.text_generator import TextGenerator

if TYPE_CHECKING:
    from server.http_api.openapi import Describe

log = logging.getLogger("vitrine.support")

LOOK_S = 5.0  # how often a changed knowledge base is noticed
LAST_WORDS_S = 1.0  # what the writers of ended streams get to send their error event


def thresholds_of(settings: Settings) -> Thresholds:
    """When the shop would rather have a person answer."""
    own = settings.support_intent_threshold
    return Thresholds(
        answer=settings.support_answer_threshold,
        answer_by_words=settings.support_words_threshold,
        intent=None if own < 0 else own,
        times_asked=settings.support_times_asked,
        quote_chars=settings.support_quote_chars,
        quotes=settings.support_quotes,
        person_intents=frozenset(settings.support_person_intents),
    )


class SupportSide:
    """The product in one server.

    Attributes:
        service: the product.
        endpoints: ASGI applications with their paths and methods.
        calls: of gRPC.
    """

    def __init__(
        self,
        settings: Settings,
        encoder: SentenceEncoder | None,
        knowledge: Knowledge | None,
        generator: TextGenerator | None,
        hearing: Hearing,
        telemetry: NullTelemetry,
        access: AccessLog,
        keys: Keys,
        *,
        pages: Callable[[], AsyncIterator[list[Passage]]] | None = None,
    ) -> None:
        """Put it together.

        Args:
            settings: of the server.
            encoder: None: there is none.
            knowledge: the shop's pages; None: there are none.
            generator: the text model; None: there is none.
            hearing: language, signals, entities, masking.
            telemetry: where outcomes go.
            access: log.
            keys: which tell the tenants apart.
            pages: all passages of the knowledge base, to be read before they are asked for; None: when they are found.
        """
        self._pages = pages
        self._knowledge = knowledge
        self._learning: asyncio.Task[None] | None = None
        pipeline = SupportPipeline(
            encoder,
            knowledge,
            generator,
            hearing,
            thresholds_of(settings),
            generate=settings.support_generate,
        )
        self.service = SupportService(
            pipeline,
            Admission("customer service", settings.support_max_in_flight),
            SupportRequestLimits(
                default_deadline_s=settings.support_default_deadline_ms * 1e-3,
                max_deadline_s=settings.text_max_deadline_ms * 1e-3,
            ),
            telemetry,
        )
        self.endpoints: Sequence[SupportEndpoint] = (
            SupportEndpoint(self.service, access, keys, max_body_bytes=settings.max_body_bytes),
        )
        self.calls = CustomerService(self.service, access, keys, max_message_bytes=settings.max_body_bytes)
        telemetry.gauge(
            "vitrine_support_in_flight",
            "Questions to customer service admitted and not yet answered.",
            self.service.in_flight,
        )

    def describe(self) -> Describe:
        """What adds the product to the OpenAPI document."""
        from server.http_api.customer_service.document import add_support

        return add_support

    async def start(self) -> None:
        """Begin to read the pages, behind all that is live."""
        if self._pages is not None and self._learning is None:
            self._learning = asyncio.create_task(self._learn(), name="read pages")

    async def _learn(self) -> None:
        learnt = -1
        while True:
            assert self._pages is not None and self._knowledge is not None
            epoch = self._knowledge.epoch()
            if epoch != learnt:
                try:
                    async for passages in self._pages():
                        await self.service.pipeline.learn(passages)
                    learnt = epoch
                except ServeError as error:  # whoever asks meanwhile waits for its own passages
                    log.info("pages wait to be read", extra={"reason": error.message})
            await asyncio.sleep(LOOK_S)

    async def stop(self, drain_s: float) -> None:
        """Refuse new questions, finish those under way within ``drain_s``, end the rest with an error."""
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.gather(self._learning, return_exceptions=True)
        self.service.stop()
        if not await self.service.admission.wait_idle(drain_s):
            self.service.end_all()
            await self.service.admission.wait_idle(LAST_WORDS_S)
