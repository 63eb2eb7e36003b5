"""The other calls of ``inference.GRPCInferenceService``: health, metadata, statistics, the repository, the streaming call.

What they say is what the HTTP paths say (``server/kserve/describe.py``), put into the protocol's messages.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from server.errors import MalformedRequest, NotFound
from server.grpc_api.handlers import Context
from server.grpc_api.kserve.infer import SERVICE
from server.grpc_api.kserve.messages import pb
from server.grpc_api.kserve.stream import answers
from server.kserve.describe import config_json, index_json, metadata_json, server_json, statistics_json
from server.kserve.model import Models, ServedModel

_Unary = Callable[[Any], Awaitable[Any]]


class LaterInference:
    """The calls; the protocol's messages are imported with the first of them.

    Args:
        models: what is served.
        live, ready: of the server.
        version: of the server.

    Attributes:
        name: of the service.
    """

    name = SERVICE

    def __init__(
        self, models: Models, live: Callable[[], bool], ready: Callable[[], bool], version: str
    ) -> None:
        self._models = models
        self._live = live
        self._ready = ready
        self._version = version

    def handlers(self) -> dict[str, Any]:
        """Its methods by name, as grpc's method handlers."""
        calls: dict[str, _Unary] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        handlers = {name: _unary(name, call) for name, call in calls.items()}
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream)
        return handlers

    async def _server_live(self, request: Any) -> Any:
        return pb().ServerLiveResponse(live=self._live())

    async def _server_ready(self, request: Any) -> Any:
        return pb().ServerReadyResponse(ready=self._ready())

    async def _model_ready(self, request: Any) -> Any:
        try:
            model = self._models.find(request.name, request.version)
        except NotFound:
            return pb().ModelReadyResponse(ready=False)
        return pb().ModelReadyResponse(ready=self._models.state(model)[0] == "READY")

    async def _server_metadata(self, request: Any) -> Any:
        return pb().ServerMetadataResponse(**server_json(self._version))

    async def _model_metadata(self, request: Any) -> Any:
        return _filled(pb().ModelMetadataResponse(), metadata_json(self._find(request)))

    async def _model_config(self, request: Any) -> Any:
        return _filled(pb().ModelConfigResponse(), {"config": config_json(self._find(request))})

    async def _model_statistics(self, request: Any) -> Any:
        models = [self._find(request)] if request.name else self._models.all()
        return _filled(pb().ModelStatisticsResponse(), statistics_json(models))

    async def _index(self, request: Any) -> Any:
        reply = pb().RepositoryIndexResponse()
        for row in index_json(self._models, ready_only=request.ready):
            reply.models.add(**row)
        return reply

    async def _load(self, request: Any) -> Any:
        await self._models.load(request.model_name)
        return pb().RepositoryModelLoadResponse()

    async def _unload(self, request: Any) -> Any:
        self._models.unload(request.model_name)
        return pb().RepositoryModelUnloadResponse()

    def _stream(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        return answers(self._models, requests, context)

    def _find(self, request: Any) -> ServedModel:
        return self._models.find(request.name, request.version)


def _unary(name: str, call: _Unary) -> Any:
    async def answer(raw: bytes, context: Context) -> bytes:
        kind = getattr(pb(), f"{name}Request")
        try:
            request = kind.FromString(raw)
        except DecodeError as error:
            raise MalformedRequest(
                f"the message is not an inference.{name}Request", field="message"
            ) from error
        reply: bytes = (await call(request)).SerializeToString()
        return reply

    return grpc.unary_unary_rpc_method_handler(answer)


def _filled(message: Any, fields: dict[str, Any]) -> Any:
    """A message of JSON's objects; a field that the client's version of the proto has not yet is left out."""
    return json_format.ParseDict(fields, message, ignore_unknown_fields=True)
