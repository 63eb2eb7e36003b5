"""``python -m server.bulk copy``: product copy for a file of products, in a process of its own.

Run the same command again after any interruption: it goes on behind the last line that is done. It runs at low priority
(``nice``), so that a server on the same machine stays quick.

Exit status: 0 when every line has its answer or its reject, 1 when it was interrupted, 2 when it cannot begin or go on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from server.bulk.ledger import BulkError
from server.bulk.runner import BulkFiles, BulkRun
from server.copy_domain import Channel, CopyAnswer, CopyRequest, Language, Tone
from server.copy_limits import CopyRequestLimits, check_copy_request
from server.errors import ServeError
from server.http_api.product_copy.shapes import AskedIn, ProductIn, copy_request
from server.pipelines.product_copy.pipeline import CopyPipeline
from server.pipelines.product_copy.rules import open_rules
from server.settings import Settings
from server.telemetry_interface import NullTelemetry
from server.text_generator import TextGenerator

NICENESS = 10
BULK_PRIORITY = 9
TELL_EVERY_S = 1.0


class Model(TextGenerator, Protocol):
    """A text model with a life of its own."""

    async def start(self) -> None:
        """Begin, inside the running loop."""
        ...

    async def close(self, drain_s: float) -> None:
        """Stop."""
        ...


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(
        prog="python -m server.bulk",
        description="Work on whole catalogues, resumable after any interruption by the same command.",
    )
    copy = out.add_subparsers(dest="command", required=True).add_parser(
        "copy",
        help="write product copy",
        description="Write product copy for a file of products. Each line of --in is a request as POST /v1/product-copy "
        "takes it, or a bare record (title, brand, category, attributes, price, description), with an id.",
    )
    copy.add_argument("--in", dest="source", type=Path, required=True, help="products, a JSON object a line")
    copy.add_argument("--out", type=Path, required=True, help="answers, a JSON object a line, in their order")
    copy.add_argument("--rejects", type=Path, help="lines without an answer and why (default: OUT.rejects)")
    copy.add_argument("--restart", action="store_true", help="forget what is done, and begin again")
    copy.add_argument("--channel", choices=list(Channel), default="product_page", help="default: %(default)s")
    copy.add_argument("--language", choices=list(Language), default="en", help="default: %(default)s")
    copy.add_argument("--tone", choices=list(Tone), default="neutral", help="default: %(default)s")
    copy.add_argument("--audience", help="whom it is for, in a few words")
    copy.add_argument("--variants", type=int, default=1, help="default: %(default)s")
    copy.add_argument("--max-words", type=int, help="of headline, description and bullets together")
    copy.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    copy.add_argument("--no-model", action="store_true", help="templates alone")
    copy.add_argument("--repository", type=Path, help="of published models; default: as the server's")
    copy.add_argument("--text-model", help="default: as the server's")
    copy.add_argument("--style", type=Path, help="TOML file with the shop's own rules")
    copy.add_argument("--at-once", type=int, default=8, help="products on their way (default: %(default)s)")
    copy.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return out


def main(argv: Sequence[str] | None = None, env: Mapping[str, str] | None = None) -> int:
    """Run to the end, or until a signal."""
    args = parser().parse_args(argv)
    shared = AskedIn(
        channel=args.channel,
        language=args.language,
        tone=args.tone,
        audience=args.audience,
        variants=args.variants,
        max_words=args.max_words,
        seed=args.seed,
    )
    overrides = {"repository": args.repository, "text_model": args.text_model, "copy_style": args.style}
    try:
        given = os.environ if env is None else env
        settings = Settings.from_env(given, **{name: v for name, v in overrides.items() if v is not None})
        limits = CopyRequestLimits(max_variants=settings.copy_max_variants)
        check_copy_request(copy_request(shared, ProductIn(title="-")), limits)
        if args.at_once < 1:
            raise ValueError(f"--at-once is {args.at_once}; give 1 or more")
        files = _files(args.source, args.out, args.rejects, restart=args.restart)
        with contextlib.suppress(OSError):
            os.nice(NICENESS)
        return asyncio.run(_copy(settings, shared, files, limits, args))
    except (BulkError, ServeError, ValueError, OSError) as error:
        print(f"cannot go on: {error}", file=sys.stderr)
        return 2


async def _copy(
    settings: Settings,
    shared: AskedIn,
    files: BulkFiles,
    limits: CopyRequestLimits,
    args: argparse.Namespace,
) -> int:
    model = None if args.no_model else _open_text(settings)
    if model is not None:
        await model.start()
    pipeline = CopyPipeline(model, *open_rules(settings.copy_style))
    told = "templates alone" if model is None else " ".join(pipeline.model())
    print(f"copy by {told}: {files.source} -> {files.out}, rejects in {files.rejects}", file=sys.stderr)

    async def write(request: CopyRequest, *, patient: bool) -> CopyAnswer:
        check_copy_request(request, limits)
        deadline_at_s = time.monotonic() + limits.max_deadline_s
        return await pipeline.write(
            request,
            emit=lambda _: None,
            deadline_at_s=deadline_at_s,
            priority=BULK_PRIORITY,
            patient=patient,
        )

    run = BulkRun(files, shared, write, at_once=args.at_once)
    working = asyncio.create_task(run.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, working.cancel)
    telling = asyncio.create_task(_tell(run)) if not args.quiet else None
    try:
        standing = await working
        print(standing.sentence(), file=sys.stderr)
        return 0
    except asyncio.CancelledError:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 1
    finally:
        if telling is not None:
            telling.cancel()
        pipeline.close()
        if model is not None:
            await model.close(0.0)


async def _tell(run: BulkRun) -> None:
    while True:
        await asyncio.sleep(TELL_EVERY_S)
        standing = run.standing()
        if standing is not None:
            print(standing.sentence(), file=sys.stderr)


def _files(source: Path, out: Path, rejects: Path | None, *, restart: bool) -> BulkFiles:
    if not source.is_file():
        raise BulkError(f"--in: there is no file {source}; give one with a JSON object a line")
    files = BulkFiles(source=source, out=out, rejects=rejects or out.with_name(out.name + ".rejects"))
    if source.resolve() in (files.out.resolve(), files.rejects.resolve()):
        raise BulkError(f"{source} is both read and written; give another --out")
    if restart:
        for path in (files.out, files.rejects):
            path.unlink(missing_ok=True)
    return files


def _open_text(settings: Settings) -> Model | None:
    """The text model that a server with these settings would open; None where there is none."""
    if settings.text_engine == "off":
        return None
    if settings.text_engine == "upstream":
        from server.engines.upstream import open_upstream

        return open_upstream(settings, NullTelemetry())
    from server.pipelines.live_text import open_live_text
    from server.pipelines.text_names import text_model_name

    name = text_model_name(settings.repository, settings.text_model)
    if name is None:
        return None
    return open_live_text(
        settings, name, NullTelemetry(), threads=settings.text_threads or os.cpu_count() or 1
    )


if __name__ == "__main__":
    sys.exit(main())
