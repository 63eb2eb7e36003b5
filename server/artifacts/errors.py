"""What is wrong with a published version or with the repository, told to an operator in one sentence.

These are not ``ServeError``: no caller of the server ever sees one. The server refuses the version and keeps
the one it has; the builder prints the sentence and exits.

    ArtifactError           a version, a file of it, or the repository cannot be used
    ├── NewerSchema         written by a newer builder than this code
    ├── CorruptFile         missing, truncated, or other bytes than the manifest promises
    ├── UntrustedVersion    not signed by a key that is trusted here
    └── RepositoryBusy      another builder holds the model's lock
"""

from __future__ import annotations

from pathlib import Path


class ArtifactError(Exception):
    """A version or the repository cannot be used; the message says which file and what to do."""


class NewerSchema(ArtifactError):
    """The manifest was written by a newer builder."""

    def __init__(self, where: Path | str, found: int, known: int) -> None:
        super().__init__(
            f"{where}: manifest schema {found} is newer than {known}, the newest this code reads; "
            "upgrade vitrine here, or publish again with the builder of this version"
        )
        self.found = found
        self.known = known


class CorruptFile(ArtifactError):
    """A file is not what the manifest promises."""

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"{path}: {problem}; publish the version again, or roll back to another one")
        self.path = Path(path)


class UntrustedVersion(ArtifactError):
    """Keys are configured, and none of them signed this version as it is."""

    def __init__(self, folder: Path | str, problem: str) -> None:
        super().__init__(
            f"{folder}: {problem}; sign it where the key is (python -m build_engines sign MODEL --key FILE), or roll back to a "
            "version that is signed"
        )
        self.folder = Path(folder)


class RepositoryBusy(ArtifactError):
    """Another builder is publishing or rolling back the same model."""

    def __init__(self, lock: Path | str, holder: str, waited_s: float) -> None:
        super().__init__(
            f"{lock}: held by {holder or 'another process'} after waiting {waited_s:.3g} s; "
            "let it finish and run this again"
        )
        self.holder = holder
