"""What a server has when it has pages: the store that takes documents, the search over the same file, and their life.

A file that cannot be used stops nobody's start: what is wrong with it is told in the log, and each question that needs it is
handed over to a person, until a later search finds the file in order.

Units: seconds.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from server.errors import ServeError
from server.http_api.knowledge.endpoint import KnowledgeEndpoint
from server.keys import Keys
from server.knowledge.document_limits import DocumentLimits
from server.knowledge.search import KnowledgeSearch
from server.knowledge.store import KnowledgeStore
from server.knowledge_domain import Passage
from server.logs import AccessLog
from server.sentence_encoder import SentenceEncoder
from server.settings import Settings
from server.telemetry_interface import NullTelemetry

if TYPE_CHECKING:
    from server.http_api.openapi import Describe

log = logging.getLogger("vitrine.knowledge")

PAGES_FILE = "knowledge.db"  # in the repository, where no other knowledge file is named


def open_knowledge(
    settings: Settings,
    encoder: SentenceEncoder | None,
    telemetry: NullTelemetry,
    access: AccessLog,
    keys: Keys,
) -> KnowledgeSide | None:
    """The knowledge base that the settings name, or the repository's own; None: there is neither."""
    file = settings.knowledge or settings.repository / PAGES_FILE
    if settings.knowledge is None and not file.is_file():
        return None
    return KnowledgeSide(file, settings, encoder, telemetry, access, keys)


class KnowledgeSide:
    """The knowledge base in one server.

    Attributes:
        store: takes documents.
        search: finds passages; a ``Knowledge`` for customer service.
        endpoints: an ASGI application with its paths and methods.
    """

    def __init__(
        self,
        file: Path,
        settings: Settings,
        encoder: SentenceEncoder | None,
        telemetry: NullTelemetry,
        access: AccessLog,
        keys: Keys,
    ) -> None:
        """Put it together.

        Args:
            file: of the knowledge base; made where it is not there.
            settings: of the server.
            encoder: None: words alone.
            telemetry: where its size is shown.
            access: log.
            keys: who may read and change pages.
        """
        limits = DocumentLimits(max_text_bytes=settings.knowledge_max_document_bytes)
        self.store = KnowledgeStore(file, encoder, limits)
        self._endpoint = KnowledgeEndpoint(self.store, access, keys)
        self.endpoints: Sequence[KnowledgeEndpoint] = (self._endpoint,)
        self.search = KnowledgeSearch(self.store.open_reader)
        telemetry.gauge("vitrine_knowledge_epoch", "Epoch that searches see.", self.search.epoch)
        telemetry.gauge(
            "vitrine_knowledge_passages", "Passages, as of the last search.", lambda: self.search.passages
        )
        telemetry.gauge(
            "vitrine_knowledge_vector_bytes", "Memory that the vectors take.", lambda: self.search.nbytes
        )

    async def start(self) -> None:
        """Open the file and read the vectors."""
        for begin in (self.store.start, self.search.start):
            try:
                await begin()
            except ServeError as error:
                log.error("the knowledge base cannot be used", extra={"reason": error.message})

    def troubles(self) -> list[str]:
        """Why the pages cannot be searched, for ``/readyz``; empty: they can."""
        usable, why = self.search.ready()
        return [] if usable else [f"knowledge base: {why}"]

    def describe(self) -> Describe:
        """What adds the endpoints to the OpenAPI document."""
        from server.http_api.knowledge.document import add_knowledge

        return add_knowledge

    def refuse(self) -> None:
        """Take no more documents; those on their way are still written."""
        self._endpoint.stopping = True

    async def pages(self) -> AsyncIterator[list[Passage]]:
        """All passages of now, a document at a time.

        Raises:
            ServeError: the file cannot be read.
        """
        after = ""
        while True:
            _, documents = await self.store.listed(after)
            if not documents:
                return
            for document in documents:
                yield await self.store.passages_of(document.id)
            after = documents[-1].id

    async def stop(self) -> None:
        """Close the file, after whoever asks it has ended."""
        for end in (self.search.close, self.store.close):
            with contextlib.suppress(ServeError):
                await end()
