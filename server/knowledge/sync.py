"""A folder's files into a knowledge base, and a knowledge base into a file of lines and back.

A file's document remembers the SHA-256 of its bytes and the name of the sync, so that only what has changed is sent, and
only what a sync of the same name has put in is taken away when its file has vanished.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from server.errors import InvalidRequest
from server.knowledge.cutting import cut
from server.knowledge.document_limits import DocumentLimits, check_id
from server.knowledge.places import HASH_KEY, SOURCE_KEY, Place, document_fields
from server.knowledge_domain import Document, DocumentFormat

FORMATS = {
    ".md": DocumentFormat.MARKDOWN,
    ".markdown": DocumentFormat.MARKDOWN,
    ".html": DocumentFormat.HTML,
    ".htm": DocumentFormat.HTML,
    ".txt": DocumentFormat.TEXT,
    ".csv": DocumentFormat.QUESTIONS_CSV,
    ".jsonl": DocumentFormat.QUESTIONS_JSONL,
    ".ndjson": DocumentFormat.QUESTIONS_JSONL,
}
MOST_FILE_BYTES = 64 << 20  # of a file that is read at all
_LANGUAGES = frozenset({"en", "zh", "de", "fr", "es", "it", "nl", "pt", "pl", "ja", "ko"})


@dataclass(slots=True)
class SyncDone:
    """What a sync has done, or would do.

    Attributes:
        put, deleted, same: ids.
        rejected: path and reason.
    """

    put: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)


def files_of(folder: Path) -> list[Path]:
    """Files of a folder that can be read as documents, hidden ones left out, in order.

    Raises:
        InvalidRequest: it is no folder.
    """
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is not a folder; name one that holds pages", field="FOLDER")
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(root) / name
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in FORMATS
        ]
    inside = folder.resolve()  # a link that leaves the folder would publish what nobody meant to
    return sorted(path for path in found if path.resolve().is_relative_to(inside))


async def sync(
    folder: Path,
    place: Place,
    *,
    source: str = "",
    prefix: str = "",
    dry_run: bool = False,
    allow_empty: bool = False,
    limits: DocumentLimits = DocumentLimits(),  # noqa: B008 - frozen
    told: Callable[[int, int, SyncDone], None] = lambda at, of, done: None,
) -> SyncDone:
    """Make a knowledge base hold a folder's files, and no others of the same sync.

    A file that cannot be kept is rejected with a reason, and what is there of it stays; so does all that cannot be read.

    Args:
        folder: see ``FORMATS``; a folder named en, zh ... at its top says the language.
        place: where to.
        source: name of this sync; empty: the folder's.
        prefix: goes before every id.
        dry_run: look, and change nothing.
        allow_empty: a folder without a page takes away all that this sync has put in; otherwise it is taken for a mistake.
        limits: that a dry run holds documents against; otherwise the knowledge base does.
        told: progress after each file: how many, of how many.

    Raises:
        InvalidRequest: the folder has no page, and there are documents of it that would be deleted.
        ServeError: the knowledge base cannot be reached or written; a second run goes on from there.
    """
    name = source or folder.resolve().name
    files = files_of(folder)
    theirs = {one.id: one.metadata async for one in place.documents()}
    mine = sum(one.get(SOURCE_KEY) == name for one in theirs.values())
    if not files and mine and not allow_empty:
        raise InvalidRequest(
            f"{folder} has no page ({', '.join(FORMATS)}), and {mine} documents of it would be deleted; is it the right folder? "
            "Give --allow-empty if they are to go",
            field="FOLDER",
            limit="at least one page",
        )
    done = SyncDone()
    seen: set[str] = set()
    for at, path in enumerate(files, 1):
        document_id = prefix + path.relative_to(folder).as_posix()
        seen.add(document_id)
        try:
            check_id(document_id)
            data = _read(path)
            digest = hashlib.sha256(data).hexdigest()
            there = theirs.get(document_id)
            if there is not None and there.get(HASH_KEY) == digest and there.get(SOURCE_KEY) == name:
                done.same.append(document_id)
            else:
                document = _document(path, folder, document_id, data, {HASH_KEY: digest, SOURCE_KEY: name})
                if dry_run:
                    limits.check(document)
                    cut(document)
                else:
                    await place.put(document)
                done.put.append(document_id)
        except InvalidRequest as error:
            done.rejected.append((str(path), error.message))
        told(at, len(files), done)
    for document_id in sorted(theirs):
        if document_id not in seen and theirs[document_id].get(SOURCE_KEY) == name:
            if not dry_run:
                await place.delete(document_id)
            done.deleted.append(document_id)
    return done


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MOST_FILE_BYTES:
            raise InvalidRequest(
                f"has {size} bytes; {MOST_FILE_BYTES} at most: put it in as several documents", field="text"
            )
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot be read: {error.strerror or error}", field="text") from error


def _document(path: Path, folder: Path, document_id: str, data: bytes, metadata: dict[str, str]) -> Document:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"is not UTF-8 at byte {error.start}; convert the file to UTF-8", field="text"
        ) from error
    top = path.relative_to(folder).parts[0]
    return Document(
        id=document_id,
        text=text,
        format=FORMATS[path.suffix.lower()],
        language=top if top in _LANGUAGES else "",
        metadata=metadata,
    )


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    text: str
    format: str = "markdown"
    title: str = ""
    language: str = ""
    url: str = ""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


async def export_lines(place: Place) -> AsyncIterator[bytes]:
    """All documents as JSON lines, as they were put in; passages and vectors are made of them again."""
    async for one in place.documents():
        document = await place.get(one.id)
        if document is not None:
            yield msgspec.json.encode({"id": document.id, **document_fields(document)}) + b"\n"


async def import_lines(lines: BinaryIO | Iterator[bytes], place: Place, *, dry_run: bool = False) -> SyncDone:
    """Put in what ``export_lines`` wrote; a wrong line is rejected with its number, the others are put in."""
    done = SyncDone()
    decoder = msgspec.json.Decoder(_Line)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            wire = decoder.decode(line)
            document = Document(
                id=wire.id,
                text=wire.text,
                format=DocumentFormat(wire.format),
                title=wire.title,
                language=wire.language,
                url=wire.url,
                metadata=wire.metadata,
            )
            changed = True if dry_run else await place.put(document)
            (done.put if changed else done.same).append(wire.id)
        except InvalidRequest as error:
            done.rejected.append((f"line {number}", error.message))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            done.rejected.append((f"line {number}", f"{error}; write a line as export does"))
    return done
