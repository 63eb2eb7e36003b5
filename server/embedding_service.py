"""Embeddings as a product: admit, deadline, encode, cut to a width, one outcome. Wires call this.

A permit bounds what may be parsed at once; whether texts can be encoded in time is decided by the encoder, which knows its
tokens. Nobody waits for an engine that hangs: every request has a deadline, which the encoder's own timer keeps.

All of it is for the event-loop thread. Units: seconds on the monotonic clock, and tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from server.domain import ModelInfo
from server.encoder_domain import ENCODER_TASK, Encoded, EncodeRequest
from server.errors import EngineFault, InvalidRequest, NotFound, ServeError, shown_as
from server.sentence_encoder import SentenceEncoder
from server.service import NO_TIER, Ticket
from server.telemetry_interface import NullTelemetry

if TYPE_CHECKING:
    from server.batching.admission import Admission


class ServedEncoder(SentenceEncoder, Protocol):
    """An encoder that may still be on its way.

    Attributes:
        name: of the model.
    """

    name: str

    @property
    def loaded(self) -> bool:
        """Whether it has been loaded."""
        ...

    @property
    def failed(self) -> str:
        """Why it cannot be loaded; empty while it may still be."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingLimits:
    """What one request may ask.

    Attributes:
        max_inputs: texts (> 0).
        default_deadline_s: deadline of a request that names none (> 0).
        max_deadline_s: a longer one is taken as this (> 0).
    """

    max_inputs: int = 2048
    default_deadline_s: float = 30.0
    max_deadline_s: float = 120.0

    def deadline_s(self, asked_s: float | None) -> float:
        """Seconds from arrival that the server works towards."""
        return self.default_deadline_s if asked_s is None else min(asked_s, self.max_deadline_s)


class EmbeddingService:
    """The encoder of this server, for callers.

    Attributes:
        encoder: what encodes.
        admission: permits for requests on their way.
        limits: the bounds of a request.
        telemetry: where outcomes go.
        clock: monotonic seconds.
    """

    essential = True

    def __init__(
        self,
        encoder: ServedEncoder,
        admission: Admission,
        limits: EmbeddingLimits,
        telemetry: NullTelemetry,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.encoder = encoder
        self.admission = admission
        self.limits = limits
        self.telemetry = telemetry
        self.clock = clock

    def admit(self, endpoint: str, protocol: str) -> Ticket | ServeError:
        """Take a permit, before any work; the refusal is returned, not raised."""
        refusal = self.admission.try_acquire()
        if refusal is not None:
            code = refusal.code.value
            self.telemetry.rejected(code)
            self.telemetry.request_done(endpoint, protocol, code, NO_TIER, 0.0)
            return refusal
        return Ticket(self, endpoint, protocol, self.clock())

    async def embed(
        self,
        ticket: Ticket,
        request: EncodeRequest,
        *,
        model: str = "",
        dimensions: int | None = None,
        deadline_s: float | None = None,
    ) -> Encoded:
        """Encode the texts of one request.

        Args:
            ticket: of the request.
            request: its texts; the deadline is set here.
            model: that is wanted; empty: the only one.
            dimensions: width of the vectors; None: the model's.
            deadline_s: seconds from arrival within which the answer is of use; None: the server's default.

        Raises:
            ServeError: as ``SentenceEncoder.encode``.
            NotFound: there is no such model.
            InvalidRequest: too many inputs, or a width that the model was not trained for.
        """
        self._check_model(model)
        count, most = len(request.inputs), self.limits.max_inputs
        if count > most:
            raise InvalidRequest(
                f"input has {count} entries, the limit is {most}; send them in several requests",
                field="input",
                limit=f"{most} entries",
            )
        if dimensions is not None and self.encoder.loaded:
            self._check_width(dimensions)
        deadline_at_s = ticket.arrived_s + self.limits.deadline_s(deadline_s)
        encoded = await self.encoder.encode(replace(request, deadline_s=deadline_at_s))
        if dimensions is None or dimensions == encoded.vectors_ND.shape[1]:
            return encoded
        self._check_width(dimensions)
        return _cut(encoded, dimensions)

    def as_serve_error(self, error: BaseException) -> ServeError:
        """An error that may be shown: ours as it is, any other as an internal one whose text stays in the log."""
        return shown_as(error)

    def models(self) -> Sequence[ModelInfo]:
        """The encoder, as ``GET /v1/models`` lists it; before it is loaded, its name."""
        if not self.encoder.loaded:
            return (_listed(self.encoder.name),)
        info = self.encoder.info()
        return (
            _listed(
                info.name,
                version=info.version,
                engine=info.engine,
                precision=info.precision,
                limits={"max_tokens": info.max_tokens, "dim": info.dim},
                created_s=info.created_s,
                ready=self.encoder.ready()[0],
                flags=info.flags,
            ),
        )

    def reasons(self) -> list[str]:
        """Why texts cannot be encoded now; one that is being loaded keeps nobody else waiting."""
        if not self.encoder.loaded:
            return [self.encoder.failed] if self.encoder.failed else []
        ready, why = self.encoder.ready()
        return [] if ready else [why]

    def stop(self) -> None:
        """Refuse from now on; those on their way go on."""
        self.admission.stop()

    def _check_model(self, wanted: str) -> None:
        if wanted and wanted != self.encoder.name:
            raise NotFound(
                f"there is no encoder {wanted[:100]!r} here; there is {self.encoder.name}", field="model"
            )

    def _check_width(self, dimensions: int) -> None:
        widths = self.encoder.info().dims or (self.encoder.info().dim,)
        if dimensions not in widths:
            there = ", ".join(map(str, widths))
            raise InvalidRequest(
                f"dimensions is {dimensions}; this model's vectors keep their meaning at {there} only",
                field="dimensions",
                limit=there,
            )


def _cut(encoded: Encoded, width: int) -> Encoded:
    """The first values of each vector, of length 1 again."""
    short_ND = encoded.vectors_ND[:, :width]
    lengths_N1 = np.sqrt(np.square(short_ND).sum(axis=1, keepdims=True))
    if not lengths_N1.all():
        raise EngineFault(f"a vector has nothing in its first {width} values")
    return replace(encoded, vectors_ND=short_ND / lengths_N1)


def _listed(
    name: str,
    *,
    version: str = "",
    engine: str = "",
    precision: str = "",
    limits: dict[str, int] | None = None,
    created_s: int = 0,
    ready: bool = False,
    flags: tuple[str, ...] = (),
) -> ModelInfo:
    return ModelInfo(
        name=name,
        version=version,
        task=ENCODER_TASK,
        engine=engine,
        precision=precision,
        items=0,
        limits=limits or {},
        created_unix_s=created_s,
        sample_ids=(),
        ready=ready,
        flags=flags,
    )
