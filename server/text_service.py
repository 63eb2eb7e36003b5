"""Text as a product: admit, deadline, one or more generations of one request, one outcome. Wires call this.

A permit bounds what may be parsed and encoded at once; whether a text can begin in time is decided by the generator,
which knows its tokens. A request of several texts is one flight: the first that fails ends them all, because half of an
answer is none.

Nobody waits for an engine that hangs: a flight has a timer of its own, which ends it at its deadline whatever the engine
does. One timer a text costs nothing beside the text.

All of it is for the event-loop thread. Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.domain import ModelInfo
from server.errors import DeadlineExceeded, NotFound, NotReady, ServeError, shown_as
from server.service import NO_TIER, Ticket
from server.telemetry_interface import NullTelemetry
from server.text_domain import TEXT_TASK, Failed, Finished, GenerateRequest, TextEvent, TextModelInfo, Usage
from server.text_generator import Generation, TextGenerator

if TYPE_CHECKING:
    from server.batching.admission import Admission

log = logging.getLogger("vitrine.text")

Told = Callable[[int, TextEvent], None]
_NOTHING = Usage(prompt_tokens=0, completion_tokens=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequestLimits:
    """What one request may ask.

    Attributes:
        max_choices: texts of one request, prompts times ``n`` (> 0).
        default_deadline_s: deadline of a request that names none (> 0).
        max_deadline_s: a longer one is taken as this (> 0).
    """

    max_choices: int = 8
    default_deadline_s: float = 120.0
    max_deadline_s: float = 600.0

    def deadline_s(self, asked_s: float | None) -> float:
        """Seconds from arrival that the server works towards."""
        return self.default_deadline_s if asked_s is None else min(asked_s, self.max_deadline_s)


class TextFlight:
    """The texts of one request on their way, until all have finished, one has failed, or the reader has left."""

    def __init__(self, service: TextService, told: Told, deadline_at_s: float) -> None:
        self._service = service
        self._told: Told | None = told
        self._generations: dict[int, Generation] = {}
        self._usage: dict[int, int] = {}
        self._finished: set[int] = set()
        self._count = 0
        wait_s = max(0.0, deadline_at_s - service.clock())
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._overdue)

    def begin(self, generator: TextGenerator, requests: Sequence[GenerateRequest]) -> None:
        """Submit all, or none; raises what ``TextGenerator.submit`` does."""
        self._count = len(requests)
        try:
            for index, request in enumerate(requests):
                self._generations[index] = generator.submit(request, self._sink(index))
        except BaseException:
            self._leave()
            raise

    @property
    def ended(self) -> bool:
        """Whether nothing more is told."""
        return self._told is None

    def cancel(self) -> None:
        """The reader left; nothing more is told."""
        if self._told is not None:
            self._leave()

    def fail(self, error: ServeError) -> None:
        """End it with an error, unless it has ended."""
        told = self._told
        if told is not None:
            index = next((i for i in self._generations if i not in self._finished), 0)
            self._leave()
            told(index, Failed(error, _NOTHING))

    def _sink(self, index: int) -> Callable[[TextEvent], None]:
        return lambda event: self._on_event(index, event)

    def _on_event(self, index: int, event: TextEvent) -> None:
        told = self._told
        if told is None:
            return
        if isinstance(event, Failed):
            if isinstance(event.error, DeadlineExceeded):
                self._service.telemetry.deadline_missed(event.error.stage)
            self._finished.add(index)
            self._leave()
        elif isinstance(event, Finished):
            self._finished.add(index)
            if len(self._finished) == self._count:
                self._leave()
        told(index, event)

    def _overdue(self) -> None:
        self._service.telemetry.deadline_missed("engine")
        self.fail(
            DeadlineExceeded(
                "the text was not whole within its deadline; ask for fewer tokens, or with a longer deadline_ms",
                stage="engine",
            )
        )

    def _leave(self) -> None:
        self._told = None
        self._timer.cancel()
        self._service.flights.discard(self)
        for index, generation in self._generations.items():
            if index not in self._finished:
                generation.cancel()


class TextService:
    """The text models of this server.

    Attributes:
        admission: permits for requests on their way.
        limits: the bounds of a request.
        telemetry: where outcomes go.
        clock: monotonic seconds.
        flights: what is on its way.
    """

    essential = False  # recommendations need no texts

    def __init__(
        self,
        generators: Sequence[TextGenerator],
        admission: Admission,
        limits: TextRequestLimits,
        telemetry: NullTelemetry,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._generators = tuple(generators)
        self.admission = admission
        self.limits = limits
        self.telemetry = telemetry
        self.clock = clock
        self.flights: set[TextFlight] = set()

    def admit(self, endpoint: str, protocol: str) -> Ticket | ServeError:
        """Take a permit, before any work; the refusal is returned, not raised."""
        refusal = self.admission.try_acquire()
        if refusal is not None:
            code = refusal.code.value
            self.telemetry.rejected(code)
            self.telemetry.request_done(endpoint, protocol, code, NO_TIER, 0.0)
            return refusal
        return Ticket(self, endpoint, protocol, self.clock())

    def generator(self, name: str) -> TextGenerator:
        """The model of that name; the only one for an empty name.

        Raises:
            NotFound: there is none; lists those there are.
        """
        for generator in self._generators:
            if generator.info().name == name:
                return generator
        if not name and len(self._generators) == 1:
            return self._generators[0]
        known = ", ".join(generator.info().name for generator in self._generators) or "none"
        raise NotFound(f"there is no text model {name[:100]!r} here; there are {known}", field="model")

    def generate(
        self,
        generator: TextGenerator,
        requests: Sequence[GenerateRequest],
        deadline_at_s: float,
        told: Told,
    ) -> TextFlight:
        """Begin all texts of one request.

        ``told`` is called with the place of the text and its event, never before this returns. After a ``Failed``, or
        a ``Finished`` of every text, nothing more is told. The wire holds a ticket until then, and ends it.

        Raises:
            ServeError: as ``TextGenerator.submit``; then none was begun.
        """
        flight = TextFlight(self, told, deadline_at_s)
        flight.begin(generator, requests)
        self.flights.add(flight)
        return flight

    def as_serve_error(self, error: BaseException) -> ServeError:
        """An error that may be shown: ours as it is, any other as an internal one whose text stays in the log."""
        return shown_as(error)

    def models(self) -> Sequence[ModelInfo]:
        """All text models, as ``GET /v1/models`` lists them."""
        return tuple(_listed(generator.info(), generator.ready()[0]) for generator in self._generators)

    def reasons(self) -> list[str]:
        """Why texts cannot be written now; empty when they can."""
        checks = [(generator.info().name, *generator.ready()) for generator in self._generators]
        return [f"{name}: {why}" for name, ready, why in checks if not ready]

    def stop(self) -> None:
        """Refuse from now on; those on their way go on."""
        self.admission.stop()

    def end_all(self) -> None:
        """End what is still on its way with an error."""
        for flight in list(self.flights):
            flight.fail(NotReady("the server is stopping, and this text took longer than it may wait"))


def _listed(info: TextModelInfo, ready: bool) -> ModelInfo:
    return ModelInfo(
        name=info.name,
        version=info.version,
        task=TEXT_TASK,
        engine=info.engine,
        precision=info.precision,
        items=0,
        limits={"max_context": info.max_context, "vocab_size": info.vocab_size},
        created_unix_s=info.created_s,
        sample_ids=(),
        ready=ready,
    )
