"""What the builder tells a person when it cannot go on, and the exit code of each.

    BuildError            exit 1    what could not be done, and what to do
    ├── RecipeError       exit 2    a recipe or ``--set`` is wrong; names file, section and key
    ├── GateRefused       exit 4    the candidate was measured and must not be served; holds the figures
    ├── WorkspaceError    exit 5    disk full, locked, or not writable
    └── TargetError       exit 6    a compile target cannot be built on this machine

Data errors (``build_engines.data.errors.DataError``, exit 3) and the repository's ``ArtifactError`` (exit 5)
keep their own types; ``__main__`` knows the whole table.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from server.artifacts.manifest import Measurement


class BuildError(Exception):
    """The build cannot go on; the message says what to do."""

    exit_code = 1


class RecipeError(BuildError):
    """A recipe, or a ``--set``, is wrong."""

    exit_code = 2


_ADVICE = (
    'Publish the uncompressed parent instead (gate.on_refused = "publish_parent", or quantize.precision = '
    '"fp32"), give more users to decide by, or move a limit in [gate] on purpose (a shop with too few users '
    "to prove itself against the transition counts: gate.allow_below_floor = true)."
)


class GateRefused(BuildError):
    """The finished engine did not prove itself.

    Attributes:
        evidence: everything that was measured.
        failed: what keeps it from being published: failed, undecidable, or without a number; a waived one only where
            its flag could not waive it.
    """

    exit_code = 4

    def __init__(
        self,
        model: str,
        evidence: Sequence[Measurement],
        flags: Collection[str] = (),
        *,
        advice: str = _ADVICE,
    ) -> None:
        failed = [item for item in evidence if not item.holds(flags)]
        lines = "".join(f"\n  - {item.sentence()}" for item in failed)
        count = (
            f"{len(failed)} of {len(evidence)} measurements {'does' if len(failed) == 1 else 'do'} not hold"
        )
        super().__init__(f"{model}: not published, {count}:{lines}\n{advice}")
        self.evidence = tuple(evidence)
        self.failed = tuple(failed)


class WorkspaceError(BuildError):
    """The workspace cannot be used."""

    exit_code = 5


class TargetError(BuildError):
    """A compile target cannot be built here; says which package or device is missing."""

    exit_code = 6
