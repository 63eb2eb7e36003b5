"""The encoder's line as types: ``EncoderLoaded -> Headed -> EncoderPackaged -> EncoderVerified -> published``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from build_engines.compression.records import CompressRecord
from build_engines.encoder.records import EncoderLoadRecord, EncoderVerifyRecord, HeadRecord, PackagesRecord
from build_engines.fingerprint import digest_of
from build_engines.states import Output
from server.artifacts.manifest import Kind
from server.artifacts.repository import OpenedVersion

CHECKPOINT, CANDIDATE, PARENT = "checkpoint", "candidate", "parent"  # folders, and names in figures
REQUIRED_EVIDENCE: tuple[Kind, ...] = ("parity",)
REQUIRED_OF_COMPRESSED: tuple[Kind, ...] = ("parity", "quality", "speed", "size")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderLoaded:
    """A checkpoint that was looked at, and texts as tokens.

    Attributes:
        output: of the load stage, or of the last step of compression.
        record: of the load stage.
        before: the state before the last step of compression; None: there was none.
        step: what that step did.
    """

    output: Output
    record: EncoderLoadRecord
    before: EncoderLoaded | None = None
    step: CompressRecord | None = None

    @property
    def uncompressed(self) -> EncoderLoaded:
        """As it was loaded; its folder has the texts."""
        return self if self.before is None else self.before.uncompressed

    @property
    def line(self) -> tuple[EncoderLoaded, ...]:
        """As it was loaded, and behind each step."""
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
class Headed:
    """A checkpoint to package, and the intent head that goes on it, if any.

    Attributes:
        loaded: the state before.
        output: of the intents' stage.
        record: of it.
        whole: the uncompressed encoder with a head of its own, which this one is judged against; None: nothing was
            compressed before this stage.
    """

    loaded: EncoderLoaded
    output: Output
    record: HeadRecord
    whole: Headed | None = None

    @property
    def content(self) -> str:
        """Digest of the files, and of those of the uncompressed encoder."""
        return (
            self.output.content
            if self.whole is None
            else digest_of([self.output.content, self.whole.content])
        )

    @property
    def uncompressed(self) -> Headed:
        """What this one is judged against."""
        return self if self.whole is None else self.whole

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
