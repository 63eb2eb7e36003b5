"""A re-ranker's line as types: ``Loaded -> Candidates -> RerankTrained -> OwnQuantized -> OwnCompiled -> RerankVerified``."""

from __future__ import annotations

from dataclasses import dataclass

from build_engines.own_model.records import SourceGraph
from build_engines.own_model.states import (
    REQUIRED_EVIDENCE,
    REQUIRED_OF_COMPRESSED,
    OwnCompiled,
    check_evidence,
)
from build_engines.rerank.records import CandidatesRecord, RerankTrainRecord, RerankVerifyRecord
from build_engines.states import Loaded, Output
from server.artifacts.repository import OpenedVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What the first stage recommends in every case."""

    loaded: Loaded
    output: Output
    record: CandidatesRecord

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content

    @property
    def notes(self) -> tuple[str, ...]:
        """What its stage has to say."""
        return self.record.notes


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankTrained:
    """A trained network as a graph; a ``GraphState``."""

    candidates: Candidates
    output: Output
    record: RerankTrainRecord

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
class RerankVerified:
    """An engine together with the evidence that it may be served, its lead over the first stage among it.

    Raises:
        ValueError: evidence is missing or does not hold; names it.
    """

    compiled: OwnCompiled
    output: Output
    record: RerankVerifyRecord

    def __post_init__(self) -> None:
        """Be the gate."""
        compressed = self.compiled.quantized.compressed
        needed = REQUIRED_OF_COMPRESSED if compressed else REQUIRED_EVIDENCE
        check_evidence(self.record.engine.evidence, (*needed, "floor"))

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content

    @property
    def notes(self) -> tuple[str, ...]:
        """What its stage has to say."""
        return self.record.notes

    @property
    def trained(self) -> RerankTrained:
        """What was compressed."""
        source = self.compiled.quantized.source
        assert isinstance(source, RerankTrained), "this line's own source"
        return source


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankPublished:
    """A version in the repository; see ``build_engines.states.Published``."""

    verified: RerankVerified
    opened: OpenedVersion
    new: bool
    current: bool
