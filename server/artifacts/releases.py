"""Publish a version, roll back, drop old ones: the half of the repository that writes.

A version is copied aside (``.staging-<id>``), verified as copied, synced, and renamed into place; only then
does ``CURRENT`` change, itself by a rename. Whatever moment the process or the machine dies at, a reader
finds the old version or the new one, each whole. A number is never given twice: it is taken under the model's
lock, above all there are.

Units: seconds.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from server.artifacts.disk import DISK, Disk, is_full, read_chunks, replace, write_new
from server.artifacts.errors import ArtifactError, CorruptFile
from server.artifacts.lock import exclusive
from server.artifacts.manifest import MANIFEST_FILE, Manifest
from server.artifacts.repository import (
    CURRENT_FILE,
    OpenedVersion,
    current_version,
    open_version,
    read_manifest,
    versions,
)
from server.artifacts.schema import check_model_name, encode_manifest
from server.artifacts.signatures import SIGNATURE_FILE
from server.artifacts.triton_folder import write_triton_config

LOCK_FILE = ".lock"
STAGING_PREFIX = ".staging-"

Check = Callable[[OpenedVersion], None]
Sign = Callable[[bytes], bytes]


def _no_check(opened: OpenedVersion) -> None:
    del opened


@dataclass(frozen=True, slots=True, kw_only=True)
class Releases:
    """One repository, for writing.

    Attributes:
        repository: its folder; made when missing.
        keep: versions to keep of each model, the newest ones and always the current one (>= 1).
        lock_wait_s: how long to wait for another builder (>= 0; 0 refuses at once).
        disk: the system calls; a test's own disk may fail.
        now_unix_s: wall clock for ``created_unix_s``.
        sign: makes ``manifest.sig`` of a manifest's bytes; None: versions are not signed.

    Raises:
        ValueError: a limit is out of range.
    """

    repository: Path
    keep: int = 5
    lock_wait_s: float = 60.0
    disk: Disk = DISK
    now_unix_s: Callable[[], float] = field(default=time.time)
    sign: Sign | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.keep < 1:
            raise ValueError(f"keep is {self.keep}, must be at least 1")
        if not self.lock_wait_s >= 0:
            raise ValueError(f"lock_wait_s is {self.lock_wait_s}, must be at least 0")

    def publish(
        self, staging: Path, model: str, *, check: Check = _no_check, activate: bool = True
    ) -> OpenedVersion:
        """Copy a finished version into the repository and make it current.

        Args:
            staging: folder with every file and ``manifest.json``; version number and time are set here.
            model: the model's name; must be the manifest's.
            check: called with the copy, before it gets its name; raises to refuse it (the golden replay).
            activate: make it current; False leaves ``CURRENT`` as it is.

        Returns:
            The published version.

        Raises:
            RepositoryBusy: another builder held the lock for longer than ``lock_wait_s``.
            ArtifactError: the version does not hold together, or the disk is full; nothing was published.
        """
        manifest = read_manifest(staging)
        if manifest.model != model:
            raise ArtifactError(f"{staging}: its manifest is of model {manifest.model!r}, not {model!r}")
        with self._locked(model, "publish") as folder:
            number = str(max((int(version) for version in self._taken(folder, model)), default=0) + 1)
            manifest = msgspec.structs.replace(manifest, version=number, created_unix_s=self.now_unix_s())
            aside = folder / f"{STAGING_PREFIX}{uuid.uuid4().hex}"
            try:
                self._copy(staging, aside, manifest)
                check(open_version(aside, verify=False))  # its bytes were hashed while they were copied
                self.disk.rename(aside, folder / number)
                self.disk.sync_folder(folder)
                if activate:
                    self._point_at(folder, number)
            except Exception:
                self._withdraw(folder, number, aside)
                raise
            self._drop_old(folder, model)
        return open_version(folder / number, verify=False)

    def rollback(self, model: str, to: str | None = None) -> str:
        """Make another version current; a running server takes it up as it takes up a new one.

        Args:
            model: the model's name.
            to: version to make current; None: the newest below the current one.

        Returns:
            The version that is current now.

        Raises:
            ArtifactError: there is none, or it does not verify; ``CURRENT`` is as it was.
        """
        check_model_name(model)
        there = versions(self.repository, model)
        if not there:
            current_version(self.repository, model)  # says what there is
        with self._locked(model, "roll back") as folder:
            there = versions(self.repository, model)
            if to is None:
                current = int(current_version(self.repository, model))
                older = [version for version in there if int(version) < current]
                if not older:
                    found = ", ".join(there)
                    raise ArtifactError(
                        f"{folder}: no version older than {current} (there are: {found}); use --to N"
                    )
                to = older[-1]
            if to not in there:
                raise ArtifactError(f"{folder}: no version {to!r} (there are: {', '.join(there)})")
            open_version(folder / to)
            self._point_at(folder, to)
        return to

    def resign(self, model: str, version: str) -> None:
        """Sign a version that is published already.

        Raises:
            ValueError: there is nothing to sign with.
            ArtifactError: no such version, damaged files, or the disk is full.
        """
        if self.sign is None:
            raise ValueError("there is no key to sign with")
        with self._locked(model, "sign") as folder:
            opened = open_version(folder / version)
            data = (opened.folder / MANIFEST_FILE).read_bytes()
            replace(self.disk, opened.folder / SIGNATURE_FILE, self.sign(data))

    @contextlib.contextmanager
    def _locked(self, model: str, doing: str) -> Iterator[Path]:
        folder = self.repository / check_model_name(model)
        try:
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                self.disk.sync_folder(self.repository)
            with exclusive(folder / LOCK_FILE, wait_s=self.lock_wait_s):
                for pattern in (f"{STAGING_PREFIX}*", f".{CURRENT_FILE}.*"):
                    for dead in folder.glob(pattern):  # whoever made it is gone, or we had no lock
                        self.disk.remove(dead)
                yield folder
        except OSError as error:
            advice = "free some space" if is_full(error) else "check the path and its permissions"
            where = error.filename or folder
            raise ArtifactError(
                f"cannot {doing} {model}: {where}: {error.strerror or error}; "
                f"the repository is as it was; {advice} and run this again"
            ) from error

    def _taken(self, folder: Path, model: str) -> list[str]:
        numbers = [
            entry.name for entry in folder.iterdir() if entry.name.isascii() and entry.name.isdecimal()
        ]
        with contextlib.suppress(ArtifactError):
            numbers.append(current_version(self.repository, model))
        return numbers

    def _copy(self, staging: Path, aside: Path, manifest: Manifest) -> None:
        self.disk.make_folder(aside)
        folders = {aside}
        for entry in manifest.files:
            target = aside / entry.path
            for parent in reversed(target.relative_to(aside).parents):
                if aside / parent not in folders:
                    self.disk.make_folder(aside / parent)
                    folders.add(aside / parent)
            source = staging / entry.path
            if not source.is_file():
                raise CorruptFile(source, "is missing")
            sha256, size = write_new(self.disk, target, read_chunks(source))
            if (sha256, size) != (entry.sha256, entry.size_bytes):
                raise CorruptFile(source, "has other bytes than its manifest says (SHA-256 differs)")
        data = encode_manifest(manifest)
        write_new(self.disk, aside / MANIFEST_FILE, (data,))
        if self.sign is not None:
            write_new(self.disk, aside / SIGNATURE_FILE, (self.sign(data),))
        for made in sorted(folders, reverse=True):
            self.disk.sync_folder(made)

    def _point_at(self, folder: Path, version: str) -> None:
        replace(self.disk, folder / CURRENT_FILE, f"{version}\n".encode("ascii"))
        try:
            write_triton_config(self.disk, folder, open_version(folder / version, verify=False))
        except OSError as error:
            raise ArtifactError(
                f"{folder.name}: version {version} is current, but its Triton configuration could not be written "
                f"({error.strerror or error}); mend that, and run `python -m build_engines rollback {folder.name} --to {version}`"
            ) from error

    def _withdraw(self, folder: Path, number: str, aside: Path) -> None:
        with contextlib.suppress(ArtifactError):
            if current_version(self.repository, folder.name) == number:
                return  # it is current: whole, and perhaps already serving
        with contextlib.suppress(OSError):
            self.disk.remove(aside)
            if (folder / number).is_dir():
                self.disk.rename(folder / number, aside)
                self.disk.remove(aside)

    def _drop_old(self, folder: Path, model: str) -> None:
        with contextlib.suppress(
            OSError, ArtifactError
        ):  # the new version stands; what is left over goes next time
            current = current_version(self.repository, model)
            for version in versions(self.repository, model)[: -self.keep]:
                if version != current:
                    gone = folder / f"{STAGING_PREFIX}{uuid.uuid4().hex}"
                    self.disk.rename(folder / version, gone)  # never half removed under its own name
                    self.disk.remove(gone)
