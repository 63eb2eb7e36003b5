"""What the batcher asks of others: a runner that does the work. Who counts it is ``telemetry_interface.BatchRecorder``.

Units: seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from server.errors import ServeError

In = TypeVar("In")
Out = TypeVar("Out")
Packed = TypeVar("Packed")
Raw = TypeVar("Raw")
ItemIn = TypeVar("ItemIn", contravariant=True)
ItemOut = TypeVar("ItemOut", covariant=True)


class BatchRunner(Protocol[ItemIn, Packed, Raw, ItemOut]):
    """One engine with its packing; what one of the three raises fails that batch only (``EngineFault``)."""

    def pack(self, items: Sequence[ItemIn]) -> Packed:
        """Turn items into what the engine reads. Event-loop thread: must not block."""
        ...

    def run(self, packed: Packed) -> Raw:
        """Run one batch and block until it is done. Engine thread, one at a time; releases the GIL."""
        ...

    def unpack(self, packed: Packed, raw: Raw, items: Sequence[ItemIn]) -> Sequence[ItemOut | ServeError]:
        """One answer per item, in order; a ``ServeError`` goes to that caller alone. Event-loop thread."""
        ...


@dataclass(slots=True)
class BatchTimings:
    """Where one request spent its time.

    Attributes:
        queue_s: waiting to be packed, and packed waiting for the engine.
        encode_s: packing its batch.
        engine_s: inside ``run``.
        post_s: from the engine's return to its answer (the loop's delay is in it).
        batch_size: requests in its batch.
    """

    queue_s: float
    encode_s: float
    engine_s: float
    post_s: float
    batch_size: int
