"""Find, verify and open what the builder published; this half only ever reads.

A version is trusted by its bytes: every file is held against the size and SHA-256 in its manifest before an
engine sees it. ``CURRENT`` is the only pointer; it is replaced by a rename, so that one read of it is always
a whole answer and the server may poll it.

Layout: ``<repository>/<model>/CURRENT`` and ``<repository>/<model>/<version>/{manifest.json, ...}``. Names
that begin with a dot (``.lock``, ``.staging-*``) belong to ``releases.py``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from server.artifacts.errors import ArtifactError, CorruptFile
from server.artifacts.manifest import MANIFEST_FILE, Constant, FileEntry, Manifest
from server.artifacts.schema import check_model_name, decode_manifest
from server.artifacts.signatures import SIGNATURE_FILE, TrustedKeys

CURRENT_FILE = "CURRENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedVersion:
    """A version that was read and, unless told otherwise, verified.

    Attributes:
        manifest: what it is.
        folder: where its files are.
    """

    manifest: Manifest
    folder: Path

    def path(self, name: str) -> Path:
        """Where a file of the version is (``name`` as the manifest lists it).

        Raises:
            CorruptFile: the manifest does not list it, so its bytes are nobody's.
        """
        if name != MANIFEST_FILE and all(entry.path != name for entry in self.manifest.files):
            raise CorruptFile(self.folder / name, "is not listed in the manifest")
        return self.folder / name

    def constants(self, *, mmap: bool = True) -> dict[str, npt.NDArray[Any]]:
        """Every table by tensor name, mapped from disk (read-only) or read into memory.

        Raises:
            CorruptFile: a table is not an array, or has another dtype or shape than the manifest says.
        """
        return {item.tensor: _table(self.path(item.file), item, mmap) for item in self.manifest.constants}


def model_names(repository: Path) -> list[str]:
    """Models with at least one version, by name; empty when the folder is not there."""
    if not repository.is_dir():
        return []
    folders = [entry for entry in repository.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    return sorted(folder.name for folder in folders if versions(repository, folder.name))


def versions(repository: Path, model: str) -> list[str]:
    """Published versions of a model, oldest first."""
    folder = repository / model
    if not folder.is_dir():
        return []
    numbers = [
        int(entry.name)
        for entry in folder.iterdir()
        if entry.name.isascii() and entry.name.isdecimal() and (entry / MANIFEST_FILE).is_file()
    ]
    return [str(number) for number in sorted(numbers)]


def current_version(repository: Path, model: str) -> str:
    """The version that serves; one small read, cheap enough to poll.

    Raises:
        ArtifactError: no such model, or nothing of it is current; says what there is.
    """
    check_model_name(model)
    path = repository / model / CURRENT_FILE
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        raise ArtifactError(_nothing_current(repository, model)) from None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if not text.isascii() or not text.isdecimal():
        found = ", ".join(versions(repository, model)) or "none"
        raise ArtifactError(
            f"{path}: holds {text[:40]!r} instead of a version number (there are: {found}); "
            f"repair it with `python -m build_engines rollback {model} --to N`"
        )
    return text


def open_current(
    repository: Path, model: str, *, verify: bool = True, trusted: TrustedKeys | None = None
) -> OpenedVersion:
    """Open the version that serves.

    Raises:
        ArtifactError: nothing is current, or the version cannot be used.
    """
    return open_version(
        repository / model / current_version(repository, model), verify=verify, trusted=trusted
    )


def open_version(path: Path, verify: bool = True, *, trusted: TrustedKeys | None = None) -> OpenedVersion:
    """Read a version's manifest and hold its files against it.

    Args:
        path: the version's folder.
        verify: hash every file (about 1 ms a megabyte); False checks only that each is there with its size.
        trusted: whose versions are believed; None: anybody's.

    Raises:
        UntrustedVersion: its manifest is not signed by one of the keys.
        NewerSchema: written by a newer builder.
        CorruptFile: a file is missing, cut short or has other bytes; names it.
        ArtifactError: no such version, or the manifest does not hold together.
    """
    data = _manifest_bytes(path)
    if trusted is not None:
        trusted.check(path, data)  # these very bytes are read below: nothing can change in between
    manifest = decode_manifest(data, path / MANIFEST_FILE)
    if path.name.isdecimal() and (manifest.version, manifest.model) != (path.name, path.parent.name):
        raise ArtifactError(
            f"{path}: its manifest is of {manifest.model} version {manifest.version}; "
            "a version's folder must not be copied or renamed: publish it instead"
        )
    for entry in manifest.files:
        _check_file(path / entry.path, entry, verify)
    return OpenedVersion(manifest=manifest, folder=path)


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a version's folder without looking at its other files.

    Raises:
        ArtifactError: no such version, or its manifest cannot be used.
    """
    return decode_manifest(_manifest_bytes(path), path / MANIFEST_FILE)


def _manifest_bytes(path: Path) -> bytes:
    file = path / MANIFEST_FILE
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"{path}: not a published version ({MANIFEST_FILE} is missing)") from None
    except OSError as error:
        raise ArtifactError(f"{file}: cannot be read ({error.strerror})") from error


def describe_file(folder: Path, name: str) -> FileEntry:
    """The manifest entry of a file on disk (``name`` relative to ``folder``, with forward slashes)."""
    path = folder / name
    return FileEntry(path=name, sha256=file_sha256(path), size_bytes=path.stat().st_size)


def describe_folder(folder: Path) -> tuple[FileEntry, ...]:
    """Entries of every file below ``folder`` but the manifest and its signature, by path."""
    names = sorted(item.relative_to(folder).as_posix() for item in folder.rglob("*") if item.is_file())
    return tuple(describe_file(folder, name) for name in names if name not in (MANIFEST_FILE, SIGNATURE_FILE))


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_file(path: Path, entry: FileEntry, verify: bool) -> None:
    try:
        size = path.stat().st_size
        if size != entry.size_bytes:
            raise CorruptFile(path, f"has {size} bytes, its manifest says {entry.size_bytes}")
        if verify and file_sha256(path) != entry.sha256:
            raise CorruptFile(path, "has other bytes than its manifest says (SHA-256 differs)")
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptFile(path, "is missing") from None
    except OSError as error:
        raise CorruptFile(path, f"cannot be read ({error.strerror})") from error


def _table(path: Path, item: Constant, mmap: bool) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise CorruptFile(path, f"is not an array ({error})") from error
    if array.dtype != np.dtype(item.dtype) or array.shape != item.shape:
        raise CorruptFile(
            path, f"is {array.dtype} {array.shape}, the manifest says {item.dtype} {item.shape}"
        )
    return array


def _nothing_current(repository: Path, model: str) -> str:
    known = model_names(repository)
    if model not in known:
        found = ", ".join(known) or "none"
        build = "build one with `python -m build_engines run RECIPE`"
        return f"{repository}: no model {model!r} (there are: {found}); {build}"
    return (
        f"{repository / model}: versions {', '.join(versions(repository, model))}, but none is current; "
        f"choose one with `python -m build_engines rollback {model} --to N`"
    )
