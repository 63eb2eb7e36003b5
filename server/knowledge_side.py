"""What a server has when it has pages: the store that takes documents, the search over the same file, and their life.

A file that cannot be used stops nobody's start: what is wrong with it is told in the log, and each question that needs it is
handed over to a person, until a later search finds the file in order.

Units: seconds.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from server.errors import ServeError
from server.knowledge.search import KnowledgeSearch
from server.knowledge.store import KnowledgeStore
from server.sentence_encoder import SentenceEncoder
from server.telemetry_interface import NullTelemetry

log = logging.getLogger("vitrine.knowledge")


class KnowledgeSide:
    """The knowledge base in one server.

    Attributes:
        store: takes documents.
        search: finds passages; a ``Knowledge`` for customer service.
    """

    def __init__(self, file: Path, encoder: SentenceEncoder | None, telemetry: NullTelemetry) -> None:
        """Put it together.

        Args:
            file: of the knowledge base; made where it is not there.
            encoder: None: words alone.
            telemetry: where its size is shown.
        """
        self.store = KnowledgeStore(file, encoder)
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

    async def stop(self) -> None:
        """Close the file, after whoever asks it has ended."""
        for end in (self.search.close, self.store.close):
            with contextlib.suppress(ServeError):
                await end()
