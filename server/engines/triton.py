"""A compiled model on a fleet of Triton servers: the same arrays, sent elsewhere.

The server's batches, deadlines and admission stay in front of it; what a run costs, network included, is measured when a
version is loaded as for any other engine. ``TritonFleet`` knows the hosts.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from server.engines.base import Arrays, TensorSpec, waiting_now
from server.engines.triton_fleet import TritonFleet


class TritonEngine:
    """One model and version there; several threads may be inside ``run``, which is how several hosts are busy at once.

    Args:
        fleet: who is asked.
        model: name in the fleet's repository.
        version: of it; no other one answers.
        inputs: what changes from run to run.
        outputs: what ``run`` returns.
        wait_s: how long a host may take to have it ready.

    Raises:
        NotReady: no host has it within ``wait_s``.
    """

    kind = "triton"

    def __init__(
        self,
        fleet: TritonFleet,
        model: str,
        version: str,
        *,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        wait_s: float,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._fleet = fleet
        self._model = (model, version)
        self._names = [spec.name for spec in outputs]
        self._closed = False
        fleet.want(self._model, wait_s)

    def bind(self, constants: Arrays) -> None:
        """Nothing: the fleet's graphs bring their own tables."""

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run one batch there; see ``Engine.run``, and ``TritonFleet.infer`` for what it raises beside."""
        if self._closed:
            raise RuntimeError(f"{self._model[0]}: closed")
        symbols: dict[str, int] = {}
        sent: dict[str, npt.NDArray[Any]] = {}
        for spec in self.inputs:
            array = inputs.get(spec.name)
            if array is None:
                raise ValueError(f"{spec.name}: missing, got {sorted(inputs)}")
            spec.check(array, symbols)
            sent[spec.name] = array
        answer = self._fleet.infer(self._model, sent, self._names, waiting_now())
        for spec in self.outputs:
            spec.check(answer[spec.name], symbols)
        return answer

    def close(self) -> None:
        """Ask for it no more."""
        self._closed = True
        self._fleet.forget(self._model)
