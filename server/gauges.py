"""What of the running server is looked at each time somebody scrapes it: nothing of it costs a request anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from server.batching.admission import Admission
from server.byte_budget import ByteBudget
from server.http_api.connections import Connections
from server.published import LiveModel
from server.telemetry_interface import EngineState, NullTelemetry


class EngineSide(Protocol):
    """Another product with an engine of its own."""

    @property
    def reload_failures(self) -> dict[str, int]:
        """Published versions that were not taken up, by reason."""
        ...

    def states(self) -> Iterable[EngineState]:
        """What its engine shows."""
        ...


def measure_server(
    telemetry: NullTelemetry,
    model: LiveModel,
    others: Sequence[EngineSide],
    *,
    admission: Admission,
    connections: Connections,
    grpc_connections: Callable[[], int],
    budget: ByteBudget,
) -> None:
    """Tell telemetry where to look.

    Args:
        telemetry: that looks.
        model: the recommender.
        others: what else has an engine.
        admission: of recommendations.
        connections: of HTTP.
        grpc_connections: how many of gRPC are open.
        budget: of arriving bytes.
    """
    telemetry.engines(lambda: _states(model, others))
    telemetry.gauge(
        "vitrine_in_flight", "Requests admitted and not yet answered.", lambda: admission.in_flight
    )
    telemetry.gauge("vitrine_permits", "Requests that may be in flight.", lambda: admission.open)
    telemetry.gauge("vitrine_http_connections", "Open HTTP connections.", lambda: len(connections))
    telemetry.gauge("vitrine_grpc_connections", "Open gRPC connections.", grpc_connections)
    telemetry.gauge("vitrine_arriving_bytes", "Bytes of requests not yet whole.", lambda: budget.used_bytes)
    telemetry.counter(
        "vitrine_reload_failures",
        "Published versions that were not taken up; the one before goes on serving.",
        "reason",
        lambda: _failures((model.reload_failures, *(other.reload_failures for other in others))),
    )


def _failures(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for reason, count in (pair for one in counts for pair in one.items()):
        total[reason] = total.get(reason, 0) + count  # a reason that never came shows as 0
    return total


def _states(model: LiveModel, others: Sequence[EngineSide]) -> Iterable[EngineState]:
    for other in others:
        yield from other.states()
    info = model.info()
    if info.name:
        yield EngineState(
            model=info.name,
            version=info.version,
            engine=info.engine,
            precision=info.precision,
            last_progress_s=model.health().last_progress_s,
        )
