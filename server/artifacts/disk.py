"""The system calls of a publish, as one object: a test can crash or fill the disk at each of them.

Everything durable here goes through these: a file counts as written once it and its folder were synced, and
becomes visible by a rename only after that. Nothing above this module calls ``os.replace`` or ``os.fsync``
itself.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

CHUNK_BYTES = 1 << 20


class Disk:
    """System calls, one method each; a test's disk overrides them."""

    def make_folder(self, path: Path) -> None:
        """Make one folder; its parent exists and it does not."""
        os.mkdir(path)

    def create(self, path: Path) -> int:
        """Open a new file for writing and return its descriptor; an existing one is an error."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def write(self, descriptor: int, data: bytes) -> int:
        """Write some of ``data`` and return how much."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Force a file to the disk."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        os.close(descriptor)

    def sync_folder(self, path: Path) -> None:
        """Force a folder's entries (new names, renames) to the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file or folder its name; an existing file of that name is replaced, a folder is not."""
        os.rename(source, target)

    def remove(self, path: Path) -> None:
        """Remove a file or a folder with all in it; nothing there is fine."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


DISK = Disk()


def write_new(disk: Disk, path: Path, chunks: Iterable[bytes]) -> tuple[str, int]:
    """Write a new file and force it to the disk; its folder is still to be synced.

    Returns:
        Hex SHA-256 and size of what was written.

    Raises:
        OSError: as the system says (no space, exists).
    """
    digest, size = hashlib.sha256(), 0
    descriptor = disk.create(path)
    try:
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            view = chunk
            while view:
                view = view[disk.write(descriptor, view) :]
        disk.sync(descriptor)
    finally:
        disk.close(descriptor)
    return digest.hexdigest(), size


def replace(disk: Disk, path: Path, data: bytes) -> None:
    """Replace a small file so that a crash at any moment leaves the old bytes or the new, never a part.

    Raises:
        OSError: as the system says; the old file is untouched.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write_new(disk, aside, (data,))
        disk.rename(aside, path)
    except OSError:
        with contextlib.suppress(OSError):
            disk.remove(aside)
        raise
    disk.sync_folder(path.parent)


def read_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, a megabyte at a time."""
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def is_full(error: OSError) -> bool:
    """Whether the system refused for want of space or quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
