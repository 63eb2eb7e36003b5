"""What every served model has of its product: permits, new versions, and what was counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from server.batching.admission import Admission
from server.errors import ServeError
from server.kserve.model import ENDPOINT
from server.kserve.statistics import ModelStatistics
from server.service import Ticket


class Product(Protocol):
    """A product that lets requests in."""

    @property
    def admission(self) -> Admission:
        """Its permits."""
        ...

    def admit(self, endpoint: str, protocol: str) -> Ticket | ServeError:
        """A permit, or why there is none."""
        ...


ProductT = TypeVar("ProductT", bound=Product)


class OfProduct(Generic[ProductT]):
    """The part of a ``ServedModel`` that is its product's.

    Args:
        service: the product.
        look: takes up a new version, if there is one.
    """

    def __init__(self, service: ProductT, look: Callable[[], Awaitable[Any]]) -> None:
        self._service = service
        self._look = look
        self.statistics = ModelStatistics()

    def full(self) -> bool:
        """Whether no permit is left."""
        admission = self._service.admission
        return admission.in_flight >= admission.open

    def admit(self, protocol: str) -> Ticket | ServeError:
        """A permit of the product."""
        return self._service.admit(ENDPOINT, protocol)

    async def look(self) -> None:
        """Take up the published version, if it is another one."""
        await self._look()
