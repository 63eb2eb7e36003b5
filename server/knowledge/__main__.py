"""``python -m server.knowledge``: a folder's pages into a knowledge base, and a look at one.

    sync FOLDER --knowledge FILE | --url http://HOST:PORT   only what has changed; what vanished is taken away
    export FILE.jsonl ..., import FILE.jsonl ...            documents as JSON lines; - is standard output, or input
    check --knowledge FILE                                  look for damage
    encode --knowledge FILE --encoder NAME                  give vectors to all passages that have none

Into a file, vectors come with ``--encoder``; without it, from the server that serves the file. Exits with 0, with 1 where
something was rejected or found damaged, with 2 where it could not be done at all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from server.errors import ServeError
from server.knowledge.document_limits import DEFAULT_MAX_TEXT_BYTES, DocumentLimits
from server.knowledge.places import FilePlace, Place, UrlPlace
from server.knowledge.store import KnowledgeStore
from server.knowledge.sync import SyncDone, export_lines, import_lines, sync

if TYPE_CHECKING:
    from server.sentence_encoder import SentenceEncoder

KEY = "VITRINE_API_KEY"  # of the server behind --url; in the environment, where a list of processes does not show it
_TELL_EVERY_S = 0.5


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m server.knowledge", description=(__doc__ or "").split("\n", 1)[0]
    )
    commands = top.add_subparsers(dest="command", required=True)
    where = argparse.ArgumentParser(add_help=False)
    target = where.add_mutually_exclusive_group(required=True)
    target.add_argument(
        "--knowledge", type=Path, metavar="FILE", help="knowledge file; made where it is not there"
    )
    target.add_argument(
        "--url", help=f"server, such as http://127.0.0.1:8000; its API key is read from {KEY}"
    )
    where.add_argument("--encoder", default="", metavar="NAME", help="encoder for a file's vectors")
    where.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="where the encoder is"
    )
    where.add_argument(
        "--max-document-bytes",
        type=int,
        default=DEFAULT_MAX_TEXT_BYTES,
        help="of a file's documents; default 4 MiB",
    )
    one = commands.add_parser("sync", parents=[where], help="make it hold a folder's files")
    one.add_argument("folder", type=Path, metavar="FOLDER")
    one.add_argument("--source", default="", help="name of this sync; default: the folder's")
    one.add_argument("--prefix", default="", help="goes before every id")
    one.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    one.add_argument(
        "--allow-empty", action="store_true", help="delete all it has put in where the folder has no page"
    )
    one = commands.add_parser("export", parents=[where], help="write all documents as JSON lines")
    one.add_argument("file", metavar="FILE.jsonl", help="- for standard output")
    one = commands.add_parser("import", parents=[where], help="put in what export wrote")
    one.add_argument("file", metavar="FILE.jsonl", help="- for standard input")
    one.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    for name, about in (("check", "look for damage"), ("encode", "give vectors to passages that have none")):
        commands.add_parser(name, parents=[where], help=about)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    asked = parser().parse_args(argv)
    try:
        return asyncio.run(_run(asked))
    except (ServeError, OSError) as error:
        print(f"error: {_told_of(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted; what was told as done is done, and a second run goes on from there", file=sys.stderr
        )
        return 130
    finally:
        _flush()


def _told_of(error: ServeError | OSError) -> str:
    if isinstance(error, ServeError):
        return str(error)
    where = error.filename or "standard output"
    return f"{where} cannot be used: {error.strerror or error}; make room or name another place, then run it again"


def _flush() -> None:
    """What cannot be written any more must not end the process a second time when the interpreter flushes it."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _run(asked: argparse.Namespace) -> int:
    if asked.command in ("check", "encode") and asked.knowledge is None:
        raise ServeError(f"{asked.command} looks at a file; name it with --knowledge")
    if asked.command == "encode" and not asked.encoder:
        raise ServeError("encode needs an encoder; name one of the repository with --encoder")
    dry_run = getattr(asked, "dry_run", False)
    async with contextlib.AsyncExitStack() as stack:
        encoder = await stack.enter_async_context(_encoder(asked))
        if asked.url:
            place: Place = UrlPlace(asked.url, os.environ.get(KEY, ""))
            store = None
        else:
            file = asked.knowledge
            if dry_run and not file.exists():  # which is a change, too
                file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "knowledge.db"
            store = KnowledgeStore(file, encoder, DocumentLimits(asked.max_document_bytes))
            place = FilePlace(store)
        try:
            if store is not None:
                await store.start(follow=False)
            status = await _command(asked, place, store)
            if store is not None and encoder is not None:
                await _encode(store)
            return status
        finally:
            await place.close()


async def _command(asked: argparse.Namespace, place: Place, store: KnowledgeStore | None) -> int:
    if asked.command == "sync":
        progress = _Progress()
        done = await sync(
            asked.folder,
            place,
            source=asked.source,
            prefix=asked.prefix,
            dry_run=asked.dry_run,
            allow_empty=asked.allow_empty,
            limits=DocumentLimits(asked.max_document_bytes),
            told=lambda at, of, so_far: progress.tell(f"{at} of {of} files, {len(so_far.put)} changed"),
        )
        return _told(done, asked.dry_run)
    if asked.command == "import":
        with contextlib.ExitStack() as stack:
            lines = (
                sys.stdin.buffer if asked.file == "-" else stack.enter_context(Path(asked.file).open("rb"))
            )
            return _told(await import_lines(lines, place, dry_run=asked.dry_run), asked.dry_run)
    if asked.command == "export":
        return await _export(asked.file, place)
    if asked.command == "check" and store is not None:
        found = await store.check()
        epoch, documents, passages, waiting = await store.standing()
        for sentence in found:
            print(f"damaged: {sentence}")
        print(f"epoch {epoch}: {documents} documents, {passages} passages, {waiting} wait for a vector")
        return 1 if found else 0
    return 0


async def _export(file: str, place: Place) -> int:
    count = 0
    if file == "-":
        async for line in export_lines(place):
            sys.stdout.buffer.write(line)
            count += 1
        sys.stdout.buffer.flush()
    else:
        path = Path(file)
        aside = path.with_name(path.name + ".part")
        with aside.open("wb") as out:  # an export that was interrupted is not taken for a whole one
            async for line in export_lines(place):
                out.write(line)
                count += 1
            out.flush()
            os.fsync(out.fileno())
        aside.replace(path)
    print(f"{count} documents exported", file=sys.stderr)
    return 0


async def _encode(store: KnowledgeStore) -> None:
    progress = _Progress()
    async for done, waiting in store.encode_waiting():
        progress.tell(f"{done} passages encoded, {waiting} to go", last=not waiting)


@contextlib.asynccontextmanager
async def _encoder(asked: argparse.Namespace) -> AsyncIterator[SentenceEncoder | None]:
    if not asked.encoder or asked.url or getattr(asked, "dry_run", False):
        yield None
        return
    from server.artifacts.errors import ArtifactError
    from server.pipelines.live_encoder import open_encoder

    try:
        encoder = open_encoder(asked.repository, asked.encoder)
    except ArtifactError as error:
        raise ServeError(f"--encoder {asked.encoder}: {error}") from error
    async with encoder:
        yield encoder


def _told(done: SyncDone, dry_run: bool) -> int:
    for where, reason in done.rejected:
        print(f"rejected: {where}: {reason}", file=sys.stderr)
    if dry_run:
        for verb, ids in (("put", done.put), ("delete", done.deleted)):
            for document_id in ids:
                print(f"would {verb} {document_id}")
    print(
        f"{len(done.put)} put, {len(done.deleted)} deleted, {len(done.same)} unchanged, {len(done.rejected)} rejected"
        + (" (dry run: nothing was changed)" if dry_run else "")
    )
    return 1 if done.rejected else 0


class _Progress:
    """One line every half second."""

    def __init__(self) -> None:
        self._told_s = time.monotonic()

    def tell(self, line: str, *, last: bool = False) -> None:
        now_s = time.monotonic()
        if last or now_s - self._told_s >= _TELL_EVERY_S:
            self._told_s = now_s
            print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
