"""What a server has for product copy: the product, its endpoints on both wires, its jobs, and the order in which they stop.

It is there with a text model and without one: then the templates answer.

Units: seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from server.batching.admission import Admission
from server.bulk.jobs import CopyJobs
from server.bulk.runner import Writer
from server.copy_cache import CopyCache
from server.copy_domain import CopyAnswer, CopyRequest
from server.copy_limits import CopyRequestLimits
from server.copy_service import CopyService
from server.grpc_api.product_copy import ProductCopy
from server.http_api.product_copy.endpoint import CopyEndpoint
from server.http_api.product_copy.jobs import JobsEndpoint
from server.keys import Keys
from server.logs import AccessLog
from server.pipelines.product_copy.pipeline import CopyPipeline
from server.pipelines.product_copy.ports import CopyRules, CopyTemplates
from server.settings import Settings
from server.telemetry_interface import NullTelemetry
from server.text_generator import TextGenerator

if TYPE_CHECKING:
    from server.http_api.openapi import Describe

OpenCopyRules = Callable[[Settings], tuple[CopyRules, CopyTemplates]]
LAST_WORDS_S = 1.0  # what the writers of ended streams get to send their error event


class CopySide:
    """The product in one server.

    Attributes:
        service: the product.
        jobs: bulk work.
        endpoints: ASGI applications with their paths and methods.
        calls: of gRPC.
    """

    def __init__(
        self,
        settings: Settings,
        generator: TextGenerator | None,
        rules: tuple[CopyRules, CopyTemplates],
        telemetry: NullTelemetry,
        access: AccessLog,
        keys: Keys,
        *,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """Put it together.

        Args:
            settings: of the server.
            generator: the text model; None where there is none.
            rules: what may be said, and the floor.
            telemetry: where outcomes go.
            access: log.
            keys: which tell the tenants apart.
            busy: whether anyone live is waiting for another product of this server; jobs yield to them.
        """
        limits = CopyRequestLimits(
            max_variants=settings.copy_max_variants,
            default_deadline_s=settings.copy_default_deadline_ms * 1e-3,
            max_deadline_s=settings.text_max_deadline_ms * 1e-3,
        )
        self.service = CopyService(
            CopyPipeline(generator, *rules),
            Admission("product copy", settings.copy_max_in_flight),
            limits,
            CopyCache(int(settings.copy_cache_mb * 2**20), settings.copy_cache_age_s),
            telemetry,
        )
        self.jobs = CopyJobs(
            settings.copy_jobs,
            self._bulk_writer,
            lambda: self.service.in_flight() > 0 or busy(),
            at_once=settings.copy_jobs_at_once,
            most_jobs=settings.copy_jobs_kept,
        )
        self.endpoints: Sequence[CopyEndpoint | JobsEndpoint] = (
            CopyEndpoint(self.service, access, keys, max_body_bytes=settings.max_body_bytes),
            JobsEndpoint(
                self.jobs,
                access,
                keys,
                max_body_bytes=settings.copy_jobs_max_body_bytes,
                max_json_bytes=settings.max_body_bytes,
            ),
        )
        self.calls = ProductCopy(self.service, access, keys, max_message_bytes=settings.max_body_bytes)
        telemetry.gauge(
            "vitrine_copy_in_flight",
            "Product copy requests admitted and not yet answered.",
            self.service.in_flight,
        )
        telemetry.gauge(
            "vitrine_copy_cache_bytes",
            "Memory that cached copy takes.",
            lambda: self.service.cache.bytes_held,
        )

    def describe(self) -> Describe:
        """What adds the product to the OpenAPI document."""
        from server.http_api.product_copy.document import add_copy

        return add_copy

    async def start(self) -> None:
        """Go on with the jobs that are there."""
        await self.jobs.start()

    async def stop(self, drain_s: float) -> None:
        """Refuse new requests, interrupt jobs, finish what is under way within ``drain_s``, end the rest with an error."""
        self.service.stop()
        await self.jobs.stop()
        if not await self.service.admission.wait_idle(drain_s):
            self.service.end_all()
            await self.service.admission.wait_idle(LAST_WORDS_S)
        self.service.pipeline.close()

    def _bulk_writer(self, tenant: str) -> Writer:
        async def write(request: CopyRequest, *, patient: bool) -> CopyAnswer:
            return await self.service.write_in_bulk(request, tenant=tenant, patient=patient)

        return write
