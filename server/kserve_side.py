"""KServe v2 of this server, put together: the models by their tensors, their hot paths, the other paths, the gRPC service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.grpc_api.call import Method
from server.grpc_api.kserve import LaterInference, infer_methods
from server.heartbeat import Heartbeat
from server.http_api.kserve.endpoint import InferEndpoint
from server.http_api.kserve.site import KServeSite
from server.keys import Keys
from server.kserve.model import Models
from server.kserve.recommender import RecommenderTensors
from server.logs import AccessLog
from server.service import Service
from server.settings import Settings
from server.telemetry import server_version
from server.telemetry_interface import NullTelemetry

if TYPE_CHECKING:
    from server.encoder_side import EncoderSide
    from server.published import LiveModel
    from server.text_side import TextSide


class KServeSide:
    """The protocol's half of an application.

    Attributes:
        models: by name.
        endpoints: hot paths, one a model.
        site: the other paths, by ASGI.
        methods: hot gRPC methods, by path.
        service: the other gRPC methods.
    """

    def __init__(
        self,
        settings: Settings,
        model: LiveModel,
        service: Service,
        text: TextSide | None,
        encoder: EncoderSide | None,
        telemetry: NullTelemetry,
        access: AccessLog,
        keys: Keys,
        heartbeat: Heartbeat,
    ) -> None:
        self.models = Models(telemetry, control=settings.kserve_control)
        if model.tensors() is not None:
            self.models.add(RecommenderTensors(service, model.check_for_new_version))
        if encoder is not None:
            from server.kserve.encoder import EncoderTensors

            self.models.add(EncoderTensors(encoder.service, encoder.encoder.check_for_new_version))
        if text is not None:
            from server.kserve.text import TextTensors

            # A model elsewhere has no versions here.
            look = getattr(text.model, "check_for_new_version", _nothing_new)
            self.models.add(TextTensors(text.service, text.model.info().name, look))
        most = settings.max_body_bytes
        self.endpoints = [
            InferEndpoint(self.models, one.name, keys, access, max_body_bytes=most)
            for one in self.models.all()
        ]

        def ready() -> bool:
            return service.ready()[0]

        def live() -> bool:
            return heartbeat.alive()[0]

        version = server_version()
        self.site = KServeSite(
            self.models, live, ready, version=version, keys=keys, access=access, max_body_bytes=most
        )
        self.methods: dict[bytes, Method] = infer_methods(self.models, access)
        self.service = LaterInference(self.models, live, ready, version)


async def _nothing_new() -> bool:
    return False
