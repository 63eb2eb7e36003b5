"""The text line as types: ``TextLoaded -> Tuned -> Packaged -> TextVerified -> published``; see ``build_engines.states``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from build_engines.compression.records import CompressRecord
from build_engines.states import Output
from build_engines.text.records import FinetuneRecord, PackageRecord, TextLoadRecord, TextVerifyRecord
from server.artifacts.manifest import Kind
from server.artifacts.repository import OpenedVersion

CANDIDATE, PARENT = "candidate", "parent"  # folders of ``package``, and names in figures
CHECKPOINT = "checkpoint"  # folder of ``finetune`` and of steps of compression
REQUIRED_EVIDENCE: tuple[Kind, ...] = ("parity", "floor")
REQUIRED_OF_COMPRESSED: tuple[Kind, ...] = ("quality", "speed", "size", "parity", "floor")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLoaded:
    """A checkpoint that was looked at, and pairs as tokens."""

    output: Output
    record: TextLoadRecord

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """A checkpoint to package, fine-tuned or as it came.

    Attributes:
        loaded: the state before.
        output: of fine-tuning, or of the last step of compression.
        record: of fine-tuning.
        before: the state before the last step of compression; None: there was none.
        step: what that step did.
    """

    loaded: TextLoaded
    output: Output
    record: FinetuneRecord
    before: Tuned | None = None
    step: CompressRecord | None = None

    @property
    def uncompressed(self) -> Tuned:
        """As it was tuned, or came."""
        return self if self.before is None else self.before.uncompressed

    @property
    def line(self) -> tuple[Tuned, ...]:
        """As it was tuned, and behind each step."""
        return (self,) if self.before is None else (*self.before.line, self)

    @property
    def chain(self) -> tuple[CompressRecord, ...]:
        """What each step did."""
        return tuple(one.step for one in self.line if one.step is not None)

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content

    @property
    def checkpoint(self) -> Path:
        """The folder."""
        kept = self.record.checkpoint and self.before is None
        return Path(self.record.checkpoint) if kept else self.output.folder / CHECKPOINT


@dataclass(frozen=True, slots=True, kw_only=True)
class Packaged:
    """Engines: the candidate's and its parent's."""

    tuned: Tuned
    output: Output
    record: PackageRecord

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content

    @property
    def compressed(self) -> bool:
        """Whether there is a parent to be compared with."""
        return self.record.parent is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextVerified:
    """An engine together with the evidence that it may be served.

    Raises:
        ValueError: evidence is missing or does not hold; names it.
    """

    packaged: Packaged
    output: Output
    record: TextVerifyRecord

    def __post_init__(self) -> None:
        """Be the gate."""
        needed = REQUIRED_OF_COMPRESSED if self.packaged.compressed else REQUIRED_EVIDENCE
        present = {item.kind for item in self.record.evidence}
        missing = [kind for kind in needed if kind not in present]
        if missing:
            raise ValueError(f"no evidence of {', '.join(missing)}: it was not measured")
        for item in self.record.evidence:
            if not item.passed:
                raise ValueError(f"evidence does not hold: {item.sentence()}")

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPublished:
    """A version in the repository; see ``build_engines.states.Published``."""

    verified: TextVerified
    opened: OpenedVersion
    new: bool
    current: bool
