"""Jobs: taken on once they are on disk, done whatever stops the server, and behind everybody live."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.bulk.jobs import YIELD_MOST_S, CopyJobs
from server.bulk.runner import Writer
from server.copy_domain import CopyAnswer, CopyRequest
from server.errors import InvalidRequest, NotFound, NotReady, Overloaded
from server.http_api.product_copy.shapes import AskedIn
from server.pipelines.product_copy.pipeline import CopyPipeline
from tests.server.copy_serving import LiveScripted, serving_copy
from tests.server.copy_world import PlainRules, PlainTemplates
from tests.server.serving import until

ROOT = Path(__file__).resolve().parents[2]
PATH = "/v1/product-copy/jobs"
LINES = b'{"id": "a", "title": "Kettle 1"}\n\n{"id": "b", "brand": "x"}\n{"id": "c", "title": "Kettle 3"}\n'


async def ended(http: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    while True:
        told: dict[str, Any] = (await http.get(f"{PATH}/{job_id}")).json()
        if told["state"] not in ("queued", "running"):
            return told
        await asyncio.sleep(0.002)


async def test_a_job_of_lines_goes_from_post_to_results_and_rejects(tmp_path: Path) -> None:
    """202 with a location; progress; answers in the order of the lines; a reason for the line that has none."""
    async with (
        serving_copy(tmp_path, LiveScripted()) as server,
        httpx.AsyncClient(base_url=server.url) as http,
    ):
        kind = {"content-type": "application/x-ndjson"}
        made = await http.post(f"{PATH}?channel=ad&variants=2", content=LINES, headers=kind)
        told = await ended(http, made.json()["id"])
        results = await http.get(made.headers["location"] + "/results")
        rejects = await http.get(made.headers["location"] + "/rejects")
        listed = (await http.get(PATH)).json()["jobs"]

    assert made.status_code == 202
    assert (told["state"], told["total"], told["done"], told["rejected"], told["eta_ms"]) == (
        "done",
        3,
        3,
        1,
        0,
    )
    entries = [json.loads(line) for line in results.text.splitlines()]
    assert [(entry["line"], entry["id"]) for entry in entries] == [(1, "a"), (4, "c")]
    assert all(len(entry["copy"]["variants"]) == 2 for entry in entries)
    (reject,) = [json.loads(line) for line in rejects.text.splitlines()]
    assert (reject["line"], reject["id"], reject["reason"]["field"]) == (3, "3", "title")
    assert results.headers["content-type"].startswith("application/x-ndjson")
    assert [job["id"] for job in listed] == [told["id"]]


async def test_a_job_as_one_object_takes_requests_and_records(tmp_path: Path) -> None:
    """Line ends between the tokens of an item are no lines."""
    body = json.dumps(
        {
            "items": [
                {"id": "a", "product": {"title": "Kettle"}, "language": "zh"},
                {"id": "b", "title": "two\nlines", "categories": ["x"]},
            ],
            "channel": "ad",
        },
        indent=2,
    )
    async with (
        serving_copy(tmp_path, LiveScripted()) as server,
        httpx.AsyncClient(base_url=server.url) as http,
    ):
        made = await http.post(PATH, content=body.encode(), headers={"content-type": "application/json"})
        told = await ended(http, made.json()["id"])
        results = await http.get(f"{PATH}/{told['id']}/results")

    assert [json.loads(line)["id"] for line in results.text.splitlines()] == ["a", "b"]


@pytest.mark.parametrize(
    ("path", "kind", "body", "status", "field"),
    [
        (PATH, "application/json", b"{}", 422, "items"),
        (PATH, "application/json", b'{"items": [], "chanel": "ad"}', 422, "chanel"),
        (PATH, "application/json", b'{"items": []}', 422, "body"),
        (PATH, "application/json", b'{"items": [{}], "channel": "tv"}', 422, "channel"),
        (PATH, "application/json", b"[", 400, "body"),
        (PATH, "application/x-ndjson", b"\n \n", 422, "body"),
        (PATH + "?channel=tv", "application/x-ndjson", LINES, 422, "channel"),
        (PATH + "?colour=red", "application/x-ndjson", LINES, 422, "colour"),
        (PATH + "?variants=many", "application/x-ndjson", LINES, 422, "variants"),
        (PATH, "text/csv", LINES, 422, "content-type"),
        (PATH, "application/x-ndjson", b"x" * 5000, 413, "body"),
        (PATH, "application/json", b'{"items": ["' + b"x" * 5000 + b'"]}', 413, "body"),
    ],
)
async def test_a_wrong_job_is_refused_and_leaves_nothing_behind(
    tmp_path: Path, path: str, kind: str, body: bytes, status: int, field: str
) -> None:
    """No folder, no job."""
    limits = {"copy_jobs_max_body_bytes": 4096, "max_body_bytes": 4096}
    async with serving_copy(tmp_path, **limits) as server, httpx.AsyncClient(base_url=server.url) as http:
        told = await http.post(path, content=body, headers={"content-type": kind})
        assert (told.status_code, told.json()["error"]["field"]) == (status, field), told.text
        assert (await http.get(PATH)).json() == {"jobs": []}
    assert not list((tmp_path / "jobs").glob("*")) if (tmp_path / "jobs").exists() else True


async def test_jobs_are_their_tenants_own(tmp_path: Path) -> None:
    """Another key sees none of it, and cannot tell whether it is there."""
    async with (
        serving_copy(tmp_path, api_keys=("one", "two")) as server,
        httpx.AsyncClient(base_url=server.url, headers={"x-api-key": "one"}) as one,
        httpx.AsyncClient(base_url=server.url, headers={"x-api-key": "two"}) as two,
    ):
        made = await one.post(PATH, content=LINES, headers={"content-type": "application/x-ndjson"})
        await ended(one, made.json()["id"])
        where = made.headers["location"]
        for path in (where, where + "/results", where + "/rejects"):
            assert ((await one.get(path)).status_code, (await two.get(path)).status_code) == (200, 404)
        assert (await two.delete(where)).status_code == 404
        assert (await two.get(PATH)).json() == {"jobs": []}


async def test_a_job_yields_to_live_requests_and_is_cancelled_on_request(tmp_path: Path) -> None:
    """Its texts are the engine's last priority; stopping it keeps what it did."""
    model = LiveScripted()
    async with serving_copy(tmp_path, model) as server, httpx.AsyncClient(base_url=server.url) as http:
        model.hold = True
        lines = b"".join(b'{"title": "Kettle %d"}\n' % n for n in range(50))
        made = await http.post(PATH, content=lines, headers={"content-type": "application/x-ndjson"})
        await until(lambda: model.running > 0)
        assert {request.priority for _, request in model.asked} == {9}
        gone = (await http.delete(made.headers["location"])).json()
        await until(lambda: model.running == 0)
        model.hold = False
        live = await http.post("/v1/product-copy", json={"product": {"title": "Kettle 3"}})
        later = (await http.get(made.headers["location"])).json()

    assert (gone["state"], later["state"], live.status_code) == ("cancelled", "cancelled", 200)
    assert model.asked[-1][1].priority == 0


def desk(
    folder: Path, model: LiveScripted, pipeline: CopyPipeline, *, busy: Any = lambda: False, **more: Any
) -> CopyJobs:
    def writer(tenant: str) -> Writer:
        async def write(request: CopyRequest, *, patient: bool) -> CopyAnswer:
            return await pipeline.write(request, emit=lambda _: None, patient=patient)

        return write

    return CopyJobs(folder, writer, busy, **{"at_once": 1, "most_jobs": 4, **more})


async def lines_of(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield b'{"title": "Kettle %d"}\n' % number


async def test_while_somebody_live_is_waiting_a_job_only_creeps(tmp_path: Path) -> None:
    """It waits before each line for as long as it may, and then goes on, so that it ends some day."""
    model, waited = LiveScripted(), [0.0]

    async def sleep(seconds: float) -> None:
        waited[0] += seconds
        await asyncio.sleep(0)

    pipeline = CopyPipeline(model, PlainRules(), PlainTemplates())
    jobs = desk(tmp_path, model, pipeline, busy=lambda: True, sleep=sleep)
    async with asyncio.timeout(10):
        await jobs.start()
        job = await jobs.create(lines_of(5), AskedIn(), "")
        await until(lambda: job.file.state == "done")
        await jobs.stop()
    pipeline.close()

    assert waited[0] == pytest.approx(5 * YIELD_MOST_S)


async def test_a_restart_goes_on_where_it_was_and_does_what_was_queued(tmp_path: Path) -> None:
    """The order is that of arrival; a folder whose request was never answered is swept."""
    model = LiveScripted()
    pipeline = CopyPipeline(model, PlainRules(), PlainTemplates())
    async with asyncio.timeout(10):
        jobs = desk(tmp_path, model, pipeline)
        await jobs.start()
        first = await jobs.create(lines_of(30), AskedIn(), "a")
        second = await jobs.create(lines_of(2), AskedIn(channel="ad"), "b")
        await until(lambda: first.standing().done >= 5)
        await jobs.stop()
        with pytest.raises(NotReady):
            await jobs.create(lines_of(1), AskedIn(), "")
        written = first.files.out.read_bytes()
        (tmp_path / ".job-torn").mkdir()
        (tmp_path / "notes").mkdir()

        again = desk(tmp_path, model, pipeline)
        await again.start()
        resumed = again.get(first.file.id, "a")
        await until(lambda: again.get(second.file.id, "b").file.state == "done")
        await again.stop()
    pipeline.close()

    assert not (tmp_path / ".job-torn").exists() and (tmp_path / "notes").exists()
    assert resumed.file.state == "done"
    assert resumed.files.out.read_bytes().startswith(written)
    numbers = [json.loads(line)["line"] for line in resumed.files.out.read_text().splitlines()]
    assert numbers == list(range(1, 31))
    with pytest.raises(NotFound):
        again.get(second.file.id, "a")


async def test_no_more_jobs_are_kept_than_allowed(tmp_path: Path) -> None:
    """The oldest ended one goes; while none has ended, a new one is refused with a hint."""
    model = LiveScripted()
    model.hold = True
    pipeline = CopyPipeline(model, PlainRules(), PlainTemplates())
    async with asyncio.timeout(10):
        jobs = desk(tmp_path, model, pipeline, most_jobs=2)
        await jobs.start()
        first = await jobs.create(lines_of(1), AskedIn(), "")
        await jobs.create(lines_of(1), AskedIn(), "")
        with pytest.raises(Overloaded):
            await jobs.create(lines_of(1), AskedIn(), "")
        model.hold = False
        await until(lambda: all(job.file.state == "done" for job in jobs.all("")))
        third = await jobs.create(lines_of(1), AskedIn(), "")
        await until(lambda: third.file.state == "done")
        with pytest.raises(InvalidRequest):
            await jobs.create(lines_of(0), AskedIn(), "")
        await jobs.stop()
    pipeline.close()
    assert not first.folder.exists() and third.folder.exists()


def test_a_server_killed_in_the_middle_of_a_job_loses_none_of_it(tmp_path: Path) -> None:
    """SIGKILL again and again; each line is answered once."""
    command = [sys.executable, "-m", "tests.server.jobs_process", str(tmp_path), "300"]
    chance, kills = random.Random(3), 0
    for _ in range(40):
        running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert running.stdout is not None
        running.stdout.readline()
        (out,) = [path / "out.jsonl" for path in tmp_path.glob("job-*")]
        target = (out.stat().st_size if out.exists() else 0) + chance.randint(20_000, 60_000)
        while running.poll() is None:
            if out.exists() and out.stat().st_size >= target:
                running.send_signal(signal.SIGKILL)
                kills += 1
                break
        told, trouble = running.communicate(timeout=30)
        if running.returncode == 0:
            break
        assert running.returncode == -signal.SIGKILL, trouble.decode()

    assert kills >= 2 and told.decode().strip() == "done"
    numbers = [json.loads(line)["line"] for line in out.read_text().splitlines()]
    assert numbers == list(range(1, 301))
