"""The gRPC port: our own connections with the methods, health and reflection on them.

Units: seconds.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from server.byte_budget import ByteBudget
from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api.call import Method
from server.grpc_api.handlers import Registry
from server.grpc_api.protocol import GrpcProtocol, Shared
from server.grpc_api.servicer import SERVICE
from server.http2.streams import Limits
from server.keys import Keys
from server.telemetry_interface import NullTelemetry

BACKLOG = 2048
SWEEP_EVERY_S = 0.5
DRAIN_PING_S = (
    1.0  # a client that does not answer the ping of the drain is told after this what was the last call
)
STREAMS = 4096  # calls open at once on one connection


class GrpcService(Protocol):
    """A service beside the recommendations.

    Attributes:
        name: as in the proto file.
    """

    name: str

    def handlers(self) -> dict[str, Any]:
        """Its methods by name, as ``grpc``'s method handlers."""
        ...


class GrpcServer:
    """Listens from ``start`` to ``stop``.

    Attributes:
        port: the port it listens on, once started.
    """

    def __init__(
        self,
        methods: dict[bytes, Method],
        keys: Keys,
        telemetry: NullTelemetry,
        budget: ByteBudget,
        *,
        host: str,
        port: int,
        max_message_bytes: int,
        max_connections: int,
        read_timeout_s: float,
        write_timeout_s: float,
        tls: tuple[Path, Path] | None = None,
        others: Sequence[GrpcService] = (),
    ) -> None:
        """Put the methods together.

        Args:
            methods: those of the recommendations, by path.
            keys: who may call.
            telemetry: where refusals by the connection are counted.
            budget: for messages on their way in.
            host: address.
            port: 0 for any free one.
            max_message_bytes: largest request.
            max_connections: open at once.
            read_timeout_s: a request must have arrived whole within this.
            write_timeout_s: an answer must have been taken within this.
            tls: certificate chain and private key, PEM.
            others: further services.
        """
        self._names = (SERVICE, *(other.name for other in others))
        registry = Registry()
        for other in others:
            registry.add_registered_method_handlers(other.name, other.handlers())
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        names = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        registry.keyed = registry.holds_drain = False  # probes have no key, and a watch may go on for ever
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registry)
        registry.keyed = True
        reflecting = reflection.aio.ReflectionServicer(names)  # type: ignore[attr-defined]
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflecting, registry)
        self._shared = Shared(
            methods={**registry.methods, **methods},
            keys=keys,
            telemetry=telemetry,
            max_message_bytes=max_message_bytes,
            budget=budget,
            max_connections=max_connections,
            limits=Limits(streams=STREAMS, stream_window_bytes=max_message_bytes + 16 * 1024),
            read_timeout_s=read_timeout_s,
            write_timeout_s=write_timeout_s,
        )
        self._host = host
        self.port = port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Accept calls; health says NOT_SERVING until told otherwise.

        Raises:
            OSError: the port cannot be had, or the TLS files cannot be read.
        """
        await self.serving(False)
        context = None
        if self._tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*self._tls)
            context.set_alpn_protocols(["h2"])
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: GrpcProtocol(self._shared), self._host, self.port, ssl=context, backlog=BACKLOG
            )
        except OSError as error:
            raise OSError(f"cannot listen on {self._host}:{self.port} for gRPC: {error}") from error
        self.port = self._server.sockets[0].getsockname()[1]
        self._tick()

    async def serving(self, ready: bool, *, own: bool | None = None, others: bool | None = None) -> None:
        """Tell health checks.

        Args:
            ready: of the server as a whole.
            own: of the recommendations; None: as the server.
            others: of the further services, which answer without their engines too; None: as the server.
        """
        serves = {name: ready if others is None else others for name in self._names}
        serves |= {"": ready, SERVICE: ready if own is None else own}
        for name, it_does in serves.items():
            response = health_pb2.HealthCheckResponse
            await self._health.set(name, response.SERVING if it_does else response.NOT_SERVING)

    def __len__(self) -> int:
        """Open connections."""
        return len(self._shared.open)

    async def stop(self, grace_s: float) -> None:
        """Take no new connections, let calls in flight end within ``grace_s``, then cut them."""
        shared = self._shared
        shared.draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(shared.open):
            connection.http2.drain()
        began_s = time.monotonic()
        while shared.open:
            passed_s = time.monotonic() - began_s
            told = passed_s >= min(DRAIN_PING_S, grace_s)
            for connection in list(shared.open):
                if told:
                    connection.http2.finish_drain()
                held = any(call.method.holds_drain for call in connection.calls())
                if (connection.http2.is_drained and not held) or passed_s >= grace_s:
                    connection.close()
            if passed_s >= grace_s:
                break
            await asyncio.sleep(0.01)
        if self._sweep is not None:
            self._sweep.cancel()
        await asyncio.sleep(0)  # what was written last leaves with this turn of the loop

    def _tick(self) -> None:
        now_s = time.monotonic()
        for connection in list(self._shared.open):
            connection.sweep(now_s)
        self._sweep = asyncio.get_running_loop().call_later(SWEEP_EVERY_S, self._tick)


assert pb.DESCRIPTOR is not None  # registers the messages that reflection shows
