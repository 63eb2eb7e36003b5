"""The line of somebody's own model as types: ``OwnLoaded -> OwnQuantized -> OwnCompiled -> OwnVerified -> published``.

A graph may also come from a line of its own (a re-ranker that the builder trained): ``GraphState`` is all that the stages behind
it need to know.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from build_engines.own_model.records import (
    OwnCompileRecord,
    OwnLoadRecord,
    OwnQuantizeRecord,
    OwnVerifyRecord,
    SourceGraph,
)
from build_engines.states import Output
from server.artifacts.manifest import Kind, Measurement
from server.artifacts.repository import OpenedVersion

CANDIDATE, PARENT = "candidate", "parent"  # folders, and names in figures
GRAPH_FILE, CANDIDATE_FILE = "model.onnx", "candidate.onnx"
CALIBRATION_FILE, GATE_FILE, REFERENCE_FILE = "calibration.npz", "gate.npz", "reference.npz"
REQUIRED_EVIDENCE: tuple[Kind, ...] = ("parity",)
REQUIRED_OF_COMPRESSED: tuple[Kind, ...] = ("parity", "quality", "speed", "size")


class GraphState(Protocol):
    """A state that brings a graph: ``GRAPH_FILE`` and the three arrays' files in its folder."""

    @property
    def output(self) -> Output:
        """What its stage left."""
        ...

    @property
    def content(self) -> str:
        """Digest of the files."""
        ...

    @property
    def graph(self) -> SourceGraph:
        """What the graph is."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What its stage has to say."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLoaded:
    """A model that was read and checked, and rows for it."""

    output: Output
    record: OwnLoadRecord

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content

    @property
    def graph(self) -> SourceGraph:
        """What the graph is."""
        return self.record.graph

    @property
    def notes(self) -> tuple[str, ...]:
        """What its stage has to say."""
        return self.record.notes


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnQuantized:
    """The graph in the precision that serves."""

    source: GraphState
    output: Output
    record: OwnQuantizeRecord

    @property
    def notes(self) -> tuple[str, ...]:
        """What its stage has to say."""
        return self.record.notes

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content

    @property
    def compressed(self) -> bool:
        """Whether there is a parent to be compared with."""
        return self.record.precision != "fp32"

    @property
    def graph_file(self) -> Path:
        """The candidate's source graph."""
        source = self.source.output.folder / GRAPH_FILE
        return self.output.folder / CANDIDATE_FILE if self.compressed else source


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCompiled:
    """Engines: the candidate's and its parent's."""

    quantized: OwnQuantized
    output: Output
    record: OwnCompileRecord

    @property
    def notes(self) -> tuple[str, ...]:
        """What its stage has to say."""
        return self.record.notes

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content


def check_evidence(
    evidence: Sequence[Measurement], needed: Collection[Kind], flags: Collection[str] = ()
) -> None:
    """Be the gate.

    Raises:
        ValueError: evidence is missing or does not hold; names it.
    """
    present = {item.kind for item in evidence}
    missing = [kind for kind in needed if kind not in present]
    if missing:
        raise ValueError(f"no evidence of {', '.join(missing)}: it was not measured")
    for item in evidence:
        if not item.holds(flags):
            raise ValueError(f"evidence does not hold: {item.sentence()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnVerified:
    """An engine together with the evidence that it may be served.

    Raises:
        ValueError: evidence is missing or does not hold; names it.
    """

    compiled: OwnCompiled
    output: Output
    record: OwnVerifyRecord

    @property
    def notes(self) -> tuple[str, ...]:
        """What its stage has to say."""
        return self.record.notes

    def __post_init__(self) -> None:
        """Be the gate."""
        compressed = self.compiled.quantized.compressed
        check_evidence(self.record.evidence, REQUIRED_OF_COMPRESSED if compressed else REQUIRED_EVIDENCE)

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPublished:
    """A version in the repository; see ``build_engines.states.Published``."""

    verified: OwnVerified
    opened: OpenedVersion
    new: bool
    current: bool
