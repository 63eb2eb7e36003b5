"""What a server has when it encodes sentences: the encoder, the product, its endpoint, and the order in which they stop.

Imported only where there is an encoder, so that a recommender's start costs what it did. The encoder is loaded after the
ports are open: ready does not wait for it unless nothing else is served.

Units: seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from server.batching.admission import Admission
from server.embedding_service import EmbeddingLimits, EmbeddingService
from server.http_api.openai.embeddings import EmbeddingsEndpoint
from server.keys import Keys
from server.logs import AccessLog
from server.pipelines.live_encoder import LiveEncoder
from server.settings import Settings
from server.telemetry_interface import EngineState, NullTelemetry

if TYPE_CHECKING:
    from server.http_api.openapi import Describe

OpenEncoder = Callable[[Settings, NullTelemetry], LiveEncoder | None]
LAST_WORDS_S = 1.0  # what requests that were ended get to send their error


class EncoderSide:
    """The encoder in one server.

    Attributes:
        encoder: what encodes; a ``SentenceEncoder`` for the other products.
        service: the product.
        endpoints: hot ones.
        limits: the server's limits of encoders, by name.
    """

    def __init__(
        self,
        settings: Settings,
        encoder: LiveEncoder,
        telemetry: NullTelemetry,
        access: AccessLog,
        keys: Keys,
    ) -> None:
        self.encoder = encoder
        self.service = EmbeddingService(
            encoder,
            Admission("embeddings", settings.encoder_max_in_flight),
            EmbeddingLimits(
                max_inputs=settings.encoder_max_inputs,
                default_deadline_s=settings.encoder_default_deadline_ms * 1e-3,
                max_deadline_s=settings.encoder_max_deadline_ms * 1e-3,
            ),
            telemetry,
        )
        self.endpoints: Sequence[EmbeddingsEndpoint] = (EmbeddingsEndpoint(self.service, keys, access),)
        self.limits = {
            "max_inputs": settings.encoder_max_inputs,
            "max_body_bytes": settings.max_body_bytes,
            "max_deadline_ms": int(settings.encoder_max_deadline_ms),
        }
        telemetry.gauge(
            "vitrine_embeddings_in_flight",
            "Embeddings requests admitted and not yet answered.",
            lambda: self.service.admission.in_flight,
        )

    def start(self) -> None:
        """Begin to load; a second call changes nothing."""
        self.encoder.start()

    async def load(self) -> None:
        """Return once it serves.

        Raises:
            ArtifactError: it cannot be loaded.
        """
        await self.encoder.load()

    async def loaded(self) -> None:
        """Return once it serves, or cannot be loaded: what is wrong then stands in the log and in ``/readyz``."""
        with contextlib.suppress(Exception):
            await self.encoder.load()

    async def drain(self, drain_s: float) -> None:
        """Refuse new requests, and finish those under way within ``drain_s``."""
        self.service.stop()
        await self.service.admission.wait_idle(drain_s)

    async def close(self, drain_s: float) -> None:
        """Close the engine; whoever else encodes with it has ``drain_s`` to end, and an error then."""
        await self.encoder.close(drain_s)
        await self.service.admission.wait_idle(LAST_WORDS_S)

    def describe(self) -> Describe:
        """What adds the endpoint to the OpenAPI document."""
        from server.http_api.openai.embeddings_document import add_embeddings

        return partial(add_embeddings, self.encoder.name)

    @property
    def reload_failures(self) -> dict[str, int]:
        """New versions not taken up, by reason."""
        return self.encoder.reload_failures

    def states(self) -> Iterable[EngineState]:
        """For the metrics."""
        if self.encoder.loaded:
            info = self.encoder.info()
            yield EngineState(
                model=info.name,
                version=info.version,
                engine=info.engine,
                precision=info.precision,
                last_progress_s=self.encoder.last_progress_s,
            )
