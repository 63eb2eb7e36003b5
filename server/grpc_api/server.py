"""The gRPC port: a grpc.aio server with the servicer, health, reflection and, where keys are set, their check.

grpc.aio runs on uvloop, which makes a call about a quarter cheaper than on asyncio's own loop.

Units: seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from server.errors import Unauthenticated
from server.grpc_api import vitrine_pb2 as pb
from server.grpc_api.servicer import SERVICE, Servicer
from server.grpc_api.status import DETAILS_KEY, STATUS, error_details
from server.keys import Keys
from server.request_ids import new_request_id
from server.telemetry_interface import NullTelemetry

# The servicer refuses what is over the message limit with INVALID_ARGUMENT, and so it has to get it first; gRPC itself
# refuses what is this many times over, unread, with RESOURCE_EXHAUSTED.
CORE_LIMIT_FACTOR = 4


class GrpcService(Protocol):
    """A service beside the recommendations.

    Attributes:
        name: as in the proto file.
    """

    name: str

    def handler(self) -> Any:
        """Its methods, as grpc.aio takes them."""
        ...


class GrpcServer:
    """Listens until ``stop``.

    Attributes:
        port: the port it listens on, once started.
    """

    def __init__(
        self,
        servicer: Servicer,
        keys: Keys,
        telemetry: NullTelemetry,
        *,
        host: str,
        port: int,
        max_message_bytes: int,
        max_calls: int,
        tls: tuple[Path, Path] | None = None,
        others: Sequence[GrpcService] = (),
    ) -> None:
        """Bind.

        Args:
            servicer: the calls.
            keys: who may call.
            telemetry: where refused keys are counted.
            host: address.
            port: 0 for any free one.
            max_message_bytes: largest request.
            max_calls: a backstop above the admission limit; gRPC itself refuses more (RESOURCE_EXHAUSTED).
            tls: certificate chain and private key, PEM.
            others: further services.

        Raises:
            OSError: the port cannot be had, or the TLS files cannot be read.
        """
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", CORE_LIMIT_FACTOR * max_message_bytes),
            ("grpc.max_metadata_size", 32 * 1024),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ]
        self._server = grpc.aio.server(
            interceptors=(_KeyCheck(keys, telemetry),) if keys.required else (),
            options=options,
            maximum_concurrent_rpcs=max_calls,
            compression=grpc.Compression.NoCompression,
        )
        self._names = (SERVICE, *(other.name for other in others))
        self._server.add_generic_rpc_handlers((servicer.handler(), *(other.handler() for other in others)))
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls is None:
                self.port = self._server.add_insecure_port(address)
            else:
                chain, key = tls[0].read_bytes(), tls[1].read_bytes()
                self.port = self._server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address} for gRPC: {error}") from error

    async def start(self) -> None:
        """Accept calls; health says NOT_SERVING until told otherwise."""
        await self.serving(False)
        await self._server.start()

    async def serving(self, ready: bool) -> None:
        """Tell health checks."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls at once, let those in flight end within ``grace_s``, then cut them."""
        await self._server.stop(grace_s)


class _KeyCheck(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    def __init__(self, keys: Keys, telemetry: NullTelemetry) -> None:
        self._keys = keys
        self._telemetry = telemetry

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        if details.method.startswith("/grpc.health.v1.Health/"):
            return await continuation(details)
        metadata = {key: _bytes(value) for key, value in details.invocation_metadata or ()}
        try:
            self._keys.check(metadata.get("authorization"), metadata.get("x-api-key"))
        except Unauthenticated as error:
            self._telemetry.rejected(error.code.value)
            handler = await continuation(details)
            return _refusing(error, handler)
        return await continuation(details)


def _refusing(error: Unauthenticated, handler: Any) -> Any:
    async def refuse(request: Any, context: Any) -> Any:
        request_id = new_request_id()
        trailing = (("x-request-id", request_id), (DETAILS_KEY, error_details(error, request_id)))
        await context.abort(STATUS[error.code], error.message, trailing)

    async def refuse_stream(request: Any, context: Any) -> Any:
        await refuse(request, context)
        yield None

    if handler is not None and handler.response_streaming:
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(refuse_stream)
        return grpc.unary_stream_rpc_method_handler(refuse_stream)
    if handler is not None and handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(refuse)
    return grpc.unary_unary_rpc_method_handler(refuse)


def _bytes(value: str | bytes) -> bytes:
    return value.encode("latin-1", "replace") if isinstance(value, str) else value


assert pb.DESCRIPTOR is not None  # registers the messages that reflection shows
