"""One set of an engine's buffers and contexts: a batch comes in, is launched, and goes out, in the order of three streams.

What is recorded is the launch alone; copies stay outside, because their sizes change with the rows of a batch. Units: bytes.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from server.engines.base import Arrays, TensorSpec
from server.engines.cuda import CudaError, CudaRuntime, Handle
from server.engines.device_memory import Block
from server.engines.tensorrt_plan import OpenPlan, Shape

log = logging.getLogger("vitrine.engine")

KEPT_GRAPHS = 32  # a bucket that has not come for long is recorded again
BATCH = "B"


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """In which everything of an engine happens."""

    arriving: Handle
    computing: Handle
    leaving: Handle


class Slot:
    """Buffers, contexts, events and recorded launches.

    Args:
        cuda: of the device.
        opened: the plan.
        inputs, outputs: without the tables.
        streams: of the engine.

    Raises:
        CudaError, RuntimeError: there is no memory for it; nothing is kept.
    """

    def __init__(
        self,
        cuda: CudaRuntime,
        opened: OpenPlan,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        streams: Streams,
    ) -> None:
        self._cuda, self._opened, self._streams = cuda, opened, streams
        self._inputs, self._outputs = inputs, outputs
        self._graphs: OrderedDict[tuple[Any, ...], Handle | None] = OrderedDict()
        self._contexts = opened.contexts()
        sizes = {spec.name: opened.sizes[spec.name] for spec in (*inputs, *outputs)}
        with ExitStack() as undo:
            self._host = Block(cuda, sizes, pinned=True)
            undo.callback(quietly, opened.name, self._host.close)
            self._device = Block(cuda, sizes)
            undo.callback(quietly, opened.name, self._device.close)
            self._events: list[Handle] = []
            for _ in range(3):
                event = cuda.event()
                undo.callback(quietly, opened.name, cuda.end_event, event)
                self._events.append(event)
            undo.pop_all()
        self._arrived, self._computed, self._left = self._events

    def renew(self) -> None:
        """Make contexts anew: after a failure they may hold what it left. To be pointed again."""
        self._contexts = self._opened.contexts()

    def point(self, tables: Block | None, shapes: Mapping[str, Shape]) -> None:
        """Tell the contexts where all tensors are; launches that were recorded with other addresses are given up."""
        self.drop_graphs()
        for context in self._contexts:
            for spec in (*self._inputs, *self._outputs):
                self._must(context.set_tensor_address(spec.name, self._device.address(spec.name)), spec.name)
            for name, shape in shapes.items():
                assert tables is not None
                self._must(context.set_input_shape(name, shape), name)
                self._must(context.set_tensor_address(name, tables.address(name)), name)

    def copy_in(self, inputs: Arrays, shapes: Mapping[str, Shape]) -> None:
        """Begin to copy a batch in, padded to ``shapes`` by its first row; the arrays are the caller's again."""
        for spec in self._inputs:
            shape, array = shapes[spec.name], inputs[spec.name]
            size = math.prod(shape) * array.itemsize
            if not size:
                continue
            staged = self._host.view(spec.name)[:size].view(array.dtype).reshape(shape)
            if spec.shape and spec.shape[0] == BATCH:
                staged[: len(array)] = array
                staged[len(array) :] = array[:1]
            else:
                staged[...] = array
            self._cuda.copy_in(
                self._device.address(spec.name), self._host.address(spec.name), size, self._streams.arriving
            )
        self._cuda.record(self._arrived, self._streams.arriving)
        self._cuda.after(self._streams.computing, self._arrived)

    def launch(self, profile: int, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """Begin to compute; the outputs' shapes, padding included.

        Raises:
            RuntimeError: the runtime refuses it, or a shape depends on data.
        """
        context = self._contexts[profile]
        for name, shape in shapes.items():
            self._must(context.set_input_shape(name, shape), name)
        told = {}
        for spec in self._outputs:
            told[spec.name] = tuple(int(size) for size in context.get_tensor_shape(spec.name))
            if min(told[spec.name], default=1) < 0:
                raise RuntimeError(
                    f"{self._opened.name}: output {spec.name} has shape {told[spec.name]}, which depends on data"
                )
        key = (profile, *shapes.values())
        graph = self._graphs.get(key)
        if graph is not None:
            self._graphs.move_to_end(key)
            self._cuda.launch(graph, self._streams.computing)
        else:
            self._execute(context)
            # Recorded right behind a launch of the same shapes in the open: what is prepared for new shapes is not recordable.
            self._keep(key, self._recorded(context) if key in self._graphs else None)
        self._cuda.record(self._computed, self._streams.computing)
        return told

    def copy_out(self, rows: int, told: Mapping[str, Shape]) -> dict[str, Shape]:
        """Begin to copy the outputs out, without the padding; their shapes."""
        self._cuda.after(self._streams.leaving, self._computed)
        shapes = {}
        for spec in self._outputs:
            shape = told[spec.name]
            if spec.shape and spec.shape[0] == BATCH:
                shape = (rows, *shape[1:])
            shapes[spec.name] = shape
            size = math.prod(shape) * np.dtype(spec.dtype).itemsize
            if size:
                host, device = self._host.address(spec.name), self._device.address(spec.name)
                self._cuda.copy_out(host, device, size, self._streams.leaving)
        self._cuda.record(self._left, self._streams.leaving)
        return shapes

    def wait(self) -> None:
        """Block until the outputs are there."""
        self._cuda.wait_event(self._left)

    def done(self) -> bool:
        """Whether the outputs are there; does not block."""
        return self._cuda.reached(self._left)

    def take(self, shapes: Mapping[str, Shape]) -> dict[str, npt.NDArray[Any]]:
        """The outputs that are there, in arrays of their own."""
        found = {}
        for spec in self._outputs:
            shape, dtype = shapes[spec.name], np.dtype(spec.dtype)
            size = math.prod(shape) * dtype.itemsize
            found[spec.name] = self._host.view(spec.name)[:size].view(dtype).reshape(shape).copy()
        return found

    def drop_graphs(self) -> None:
        """Give all recorded launches up; nothing may be running."""
        for graph in self._graphs.values():
            if graph is not None:
                quietly(self._opened.name, self._cuda.end_graph, graph)
        self._graphs.clear()

    def close(self) -> None:
        """Give everything back; nothing may be running."""
        self.drop_graphs()
        self._contexts.clear()
        for event in self._events:
            quietly(self._opened.name, self._cuda.end_event, event)
        self._events.clear()
        quietly(self._opened.name, self._host.close)
        quietly(self._opened.name, self._device.close)

    def _keep(self, key: tuple[Any, ...], graph: Handle | None) -> None:
        self._graphs[key] = graph
        if len(self._graphs) > KEPT_GRAPHS:
            _, oldest = self._graphs.popitem(last=False)
            if oldest is not None:  # its last run was waited for before this slot was used again
                self._cuda.end_graph(oldest)

    def _recorded(self, context: Any) -> Handle:
        found: list[Handle] = []
        with self._cuda.captured(self._streams.computing, found):
            self._execute(context)
        return found[0]

    def _execute(self, context: Any) -> None:
        if not context.execute_async_v3(self._streams.computing):
            raise RuntimeError(f"{self._opened.name}: the runtime refused to run it: {self._opened.said()}")

    def _must(self, done: bool, tensor: str) -> None:
        if not done:
            raise RuntimeError(
                f"{self._opened.name}: the runtime refused shape or address of {tensor!r}; build the plan again"
            )


def quietly(plan: str, call: Callable[..., object], *arguments: Any) -> None:
    """Call something that gives back; on the way out nothing else can be done about a failure than to tell."""
    try:
        call(*arguments)
    except CudaError as error:
        log.warning("giving back GPU memory failed", extra={"model": plan, "reason": str(error)})
