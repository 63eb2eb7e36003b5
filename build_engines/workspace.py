"""Results of stages by what they depend on: nothing is made twice, a kill costs one stage.

    <workspace>/<stage>/<key>/          files of the result, and ``stage.json`` (its record)
    <workspace>/<stage>/.<key>.lock     held by whoever makes it; a second run waits and reuses it
    <workspace>/<stage>/.<key>.scratch  checkpoints of a stage that is running or was killed
    <workspace>/<stage>/.<key>.aside    a result that is being written

A result is written aside and renamed; a folder with its name is whole, and its files are held against their
sizes. The next stage's key has the *content* of this one (and of all before it) in it, not its key: a stage
that runs again and makes the same bytes does not make later ones stale.

Units: seconds.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from build_engines.errors import WorkspaceError
from build_engines.fingerprint import code_digest, digest_of, package_versions, plain
from build_engines.progress import Progress, duration
from build_engines.stage import In, Out, Part, Record, Stage, Work
from build_engines.states import Output
from server.artifacts.disk import DISK, Disk, is_full, write_new
from server.artifacts.errors import RepositoryBusy
from server.artifacts.lock import exclusive
from server.artifacts.manifest import FileEntry
from server.artifacts.repository import describe_folder

STAGE_FILE = "stage.json"


class _Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    content: str
    seconds: float
    made_unix_s: float
    files: tuple[FileEntry, ...]
    depends: dict[str, object]
    record: msgspec.Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A folder of stage results.

    Attributes:
        root: the folder; made when missing.
        progress: what the person sees.
        lock_wait_s: how long to wait for another run that makes the same result (>= 0).
        disk: the system calls; a test's own disk may fail.
        clock: seconds, monotonic.
    """

    root: Path
    progress: Progress
    lock_wait_s: float = 24 * 3600.0
    disk: Disk = DISK
    clock: Callable[[], float] = time.monotonic

    def do(
        self, stage: Stage[In, Part, Record, Out], came_from: In, part: Part, *, redo: bool = False
    ) -> Out:
        """The state that a stage leads to: reused if its result is here, else made.

        Args:
            stage: what to do.
            came_from: the state before it.
            part: its part of the recipe.
            redo: make it even if it is here.

        Raises:
            WorkspaceError: no space, no permission, or another run has held the result for too long.
        """
        depends = _depends(stage, came_from.content, part)
        key = _key(depends)
        folder = self.root / stage.name / key
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            found = None if redo else self._saved(folder)
            if found is None:
                lock = folder.with_name(f".{key}.lock")
                with exclusive(lock, wait_s=self.lock_wait_s, on_wait=lambda: self._say_waiting(stage.name)):
                    found = None if redo else self._saved(folder)  # whoever held the lock may have made it
                    if found is None:
                        return self._make(stage, came_from, part, folder, depends)
            self.progress.say(f"{stage.name}: reused (made in {duration(found.seconds)})")
            return _state(stage, came_from, found, folder, reused=True)
        except RepositoryBusy as error:
            raise WorkspaceError(str(error)) from error
        except OSError as error:
            raise _refused(stage.name, folder, error) from error

    def peek(self, stage: Stage[In, Part, Record, Out], came_from: In, part: Part) -> Out | None:
        """The state that a stage leads to if its result is here; runs nothing, writes nothing."""
        folder = self.root / stage.name / _key(_depends(stage, came_from.content, part))
        found = self._saved(folder)
        return None if found is None else _state(stage, came_from, found, folder, reused=True)

    @contextlib.contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A folder of one's own on the workspace's disk, gone afterwards; what a killed run left is removed.

        Raises:
            WorkspaceError: it cannot be made, or another run is at the same work.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with exclusive(
                self.root / f".{name}.lock", wait_s=self.lock_wait_s, on_wait=lambda: self._say_waiting(name)
            ):
                folder = self.root / f".{name}"
                self.disk.remove(folder)
                self.disk.make_folder(folder)
                try:
                    yield folder
                finally:
                    self.disk.remove(folder)
        except RepositoryBusy as error:
            raise WorkspaceError(str(error)) from error
        except OSError as error:
            raise _refused(name, self.root, error) from error

    def _make(
        self,
        stage: Stage[In, Part, Record, Out],
        came_from: In,
        part: Part,
        folder: Path,
        depends: dict[str, object],
    ) -> Out:
        aside = folder.with_name(f".{folder.name}.aside")
        scratch = folder.with_name(f".{folder.name}.scratch")
        self.disk.remove(aside)
        self.disk.make_folder(aside)
        scratch.mkdir(exist_ok=True)
        self.progress.say(f"{stage.name} ...")
        began_s = self.clock()
        record = stage.run(came_from, part, Work(folder=aside, scratch=scratch, progress=self.progress))
        seconds = self.clock() - began_s
        raw = msgspec.json.encode(record)
        files = describe_folder(aside)
        saved = _Saved(
            key=folder.name,
            content=_content(came_from.content, files, raw),
            seconds=seconds,
            made_unix_s=time.time(),
            files=files,
            depends=depends,
            record=msgspec.Raw(raw),
        )
        state = _state(stage, came_from, saved, folder, reused=False)  # a state that cannot be is never kept
        write_new(self.disk, aside / STAGE_FILE, (msgspec.json.format(msgspec.json.encode(saved), indent=1),))
        self.disk.sync_folder(aside)
        self.disk.remove(folder)  # only when it is made again
        self.disk.rename(aside, folder)
        self.disk.sync_folder(folder.parent)
        self.disk.remove(scratch)
        self.progress.say(f"{stage.name}: done in {duration(seconds)}")
        return state

    def _saved(self, folder: Path) -> _Saved | None:
        try:
            saved = msgspec.json.decode((folder / STAGE_FILE).read_bytes(), type=_Saved)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        sizes = {entry.path: entry.size_bytes for entry in saved.files}
        whole = all(
            (folder / name).is_file() and (folder / name).stat().st_size == size
            for name, size in sizes.items()
        )
        return saved if whole else None

    def _say_waiting(self, name: str) -> None:
        self.progress.say(f"{name}: another run is making this; waiting for it")


def _depends(stage: Stage[In, Part, Record, Out], came_from: str, part: Part) -> dict[str, object]:
    return {
        "name": stage.name,
        "part": plain(part),
        "came_from": came_from,
        "code": _loaded_code(stage.code),
        "packages": package_versions(stage.packages),
        "inputs": dict(stage.inputs(part)),
    }


@functools.cache
def _loaded_code(modules: tuple[str, ...]) -> str:
    # Once a process: what runs is what was imported, whatever an editor does to the files meanwhile.
    return code_digest(modules)


def _content(came_from: str, files: tuple[FileEntry, ...], record: bytes) -> str:
    # What a state came from is part of it: later stages read through it.
    return digest_of([came_from, [[entry.path, entry.sha256] for entry in files], record.decode()])


def _key(depends: dict[str, object]) -> str:
    return digest_of(depends)[:24]


def _state(
    stage: Stage[In, Part, Record, Out], came_from: In, saved: _Saved, folder: Path, *, reused: bool
) -> Out:
    output = Output(
        stage=stage.name,
        key=saved.key,
        content=saved.content,
        folder=folder,
        seconds=saved.seconds,
        reused=reused,
    )
    return stage.state(came_from, output, msgspec.json.decode(saved.record, type=stage.record))


def _refused(name: str, folder: Path, error: OSError) -> WorkspaceError:
    where = error.filename or folder
    advice = "free some space" if is_full(error) else "check the path and its permissions"
    return WorkspaceError(
        f"{name}: {where}: {error.strerror or error}; {advice} and run this again, "
        "what was finished before is kept"
    )
