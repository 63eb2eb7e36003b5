"""What a server has when it serves texts: the model, the product, its endpoints, and the order in which they stop.

Imported only where there is a text model, so that a recommender's start costs what it did.

Units: seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from server.batching.admission import Admission
from server.http_api.openai.endpoint import TextEndpoint
from server.http_api.openai.jobs import ChatJob, CompletionJob
from server.keys import Keys
from server.logs import AccessLog
from server.settings import Settings
from server.telemetry_interface import EngineState, NullTelemetry
from server.text_generator import TextGenerator
from server.text_service import TextRequestLimits, TextService

LAST_WORDS_S = 1.0  # what the writers of ended streams get to send their error event


class LiveTextModel(TextGenerator, Protocol):
    """A text generator with a life of its own.

    Attributes:
        reload_failures: published versions that were not taken up, by a closed set of reasons.
    """

    reload_failures: dict[str, int]

    async def start(self) -> None:
        """Begin, inside the running loop."""
        ...

    async def close(self, drain_s: float) -> None:
        """Finish what is under way within ``drain_s``, fail the rest, stop."""
        ...

    @property
    def last_progress_s(self) -> float:
        """Monotonic time of the last progress, or now when idle."""
        ...


OpenText = Callable[[Settings, NullTelemetry], LiveTextModel | None]


class TextSide:
    """The text half of an application.

    Attributes:
        model: what writes.
        service: the product.
        endpoints: ASGI applications with their paths.
    """

    def __init__(
        self,
        settings: Settings,
        model: LiveTextModel,
        telemetry: NullTelemetry,
        access: AccessLog,
        keys: Keys,
    ) -> None:
        self.model = model
        self.service = TextService(
            [model],
            Admission("texts", settings.text_max_in_flight),
            TextRequestLimits(
                max_choices=settings.text_max_choices,
                default_deadline_s=settings.text_default_deadline_ms * 1e-3,
                max_deadline_s=settings.text_max_deadline_ms * 1e-3,
            ),
            telemetry,
        )
        self.endpoints: Sequence[TextEndpoint] = tuple(
            TextEndpoint(
                path,
                name,
                job,
                job.prefix,
                self.service,
                access,
                keys,
                max_body_bytes=settings.max_body_bytes,
                buffer_chars=settings.text_buffer_chars,
            )
            for path, name, job in (
                ("/v1/chat/completions", "chat_completions", ChatJob),
                ("/v1/completions", "completions", CompletionJob),
            )
        )
        self.limits = {
            "max_choices": settings.text_max_choices,
            "max_body_bytes": settings.max_body_bytes,
            "max_deadline_ms": int(settings.text_max_deadline_ms),
        }
        telemetry.gauge(
            "vitrine_text_in_flight",
            "Text requests admitted and not yet answered.",
            lambda: self.service.admission.in_flight,
        )

    async def start(self) -> None:
        """Begin to write."""
        await self.model.start()

    async def drain(self, drain_s: float) -> None:
        """Refuse new requests, finish those under way within ``drain_s``, end the others with an error.

        The errors come before the engine is closed, so that one that hangs keeps nobody waiting for them.
        """
        self.service.stop()
        if not await self.service.admission.wait_idle(drain_s):
            self.service.end_all()
            await self.service.admission.wait_idle(LAST_WORDS_S)

    async def close(self, drain_s: float) -> None:
        """Close the engine; whoever else writes with it has ``drain_s`` to end."""
        await self.model.close(drain_s)

    @property
    def reload_failures(self) -> dict[str, int]:
        """New versions not taken up, by reason."""
        return self.model.reload_failures

    def states(self) -> Iterable[EngineState]:
        """For the metrics."""
        info = self.model.info()
        yield EngineState(
            model=info.name,
            version=info.version,
            engine=info.engine,
            precision=info.precision,
            last_progress_s=self.model.last_progress_s,
        )
