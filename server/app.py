"""The composition root: the one place that builds things and puts them together, and the order in which they stop.

Stopping is the part to read. Not ready at once, so that balancers look elsewhere; then, after an optional pre-stop time,
new work is refused while the ports still answer; what is in flight ends within the drain limit; and only then do the
ports close.

Units: seconds.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from server import published
from server.batching.admission import Admission
from server.byte_budget import ByteBudget
from server.encoder_domain import ENCODER_TASK
from server.gauges import measure_server
from server.grpc_api.later import CopyCalls, LaterProductCopy
from server.grpc_api.later_support import LaterCustomerService, SupportCalls
from server.grpc_api.server import GrpcServer
from server.grpc_api.servicer import methods
from server.heartbeat import Heartbeat
from server.http_api.connections import Connections
from server.http_api.recommend import BatchEndpoint, Endpoint, RecommendEndpoint
from server.http_api.server import HttpServer
from server.http_api.site import Asgi, Site, health_detail, ready_detail
from server.keys import Keys
from server.kserve_side import KServeSide
from server.logs import AccessLog
from server.request_limits import RequestLimits
from server.service import Service
from server.settings import Settings
from server.telemetry import Telemetry, server_version
from server.telemetry_interface import NullTelemetry
from server.telemetry_server import MetricsServer
from server.tuning import tune

if TYPE_CHECKING:
    from server.copy_side import CopySide, OpenCopyRules
    from server.encoder_side import EncoderSide, OpenEncoder
    from server.knowledge_side import KnowledgeSide
    from server.support_side import SupportSide
    from server.text_side import OpenText, TextSide

log = logging.getLogger("vitrine.app")

HEALTH_EVERY_S = 0.5
# Permits that are always open, in batches. More keep a standing queue: with three, half of the answers at twice the
# highest rate came after 50 ms; with one, a seventh.
BATCHES_OPEN = 1


class Application:
    """Everything that runs in this process.

    Attributes:
        service: the product.
        text: the text half; None where no text model is served.
        encoder: the encoder with its endpoint; None where none is served. Its ``encoder`` is for the other products.
        reranker: of the recommender's best items; None where none is set.
        copy: product copy; None where it is off, and until it is loaded.
        knowledge: the shop's pages; None where there are none, and until they are opened.
        support: customer service; None where it is off, and until it is loaded.
        http_port: where HTTP listens, once started.
        grpc_port: where gRPC listens, once started; None when it is off.
        metrics_port: where metrics are, once started.
    """

    def __init__(
        self,
        settings: Settings,
        open_model: published.OpenModel = published.open_published,
        open_text: OpenText = published.open_published_text,
        open_rules: OpenCopyRules = published.open_copy_rules,
        open_encoder: OpenEncoder = published.open_published_encoder,
    ) -> None:
        self.settings = settings
        self.registry = CollectorRegistry()
        self.telemetry: NullTelemetry = Telemetry(self.registry) if settings.metrics else NullTelemetry()
        access = AccessLog(settings.access_log)
        self._keys = Keys(settings.api_keys)
        self.text = self._open_text(open_text, access)
        self.encoder = self._open_encoder(open_encoder, access)
        recommender = published.open_recommender(
            open_model, settings, self.telemetry, alone=self.text is None and self.encoder is None
        )
        self.model, self.reranker = published.with_reranker(recommender, settings, self.telemetry)
        info = self.model.info()
        self.admission = Admission(
            info.name,
            settings.max_in_flight,
            target_wait_s=settings.target_wait_ms * 1e-3 if settings.target_wait_ms else math.inf,
            floor=BATCHES_OPEN * info.limits.get("max_batch", 1),
        )
        limits = RequestLimits(
            max_history=settings.max_history,
            max_candidates=settings.max_candidates,
            max_exclude=settings.max_exclude,
            default_deadline_s=settings.default_deadline_ms * 1e-3,
            max_deadline_s=settings.max_deadline_ms * 1e-3,
        )
        self.service = Service(self.model, self.admission, limits, self.telemetry, fallback=settings.fallback)
        if self.text is not None:
            self.service.companions.append(self.text.service)
        if self.encoder is not None:
            self.service.companions.append(self.encoder.service)
        if self.reranker is not None:
            self.service.companions.append(self.reranker)
        self.heartbeat = Heartbeat(settings.max_loop_lag_s, self.telemetry)
        sides = (self.model, self.service, self.text, self.encoder, self.telemetry, access, self._keys)
        self.kserve = KServeSide(settings, *sides, self.heartbeat) if settings.kserve else None
        self._budget = ByteBudget(settings.max_bytes_in_flight)
        self.connections = Connections(
            settings.max_connections,
            self._budget,
            keep_alive_s=settings.keep_alive_s,
            read_timeout_s=settings.read_timeout_s,
            write_timeout_s=settings.write_timeout_s,
            telemetry=self.telemetry,
        )
        self._access = access
        self._open_rules = open_rules
        self.copy: CopySide | None = None
        self.knowledge: KnowledgeSide | None = None
        self.support: SupportSide | None = None
        if settings.copy_style is not None:  # a mistake in it must stop the start
            self._open_copy()
        self._endpoints: tuple[Endpoint, ...] = (
            RecommendEndpoint(self.service, self._keys, access),
            BatchEndpoint(self.service, self._keys, access, settings.max_batch_requests),
            *(() if self.encoder is None else self.encoder.endpoints),
        )
        hot = (*self._endpoints, *(self.kserve.endpoints if self.kserve else ()))
        kserve = self.kserve.site if self.kserve else None
        self._site = Site(self.service, self.heartbeat, self._keys, self._load_routes, kserve)
        self._http = HttpServer(
            self._site,
            hot,
            self.connections,
            host=settings.host,
            port=settings.http_port,
            max_body_bytes=settings.max_body_bytes,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._grpc: GrpcServer | None = None
        self.http_port = 0
        self.grpc_port: int | None = None
        self.metrics_port = 0

    async def start(self) -> None:
        """Listen on all ports; ready when this returns.

        Raises:
            OSError: a port cannot be had, or the TLS files cannot be read.
        """
        settings = self.settings
        tls = (settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None
        self._measure()
        self._metrics = MetricsServer(
            settings.metrics_host or settings.host,
            settings.metrics_port,
            self.registry,
            alive=lambda: health_detail(self.heartbeat),
            ready=lambda: ready_detail(self.service),
            keys=self._keys,
            tls=tls,
        )
        self.metrics_port = self._metrics.port
        self.heartbeat.start()
        await self.model.start()
        if self.text is not None:
            await self.text.start()
        if self.encoder is not None and self.text is None and not self.model.info().name:
            await self.encoder.load()  # nothing else is served
        await self._http.start(tls)
        self.http_port = self._http.port
        if settings.grpc:
            await self._start_grpc(tls)
        if self.encoder is not None:
            self.encoder.start()
        self._tasks.append(asyncio.create_task(self._watch_health(), name="watch health"))
        tune(settings.switch_interval_ms * 1e-3)

    async def warm(self) -> None:
        """Load what ready did not wait for, and keep all of it out of the garbage collector's rounds."""
        await self._site.begin_loading()
        if self.encoder is not None:
            await self.encoder.loaded()
        if self.knowledge is not None:
            await self.knowledge.start()
            self.service.troubles.append(self.knowledge.troubles)
        if self.support is not None:
            await self.support.start()
        if self.copy is not None:
            await self.copy.start()
        gc.freeze()

    async def stop(self) -> None:
        """Drain and close, in the order that the module describes."""
        settings = self.settings
        self.service.draining = True
        if self._grpc is not None:
            await self._grpc.serving(False)
        log.info("draining", extra={"reason": "told to stop"})
        if settings.pre_stop_s:
            await asyncio.sleep(settings.pre_stop_s)
        self.admission.stop()
        began_s = time.monotonic()
        text_stop = asyncio.create_task(self._stop_texts(settings.drain_s))
        grpc_stop = asyncio.create_task(self._grpc.stop(settings.drain_s)) if self._grpc is not None else None
        if not await self.admission.wait_idle(settings.drain_s):
            log.warning("requests were still in flight at the end of the drain limit")
        left_s = max(0.0, settings.drain_s - (time.monotonic() - began_s))
        await self.model.close(left_s)
        await text_stop
        await self._http.stop()
        if grpc_stop is not None:
            await grpc_stop
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.heartbeat.stop()
        self._metrics.close()
        log.info("stopped")

    async def _stop_texts(self, drain_s: float) -> None:
        began_s = time.monotonic()
        if self.knowledge is not None:
            self.knowledge.refuse()
        ends = [side.stop(drain_s) for side in (self.copy, self.support) if side is not None]
        if self.text is not None:
            ends.append(self.text.drain(drain_s))
        if self.encoder is not None:
            ends.append(self.encoder.drain(drain_s))
        await asyncio.gather(*ends)  # at the same time, and both before the engine that they write with
        if self.knowledge is not None:
            await self.knowledge.stop()
        left_s = max(0.0, drain_s - (time.monotonic() - began_s))
        engines = [side.close(left_s) for side in (self.text, self.encoder) if side is not None]
        await asyncio.gather(*engines)

    async def _start_grpc(self, tls: tuple[Path, Path] | None) -> None:
        settings = self.settings
        self._grpc = GrpcServer(
            {
                **methods(self.service, self._access, max_batch=settings.max_batch_requests),
                **(self.kserve.methods if self.kserve else {}),
            },
            self._keys,
            self.telemetry,
            self._budget,
            host=settings.host,
            port=settings.grpc_port,
            max_message_bytes=settings.max_body_bytes,
            max_connections=settings.max_connections,
            read_timeout_s=settings.read_timeout_s,
            write_timeout_s=settings.write_timeout_s,
            tls=tls,
            others=(
                *((self.kserve.service,) if self.kserve else ()),
                *((LaterProductCopy(self._copy_calls),) if settings.copy else ()),
                *((LaterCustomerService(self._support_calls),) if settings.support else ()),
            ),
        )
        await self._grpc.start()
        self.grpc_port = self._grpc.port

    async def _watch_health(self) -> None:
        told: tuple[bool, bool, bool] | None = None
        degraded: list[str] = []
        while True:
            (ready, reasons), own = self.service.ready(), not self.service.own_reasons()
            draining = self.service.draining
            if (ready, own, draining) != told:
                if not ready and not draining:
                    log.warning("not ready", extra={"reason": "; ".join(reasons)})
                if self._grpc is not None:  # copy and support answer without a text engine too
                    await self._grpc.serving(ready, own=own, others=not draining)
                told = ready, own, draining
            if (now := self.service.degraded()) != degraded:
                log.warning("degraded" if now else "degraded no longer", extra={"reason": "; ".join(now)})
                degraded = now
            await asyncio.sleep(HEALTH_EVERY_S)

    def _measure(self) -> None:
        measure_server(
            self.telemetry,
            self.model,
            [side for side in (self.text, self.encoder, self.reranker) if side is not None],
            admission=self.admission,
            connections=self.connections,
            grpc_connections=lambda: len(self._grpc) if self._grpc else 0,
            budget=self._budget,
        )

    def _load_routes(self) -> Asgi:
        from server.http_api.routes import build, limits_told

        settings = self.settings
        if settings.copy and self.copy is None:
            self._open_copy()
        if self.knowledge is None:
            from server.knowledge_side import open_knowledge

            encoder = None if self.encoder is None else self.encoder.encoder
            self.knowledge = open_knowledge(settings, encoder, self.telemetry, self._access, self._keys)
        if settings.support and self.support is None:
            self._open_support()
        sides = [side for side in (self.copy, self.support, self.knowledge) if side is not None]
        return build(
            self.service,
            self._endpoints,
            limits=limits_told(settings),
            max_body_bytes=settings.max_body_bytes,
            version=server_version(),
            keys_required=self._keys.required,
            text=(self.text.endpoints, self.text.limits) if self.text is not None else ((), {}),
            more=[endpoint for side in sides for endpoint in side.endpoints],
            documents=[side.describe() for side in (*sides, self.encoder) if side is not None],
            task_limits={} if self.encoder is None else {ENCODER_TASK: self.encoder.limits},
        )

    def _open_text(self, open_text: OpenText, access: AccessLog) -> TextSide | None:
        model = open_text(self.settings, self.telemetry)
        if model is None:
            return None
        from server.text_side import TextSide

        return TextSide(self.settings, model, self.telemetry, access, self._keys)

    def _open_encoder(self, open_encoder: OpenEncoder, access: AccessLog) -> EncoderSide | None:
        encoder = open_encoder(self.settings, self.telemetry)
        if encoder is None:
            return None
        from server.encoder_side import EncoderSide

        return EncoderSide(self.settings, encoder, self.telemetry, access, self._keys)

    async def _copy_calls(self) -> CopyCalls:
        await asyncio.shield(self._site.begin_loading())
        assert self.copy is not None, "it is not off, and loaded now"
        return self.copy.calls

    async def _support_calls(self) -> SupportCalls:
        await asyncio.shield(self._site.begin_loading())
        assert self.support is not None, "it is not off, and loaded now"
        return self.support.calls

    def _open_support(self) -> None:
        from server.pipelines.customer_service.hearing import open_hearing
        from server.support_side import SupportSide

        self.support = SupportSide(
            self.settings,
            None if self.encoder is None else self.encoder.encoder,
            None if self.knowledge is None else self.knowledge.search,
            None if self.text is None else self.text.model,
            open_hearing(
                [Path(name) for name in self.settings.support_signal_files],
                [Path(name) for name in self.settings.support_injection_files],
                self.settings.support_order_formats,
                self.settings.support_product_names,
            ),
            self.telemetry,
            self._access,
            self._keys,
            pages=None if self.knowledge is None or self.encoder is None else self.knowledge.pages,
        )

    def _open_copy(self) -> None:
        from server.copy_side import CopySide

        text = self.text
        model = None if text is None else text.model
        admissions = (self.admission,) if text is None else (self.admission, text.service.admission)
        self.copy = CopySide(
            self.settings,
            model,
            self._open_rules(self.settings),
            self.telemetry,
            self._access,
            self._keys,
            busy=lambda: any(admission.in_flight for admission in admissions),
        )
