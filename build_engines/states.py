"""The builder's line as types: a stage takes one state and returns the next.

    Loaded -> Trained -> Quantized -> Exported -> Compiled -> Verified -> Published

The gate cannot be skipped, because nothing else returns what ``publish`` takes. A state is small: what a
stage left on disk (``Output``), a record that says what it is, and the state before it. The arrays stay in
files and are read by whoever needs them. ``Verified`` is the gate: with missing, failed or NaN evidence it
cannot be constructed, and ``publish`` takes nothing else.

A step of compression (distil, prune, share) returns the state that it took (``Trained`` for a tuned or pruned one), so
that any chain of them fits; ``Trained.uncompressed`` is what the candidate is judged against.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from build_engines.compression.records import CompressRecord
from build_engines.records import (
    CompileRecord,
    ExportRecord,
    LoadRecord,
    QuantizeRecord,
    TrainRecord,
    VerifyRecord,
)
from server.artifacts.manifest import Kind
from server.artifacts.repository import OpenedVersion

# What must have been measured before anything is published; a compressed candidate must prove more.
REQUIRED_EVIDENCE: tuple[Kind, ...] = ("parity", "floor")
REQUIRED_OF_COMPRESSED: tuple[Kind, ...] = ("quality", "speed", "size", "parity", "floor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What one stage left in the workspace.

    Attributes:
        stage: its name.
        key: digest of everything that the result depends on.
        content: digest of the files; what the next stage depends on.
        folder: where they are; read only.
        seconds: how long the stage took when it ran.
        reused: True when it was there already.
    """

    stage: str
    key: str
    content: str
    folder: Path
    seconds: float
    reused: bool


class State(Protocol):
    """Anything that a stage can start from."""

    @property
    def content(self) -> str:
        """Digest of what it is."""
        ...


@dataclass(frozen=True, slots=True)
class Start:
    """Nothing yet."""

    @property
    def content(self) -> str:
        """The digest of nothing."""
        return "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Interactions and a catalogue in one row space."""

    output: Output
    record: LoadRecord

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Weights, transition counts and popularity, and how they are mixed.

    Attributes:
        loaded: the state before training.
        output: of ``train``, or of the last step of compression.
        record: of training, with the sizes that the network has now.
        before: the state before the last step of compression; None: there was none.
        step: what that step did.
    """

    loaded: Loaded
    output: Output
    record: TrainRecord
    before: Trained | None = None
    step: CompressRecord | None = None

    @property
    def uncompressed(self) -> Trained:
        """As it was trained."""
        return self if self.before is None else self.before.uncompressed

    @property
    def line(self) -> tuple[Trained, ...]:
        """As it was trained, and behind each step."""
        return (self,) if self.before is None else (*self.before.line, self)

    @property
    def chain(self) -> tuple[CompressRecord, ...]:
        """What each step did."""
        return tuple(one.step for one in self.line if one.step is not None)

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """Tables and scales in the precision that serves; the FP32 parent is ``trained``."""

    trained: Trained
    output: Output
    record: QuantizeRecord

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """ONNX graphs: the candidate's and its parent's."""

    quantized: Quantized
    output: Output
    record: ExportRecord

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """Engines for every target."""

    exported: Exported
    output: Output
    record: CompileRecord

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content

    @property
    def compressed(self) -> bool:
        """Whether there is a parent to be compared with."""
        return bool(self.record.parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A compiled engine together with the evidence that it may be served.

    Raises:
        ValueError: evidence is missing, or does not hold and is not waived by a flag; names it.
    """

    compiled: Compiled
    output: Output
    record: VerifyRecord

    def __post_init__(self) -> None:
        """Be the gate."""
        needed = REQUIRED_OF_COMPRESSED if self.compiled.compressed else REQUIRED_EVIDENCE
        present = {item.kind for item in self.record.evidence}
        missing = [kind for kind in needed if kind not in present]
        if missing:
            raise ValueError(f"no evidence of {', '.join(missing)}: it was not measured")
        for item in self.record.evidence:
            if not item.holds(self.record.flags):
                raise ValueError(f"evidence does not hold: {item.sentence()}")

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A version in the repository.

    Attributes:
        verified: what was published.
        opened: the version as it lies on disk.
        new: False when this build was in the repository already.
        current: whether it is the version that serves.
    """

    verified: Verified
    opened: OpenedVersion
    new: bool
    current: bool
