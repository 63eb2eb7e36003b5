"""The encoder's line as types: ``EncoderLoaded -> Headed -> EncoderPackaged -> EncoderVerified -> published``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from build_engines.encoder.records import EncoderLoadRecord, EncoderVerifyRecord, HeadRecord, PackagesRecord
from build_engines.states import Output
from server.artifacts.manifest import Kind
from server.artifacts.repository import OpenedVersion

CHECKPOINT, CANDIDATE, PARENT = "checkpoint", "candidate", "parent"  # folders, and names in figures
REQUIRED_EVIDENCE: tuple[Kind, ...] = ("parity",)
REQUIRED_OF_COMPRESSED: tuple[Kind, ...] = ("parity", "quality", "speed")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderLoaded:
    """A checkpoint that was looked at, and texts as tokens."""

    output: Output
    record: EncoderLoadRecord

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content

    @property
    def checkpoint(self) -> Path:
        """The folder."""
        return Path(self.record.checkpoint) if self.record.checkpoint else self.output.folder / CHECKPOINT


@dataclass(frozen=True, slots=True, kw_only=True)
class Headed:
    """A checkpoint to package, and the intent head that goes on it, if any."""

    loaded: EncoderLoaded
    output: Output
    record: HeadRecord

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content

    @property
    def checkpoint(self) -> Path:
        """The folder: tuned together with the head, or as it was loaded."""
        tuned = self.record.intents is not None and self.record.intents.method == "full"
        return self.output.folder / CHECKPOINT if tuned else self.loaded.checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderPackaged:
    """Engines: the candidate's and its parent's."""

    headed: Headed
    output: Output
    record: PackagesRecord

    @property
    def content(self) -> str:
        """Digest of the files."""
        return self.output.content

    @property
    def compressed(self) -> bool:
        """Whether there is a parent to be compared with."""
        return self.record.parent is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderVerified:
    """An engine together with the evidence that it may be served.

    Raises:
        ValueError: evidence is missing or does not hold; names it.
    """

    packaged: EncoderPackaged
    output: Output
    record: EncoderVerifyRecord

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
class EncoderPublished:
    """A version in the repository; see ``build_engines.states.Published``."""

    verified: EncoderVerified
    opened: OpenedVersion
    new: bool
    current: bool
