"""What a served model is to the open inference protocol, and what is asked of it; knows no wire and no product.

Both wires turn a message into an ``Asked`` and an ``Inferred`` into a message; the models of this package turn the one into
the other through the product that owns the engine: its permits, its batches, its deadlines and its metrics.

Units: seconds, except where a name says ``_us`` or ``_ns``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt

from server.errors import InvalidRequest, NotAllowed, NotFound, ServeError
from server.kserve.statistics import ModelStatistics
from server.kserve.tensors import datatype_of
from server.service import Ticket
from server.telemetry_interface import NullTelemetry

Array = npt.NDArray[Any]
ENDPOINT = "infer"  # of the metrics
MODEL_TIER = "model"


@dataclass(frozen=True, slots=True)
class TensorMeta:
    """A tensor as metadata shows it; -1 is any size, and the first dimension is the batch's where the model has batches."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMeta:
    """A model as metadata and configuration show it.

    Attributes:
        name: of the model.
        version: that serves.
        platform: Triton's word for what runs it.
        inputs, outputs: of one request.
        max_batch: rows of one request; 0: the model has no batch dimension.
        labels: of an output's columns, by its name, for classification.
        wanted: the inputs by name.
        required: names of those that must be there.
    """

    name: str
    version: str
    platform: str
    inputs: tuple[TensorMeta, ...]
    outputs: tuple[TensorMeta, ...]
    max_batch: int
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    wanted: Mapping[str, TensorMeta] = field(init=False)
    required: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "wanted", {one.name: one for one in self.inputs})
        object.__setattr__(self, "required", frozenset(one.name for one in self.inputs if not one.optional))


@dataclass(frozen=True, slots=True)
class OutputAsked:
    """An output that the caller wants.

    Attributes:
        name: of the tensor.
        binary: as raw bytes behind the JSON (HTTP only).
        classes: give the best so many as "value:index:label"; 0: the tensor as it is.
    """

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One inference request.

    Attributes:
        inputs: by name.
        outputs: in the caller's order; empty: all of them.
        id: goes back with the answer.
        deadline_s: seconds from arrival within which the answer is of use; None: the server's default.
        binary: how outputs travel where ``outputs`` does not say (HTTP only).
        parameters: of the request, those that the protocol does not define.
    """

    inputs: dict[str, Array]
    outputs: tuple[OutputAsked, ...] = ()
    id: str = ""
    deadline_s: float | None = None
    binary: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Inferred:
    """An answer: outputs by name, and the version that gave them."""

    outputs: dict[str, Array]
    version: str


Answer = Inferred | ServeError
Done = Callable[[Answer], None]


class Work(Protocol):
    """An inference on its way."""

    def cancel(self) -> None:
        """The caller left; safe at any time."""
        ...


class ServedModel(Protocol):
    """A model that can be asked.

    Attributes:
        name: of the model.
        statistics: of what was asked of it here.
    """

    name: str
    statistics: ModelStatistics

    def meta(self) -> ModelMeta:
        """What it is now."""
        ...

    def ready(self) -> tuple[bool, str]:
        """Whether it answers, and why not."""
        ...

    def full(self) -> bool:
        """Whether a request would be refused without a look at it."""
        ...

    def admit(self, protocol: str) -> Ticket | ServeError:
        """Take a permit, before a message is looked at; the refusal is returned."""
        ...

    def infer(self, ticket: Ticket, asked: Asked, done: Done) -> Work | None:
        """Answer by ``done``, exactly once and perhaps before this returns; never after the work was cancelled.

        Raises:
            ServeError: the request is not one for this model; ``done`` is not called.
        """
        ...

    async def look(self) -> None:
        """Take up the published version, if it is another one."""
        ...


def deadline_of(timeout_us: Any, grpc_timeout_s: float | None = None) -> float | None:
    """The protocol's ``timeout`` (microseconds) and the call's own limit as a deadline: the earlier holds.

    Raises:
        InvalidRequest: the time-out is not a number of microseconds.
    """
    if timeout_us is None or timeout_us == 0:  # Triton's: 0 is no time-out
        return grpc_timeout_s
    if isinstance(timeout_us, bool) or not isinstance(timeout_us, int) or not 0 < timeout_us < 1 << 62:
        raise InvalidRequest(
            f"parameter 'timeout' is {str(timeout_us)[:40]}; give microseconds from now, a whole number above 0",
            field="parameters.timeout",
            limit="> 0 us",
        )
    timeout_s: float = timeout_us * 1e-6
    return timeout_s if grpc_timeout_s is None else min(timeout_s, grpc_timeout_s)


def check_priority(priority: Any) -> None:
    """Hold the protocol's ``priority`` to what it may be. It changes nothing: what is due first runs first, for everybody.

    Raises:
        InvalidRequest: it is no whole number from 0.
    """
    if priority is not None and (
        isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority < 1 << 32
    ):
        raise InvalidRequest(
            f"parameter 'priority' is {str(priority)[:40]}; give a whole number from 0",
            field="parameters.priority",
            limit=">= 0",
        )


def take_inputs(meta: ModelMeta, asked: Asked) -> int:
    """Hold the inputs against the model's: names, datatypes, dimensions, one batch size.

    Returns:
        Rows of the batch (1 for a model without a batch dimension).

    Raises:
        InvalidRequest: names the input, what it is and what is needed.
    """
    wanted, given = meta.wanted, asked.inputs
    for name in given:
        if name not in wanted:
            raise InvalidRequest(
                f"unexpected inference input '{name[:60]}' for model '{meta.name}'; it takes {', '.join(wanted)}",
                field=f"inputs.{name[:60]}",
                limit=", ".join(wanted),
            )
    if not meta.required <= given.keys():
        missing = sorted(meta.required - given.keys())
        raise InvalidRequest(
            f"expected {len(meta.inputs)} inputs but got {len(asked.inputs)} inputs for model '{meta.name}'. "
            f"Got input(s) {sorted(asked.inputs)}, but missing required input(s) {missing}. Please provide all required "
            "input(s).",
            field=f"inputs.{missing[0]}",
            limit="required",
        )
    rows: int | None = None
    for name, array in given.items():
        want = wanted[name]
        datatype = datatype_of(array.dtype)
        if datatype != want.datatype:
            raise InvalidRequest(
                f"inference input '{name}' data-type is '{datatype}', but model '{meta.name}' expects '{want.datatype}'",
                field=f"inputs.{name}.datatype",
                limit=want.datatype,
            )
        shape = array.shape
        if not _fits(shape, want.shape):
            raise InvalidRequest(
                f"unexpected shape for input '{name}' for model '{meta.name}'. Expected {list(want.shape)}, got {list(shape)}",
                field=f"inputs.{name}.shape",
                limit=str(list(want.shape)),
            )
        if meta.max_batch:
            if rows is not None and shape[0] != rows:
                raise InvalidRequest(
                    f"input '{name}' batch size does not match other inputs for '{meta.name}': {shape[0]} and {rows}",
                    field=f"inputs.{name}.shape",
                    limit=f"{rows} rows",
                )
            rows = shape[0]
    if meta.max_batch and rows is not None and not 1 <= rows <= meta.max_batch:
        raise InvalidRequest(
            f"inference request batch-size must be <= {meta.max_batch} for '{meta.name}', and at least 1; it is {rows}",
            field="inputs",
            limit=f"1 .. {meta.max_batch} rows",
        )
    return 1 if rows is None else rows


def _fits(have: tuple[int, ...], need: tuple[int, ...]) -> bool:
    if len(have) != len(need):
        return False
    for size, wanted in zip(have, need, strict=True):  # noqa: SIM110 - twice as fast as a generator
        if wanted not in (-1, size):
            return False
    return True


def outputs_asked(meta: ModelMeta, asked: Asked) -> Sequence[OutputAsked]:
    """What goes back, in order.

    Raises:
        InvalidRequest: the model has no such output.
    """
    if not asked.outputs:
        return [OutputAsked(one.name, asked.binary) for one in meta.outputs]
    there = [one.name for one in meta.outputs]
    for one in asked.outputs:
        if one.name not in there:
            raise InvalidRequest(
                f"unexpected inference output '{one.name[:60]}' for model '{meta.name}'; it gives {', '.join(there)}",
                field=f"outputs.{one.name[:60]}",
                limit=", ".join(there),
            )
    return asked.outputs


class Models:
    """The models that are served, by name.

    Attributes:
        control: whether callers may have versions looked for, and take a model out of the protocol.
    """

    def __init__(self, telemetry: NullTelemetry, *, control: bool = False) -> None:
        self._telemetry = telemetry
        self._models: dict[str, ServedModel] = {}
        self._unloaded: set[str] = set()
        self.control = control

    def rejected(self, reason: str) -> None:
        """Count a request that was refused before it was anybody's."""
        self._telemetry.rejected(reason)

    def add(self, model: ServedModel) -> None:
        """Serve this one too."""
        self._models[model.name] = model

    def all(self) -> Sequence[ServedModel]:
        """All, unloaded ones included."""
        return tuple(self._models.values())

    def find(self, name: str, version: str = "") -> ServedModel:
        """The model that serves under this name and version (empty: whichever serves).

        Raises:
            NotFound: there is none.
        """
        model = self._models.get(name)
        if model is None or name in self._unloaded:
            raise NotFound(f"Request for unknown model: '{name[:100]}' is not found", field="model_name")
        if version and version != model.meta().version:
            raise NotFound(
                f"Request for unknown model: '{name}' version {version[:20]} is not at available version; "
                f"version {model.meta().version} is",
                field="model_version",
            )
        return model

    def state(self, model: ServedModel) -> tuple[str, str]:
        """As the repository index says it: READY or UNAVAILABLE, and why."""
        if model.name in self._unloaded:
            return "UNAVAILABLE", "unloaded"
        ready, why = model.ready()
        return ("READY", "") if ready else ("UNAVAILABLE", why)

    async def load(self, name: str) -> None:
        """Offer the model again, and take up its published version.

        Raises:
            NotAllowed: callers may not.
            NotFound: there is no such model here.
        """
        model = self._controlled(name, "load")
        await model.look()
        self._unloaded.discard(name)

    def unload(self, name: str) -> None:
        """Offer the model no more by this protocol; its product's own endpoints go on. Raises what ``load`` does."""
        self._unloaded.add(self._controlled(name, "unload").name)

    def _controlled(self, name: str, doing: str) -> ServedModel:
        if not self.control:
            raise NotAllowed(
                f"explicit model load / unload is not allowed; to {doing} models by requests, start the server with "
                "VITRINE_KSERVE_CONTROL=true",
                field="model_name",
            )
        model = self._models.get(name)
        if model is None:
            raise NotFound(
                f"failed to {doing} '{name[:100]}', no such model is served here", field="model_name"
            )
        return model


def remaining_ok(deadline_s: float | None) -> float | None:
    """A deadline that can be worked towards: none becomes the default, what has passed becomes a moment."""
    if deadline_s is None or not math.isfinite(deadline_s):
        return None
    return max(deadline_s, 1e-6)


def no_shared_memory(region: object) -> NotFound:
    """What is told to who names a region: nobody can have registered one."""
    return NotFound(
        f"Unable to find shared memory region: '{str(region)[:60]}'; this server shares no memory, send the data",
        field="shared_memory_region",
    )
