"""Bulk work: nothing lost, nothing twice, whatever kills it; and a reason for what has no answer."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.bulk.ledger import BulkError, Ledger
from server.bulk.lines import MAX_LINE_BYTES, Line, read_asked, read_lines
from server.bulk.progress import Progress
from server.bulk.runner import BulkFiles, BulkRun
from server.copy_domain import Channel, CopyAnswer, CopyRequest, Language
from server.copy_limits import CopyRequestLimits, check_copy_request
from server.errors import EngineFault, InvalidRequest, NotReady, Overloaded, ServeError
from server.http_api.product_copy.shapes import AskedIn
from server.pipelines.product_copy.pipeline import CopyPipeline
from tests.server.copy_world import PlainRules, PlainTemplates, Scripted

ROOT = Path(__file__).resolve().parents[2]


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_input(path: Path, count: int) -> None:
    lines = []
    for number in range(1, count + 1):
        if number % 10 == 7:
            lines.append("{broken")
        elif number % 10 == 3:
            lines.append("")  # blank lines are nobody's
        else:
            lines.append(json.dumps({"id": f"sku-{number}", "title": f"Kettle {number}", "stock": 4}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def check_results(out: Path, rejects: Path, count: int) -> None:
    """Every line that is not blank has exactly one entry, in order, and it is its own."""
    answers, refused = entries(out), entries(rejects)
    numbers = sorted([entry["line"] for entry in answers + refused])
    assert numbers == [number for number in range(1, count + 1) if number % 10 != 3]
    assert [entry["line"] for entry in answers] == sorted(entry["line"] for entry in answers)
    for entry in answers:
        assert entry["id"] == f"sku-{entry['line']}"
        assert entry["copy"]["variants"][0]["headline"]
    assert all(entry["line"] % 10 == 7 and entry["reason"]["code"] == "malformed" for entry in refused)


def test_a_process_killed_again_and_again_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    """SIGKILL at random moments, also in the middle of a line; in the end the results are those of one quiet run."""
    source, out, rejects = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "rejects.jsonl"
    count, chance, kills = 400, random.Random(5), 0
    write_input(source, count)
    command = [sys.executable, "-m", "tests.server.bulk_process", str(source), str(out), str(rejects)]
    for _ in range(40):
        before = out.stat().st_size if out.exists() else 0
        running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        target = before + chance.randint(20_000, 60_000)
        while running.poll() is None:
            if out.exists() and out.stat().st_size >= target:
                running.send_signal(signal.SIGKILL)
                kills += 1
                break
        told, trouble = running.communicate(timeout=30)
        if running.returncode == 0:
            break
        assert running.returncode == -signal.SIGKILL, trouble.decode()
        if chance.random() < 0.5:  # what a kill in the middle of a write leaves
            with out.open("ab") as file:
                file.write(b'{"line": 9999, "input": "torn')

    assert kills >= 3
    assert told.decode().startswith("360/360 (100.0 %), 40 rejected")
    check_results(out, rejects, count)


async def run_bulk(
    tmp_path: Path, write: Callable[..., Awaitable[CopyAnswer]] | None = None, **more: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    files = BulkFiles(
        source=tmp_path / "in.jsonl", out=tmp_path / "out.jsonl", rejects=tmp_path / "rejects.jsonl"
    )
    pipeline = CopyPipeline(Scripted(), PlainRules(), PlainTemplates())

    async def plain(request: CopyRequest, *, patient: bool) -> CopyAnswer:
        check_copy_request(request, CopyRequestLimits())
        return await pipeline.write(request, emit=lambda _: None, patient=patient)

    async def no_sleep(_: float) -> None:
        await asyncio.sleep(0)

    async with asyncio.timeout(20):
        run = BulkRun(files, more.pop("shared", AskedIn()), write or plain, sleep=no_sleep, **more)
        await run.run()
    pipeline.close()
    return entries(files.out), entries(files.rejects)


async def test_an_input_that_grew_is_gone_on_with_and_another_is_refused(tmp_path: Path) -> None:
    """Results are only ever continued from the input that they came from."""
    source = tmp_path / "in.jsonl"
    source.write_text('{"title": "a"}\n{"title": "b"}\n')
    await run_bulk(tmp_path)
    first = (tmp_path / "out.jsonl").read_bytes()
    source.write_text('{"title": "a"}\n{"title": "b"}\n{"title": "c"}\n')
    answers, _ = await run_bulk(tmp_path)
    assert [entry["line"] for entry in answers] == [1, 2, 3]
    assert (tmp_path / "out.jsonl").read_bytes().startswith(first)

    source.write_text('{"title": "a"}\n{"title": "B"}\n{"title": "c"}\n')
    with pytest.raises(BulkError, match=r"results of another input: its next entry is of line 2"):
        await run_bulk(tmp_path)
    source.write_text('{"title": "a"}\n')
    with pytest.raises(BulkError, match="more results than the input has lines"):
        await run_bulk(tmp_path)
    (tmp_path / "out.jsonl").write_text("a file of somebody else\n")
    with pytest.raises(BulkError, match="not an entry of bulk work"):
        await run_bulk(tmp_path)


def test_two_processes_never_write_the_same_results(tmp_path: Path) -> None:
    """The second is told so at once; a lock does not outlive its process."""
    out, rejects = tmp_path / "out.jsonl", tmp_path / "rejects.jsonl"
    held = Ledger(out, rejects)
    with pytest.raises(BulkError, match="another process is writing"):
        Ledger(out, rejects)
    held.close()
    Ledger(out, rejects).close()
    with pytest.raises(BulkError, match="name two files"):
        Ledger(out, out)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_tail_a_crash_leaves_the_next_run_begins_behind_the_last_whole_entry(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """The files are cut anywhere behind what both of them held at some moment."""
    folder = tmp_path_factory.mktemp("ledger")
    source = folder / "in.jsonl"
    count = data.draw(st.integers(1, 12))
    source.write_text("".join(f'{{"n": {n}}}\n' for n in range(count)))
    lines = list(read_lines(source))
    good = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    out, rejects = folder / "out.jsonl", folder / "rejects.jsonl"
    stop = data.draw(st.integers(0, count))

    def put(ledger: Ledger, line: Line) -> None:
        entry = json.dumps({"line": line.number, "input": line.digest, "pad": "x" * 20}).encode()
        (ledger.answer if good[line.number - 1] else ledger.reject)(entry)

    ledger = Ledger(out, rejects)
    for line in lines[:stop]:
        put(ledger, line)
    ledger.close()
    if stop:
        last = out if good[stop - 1] else rejects
        whole = last.read_bytes()
        before = whole[:-1].rfind(b"\n") + 1
        os.truncate(last, data.draw(st.integers(before, len(whole))))

    ledger = Ledger(out, rejects)
    for line in ledger.skip_done(iter(lines)):
        put(ledger, line)
    ledger.close()
    told = sorted(entry["line"] for entry in entries(out) + entries(rejects))
    assert told == list(range(1, count + 1))
    assert (len(entries(out)), len(entries(rejects))) == (sum(good), count - sum(good))


async def test_a_busy_engine_is_waited_for_and_a_broken_one_is_given_up(tmp_path: Path) -> None:
    """Overload is patience without end; failures end in the template's answer, and the catalogue comes to its end."""
    (tmp_path / "in.jsonl").write_text('{"title": "busy"}\n{"title": "broken"}\n{"title": "good"}\n')
    asked: dict[str, list[bool]] = {"busy": [], "broken": [], "good": []}
    pipeline = CopyPipeline(None, PlainRules(), PlainTemplates())

    async def write(request: CopyRequest, *, patient: bool) -> CopyAnswer:
        tries = asked[request.product.title]
        tries.append(patient)
        if request.product.title == "busy" and len(tries) < 30:
            raise Overloaded("texts", 9, 8, 1.0)
        if request.product.title == "broken" and patient:
            raise EngineFault("step failed") if len(tries) % 2 else NotReady("no engine")
        return await pipeline.write(request, emit=lambda _: None)

    answers, refused = await run_bulk(tmp_path, write)
    pipeline.close()

    assert [entry["line"] for entry in answers] == [1, 2, 3] and not refused
    assert asked == {"busy": [True] * 30, "broken": [True] * 5 + [False], "good": [True]}


async def test_a_fault_of_ours_costs_one_line_and_not_the_rest(tmp_path: Path) -> None:
    """The line is a reject that says so, without the error's own text."""
    (tmp_path / "in.jsonl").write_text('{"title": "a"}\n{"id": "x", "title": "b"}\n{"title": "c"}\n')
    pipeline = CopyPipeline(None, PlainRules(), PlainTemplates())

    async def write(request: CopyRequest, *, patient: bool) -> CopyAnswer:
        if request.product.title == "b":
            raise KeyError("secret")
        return await pipeline.write(request, emit=lambda _: None)

    answers, refused = await run_bulk(tmp_path, write)
    pipeline.close()

    assert [entry["line"] for entry in answers] == [1, 3]
    assert [(entry["id"], entry["reason"]["code"]) for entry in refused] == [("x", "internal")]
    assert "secret" not in json.dumps(refused)


async def test_no_more_lines_than_allowed_are_on_their_way_and_each_waits_for_its_turn(
    tmp_path: Path,
) -> None:
    """Yielding is asked for before each line."""
    (tmp_path / "in.jsonl").write_text("".join(f'{{"title": "t{n}"}}\n' for n in range(20)))
    running, most, paced = 0, 0, 0
    pipeline = CopyPipeline(Scripted(), PlainRules(), PlainTemplates())

    async def pace() -> None:
        nonlocal paced
        paced += 1

    async def write(request: CopyRequest, *, patient: bool) -> CopyAnswer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return await pipeline.write(request, emit=lambda _: None)
        finally:
            running -= 1

    await run_bulk(tmp_path, write, at_once=3, pace=pace)
    pipeline.close()
    assert (most, paced) == (3, 20)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"nonsense", "line"),
        (b"[1, 2]", "body"),
        (b'{"brand": "x"}', "title"),
        (b'{"title": "x"} trailing', "line"),
        (b'{"title": "\xff"}', "line"),
        (b'{"id": [1], "title": "x"}', "id"),
        (b'{"id": "", "title": "x"}', "id"),
        (b'{"product": {"title": "x"}, "stream": true}', "stream"),
        (b'{"product": {"title": "x", "colour": "red"}}', "product.colour"),
        (b'{"product": {"title": "x"}, "channel": "tv"}', "channel"),
        (b'{"product": {"title": "x"}, "variants": "2"}', "variants"),
        (b'{"product": {}}', "product.title"),
        (b"[" * 100_000, "body"),
    ],
)
def test_a_line_that_cannot_be_asked_for_says_why(line: bytes, field: str) -> None:
    """By the name of its field."""
    with pytest.raises(InvalidRequest) as refused:
        read_asked(Line(4, line, "0"), AskedIn())
    assert refused.value.field == field


def test_a_line_is_a_record_or_a_request_and_takes_the_rest_from_the_job() -> None:
    """What a line says itself wins."""
    shared = AskedIn(channel="ad", language="zh", variants=2)
    record = read_asked(Line(4, b'{"sku": 17, "title": "x", "categories": ["a", "b"]}', "0"), shared)
    full = read_asked(Line(5, b'{"product": {"title": "x"}, "language": "en"}', "0"), shared)

    assert (record.id, record.request.channel, record.request.variants) == ("17", Channel.AD, 2)
    assert record.request.product.category == "a / b"
    assert (full.id, full.request.channel, full.request.language) == ("5", Channel.AD, Language.EN)


def test_a_line_without_end_is_refused_and_not_held_in_memory(tmp_path: Path) -> None:
    """The next line is read as if nothing had been."""
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'\xef\xbb\xbf{"title": "a"}\n' + b"x" * (3 * MAX_LINE_BYTES) + b'\n{"title": "b"}')
    first, long, last = read_lines(source)

    assert (first.data, last.data, last.number) == (b'{"title": "a"}', b'{"title": "b"}', 3)
    assert len(long.data) <= 500
    with pytest.raises(ServeError, match="over the limit"):
        read_asked(long, AskedIn())


def test_progress_says_how_long_it_will_take_and_notices_a_stall() -> None:
    """Work that was done before says nothing about the rate."""
    progress = Progress(total=1000, done=500, rejected=3, now_s=0.0)
    assert progress.standing(0.0).eta_s is None
    for step in range(1, 101):
        progress.line_done(step * 0.5, rejected=False)
    standing = progress.standing(50.0)
    assert standing.per_s == pytest.approx(2.0)
    assert standing.eta_s == pytest.approx(200.0)
    assert standing.sentence() == "600/1000 (60.0 %), 3 rejected, 2.0/s, done in 0:03:20"
    assert progress.standing(80.0).per_s < 1.5
