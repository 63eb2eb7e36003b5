"""A TensorRT plan on one GPU: ``tensorrt`` and ``tensorrt_rtx`` have nearly one API, and one engine serves both.

How a batch runs: inputs are written into pinned memory, copied in on one stream, computed on a second, copied out on a third,
tied together by events. There are two *slots* (buffers, and execution contexts), so that a second batch can be copied in while
the first computes: ``submit`` and ``wait``; ``run`` is one after the other.

Decisions not to undo:
* a batch is padded to a bucket, by repeating its first row, and the launch of each bucket is recorded as a CUDA graph when it
  comes for the second time, right behind a launch in the open (which TensorRT wants after shapes have changed);
* tables (the catalogue) are inputs that stay on the device; a new catalogue is a ``bind``, and the old one is given back when
  nothing reads it any more;
* whatever fails, the slot is quiet and its contexts are made anew before the next batch; a *lost* device is said by every call
  from then on, and what serves instead is decided above.

The engine asks for all its memory when it is made, and says how much is missing. Shapes: B rows. Units: bytes.
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from server.engines.base import Arrays, TensorSpec
from server.engines.cuda import CudaError, CudaRuntime, DeviceLost, Handle
from server.engines.device_memory import Block, aligned
from server.engines.tensorrt_plan import OpenPlan, Shape, open_plan
from server.engines.tensorrt_slot import BATCH, Slot, Streams, quietly

log = logging.getLogger("vitrine.engine")

SLOTS = 2
EAGER_S, POLL_S = 0.005, 0.0002


@dataclass(frozen=True, eq=False, slots=True)
class Ticket:
    """A batch that was submitted.

    Attributes:
        slot: where it is.
        shapes: of the outputs, without the padding.
    """

    slot: int
    shapes: Mapping[str, Shape]


class TensorRTEngine:
    """One plan; see ``Engine`` for the thread rules.

    Args:
        plan: serialized, of this GPU and this version of the runtime.
        kind: "tensorrt" or "tensorrt_rtx".
        inputs: what changes from run to run; the first dimension of a batched one is ``B``.
        outputs: what ``run`` returns.
        tables: inputs that ``bind`` brings.
        name: of the plan, in messages.
        buckets: batch sizes that others are padded to, ascending; empty: powers of two up to the plan's largest.
        urgent: whether the device runs this engine before others of the process.
        cuda: the device; None: the first one.
        trt: the module; None: import it.
        runtime_cache: kernels that an earlier process has compiled for this plan (``tensorrt_rtx``).
        hang_s: a batch that takes longer is given up, and the device with it; None: it is waited for.
        clock, sleep: for ``hang_s``.

    Raises:
        CudaUnavailable: there is no device, or no driver.
        RuntimeError: the plan is not for this device or runtime, its tensors are not the manifest's, or memory is missing;
            says which, and how much.
    """

    def __init__(
        self,
        plan: bytes,
        *,
        kind: str,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        tables: tuple[str, ...] = (),
        name: str = "plan",
        buckets: Sequence[int] = (),
        urgent: bool = True,
        cuda: CudaRuntime | None = None,
        trt: Any = None,
        runtime_cache: bytes = b"",
        hang_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.kind, self.inputs, self.outputs = kind, inputs, outputs
        self._name, self._tables = name, tables
        self._cuda = CudaRuntime() if cuda is None else cuda
        self._cuda.use()
        self._thread = threading.get_ident()
        self.hang_s, self._clock, self._sleep = hang_s, clock, sleep
        self._trt = importlib.import_module(kind) if trt is None else trt
        self._slots: list[Slot] = []
        self._tickets: list[Ticket | None] = [None] * SLOTS
        self._streams: list[Handle] = []
        self._bound: Block | None = None
        self._bound_shapes: dict[str, Shape] = {}
        self._turn = 0
        self._lost: str | None = None
        self._stale: set[int] = set()
        self._opened: OpenPlan | None = open_plan(
            self._trt, self._cuda, plan, name, inputs, outputs, tables, runtime_cache
        )
        self._buckets = tuple(buckets) or _powers(self._opened.largest(inputs, BATCH))
        try:
            self._check_memory()
            self._in, self._compute, leaving = (self._stream(urgent) for _ in range(3))
            streams = Streams(arriving=self._in, computing=self._compute, leaving=leaving)
            for _ in range(SLOTS):
                slot = Slot(self._cuda, self._opened, inputs, outputs, streams)
                self._slots.append(slot)
                slot.point(None, {})
            if not tables:
                self.bind({})
        except BaseException:
            self.close()
            raise

    def bind(self, constants: Arrays) -> None:
        """Copy tables to the device and use them from now on; the old ones stay until nothing reads them.

        Raises:
            ValueError: a table is missing, or of another dtype; the engine is as it was.
            RuntimeError: memory is missing (says how much), or the device failed.
        """
        opened = self._usable()
        missing = [name for name in self._tables if name not in constants]
        if missing:
            raise ValueError(f"{self._name}: tables {missing} are missing, got {sorted(constants)}")
        tables = {name: np.ascontiguousarray(constants[name]) for name in self._tables}
        for name, array in tables.items():
            opened.check_table(name, array.dtype, array.shape)
        sizes = {name: array.nbytes for name, array in tables.items()}
        self._need("tables", sum(aligned(size) for size in sizes.values()))
        with Block(self._cuda, sizes) as block:
            try:
                for name, array in tables.items():
                    if array.nbytes:
                        self._cuda.copy_in(block.address(name), array.ctypes.data, array.nbytes, self._in)
                self._cuda.wait(self._in)
                self._cuda.wait(self._compute)
            except CudaError as error:
                self._failed(error)  # before the block is given back: a copy may still be going there
                raise
        old, self._bound = self._bound, block
        self._bound_shapes = {name: array.shape for name, array in tables.items()}
        for slot in self._slots:
            slot.point(block, self._bound_shapes)
        if old is not None:
            old.close()

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run one batch; see ``Engine.run``."""
        return self.wait(self.submit(inputs))

    def submit(self, inputs: Arrays) -> Ticket:
        """Begin a batch; at most ``SLOTS`` may be under way. The arrays are the caller's again when this returns.

        Raises:
            ValueError: an input does not fit; nothing was begun.
            RuntimeError: too many batches are under way, or the device failed.
        """
        opened = self._usable()
        at = self._turn
        slot = self._slots[at]
        if self._tickets[at] is not None:
            raise RuntimeError(f"{self._name}: {SLOTS} batches are under way; wait for one first")
        rows, shapes = self._shapes(inputs)
        profile = opened.profile(shapes)
        try:
            if at in self._stale:
                slot.renew()
                slot.point(self._bound, self._bound_shapes)
                self._stale.discard(at)
            slot.copy_in(inputs, shapes)
            ticket = Ticket(at, slot.copy_out(rows, slot.launch(profile, shapes)))
        except BaseException as error:
            self._failed(error)
            raise
        self._tickets[at] = ticket
        self._turn = (at + 1) % SLOTS
        return ticket

    def wait(self, ticket: Ticket) -> dict[str, npt.NDArray[Any]]:
        """The outputs of a batch, in arrays of their own; blocks until they are there."""
        self._usable()
        if self._tickets[ticket.slot] is not ticket:
            raise RuntimeError(f"{self._name}: this batch is not under way; wait for each once")
        try:
            self._await(self._slots[ticket.slot])
            found = self._slots[ticket.slot].take(ticket.shapes)
        except CudaError as error:
            self._failed(error)
            raise
        self._tickets[ticket.slot] = None
        return found

    def _await(self, slot: Slot) -> None:
        if self.hang_s is None:
            slot.wait()
            return
        began_s = self._clock()
        while not slot.done():
            waited_s = self._clock() - began_s
            if waited_s > self.hang_s:
                # Nothing can be called any more that waits for the device: its memory stays where it is.
                self._lost = (
                    f"the device hangs: a batch took more than {self.hang_s:.3g} s; restart the process"
                )
                log.error("a GPU engine hangs", extra={"model": self._name, "reason": self._lost})
                self._slots, self._streams, self._bound = [], [], None
                raise DeviceLost(f"{self._name}: {self._lost}")
            # At first as often as it can, as a batch takes less than that; who is later than usual can wait a little.
            self._sleep(0.0 if waited_s < EAGER_S else POLL_S)

    def runtime_cache(self) -> bytes:
        """What was compiled while this plan ran, for the next process (``tensorrt_rtx``); empty: nothing to keep."""
        return self._usable().runtime_cache()

    def close(self) -> None:
        """Give everything back; safe to call twice, and on a lost device."""
        for slot in self._slots:
            slot.close()
        self._slots.clear()
        if self._bound is not None:
            quietly(self._name, self._bound.close)
            self._bound = None
        for stream in self._streams:
            quietly(self._name, self._cuda.end_stream, stream)
        self._streams.clear()
        self._opened = None

    def _usable(self) -> OpenPlan:
        if self._thread != threading.get_ident():
            self._cuda.use()  # a device is current by thread
            self._thread = threading.get_ident()
        if self._opened is None:
            raise RuntimeError(f"{self._name}: closed")
        if self._lost is not None:
            raise DeviceLost(f"{self._name}: {self._lost}")
        return self._opened

    def _stream(self, urgent: bool) -> Handle:
        stream = self._cuda.stream(urgent=urgent)
        self._streams.append(stream)
        return stream

    def _check_memory(self) -> None:
        opened = self._usable()
        buffers = sum(aligned(size) for size in opened.sizes.values())
        self._need("buffers and contexts", SLOTS * (buffers + opened.context_bytes))

    def _need(self, what: str, needed: int) -> None:
        try:
            free, total = self._cuda.free_bytes()
        except CudaError as error:
            self._failed(error)
            raise
        if needed > free:
            raise RuntimeError(
                f"{self._name}: {what} need {needed >> 20} MiB on device {self._cuda.device}, {free >> 20} of "
                f"{total >> 20} MiB are free: {(needed - free >> 20) + 1} MiB are missing; serve fewer models on it, or "
                "build with a smaller max_batch"
            )

    def _shapes(self, inputs: Arrays) -> tuple[int, dict[str, Shape]]:
        if self._bound is None and self._tables:
            raise RuntimeError(f"{self._name}: its tables were never bound")
        symbols: dict[str, int] = {}
        for spec in self.inputs:
            array = inputs.get(spec.name)
            if array is None:
                raise ValueError(f"{spec.name}: missing, got {sorted(inputs)}")
            spec.check(array, symbols)
        rows = symbols.get(BATCH, 1)
        bucket = next((size for size in self._buckets if size >= rows), None)
        if rows < 1 or bucket is None:
            raise ValueError(f"{self._name}: {rows} rows, must be in 1..{self._buckets[-1]}")
        return rows, {
            spec.name: tuple(bucket if dim == BATCH else size for dim, size in zip(spec.shape, inputs[spec.name].shape, strict=True))
            for spec in self.inputs
        }  # fmt: skip

    def _failed(self, error: BaseException) -> None:
        """Make everything quiet: both batches under way are gone, and their contexts are made anew before they are used."""
        lost = error if isinstance(error, CudaError) and error.sticky else None
        for stream in self._streams:
            try:
                self._cuda.wait(stream)
            except CudaError as another:
                lost = another if another.sticky else lost
        for at, slot in enumerate(self._slots):
            self._tickets[at] = None
            slot.drop_graphs()
            self._stale.add(at)
        if lost is not None:
            self._lost = f"the device was lost: {lost}"
            log.error("a GPU engine lost its device", extra={"model": self._name, "reason": str(lost)})


def _powers(largest: int) -> tuple[int, ...]:
    return (*(1 << power for power in range(largest.bit_length()) if 1 << power < largest), largest)
