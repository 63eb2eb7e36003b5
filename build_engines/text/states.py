"""The text line as types: ``TextLoaded -> Tuned -> Packaged -> TextVerified -> published``; see ``build_engines.states``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from build_engines.states import Output
from build_engines.text.records import FinetuneRecord, PackageRecord, TextLoadRecord, TextVerifyRecord
from server.artifacts.manifest import Kind
from server.artifacts.repository import OpenedVersion

CANDIDATE, PARENT = "candidate", "parent"  # folders of ``package``, and names in figures
REQUIRED_EVIDENCE: tuple[Kind, ...] = ("parity", "floor")
REQUIRED_OF_COMPRESSED: tuple[Kind, ...] = ("quality", "speed", "parity", "floor")


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
    """A checkpoint to package, fine-tuned or as it came."""

    loaded: TextLoaded
    output: Output
    record: FinetuneRecord

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content

    @property
    def checkpoint(self) -> Path:
        """The folder."""
        return Path(self.record.checkpoint) if self.record.checkpoint else self.output.folder / "checkpoint"


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
